package sim

import (
	"cmp"
	"slices"

	"outstation/vision"
)

// MatchIoU is the overlap from which on a detection is that of a label.
const MatchIoU = 0.5

// Confidence is the least confidence at which the line's own model is of use:
// there its precision and recall are about equal.
const Confidence = 0.45

// Scorer compares detections with the truth, frame by frame. One goroutine
// uses it at a time.
type Scorer struct {
	classes map[string]*classScore
}

// classScore is what one class has so far.
type classScore struct {
	labels int
	found  []verdict
}

// verdict is whether a detection of some confidence was right.
type verdict struct {
	confidence float64
	right      bool
}

// NewScorer returns one that has seen nothing.
func NewScorer() *Scorer {
	s := &Scorer{classes: map[string]*classScore{}}
	for _, c := range Classes() {
		s.classes[c] = &classScore{}
	}
	return s
}

// Add compares one frame. As in PASCAL VOC (Everingham et al. 2010, section
// 4.2), each detection, the most confident first, takes the label of its class
// that it overlaps most; it is right if that overlap is at least MatchIoU
// and nothing took the label before. A class that a line does not have is
// ignored.
func (s *Scorer) Add(labels []Label, found []vision.Detection) {
	for _, l := range labels {
		s.classes[l.Class].labels++
	}
	taken := make([]bool, len(labels))
	found = slices.Clone(found)
	slices.SortStableFunc(found, func(a, b vision.Detection) int { return cmp.Compare(b.Confidence, a.Confidence) })
	for _, d := range found {
		c := s.classes[d.Class]
		if c == nil {
			continue
		}
		i, overlap := nearest(labels, d)
		right := i >= 0 && overlap >= MatchIoU && !taken[i]
		if right {
			taken[i] = true
		}
		c.found = append(c.found, verdict{d.Confidence, right})
	}
}

// nearest is the label of the detection's class that it overlaps most; -1 if
// there is none.
func nearest(labels []Label, d vision.Detection) (index int, overlap float64) {
	index = -1
	for i, l := range labels {
		if l.Class != d.Class {
			continue
		}
		if o := Overlap(l.Box, d.Box); index < 0 || o > overlap {
			index, overlap = i, o
		}
	}
	return index, overlap
}

// Overlap is the intersection over union of two boxes, in [0, 1].
func Overlap(a, b vision.Box) float64 {
	w := min(a.X+a.W, b.X+b.W) - max(a.X, b.X)
	h := min(a.Y+a.H, b.Y+b.H) - max(a.Y, b.Y)
	if w <= 0 || h <= 0 {
		return 0
	}
	return w * h / (a.W*a.H + b.W*b.H - w*h)
}

// ClassResult is how well a class was found.
type ClassResult struct {
	Class  string
	Labels int     // boxes that there were
	AP     float64 // average precision, in [0, 1]; 0 without labels

	// At the least confidence that the scorer's caller asked for.
	Recall, Precision float64
}

// Result lists the classes in the order of Classes, with recall and precision
// at a confidence, and the mean of the average precisions of those classes that
// had labels.
func (s *Scorer) Result(confidence float64) (classes []ClassResult, mean float64) {
	n := 0
	for _, name := range Classes() {
		c := s.classes[name]
		r := c.result(confidence)
		r.Class = name
		classes = append(classes, r)
		if c.labels > 0 {
			mean += r.AP
			n++
		}
	}
	return classes, mean / float64(max(n, 1))
}

// result works out the area below the curve of precision over recall, where
// the precision at a recall is the best at that recall or a higher one.
func (c *classScore) result(confidence float64) ClassResult {
	r := ClassResult{Labels: c.labels}
	slices.SortStableFunc(c.found, func(a, b verdict) int { return cmp.Compare(b.confidence, a.confidence) })
	precision := make([]float64, len(c.found))
	right, shown := 0, 0
	for i, v := range c.found {
		if v.right {
			right++
		}
		precision[i] = float64(right) / float64(i+1)
		if v.confidence >= confidence {
			shown = i + 1
			r.Recall, r.Precision = float64(right)/float64(max(c.labels, 1)), precision[i]
		}
	}
	if shown == 0 {
		r.Precision = 1 // nothing was said, so nothing wrong
	}
	best := 0.0
	for i := len(c.found) - 1; i >= 0 && c.labels > 0; i-- {
		best = max(best, precision[i])
		if c.found[i].right {
			r.AP += best
		}
	}
	r.AP /= float64(max(c.labels, 1))
	return r
}
