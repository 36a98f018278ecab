package vision

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// stuck is a camera whose first connection blocks after n frames until release
// is closed, as do the others with no frame at all.
func (i *images) stuck(n int, release <-chan struct{}, closed *atomic.Int64) func() Source {
	return func() Source {
		return &fakeSource{
			read: func() (Frame, error) {
				if n == 0 {
					<-release
				} else {
					n--
				}
				time.Sleep(10 * time.Millisecond)
				return i.frame(), nil
			},
			close: func() error { closed.Add(1); return nil },
		}
	}
}

func TestAStuckReaderIsAbandonedNotClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var img images
		var closed atomic.Int64
		release := make(chan struct{})
		s := serve(t, Options{
			ShutdownTimeout: time.Second,
			Models:          model(person(0)),
			Cameras: []CameraOptions{
				{ID: "stuck", Model: "m", NewSource: img.stuck(1, release, &closed)},
				{ID: "fine", Model: "m", NewSource: img.every(100 * time.Millisecond)},
			},
		})
		time.Sleep(5 * time.Second)
		began := time.Now()
		if err := s.stop(); !errors.Is(err, ErrAbandoned) {
			t.Errorf("Serve returned %v, want ErrAbandoned", err)
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("shutdown took %v, want the timeout of 1 s", took)
		}
		if closed.Load() != 0 || s.Stats().AbandonedReaders != 1 {
			t.Errorf("closed %d times during its read; %d readers counted as abandoned, want 1", closed.Load(), s.Stats().AbandonedReaders)
		}
		close(release)
		synctest.Wait()
		time.Sleep(time.Second)
		if closed.Load() != 1 || img.open.Load() != 0 {
			t.Errorf("after the read returned: closed %d times, %d images open", closed.Load(), img.open.Load())
		}
		balanced(t, s.camera("stuck"))
		if c := s.camera("stuck"); c.State != Offline || c.Reason != ReasonStopped {
			t.Errorf("state %v %v", c.State, c.Reason)
		}
	})
}

func TestAStuckDetectorIsAbandonedNotClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var img images
		var closed atomic.Int64
		release := make(chan struct{})
		s := serve(t, Options{
			Models: model(&fakeDetector{
				detect: func(Frame) ([]Detection, Timing, error) { <-release; return nil, Timing{}, nil },
				close:  func() error { closed.Add(1); return nil },
			}),
			Cameras: []CameraOptions{{ID: "a", Model: "m", StallAfter: 2 * time.Second, NewSource: img.every(100 * time.Millisecond)}},
		})
		time.Sleep(5 * time.Second)
		if c := s.camera("a"); c.State != Blind || c.Reason != ReasonUninspected {
			t.Errorf("frames arrive, none is inspected: %+v", c)
		}
		if err := s.stop(); !errors.Is(err, ErrAbandoned) || closed.Load() != 0 || s.Stats().AbandonedDetectors != 1 {
			t.Errorf("Serve returned %v, closed %d times", err, closed.Load())
		}
		close(release)
		synctest.Wait()
		if closed.Load() != 1 || img.open.Load() != 0 {
			t.Errorf("after the run returned: closed %d times, %d images open", closed.Load(), img.open.Load())
		}
	})
}

func TestTheInspectionClockStartsWithTheFirstFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var img images
		var got collector
		s := serve(t, Options{
			OnState: got.onState,
			Models:  model(person(time.Second)),
			Cameras: []CameraOptions{{ID: "a", Model: "m", NewSource: func() Source {
				return &fakeSource{
					open: func(context.Context) error { time.Sleep(9 * time.Second); return nil },
					read: func() (Frame, error) { time.Sleep(100 * time.Millisecond); return img.frame(), nil },
				}
			}}},
		})
		time.Sleep(2 * time.Minute)
		s.stop()
		want := []string{"offline/starting", "online/", "offline/stopped"}
		if states := got.seen("a"); !slices.Equal(states, want) {
			t.Errorf("states %v, want %v", states, want)
		}
	})
}

func TestDetectorErrorsDegradeTheCamera(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var img images
		var fail atomic.Bool
		fail.Store(true)
		s := serve(t, Options{
			Models: model(&fakeDetector{detect: func(Frame) ([]Detection, Timing, error) {
				if fail.Load() {
					return nil, Timing{}, errTest
				}
				return nil, Timing{}, nil
			}}),
			Cameras: []CameraOptions{{ID: "a", Model: "m", NewSource: img.every(100 * time.Millisecond)}},
		})
		time.Sleep(20*time.Second + 50*time.Millisecond) // a detector that fails for longer is opened anew
		if c := s.camera("a"); c.State != Degraded || c.Reason != ReasonDetector || c.Detail != errTest.Error() || c.DetectorErrors != 200 {
			t.Errorf("while it fails: %+v", c)
		}
		fail.Store(false)
		time.Sleep(time.Second)
		if c := s.camera("a"); c.State != Online {
			t.Errorf("after it recovered: %+v", c)
		}
		s.stop()
		balanced(t, s.camera("a"))
	})
}

func TestAModelThatDoesNotLoadBlindsItsCameras(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var img images
		tries := 0
		s := serve(t, Options{
			Models: []ModelOptions{{Name: "m", Open: func(context.Context) (Detector, error) {
				if tries++; tries < 3 {
					return nil, errTest
				}
				return person(0), nil
			}}},
			Cameras: []CameraOptions{
				{ID: "a", Model: "m", NewSource: img.every(100 * time.Millisecond)},
				{ID: "bare", NewSource: img.every(100 * time.Millisecond)},
			},
		})
		time.Sleep(1500 * time.Millisecond)
		if c := s.camera("a"); c.State != Blind || c.Reason != ReasonNoDetector || c.Detail == "" {
			t.Errorf("without a detector: %+v", c)
		}
		if m := s.Stats().Models[0]; m.Ready || m.Error == "" {
			t.Errorf("model stats without a detector: %+v", m)
		}
		if c := s.camera("bare"); c.State != Online {
			t.Errorf("a camera without a model: %+v", c)
		}
		time.Sleep(2 * time.Second)
		if c := s.camera("a"); c.State != Online || c.Inspected == 0 || !s.Stats().Models[0].Ready {
			t.Errorf("with one: %+v", c)
		}
		s.stop()
	})
}

func TestCloseEndsServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var img images
		s := serve(t, Options{Cameras: []CameraOptions{{ID: "a", NewSource: img.every(time.Second)}}})
		time.Sleep(1500 * time.Millisecond)
		if err := errors.Join(s.Close(), s.Close()); err != nil {
			t.Error(err)
		}
		if err := <-s.err; err != nil {
			t.Errorf("Serve returned %v", err)
		}
		if err := s.Serve(t.Context()); !errors.Is(err, ErrServed) {
			t.Errorf("a second Serve returned %v, want ErrServed", err)
		}
		s.cancel()
	})
	p, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	if err := p.Serve(t.Context()); !errors.Is(err, ErrServed) {
		t.Errorf("Serve after Close returned %v, want ErrServed", err)
	}
}

// TestWaitingForTheSinkIsNoStall: a lossless reader that waits for a slow Sink
// expects no frames meanwhile.
func TestWaitingForTheSinkIsNoStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var img images
		s := serve(t, Options{
			Models: model(person(0)), EventBuffer: 1, Sink: func(Event) { time.Sleep(5 * time.Second) }, ShutdownTimeout: time.Minute,
			Cameras: []CameraOptions{{ID: "a", Model: "m", Lossless: true, StallAfter: 2 * time.Second, NewSource: img.every(100 * time.Millisecond)}},
		})
		time.Sleep(time.Minute)
		if c := s.camera("a"); c.Stalled != 0 || c.Frames < 10 {
			t.Errorf("stalled for %v in %d frames, each of which came within 100 ms", c.Stalled, c.Frames)
		}
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
}
