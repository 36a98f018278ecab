package vision

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestALosslessCameraThatWaitsForSinkLosesNothing: Sink takes longer for the
// starts of one frame than a silence that ends tracks.
func TestALosslessCameraThatWaitsForSinkLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var img images
		var got collector
		var five []Detection
		for i := range 5 {
			five = append(five, thing("a", 0.9, 100*float64(i), 100*float64(i)))
		}
		s := serve(t, Options{
			Models: model(&fakeDetector{detect: func(Frame) ([]Detection, Timing, error) { return slices.Clone(five), Timing{}, nil }}),
			Sink:   func(e Event) { time.Sleep(8 * time.Second); got.sink(e) }, EventBuffer: 1, ShutdownTimeout: 10 * time.Minute,
			Cameras: []CameraOptions{{ID: "a", Model: "m", Lossless: true, Judge: JudgeOptions{Policy: PolicyTrack}, NewSource: img.every(time.Millisecond)}},
		})
		time.Sleep(2 * time.Minute)
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
		if c := s.camera("a"); c.EventsDropped != 0 || c.EndsLost != 0 || c.Events != uint64(len(got.events)) || c.Events < 15 {
			t.Errorf("%d events came, %+v", len(got.events), c)
		}
		inOrder(t, got.events)
	})
}

// inOrder checks that each track has one start, one best and one end, in this
// order.
func inOrder(t *testing.T, events []Event) {
	t.Helper()
	said := map[uint64]string{}
	for _, e := range events {
		said[e.Detections[0].Track] += string(e.TrackEvent) + " "
	}
	for id, s := range said {
		if s != "start best end " {
			t.Errorf("track %d: %s", id, s)
		}
	}
}

// TestTheWatchdogOvertakesNoStart that a lossless reader has yet to queue.
func TestTheWatchdogOvertakesNoStart(t *testing.T) {
	var img images
	p, err := New(Options{Models: model(person(0)), Cameras: []CameraOptions{
		{ID: "a", Model: "m", Lossless: true, Judge: JudgeOptions{Policy: PolicyTrack, Tracking: TrackOptions{Confirm: 1}}, NewSource: img.every(time.Second)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	c, now := p.cameras[0], time.Now()
	c.inspected(Event{Camera: "a", CapturedAt: now, FrameWidth: 640, FrameHeight: 480, Detections: []Detection{thing("a", 0.9, 100, 100)}}, nil, nil)
	c.expire(now.Add(time.Hour))
	if n := len(p.emitter.buffer); n != 0 {
		t.Errorf("%d events were queued before the start", n)
	}
	if !c.queue(t.Context(), <-c.outcome) {
		t.Error("there was room for the start")
	}
	c.expire(now.Add(time.Hour))
	close(p.emitter.buffer)
	var told []Event
	for m := range p.emitter.buffer {
		told = append(told, m.event)
	}
	if inOrder(t, told); len(told) != 3 {
		t.Errorf("told %s", tell(told))
	}
}

// TestTheEndsOfAStopWaitForRoom, as long as the shutdown allows, and are
// counted where there is none.
func TestTheEndsOfAStopWaitForRoom(t *testing.T) {
	for name, c := range map[string]struct {
		pace    time.Duration // of Sink
		told    string
		dropped uint64
		err     error
	}{
		"a slow Sink":  {400 * time.Millisecond, "start person#1, best person#1, end person#1", 0, nil},
		"a stuck Sink": {time.Hour, "", 2, ErrAbandoned},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var img images
				var got collector
				var on atomic.Bool
				s := serve(t, Options{
					Models: model(person(0)), EventBuffer: 1, Sink: func(e Event) { time.Sleep(c.pace); got.sink(e) },
					Cameras: []CameraOptions{
						{ID: "tracks", Model: "m", Judge: JudgeOptions{Policy: PolicyTrack}, NewSource: img.every(100 * time.Millisecond)},
						{ID: "floods", Model: "m", NewSource: img.rounds(50*time.Millisecond, &on)},
					},
				})
				time.Sleep(time.Second)
				on.Store(true)
				time.Sleep(5 * time.Second)
				if err := s.stop(); !errors.Is(err, c.err) {
					t.Fatal(err)
				}
				got.mu.Lock()
				tracks := slices.DeleteFunc(slices.Clone(got.events), func(e Event) bool { return e.Camera != "tracks" })
				got.mu.Unlock()
				if told := tell(tracks); told != c.told {
					t.Errorf("told %q, want %q", told, c.told)
				}
				if k := s.camera("tracks"); k.Events != 3-c.dropped || k.EventsDropped != c.dropped {
					t.Errorf("%d events, %d dropped", k.Events, k.EventsDropped)
				}
				time.Sleep(time.Hour) // the stuck call returns
			})
		})
	}
}
