package head

import (
	"fmt"

	"outstation/vision"
)

// yolov8 decodes outputs as the YOLOv8 family (also YOLOv9 and YOLO11) lays
// them out: 4 + classes rows of as many values as there are cells, first centre
// x, centre y, width and height in pixels of the input, then each class's score
// in [0, 1]. The grids are decoded in the graph, so that their strides do not
// matter here.
type yolov8 struct {
	boxes
	best  []float32 // of each cell, its highest score
	class []int     // and whose that is
}

func newYOLOv8(opts Options, outputs []Port) (Decoder, error) {
	b, err := newBoxes(opts, 0)
	return &yolov8{boxes: b}, err
}

// Decode gives a cell the class with its highest score; NMS runs within each
// class. See Decoder.
func (y *yolov8) Decode(out []Tensor, at Placement) ([]vision.Detection, error) {
	if err := y.count(out); err != nil {
		return nil, err
	}
	t, want := out[0], 4+len(y.opts.Classes)
	if len(t.Dims) != 2 || t.Dims[0] != want || t.Dims[1] < 1 || len(t.Data) != want*t.Dims[1] {
		return nil, fmt.Errorf("vision: YOLOv8 output is %v (%d values), want %d rows", t.Dims, len(t.Data), want)
	}
	if cells := t.Dims[1]; len(y.best) != cells {
		y.best, y.class = make([]float32, cells), make([]int, cells)
	}
	y.begin()
	y.collect(t.Data)
	return y.finish(at, false)
}

// collect gathers the candidates above the threshold, row by row as they lie
// in memory.
func (y *yolov8) collect(out []float32) {
	n := len(y.best)
	scores := out[4*n:]
	copy(y.best, scores[:n])
	clear(y.class)
	for class := 1; class < len(y.opts.Classes); class++ {
		for i, score := range scores[class*n : (class+1)*n] {
			if score > y.best[i] {
				y.best[i], y.class[i] = score, class
			}
		}
	}
	for i, score := range y.best {
		if !(float64(score) >= y.least) || !y.enough(y.class[i], float64(score)) {
			continue
		}
		y.centred(float64(out[i]), float64(out[n+i]), float64(out[2*n+i]), float64(out[3*n+i]), float64(score), y.class[i], i)
	}
}
