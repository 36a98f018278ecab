package sim

import (
	"math"
	"testing"

	"outstation/vision"
)

func box(x, y, w, h float64) vision.Box { return vision.Box{X: x, Y: y, W: w, H: h} }

// TestAveragePrecisionByHand compares with areas that were worked out by hand.
func TestAveragePrecisionByHand(t *testing.T) {
	s := NewScorer()
	// Four scratches. By confidence: right, wrong, right, wrong (the same one
	// again), right; one is never found.
	s.Add([]Label{{ClassScratch, box(0, 0, 10, 10), 1}, {ClassScratch, box(100, 0, 10, 10), 1}},
		[]vision.Detection{
			{Class: ClassScratch, Confidence: 0.9, Box: box(0, 0, 10, 10)},
			{Class: ClassScratch, Confidence: 0.6, Box: box(0, 1, 10, 10)},
			{Class: ClassScratch, Confidence: 0.7, Box: box(102, 0, 10, 10)},
		})
	s.Add([]Label{{ClassScratch, box(0, 0, 10, 10), 2}, {ClassScratch, box(50, 50, 10, 10), 2}},
		[]vision.Detection{
			{Class: ClassScratch, Confidence: 0.8, Box: box(6, 0, 10, 10)}, // overlaps by a quarter
			{Class: ClassScratch, Confidence: 0.5, Box: box(50, 50, 10, 12)},
			{Class: "bicycle", Confidence: 0.9, Box: box(0, 0, 10, 10)},
		})
	classes, mean := s.Result(0.65)
	got := classes[1]
	// Recall 1/4 at precision 1, 2/4 at 2/3, 3/4 at 3/5.
	if want := (1 + 2.0/3 + 3.0/5) / 4; math.Abs(got.AP-want) > 1e-12 || math.Abs(mean-want) > 1e-12 {
		t.Errorf("AP %v, mean %v, want %v: other classes had no labels", got.AP, mean, want)
	}
	if got.Labels != 4 || got.Recall != 0.5 || math.Abs(got.Precision-2.0/3) > 1e-12 {
		t.Errorf("%+v, want 4 labels, recall 1/2 and precision 2/3 at 0.65", got)
	}
}

func TestNothingFoundIsNoPrecision(t *testing.T) {
	s := NewScorer()
	s.Add([]Label{{ClassPart, box(0, 0, 9, 9), 1}}, nil)
	if classes, mean := s.Result(0.5); mean != 0 || classes[0].AP != 0 || classes[0].Recall != 0 {
		t.Errorf("%+v, mean %v", classes[0], mean)
	}
}
