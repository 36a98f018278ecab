package vision

import (
	"fmt"
	"math"
)

// YOLOX decodes the raw output of a YOLOX head (Ge et al. 2021, "YOLOX:
// Exceeding YOLO Series in 2021", arXiv:2107.08430, section 2.1: anchor-free,
// one prediction per grid cell). It keeps scratch memory, so one goroutine
// uses it at a time.
type YOLOX struct {
	boxes
	cells []cell
}

var _ Head = (*YOLOX)(nil)

// cell is one position of one feature map.
type cell struct{ x, y, stride float32 }

// NewYOLOX returns a decoder, or an error that names every impossible option.
func NewYOLOX(opts HeadOptions) (*YOLOX, error) {
	b, err := newBoxes(opts)
	if err != nil {
		return nil, fmt.Errorf("vision: YOLOX options: %w", err)
	}
	return &YOLOX{boxes: b, cells: yoloxCells(opts.Width, opts.Height)}, nil
}

// yoloxCells lists the grids of strides 8, 16 and 32 in the order of the output.
func yoloxCells(width, height int) []cell {
	var cells []cell
	for _, stride := range []int{8, 16, 32} {
		for y := range height / stride {
			for x := range width / stride {
				cells = append(cells, cell{float32(x), float32(y), float32(stride)})
			}
		}
	}
	return cells
}

// Values is the length of the output.
func (y *YOLOX) Values() int { return y.Rows() * y.Columns() }

// Rows is the number of predictions of one image: the sum of the three grids.
func (y *YOLOX) Rows() int { return len(y.cells) }

// Columns is the length of one prediction: cx, cy, w, h, objectness, classes.
func (y *YOLOX) Columns() int { return 5 + len(y.opts.Classes) }

// Decode turns out, Rows × Columns values of one image, into detections in
// pixels of a frameW×frameH frame that was letterboxed with scale. A cell's
// class is its highest class score, its confidence objectness × that score;
// NMS runs within each class. The most confident come first. The result is the
// decoder's own memory, valid until the next Decode.
func (y *YOLOX) Decode(out []float32, scale float64, frameW, frameH int) ([]Detection, error) {
	if got, want := len(out), y.Values(); got != want {
		return nil, fmt.Errorf("vision: YOLOX output has %d values, want %d (%d×%d)", got, want, y.Rows(), y.Columns())
	}
	y.collect(out)
	return y.finish(scale, frameW, frameH)
}

// collect gathers the candidates above the threshold. Class scores are at most
// 1, so a cell whose objectness is below the threshold needs no look at them.
func (y *YOLOX) collect(out []float32) {
	columns := y.Columns()
	y.candidates = y.candidates[:0]
	for i, at := range y.cells {
		row := out[i*columns : (i+1)*columns]
		if !(float64(row[4]) >= y.opts.Confidence) {
			continue
		}
		class, best := argmax(row[5:])
		score := float64(row[4]) * float64(best)
		if !(score >= y.opts.Confidence) {
			continue
		}
		cx, cy := float64((row[0]+at.x)*at.stride), float64((row[1]+at.y)*at.stride)
		w, h := math.Exp(float64(row[2]))*float64(at.stride), math.Exp(float64(row[3]))*float64(at.stride)
		y.candidates = append(y.candidates, candidate{cx - w/2, cy - h/2, cx + w/2, cy + h/2, score, class, i})
	}
}

func argmax(v []float32) (index int, value float32) {
	value = v[0]
	for i, x := range v {
		if x > value {
			index, value = i, x
		}
	}
	return index, value
}
