package vision

import (
	"context"
	"errors"
	"io"
	"reflect"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestEventsCarryTheFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var img images
		var got collector
		s := serve(t, Options{
			Cameras: []CameraOptions{{ID: "a", Kind: KindSim, Model: "m", NewSource: img.every(100 * time.Millisecond)}},
			Models:  model(person(10 * time.Millisecond)),
			Sink:    got.sink,
		})
		began := time.Now()
		time.Sleep(1050 * time.Millisecond)
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
		c := s.camera("a")
		balanced(t, c)
		if len(got.events) != 10 || c.Events != 10 || c.Frames != 10 || c.EventsDropped != 0 || img.open.Load() != 0 {
			t.Fatalf("%d events at the sink, %d images open, stats %+v; want 10, 0", len(got.events), img.open.Load(), c)
		}
		want := Event{
			Camera: "a", Model: "m", FrameWidth: 640, FrameHeight: 480,
			CapturedAt: began.Add(100 * time.Millisecond),
			InferredAt: began.Add(110*time.Millisecond - time.Microsecond),
			Detections: []Detection{{Class: "person", Confidence: 0.9, Box: Box{1, 2, 3, 4}}},
			Picture:    true, Run: got.events[0].Run,
		}
		if !reflect.DeepEqual(got.events[0], want) {
			t.Errorf("got  %+v\nwant %+v", got.events[0], want)
		}
		m := s.Stats().Models[0]
		if m.Inferences != 10 || m.Provider != "cpu" || len(m.Refused) != 1 || m.Run.P50 != 10*time.Millisecond || m.InputWidth != 416 {
			t.Errorf("model stats %+v", m)
		}
	})
}

func TestNewestFrameWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var img images
		var newest atomic.Uint64
		var seen uint64
		source := &fakeSource{read: func() (Frame, error) {
			time.Sleep(10 * time.Millisecond)
			newest.Add(1)
			return img.frame(), nil
		}}
		s := serve(t, Options{
			Cameras: []CameraOptions{{ID: "a", Model: "m", NewSource: func() Source { return source }}},
			Models: model(&fakeDetector{detect: func(f Frame) ([]Detection, Timing, error) {
				if n := newest.Load(); f.Seq+1 < n { // one may be on its way into the slot
					t.Errorf("inspected frame %d while %d was there", f.Seq, n)
				}
				seen++
				time.Sleep(95 * time.Millisecond)
				return nil, Timing{}, nil
			}}),
		})
		time.Sleep(2 * time.Second)
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
		c := s.camera("a")
		balanced(t, c)
		if c.Dropped < 150 || c.Inspected != seen || seen < 15 || img.open.Load() != 0 {
			t.Errorf("stats %+v, %d seen, %d open", c, seen, img.open.Load())
		}
	})
}

func TestThrottledFramesAreNotRetrieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var img images
		retrieved := uint64(0)
		g := &fakeGrabber{
			grab:     func() (time.Time, error) { time.Sleep(40 * time.Millisecond); return time.Now(), nil },
			retrieve: func() (Frame, error) { retrieved++; return img.frame(), nil },
		}
		s := serve(t, Options{
			Cameras: []CameraOptions{{ID: "a", Model: "m", FPS: 10, NewSource: func() Source { return g }}},
			Models:  model(person(0)),
		})
		time.Sleep(10*time.Second + time.Millisecond)
		if c := s.camera("a"); c.FPS < 24.9 || c.FPS > 25.1 || c.InspectedFPS < 9.6 || c.InspectedFPS > 10.4 {
			t.Errorf("measured %v frames a second and %v inspected, want 25 and 10", c.FPS, c.InspectedFPS)
		}
		s.stop()
		c := s.camera("a")
		balanced(t, c)
		if c.Inspected < 99 || c.Inspected > 101 || retrieved != c.Inspected+c.Dropped || img.open.Load() != 0 {
			t.Errorf("retrieved %d, stats %+v; want 100 inspected in 10 s", retrieved, c)
		}
	})
}

func TestReconnectBacksOffAndResets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var img images
		var got collector
		var opened []time.Duration
		began := time.Now()
		closes := 0
		s := serve(t, Options{
			OnState: got.onState,
			Cameras: []CameraOptions{{ID: "a", NewSource: func() Source {
				n := len(opened)
				opened = append(opened, time.Since(began))
				return &fakeSource{
					open: func(context.Context) error {
						if n != 7 {
							return errTest
						}
						return nil
					},
					read: func() func() (Frame, error) {
						reads := 0
						return func() (Frame, error) {
							if reads++; reads > 1 {
								return Frame{}, errTest
							}
							return img.frame(), nil
						}
					}(),
					close: func() error { closes++; return nil },
				}
			}}},
		})
		time.Sleep(22 * time.Second)
		s.stop()
		// Five waits of 1 s, two of 5 s, then a frame at 15 s, and 1 s again.
		want := []time.Duration{0, 1, 2, 3, 4, 5, 10, 15, 16, 17, 18, 19, 20}
		for i := range want {
			want[i] *= time.Second
		}
		if want = append(want, 21*time.Second); !slices.Equal(opened, want) && !slices.Equal(opened, want[:13]) {
			t.Errorf("opened at %v, want %v", opened, want)
		}
		c := s.camera("a")
		if c.Reconnects != uint64(len(opened)-1) || closes != len(opened) || c.Frames != 1 || img.open.Load() != 0 {
			t.Errorf("%d closes of %d, %d open images, stats %+v", closes, len(opened), img.open.Load(), c)
		}
		// What lasts no time at all OnState need not see.
		states := slices.DeleteFunc(got.seen("a"), func(s string) bool { return s == "online/" || s == "offline/starting" })
		wantStates := []string{"offline/unreachable", "offline/disconnected", "offline/unreachable", "offline/stopped"}
		if !slices.Equal(states, wantStates) {
			t.Errorf("states %v, want %v", states, wantStates)
		}
	})
}

func TestBackoffSchedule(t *testing.T) {
	for attempt, want := range map[int]time.Duration{0: 1, 4: 1, 5: 5, 9: 5, 10: 10, 19: 10, 20: 60, 1000: 60} {
		if got := Backoff(attempt); got != want*time.Second {
			t.Errorf("attempt %d waits %v, want %v s", attempt, got, int(want))
		}
	}
}

func TestAnEndedRecordingIsNotReopened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opens := 0
		s := serve(t, Options{Cameras: []CameraOptions{{ID: "a", NewSource: func() Source {
			opens++
			return &fakeSource{read: func() (Frame, error) { return Frame{}, io.EOF }}
		}}}})
		time.Sleep(time.Hour)
		if c := s.camera("a"); opens != 1 || c.State != Offline || c.Reason != ReasonEnded {
			t.Errorf("opened %d times, %+v", opens, c)
		}
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestLosslessDropsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const frames = 500
		var img images
		var got collector
		read := 0
		s := serve(t, Options{
			EventBuffer: 2,
			Sink:        func(e Event) { time.Sleep(30 * time.Millisecond); got.sink(e) },
			Models:      model(person(10 * time.Millisecond)),
			Cameras: []CameraOptions{{ID: "a", Model: "m", Lossless: true, NewSource: func() Source {
				return &fakeSource{read: func() (Frame, error) {
					if read == frames {
						return Frame{}, io.EOF
					}
					read++
					return img.frame(), nil
				}}
			}}},
		})
		time.Sleep(time.Minute)
		s.stop()
		c := s.camera("a")
		if c.Inspected != frames || c.Events != frames || len(got.events) != frames || c.Dropped+c.EventsDropped+c.Throttled != 0 || img.open.Load() != 0 {
			t.Errorf("%d events, %d open, stats %+v", len(got.events), img.open.Load(), c)
		}
	})
}

// TestLosslessLosesNothingAtShutdown stops while a frame is in the detector:
// its event still reaches the sink.
func TestLosslessLosesNothingAtShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var img images
		var got collector
		s := serve(t, Options{
			Sink:   got.sink,
			Models: model(person(time.Second)),
			Cameras: []CameraOptions{{ID: "a", Model: "m", Lossless: true, NewSource: func() Source {
				return &fakeSource{read: func() (Frame, error) { return img.frame(), nil }}
			}}},
		})
		time.Sleep(2500 * time.Millisecond)
		if err := s.stop(); err != nil {
			t.Error(err)
		}
		if c := s.camera("a"); len(got.events) != 3 || c.Events != 3 || c.Frames != 3 || c.EventsDropped+c.Dropped != 0 {
			t.Errorf("%d events at the sink, want 3; %+v", len(got.events), c)
		}
	})
}

func TestTheDetectorNeverWaitsForTheSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var img images
		release := make(chan struct{})
		s := serve(t, Options{
			EventBuffer: 4,
			Sink:        func(Event) { <-release },
			Models:      model(person(time.Millisecond)),
			Cameras:     []CameraOptions{{ID: "a", Model: "m", NewSource: img.every(100 * time.Millisecond)}},
		})
		time.Sleep(10*time.Second + 50*time.Millisecond)
		c := s.camera("a")
		if c.Inspected != 100 || c.State != Online || c.Events != 5 || c.EventsDropped != 95 {
			t.Errorf("with a blocked sink: %+v; want 100 inspected, 5 events (one at the sink), 95 dropped", c)
		}
		if n := s.Stats().EventsWaiting; n != 4 {
			t.Errorf("%d events wait, want 4", n)
		}
		if err := s.stop(); !errors.Is(err, ErrAbandoned) {
			t.Errorf("Serve returned %v, want ErrAbandoned: the sink never returned", err)
		}
		if c := s.camera("a"); c.Events != 1 || c.EventsDropped != 99 {
			t.Errorf("after stopping: %+v; want the 4 waiting events counted as dropped", c)
		}
		close(release)
	})
}

func TestOneBusyCameraStarvesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var img images
		camera := func(id string, every time.Duration) CameraOptions {
			return CameraOptions{ID: id, Model: "m", NewSource: img.every(every)}
		}
		s := serve(t, Options{
			Models:  model(person(50 * time.Millisecond)),
			Cameras: []CameraOptions{camera("busy", time.Millisecond), camera("b", 200*time.Millisecond), camera("c", 200*time.Millisecond)},
		})
		time.Sleep(10 * time.Second)
		s.stop()
		for _, id := range []string{"b", "c"} {
			if c := s.camera(id); c.Inspected < 48 {
				t.Errorf("camera %s: %d of %d frames inspected", id, c.Inspected, c.Frames)
			}
		}
	})
}

func TestEveryFramePolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var img images
		nothing := &fakeDetector{detect: func(Frame) ([]Detection, Timing, error) { return nil, Timing{}, nil }}
		s := serve(t, Options{
			Models: model(nothing),
			Cameras: []CameraOptions{
				{ID: "every", Model: "m", Judge: JudgeOptions{Policy: PolicyEveryFrame}, NewSource: img.every(100 * time.Millisecond)},
				{ID: "detections", Model: "m", NewSource: img.every(100 * time.Millisecond)},
			},
		})
		time.Sleep(1050 * time.Millisecond)
		s.stop()
		if a, b := s.camera("every"), s.camera("detections"); a.Events != 10 || b.Events != 0 || b.Inspected != 10 {
			t.Errorf("every frame: %d events; default: %d events of %d frames", a.Events, b.Events, b.Inspected)
		}
	})
}

func TestACameraWithoutAModelIsOnline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var img images
		s := serve(t, Options{Cameras: []CameraOptions{{ID: "a", NewSource: img.every(100 * time.Millisecond)}}})
		time.Sleep(time.Minute + 50*time.Millisecond)
		c := s.camera("a")
		if c.State != Online || c.Frames != 600 || c.Width != 640 || c.Inspected+c.Throttled+c.Dropped != 0 || img.open.Load() != 0 {
			t.Errorf("%+v, %d open", c, img.open.Load())
		}
		s.stop()
	})
}
