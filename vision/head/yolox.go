package head

import (
	"fmt"
	"math"

	"outstation/vision"
)

// yoloRows decodes rows of centre x, centre y, width, height, objectness and
// the score of each class, scores in [0, 1]. Boxes are in pixels of the input
// (YOLOv5, YOLOv6, YOLOv7, and YOLOX exported with decode_in_inference), or,
// with cells, as a YOLOX head says them (Ge et al. 2021, "YOLOX: Exceeding YOLO
// Series in 2021", arXiv:2107.08430, section 2.1: anchor-free, one prediction
// for each grid cell).
type yoloRows struct {
	boxes
	cells []cell // of the raw form; else nil
}

// cell is one position of one feature map.
type cell struct{ x, y, stride float32 }

func newYOLORows(opts Options, outputs []Port) (Decoder, error) {
	b, err := newBoxes(opts, 0)
	return &yoloRows{boxes: b}, err
}

func newYOLOX(opts Options, outputs []Port) (Decoder, error) {
	b, err := newBoxes(opts, 0)
	if err == nil && (opts.Width%32 != 0 || opts.Height%32 != 0) {
		err = fmt.Errorf("input size %d×%d: want multiples of 32", opts.Width, opts.Height)
	}
	if err != nil {
		return nil, err
	}
	return &yoloRows{boxes: b, cells: yoloxCells(opts.Width, opts.Height)}, nil
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

// Decode gives a row the class with its highest score, and the confidence
// objectness × that score; NMS runs within each class. See Decoder.
func (y *yoloRows) Decode(out []Tensor, at Placement) ([]vision.Detection, error) {
	if err := y.count(out); err != nil {
		return nil, err
	}
	n, err := rows("the output of a YOLO", out[0], 5+len(y.opts.Classes))
	if err != nil {
		return nil, err
	}
	if y.cells != nil && n != len(y.cells) {
		return nil, fmt.Errorf("vision: YOLOX output of %d rows, want %d", n, len(y.cells))
	}
	y.begin()
	y.collect(out[0].Data)
	return y.finish(at, false)
}

// collect gathers the candidates above the threshold. Class scores are at most
// 1, so a row whose objectness is below the threshold needs no look at them.
func (y *yoloRows) collect(out []float32) {
	columns := 5 + len(y.opts.Classes)
	for i := 0; len(out) >= columns; i++ {
		row := out[:columns]
		out = out[columns:]
		if !(float64(row[4]) >= y.least) {
			continue
		}
		class, best := argmax(row[5:])
		score := float64(row[4]) * float64(best)
		if !y.enough(class, score) {
			continue
		}
		cx, cy, w, h := float64(row[0]), float64(row[1]), float64(row[2]), float64(row[3])
		if y.cells != nil {
			at := y.cells[i]
			cx, cy = float64((row[0]+at.x)*at.stride), float64((row[1]+at.y)*at.stride)
			w, h = math.Exp(w)*float64(at.stride), math.Exp(h)*float64(at.stride)
		}
		y.centred(cx, cy, w, h, score, class, i)
	}
}
