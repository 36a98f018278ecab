package vision

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// Defaults of HeadOptions.
const (
	DefaultConfidence = 0.30
	DefaultIoU        = 0.45
)

// maxCandidates bounds what enters NMS, which is quadratic: the most confident
// are kept. It is far above what a real frame has at any useful threshold.
const maxCandidates = 1000

// Head turns the raw output of a model into detections.
type Head interface {
	// Values is how many values the output of one image has.
	Values() int

	// Decode returns what is above the threshold, in pixels of a frameW×frameH
	// frame that was letterboxed with scale, the most confident first. The
	// result is the head's own memory, valid until the next Decode.
	Decode(out []float32, scale float64, frameW, frameH int) ([]Detection, error)
}

// HeadOptions configures a Head.
type HeadOptions struct {
	Width, Height int      // model input in pixels, multiples of 32
	Classes       []string // one name per class output
	Confidence    float64  // least confidence, in (0, 1); 0 means DefaultConfidence
	IoU           float64  // overlap above which NMS removes the weaker box, in (0, 1]; 0 means DefaultIoU
}

// boxes is what all heads share: candidates, their suppression, and the way
// back to the frame.
type boxes struct {
	opts       HeadOptions
	candidates []candidate
	keptRaw    []candidate
	kept       []Detection
}

// candidate is a box above the threshold, in pixels of the model's input.
type candidate struct {
	x0, y0, x1, y1 float64
	score          float64
	class, index   int
}

func newBoxes(opts HeadOptions) (boxes, error) {
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
	return boxes{opts: opts}, errors.Join(errs...)
}

// finish turns the candidates into detections of a frame.
func (b *boxes) finish(scale float64, frameW, frameH int) ([]Detection, error) {
	if !(scale > 0) {
		return nil, fmt.Errorf("vision: letterbox scale %v, want more than 0", scale)
	}
	b.suppress()
	b.kept = b.kept[:0]
	for _, c := range b.keptRaw {
		if box, ok := clip(c.x0/scale, c.y0/scale, c.x1/scale, c.y1/scale, frameW, frameH); ok {
			b.kept = append(b.kept, Detection{Class: b.opts.Classes[c.class], Confidence: min(c.score, 1), Box: box})
		}
	}
	return b.kept, nil
}

// suppress is greedy non-maximum suppression within each class.
func (b *boxes) suppress() {
	slices.SortFunc(b.candidates, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.index, b.index))
	})
	b.keptRaw = b.keptRaw[:0]
	for _, c := range b.candidates[:min(len(b.candidates), maxCandidates)] {
		overlaps := slices.ContainsFunc(b.keptRaw, func(k candidate) bool {
			return k.class == c.class && iou(&k, &c) > b.opts.IoU
		})
		if !overlaps {
			b.keptRaw = append(b.keptRaw, c)
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
