package vision

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
)

// Defaults of YOLOXOptions.
const (
	DefaultConfidence = 0.30
	DefaultIoU        = 0.45
)

// maxCandidates bounds what enters NMS, which is quadratic: the most confident
// are kept. It is far above what a real frame has at any useful threshold.
const maxCandidates = 1000

// YOLOXOptions configures a YOLOX decoder.
type YOLOXOptions struct {
	Width, Height int      // model input in pixels, multiples of 32
	Classes       []string // one name per class output
	Confidence    float64  // least objectness × class score, in (0, 1); 0 means DefaultConfidence
	IoU           float64  // overlap above which NMS removes the weaker box, in (0, 1]; 0 means DefaultIoU
}

// YOLOX decodes the raw output of a YOLOX head (Ge et al. 2021, "YOLOX:
// Exceeding YOLO Series in 2021", arXiv:2107.08430, section 2.1: anchor-free,
// one prediction per grid cell). It keeps scratch memory, so one goroutine
// uses it at a time.
type YOLOX struct {
	opts       YOLOXOptions
	cells      []cell
	candidates []candidate
	kept       []Detection
	keptRaw    []candidate
}

// cell is one position of one feature map.
type cell struct{ x, y, stride float32 }

// candidate is a box above the threshold, in pixels of the model's input.
type candidate struct {
	x0, y0, x1, y1 float64
	score          float64
	class, index   int
}

// NewYOLOX returns a decoder, or an error that names every impossible option.
func NewYOLOX(opts YOLOXOptions) (*YOLOX, error) {
	if opts.Confidence == 0 {
		opts.Confidence = DefaultConfidence
	}
	if opts.IoU == 0 {
		opts.IoU = DefaultIoU
	}
	var errs []error
	if opts.Width <= 0 || opts.Height <= 0 || opts.Width%32 != 0 || opts.Height%32 != 0 {
		errs = append(errs, fmt.Errorf("input size %d×%d: want positive multiples of 32", opts.Width, opts.Height))
	}
	if len(opts.Classes) == 0 {
		errs = append(errs, errors.New("no classes"))
	}
	if !(opts.Confidence > 0 && opts.Confidence < 1) {
		errs = append(errs, fmt.Errorf("confidence %v: want more than 0 and less than 1", opts.Confidence))
	}
	if !(opts.IoU > 0 && opts.IoU <= 1) {
		errs = append(errs, fmt.Errorf("IoU %v: want more than 0 and at most 1", opts.IoU))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("vision: YOLOX options: %w", err)
	}
	return &YOLOX{opts: opts, cells: yoloxCells(opts.Width, opts.Height)}, nil
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
	if got, want := len(out), y.Rows()*y.Columns(); got != want {
		return nil, fmt.Errorf("vision: YOLOX output has %d values, want %d (%d×%d)", got, want, y.Rows(), y.Columns())
	}
	if !(scale > 0) {
		return nil, fmt.Errorf("vision: letterbox scale %v, want more than 0", scale)
	}
	y.collect(out)
	y.suppress()
	y.kept = y.kept[:0]
	for _, c := range y.keptRaw {
		if box, ok := clip(c.x0/scale, c.y0/scale, c.x1/scale, c.y1/scale, frameW, frameH); ok {
			y.kept = append(y.kept, Detection{Class: y.opts.Classes[c.class], Confidence: min(c.score, 1), Box: box})
		}
	}
	return y.kept, nil
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

// suppress is greedy non-maximum suppression within each class.
func (y *YOLOX) suppress() {
	slices.SortFunc(y.candidates, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.index, b.index))
	})
	y.keptRaw = y.keptRaw[:0]
	for _, c := range y.candidates[:min(len(y.candidates), maxCandidates)] {
		overlaps := slices.ContainsFunc(y.keptRaw, func(k candidate) bool {
			return k.class == c.class && iou(&k, &c) > y.opts.IoU
		})
		if !overlaps {
			y.keptRaw = append(y.keptRaw, c)
		}
	}
}

// iou is the intersection over union of two boxes, in [0, 1].
func iou(a, b *candidate) float64 {
	w := min(a.x1, b.x1) - max(a.x0, b.x0)
	h := min(a.y1, b.y1) - max(a.y0, b.y0)
	if w <= 0 || h <= 0 {
		return 0
	}
	inter := w * h
	return inter / ((a.x1-a.x0)*(a.y1-a.y0) + (b.x1-b.x0)*(b.y1-b.y0) - inter)
}
