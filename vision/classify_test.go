package vision

import (
	"context"
	"fmt"
	"image"
	"testing"
	"testing/synctest"
	"time"
)

// namer is a Classifier that names a part by where it is.
type namer struct {
	seen   []image.Rectangle
	closed bool
	during func() // what happens meanwhile, or nil
}

func (n *namer) Classify(m Image) (string, float64, error) {
	at := m.(*cut).at
	n.seen = append(n.seen, at)
	if n.during != nil {
		n.during()
	}
	if at.Min.X == 0 {
		return "", 0, errTest
	}
	return fmt.Sprintf("at %d", at.Min.X), 0.75, nil
}

func (n *namer) Close() error { n.closed = true; return nil }

// TestTheSecondStage, through the pipeline: crops are squares around the boxes
// that count, at most so many of a frame.
func TestTheSecondStage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got collector
		names := &namer{}
		attempts := 0
		source := func() Source {
			return &fakeSource{read: func() (Frame, error) {
				time.Sleep(100 * time.Millisecond)
				f := frameOf(1280, 720)
				f.Arrived = time.Now()
				return f, nil
			}}
		}
		found := []Detection{
			{Class: "a", Confidence: 0.9, Box: Box{300, 300, 40, 80}}, {Class: "b", Confidence: 0.9, Box: Box{100, 100, 40, 80}},
			{Class: "a", Confidence: 0.7, Box: Box{10, 300, 60, 60}}, {Class: "a", Confidence: 0.6, Box: Box{700, 300, 60, 60}},
			{Class: "a", Confidence: 0.2, Box: Box{900, 300, 60, 60}},
		}
		d := &fakeDetector{detect: func(Frame) ([]Detection, Timing, error) { return found, Timing{}, nil }}
		s := serve(t, Options{
			Models: model(d), Sink: got.sink,
			Classifiers: []ClassifierOptions{{Name: "c", Open: func(context.Context) (Classifier, error) {
				if attempts++; attempts == 1 {
					return nil, errTest
				}
				return names, nil
			}}},
			Cameras: []CameraOptions{{
				ID: "cam", Model: "m", NewSource: source, Judge: JudgeOptions{Limits: Limits{Confidence: 0.5}},
				Classify: ClassifyOptions{Model: "c", Classes: []string{"a"}, Max: 2, Margin: 0.25},
			}},
		})
		time.Sleep(550 * time.Millisecond)
		if c := s.Stats().Classifiers[0]; c.Ready || c.Error == "" || c.Skipped == 0 {
			t.Errorf("before it is loaded: %+v", c)
		}
		time.Sleep(time.Second)
		s.stop()
		if first := got.events[0].Detections; len(first) != 4 || first[0].Label != "" {
			t.Errorf("before it is loaded: %+v", first)
		}
		last := got.events[len(got.events)-1].Detections
		if len(last) != 4 || last[0].Label != "at 260" || last[0].LabelConfidence != 0.75 || last[1].Label != "" || last[2].Label != "" || last[3].Label != "" {
			t.Errorf("%+v", last)
		}
		if names.seen[0] != image.Rect(260, 280, 380, 400) || names.seen[1] != image.Rect(0, 285, 85, 375) {
			t.Errorf("parts %v", names.seen[:2])
		}
		if c := s.Stats().Classifiers[0]; !c.Ready || c.Labels == 0 || c.Labels != c.Failed || c.Skipped < c.Labels || !names.closed {
			t.Errorf("%+v", c)
		}
	})
}

func TestImpossibleSecondStages(t *testing.T) {
	for _, o := range []ClassifyOptions{{Model: "none"}, {Max: -1}, {Margin: 3}, {Max: 101}} {
		if o.validate(map[string]bool{"c": true}) == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
	open := func(context.Context) (Classifier, error) { return nil, nil }
	for _, bad := range [][]ClassifierOptions{{{Name: "c"}}, {{Open: open}}, {{Name: "c", Open: open}, {Name: "c", Open: open}}} {
		if _, err := New(Options{Classifiers: bad}); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}
