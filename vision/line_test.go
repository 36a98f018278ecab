package vision_test

import (
	"context"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"outstation/vision"
	"outstation/vision/sim"
)

// blank is a picture that nobody looks at.
type blank struct{}

func (blank) Letterbox([]byte, int, int, byte) (float64, error) { return 1, nil }
func (blank) Close()                                            {}

// belt is a Source of frames without pixels, at the times of a line's, and the
// Detector that knows what they show: its truth, with the mistakes of a model.
type belt struct {
	line    *sim.Line
	first   time.Time
	every   int64 // of so many frames one is seen
	frames  int64
	read    int64
	random  *rand.Rand
	missing float64 // share of boxes that are not found
	weak    float64 // share of those that have a confidence of 0.2
	noise   float64 // standard deviation of a box's sides and place, in parts of its sides
	ghosts  float64 // boxes a frame that are not there
}

func (b *belt) Open(context.Context) error { return nil }

func (b *belt) at(index int64) time.Time {
	return b.first.Add(time.Duration(float64(index) / b.line.Options().FPS * float64(time.Second)))
}

func (b *belt) Read() (vision.Frame, error) {
	if b.read == b.frames {
		return vision.Frame{}, io.EOF
	}
	b.read++
	o := b.line.Options()
	return vision.Frame{Arrived: b.at((b.read - 1) * b.every), Width: o.Width, Height: o.Height, Image: blank{}}, nil
}

func (b *belt) Info() vision.DetectorInfo { return vision.DetectorInfo{} }
func (b *belt) Close() error              { return nil }

func (b *belt) Detect(f vision.Frame) (found []vision.Detection, t vision.Timing, err error) {
	r := b.random
	for _, p := range b.line.Truth(int64(f.Seq-1) * b.every).Parts {
		if r.Float64() < b.missing {
			continue
		}
		d := vision.Detection{Class: sim.ClassPart, Confidence: 0.6 + 0.35*r.Float64(), Box: p.Box}
		if r.Float64() < b.weak {
			d.Confidence = 0.2
		}
		d.Box.X += b.noise * d.Box.W * r.NormFloat64()
		d.Box.Y += b.noise * d.Box.H * r.NormFloat64()
		d.Box.W *= 1 + b.noise*r.NormFloat64()
		d.Box.H *= 1 + b.noise*r.NormFloat64()
		found = append(found, d)
	}
	if r.Float64() < b.ghosts {
		found = append(found, vision.Detection{Class: sim.ClassPart, Confidence: 0.5, Box: vision.Box{X: 1000 * r.Float64(), Y: 500 * r.Float64(), W: 100, H: 90}})
	}
	return found, t, nil
}

// follow runs the belt through the pipeline with tracking and returns what it
// told of each frame.
func (b *belt) follow(t *testing.T, j vision.JudgeOptions) (events []vision.Event) {
	t.Helper()
	done := make(chan struct{})
	p, err := vision.New(vision.Options{
		Models:  []vision.ModelOptions{{Name: "truth", Open: func(context.Context) (vision.Detector, error) { return b, nil }}},
		Cameras: []vision.CameraOptions{{ID: "line", Model: "truth", NewSource: func() vision.Source { return b }, Lossless: true, Judge: j}},
		Sink:    func(e vision.Event) { events = append(events, e) },
		OnState: func(s vision.CameraState) {
			if s.Reason == vision.ReasonEnded {
				close(done)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- p.Serve(context.Background()) }()
	<-done
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	return events
}

// followed is how well tracks were followed, against the truth. Mota is
// multiple object tracking accuracy (Bernardin and Stiefelhagen 2008, "The
// CLEAR MOT Metrics", section 2.1.3), idf1 the share of boxes with the right
// identity (Ristani et al. 2016, arXiv:1609.01775, section 2.3, where each
// part is given the track that it had most often).
type followed struct {
	parts, switches, tracks int
	mota, idf1              float64
}

func (b *belt) score(events []vision.Event) (f followed) {
	had := map[int64]map[uint64]int{} // frames of each part in each track
	last := map[int64]uint64{}
	tracks := map[uint64]bool{}
	truth, boxes, missed, wrong := 0, 0, 0, 0
	for _, e := range events {
		index := int64(e.CapturedAt.Sub(b.first).Seconds()*b.line.Options().FPS + 0.5)
		matched := 0
		tracked := 0
		for _, d := range e.Detections {
			if d.Track != 0 {
				tracks[d.Track] = true
				tracked++
			}
		}
		boxes += tracked
		for _, p := range b.line.Truth(index).Parts {
			truth++
			id := uint64(0)
			for _, d := range e.Detections {
				if d.Track != 0 && sim.Overlap(d.Box, p.Box) >= sim.MatchIoU {
					id = d.Track
				}
			}
			if had[p.ID] == nil {
				had[p.ID] = map[uint64]int{}
			}
			if id == 0 {
				missed++
				continue
			}
			matched++
			had[p.ID][id]++
			if last[p.ID] != 0 && last[p.ID] != id {
				f.switches++
			}
			last[p.ID] = id
		}
		wrong += tracked - matched
	}
	right := 0
	for _, ids := range had {
		most := 0
		for _, n := range ids {
			most = max(most, n)
		}
		right += most
	}
	f.parts, f.tracks = len(had), len(tracks)
	f.mota = 1 - float64(missed+wrong+f.switches)/float64(truth)
	f.idf1 = 2 * float64(right) / float64(truth+boxes)
	return f
}

// TestEachPartKeepsItsTrack follows the simulated line by its truth, without
// and with a model's mistakes. What a frame does not list counts as missed: the
// first sight of each part, and boxes that are weak or missing.
func TestEachPartKeepsItsTrack(t *testing.T) {
	for _, c := range []struct {
		name     string
		belt     belt
		switches int     // at most
		extra    int     // tracks more than parts, at most
		mota     float64 // at least
		idf1     float64 // at least
	}{
		{"truth at 15 frames a second", belt{every: 1}, 0, 0, 0.98, 0.99},
		{"truth at 5 frames a second", belt{every: 3}, 2, 1, 0.95, 0.97},
		{"noise of 3 %, 15 % weak", belt{every: 1, noise: 0.03, weak: 0.15}, 0, 0, 0.83, 0.90},
		{"and 10 % missing, and ghosts", belt{every: 1, noise: 0.03, weak: 0.15, missing: 0.1, ghosts: 0.05}, 1, 0, 0.74, 0.85},
	} {
		line, err := sim.NewLine(sim.LineOptions{Seed: 5})
		if err != nil {
			t.Fatal(err)
		}
		b := c.belt
		b.line, b.first, b.frames, b.random = line, time.Unix(1000, 0), 3000/b.every, rand.New(rand.NewPCG(1, 2))
		f := b.score(b.follow(t, vision.JudgeOptions{
			Limits: vision.Limits{Confidence: 0.45}, Policy: vision.PolicyEveryFrame, Tracking: vision.TrackOptions{On: true},
		}))
		t.Logf("%s: %+v", c.name, f)
		if f.parts < 190 || f.switches > c.switches || f.tracks > f.parts+c.extra || f.mota < c.mota || f.idf1 < c.idf1 {
			t.Errorf("%s: %+v", c.name, f)
		}
	}
}
