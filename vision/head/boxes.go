package head

import (
	"cmp"
	"fmt"
	"slices"

	"outstation/vision"
)

// maxCandidates bounds what enters NMS, which is quadratic: the most confident
// are kept. It is far above what a real frame has at any useful threshold.
const maxCandidates = 1000

// boxes is what all decoders share: candidates, their suppression, and the way
// back to the frame.
type boxes struct {
	opts       Options
	threshold  []float64 // by class
	least      float64   // of the thresholds
	outputs    []int
	candidates []candidate
	keptRaw    []candidate
	kept       []vision.Detection
}

// candidate is a box above the threshold, in pixels of the model's input.
type candidate struct {
	x0, y0, x1, y1 float64
	score          float64
	class, index   int
}

// newBoxes takes the outputs that the decoder uses.
func newBoxes(opts Options, outputs ...int) (boxes, error) {
	opts, err := opts.check()
	b := boxes{opts: opts, outputs: outputs}
	b.threshold, b.least = opts.thresholds()
	return b, err
}

// Outputs are the graph's outputs that Decode takes. See Decoder.
func (b *boxes) Outputs() []int { return b.outputs }

// begin forgets the last image.
func (b *boxes) begin() { b.candidates = b.candidates[:0] }

// enough reports whether a score reaches the threshold of a class, which is
// one of the model's. Not a number never does.
func (b *boxes) enough(class int, score float64) bool { return score >= b.threshold[class] }

// centred adds a candidate given by its centre and size.
func (b *boxes) centred(cx, cy, w, h, score float64, class, index int) {
	b.candidates = append(b.candidates, candidate{cx - w/2, cy - h/2, cx + w/2, cy + h/2, score, class, index})
}

// cornered adds a candidate of a model that names its class by a number, which
// may be none of those that are known.
func (b *boxes) cornered(x0, y0, x1, y1, score float64, class float32, index int) error {
	if !(score >= b.least) {
		return nil // a row of padding may have any class
	}
	n := len(b.opts.Classes)
	if !(class >= 0 && class < float32(n)) {
		return fmt.Errorf("vision: the model found class %v with confidence %.2f, want 0 to %d: it has more classes than the %d that are named",
			class, score, n-1, n)
	}
	if b.enough(int(class), score) {
		b.candidates = append(b.candidates, candidate{x0, y0, x1, y1, score, int(class), index})
	}
	return nil
}

// finish turns the candidates into detections of a frame. unique says that the
// model names each object once, so that nothing is suppressed.
func (b *boxes) finish(at Placement, unique bool) ([]vision.Detection, error) {
	if err := at.check(); err != nil {
		return nil, err
	}
	slices.SortFunc(b.candidates, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.index, b.index), cmp.Compare(a.class, b.class))
	})
	best := b.candidates[:min(len(b.candidates), maxCandidates)]
	if !unique {
		best = b.suppress(best)
	}
	b.kept = b.kept[:0]
	for i := range best {
		c := &best[i]
		if box, ok := at.toFrame(c); ok {
			b.kept = append(b.kept, vision.Detection{Class: b.opts.Classes[c.class], Confidence: min(c.score, 1), Box: box})
		}
	}
	return b.kept, nil
}

// suppress is greedy non-maximum suppression within each class.
func (b *boxes) suppress(sorted []candidate) []candidate {
	b.keptRaw = b.keptRaw[:0]
	for _, c := range sorted {
		overlaps := slices.ContainsFunc(b.keptRaw, func(k candidate) bool {
			return k.class == c.class && iou(&k, &c) > b.opts.IoU
		})
		if !overlaps {
			b.keptRaw = append(b.keptRaw, c)
		}
	}
	return b.keptRaw
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

func argmax(v []float32) (index int, value float32) {
	value = v[0]
	for i, x := range v {
		if x > value {
			index, value = i, x
		}
	}
	return index, value
}

// rows checks that an output is rows of a given length and returns how many.
// Outputs whose sizes were checked when the decoder was made come here again,
// since a graph may leave them open.
func rows(what string, t Tensor, columns int) (int, error) {
	if len(t.Dims) != 2 || t.Dims[1] != columns || t.Dims[0] < 0 || len(t.Data) != t.Dims[0]*columns {
		return 0, fmt.Errorf("vision: %s is %v (%d values), want rows of %d", what, t.Dims, len(t.Data), columns)
	}
	return t.Dims[0], nil
}

// pair checks that two outputs are as many rows each, of so many columns.
func pair(a Tensor, columnsA int, b Tensor, columnsB int) (int, error) {
	n, err := rows("the first output", a, columnsA)
	if err != nil {
		return 0, err
	}
	m, err := rows("the second output", b, columnsB)
	if err == nil && n != m {
		err = fmt.Errorf("vision: outputs of %d and of %d rows, want as many of each", n, m)
	}
	return n, err
}

// count checks that Decode was given what Outputs asked for.
func (b *boxes) count(out []Tensor) error {
	if len(out) != len(b.outputs) {
		return fmt.Errorf("vision: %d outputs to decode, want %d", len(out), len(b.outputs))
	}
	return nil
}
