package vision

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// fakeUpgrader is an Upgrader of func fields.
type fakeUpgrader struct {
	fakeDetector
	upgrade func(context.Context) (Detector, error)
}

var _ Upgrader = (*fakeUpgrader)(nil)

func (d *fakeUpgrader) Pending() string                               { return "the engine" }
func (d *fakeUpgrader) Upgrade(ctx context.Context) (Detector, error) { return d.upgrade(ctx) }

// named finds one object of a class, and counts its Close.
func named(class string, closed *atomic.Int64) fakeDetector {
	return fakeDetector{
		detect: func(Frame) ([]Detection, Timing, error) { return []Detection{{Class: class}}, Timing{}, nil },
		close:  func() error { closed.Add(1); return nil },
	}
}

// build takes a while for next, or gives up with ctx.
func build(next Detector, err error) func(context.Context) (Detector, error) {
	return func(ctx context.Context) (Detector, error) {
		if err := sleep(ctx, time.Minute); err != nil {
			return nil, err
		}
		return next, err
	}
}

// TestABetterDetectorTakesOver: the first one serves while the other is made;
// no frame is lost at the change, and the first one is closed.
func TestABetterDetectorTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var firstClosed, nextClosed atomic.Int64
		next := named("next", &nextClosed)
		first := &fakeUpgrader{named("first", &firstClosed), build(&next, nil)}
		var events collector
		img := &images{}
		p := serve(t, Options{Models: model(first), Cameras: line(img, func(int) time.Duration { return 100 * time.Millisecond }, 1), Sink: events.sink})
		time.Sleep(30 * time.Second)
		if s := p.Stats().Models[0].Upgrade; s.What != "the engine" || time.Since(s.Since) != 30*time.Second || s.Error != "" {
			t.Errorf("half way: %+v, want it under way for 30 s", s)
		}
		time.Sleep(time.Minute + 50*time.Millisecond)
		if s := p.Stats().Models[0].Upgrade; s != (UpgradeStats{}) || firstClosed.Load() != 1 || nextClosed.Load() != 0 {
			t.Errorf("after it: %+v, first closed %d times, next %d", s, firstClosed.Load(), nextClosed.Load())
		}
		if err := p.stop(); err != nil {
			t.Error(err)
		}
		c := p.camera("c0")
		balanced(t, c)
		if c.Inspected != c.Frames || int(c.Frames) != len(events.events) || nextClosed.Load() != 1 {
			t.Errorf("%+v, %d events, next closed %d times", c, len(events.events), nextClosed.Load())
		}
		for i, e := range events.events {
			want, at := "first", e.CapturedAt.Sub(events.events[0].CapturedAt)
			if at == time.Minute-100*time.Millisecond {
				continue // the moment of the change
			}
			if at >= time.Minute {
				want = "next"
			}
			if got := e.Detections[0].Class; got != want {
				t.Fatalf("event %d by %s, want %s", i, got, want)
			}
		}
	})
}

// TestAFailedUpgradeIsShown, and the old detector serves on.
func TestAFailedUpgradeIsShown(t *testing.T) {
	for name, err := range map[string]error{"error": errTest, "nothing": nil} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var closed atomic.Int64
				img := &images{}
				p := serve(t, Options{
					Models:  model(&fakeUpgrader{named("first", &closed), build(nil, err)}),
					Cameras: line(img, func(int) time.Duration { return 100 * time.Millisecond }, 1),
				})
				time.Sleep(2*time.Minute + 50*time.Millisecond)
				s := p.Stats().Models[0]
				if s.Upgrade.Error == "" || !s.Ready || s.Error != "" || closed.Load() != 0 {
					t.Errorf("%+v, closed %d times; want the upgrade's error and a detector that serves", s, closed.Load())
				}
				if err := p.stop(); err != nil {
					t.Error(err)
				}
				if c := p.camera("c0"); c.Inspected != c.Frames {
					t.Errorf("%d of %d frames inspected", c.Inspected, c.Frames)
				}
			})
		})
	}
}

// TestLoadingIsTimed, so that a build in the foreground is no mystery either.
func TestLoadingIsTimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := person(0)
		p := serve(t, Options{Models: []ModelOptions{{Name: "m", Open: func(ctx context.Context) (Detector, error) {
			return d, sleep(ctx, time.Minute)
		}}}})
		time.Sleep(30 * time.Second)
		if s := p.Stats().Models[0]; s.Ready || time.Since(s.LoadingSince) != 30*time.Second {
			t.Errorf("%+v, want it loading for 30 s", s)
		}
		time.Sleep(time.Minute)
		if s := p.Stats().Models[0]; !s.Ready || !s.LoadingSince.IsZero() {
			t.Errorf("%+v, want it loaded", s)
		}
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	})
}

// TestAnUpgradeEndsWithThePipeline: Serve waits for it, and what it still
// brings is closed.
func TestAnUpgradeEndsWithThePipeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var firstClosed, nextClosed atomic.Int64
		next := named("next", &nextClosed)
		first := &fakeUpgrader{named("first", &firstClosed), func(ctx context.Context) (Detector, error) {
			<-ctx.Done()
			return &next, nil // too late
		}}
		img := &images{}
		p := serve(t, Options{Models: model(first), Cameras: line(img, func(int) time.Duration { return 100 * time.Millisecond }, 1)})
		time.Sleep(time.Second)
		if err := p.stop(); err != nil {
			t.Error(err)
		}
		if firstClosed.Load() != 1 || nextClosed.Load() != 1 {
			t.Errorf("first closed %d times, next %d; want each once", firstClosed.Load(), nextClosed.Load())
		}
	})
}
