package vision

import "fmt"

// YOLOv8 decodes outputs as the YOLOv8 family lays them out: 4 + classes rows
// of as many values as there are cells, first centre x, centre y, width and
// height in pixels of the input, then each class's score in [0, 1]. The grids
// are decoded in the graph, so that their strides do not matter here.
// It keeps scratch memory, so one goroutine uses it at a time.
type YOLOv8 struct {
	boxes
	cells int
	best  []float32 // of each cell, its highest score
	class []int     // and whose that is
}

var _ Head = (*YOLOv8)(nil)

// NewYOLOv8 returns a decoder for an output with that many cells, or an error
// that names every impossible option.
func NewYOLOv8(opts HeadOptions, cells int) (*YOLOv8, error) {
	b, err := newBoxes(opts)
	if err == nil && cells < 1 {
		err = fmt.Errorf("%d cells, want at least 1", cells)
	}
	if err != nil {
		return nil, fmt.Errorf("vision: YOLOv8 options: %w", err)
	}
	return &YOLOv8{boxes: b, cells: cells, best: make([]float32, cells), class: make([]int, cells)}, nil
}

// Values is the length of the output.
func (y *YOLOv8) Values() int { return (4 + len(y.opts.Classes)) * y.cells }

// Decode turns the output of one image into detections. A cell's class is that
// with its highest score; NMS runs within each class. See Head.
func (y *YOLOv8) Decode(out []float32, scale float64, frameW, frameH int) ([]Detection, error) {
	if got, want := len(out), y.Values(); got != want {
		return nil, fmt.Errorf("vision: YOLOv8 output has %d values, want %d (%d×%d)", got, want, 4+len(y.opts.Classes), y.cells)
	}
	y.collect(out)
	return y.finish(scale, frameW, frameH)
}

// collect gathers the candidates above the threshold, row by row as they lie
// in memory.
func (y *YOLOv8) collect(out []float32) {
	n := y.cells
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
	y.candidates = y.candidates[:0]
	for i, score := range y.best {
		if !(float64(score) >= y.opts.Confidence) {
			continue
		}
		cx, cy := float64(out[i]), float64(out[n+i])
		w, h := float64(out[2*n+i]), float64(out[3*n+i])
		y.candidates = append(y.candidates, candidate{cx - w/2, cy - h/2, cx + w/2, cy + h/2, float64(score), y.class[i], i})
	}
}
