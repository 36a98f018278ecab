//go:build !novision

package onnx

import (
	"context"
	"io"
	"testing"
	"time"

	"outstation/vision"
	"outstation/vision/capture"
	"outstation/vision/testfiles"
)

// timed is the beginning of a recording whose frames arrive at its own 10 frames a second,
// however fast it is read.
type timed struct {
	vision.Source
	read int
}

func (s *timed) Read() (vision.Frame, error) {
	if s.read == 300 {
		return vision.Frame{}, io.EOF
	}
	f, err := s.Source.Read()
	f.Arrived = time.Unix(1000, 0).Add(time.Duration(s.read) * 100 * time.Millisecond)
	s.read++
	return f, err
}

// TestPeopleAreFollowed tracks half a minute of the real footage with the real
// model. There is no truth for it: where tracks begin and end was looked at
// once (see the README), and this holds what was seen to a few numbers.
func TestPeopleAreFollowed(t *testing.T) {
	factory, err := capture.Factory(capture.Options{URL: testfiles.Video().Need(t)})
	if err != nil {
		t.Fatal(err)
	}
	o := options(t)
	o.Confidence = vision.DefaultTrackLow
	ended := make(chan struct{})
	var events []vision.Event
	p, err := vision.New(vision.Options{
		Models: []vision.ModelOptions{{Name: "yolox-nano", Open: Opener(o)}},
		Sink:   func(e vision.Event) { events = append(events, e) },
		OnState: func(s vision.CameraState) {
			if s.Reason == vision.ReasonEnded {
				close(ended)
			}
		},
		Cameras: []vision.CameraOptions{{
			ID: "cam", Kind: vision.KindFile, NewSource: func() vision.Source { return &timed{Source: factory()} }, Model: "yolox-nano", Lossless: true,
			Judge: vision.JudgeOptions{
				Limits: vision.Limits{Confidence: 0.4}, Only: []string{"person"}, Policy: vision.PolicyTrack, Tracking: vision.TrackOptions{Lost: 2 * time.Second},
			},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- p.Serve(ctx) }()
	select {
	case <-ended:
	case <-ctx.Done():
		t.Fatalf("not through after two minutes: %+v", p.Stats())
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	began := map[uint64]time.Time{}
	count := map[vision.TrackEvent]int{}
	long, lasted := 0, time.Duration(0)
	for _, e := range events {
		id := e.Detections[0].Track
		count[e.TrackEvent]++
		switch e.TrackEvent {
		case vision.TrackStart:
			began[id] = e.CapturedAt
		case vision.TrackEnd:
			d := e.CapturedAt.Sub(began[id])
			if lasted += d; d >= 5*time.Second {
				long++
			}
		}
	}
	n := count[vision.TrackStart]
	t.Logf("%d tracks, %d of 5 s or more, together %v", n, long, lasted)
	if n > 24 || long < 11 {
		t.Errorf("%d tracks, %d of 5 s or more; want at most 24, and at least 11", n, long)
	}
	if count[vision.TrackBest] != n || count[vision.TrackEnd] != n || len(events) != 3*n {
		t.Errorf("events %v", count)
	}
}
