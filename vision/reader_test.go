package vision

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// flaky is a camera whose connections are scripted. It checks that no source
// is closed during a call.
type flaky struct {
	images
	t      *testing.T
	mu     sync.Mutex
	opened []time.Time
	closed atomic.Int64
	script func(n int) connection // the n-th connection, from 0
}

// connection is what one connection does.
type connection struct {
	open    <-chan struct{} // Open blocks until it is closed; nil: not at all
	frames  int             // then Read blocks until release is closed, and goes on
	release <-chan struct{}
}

func (f *flaky) source() Source {
	f.mu.Lock()
	script := f.script(len(f.opened))
	f.opened = append(f.opened, time.Now())
	f.mu.Unlock()
	busy := atomic.Bool{}
	return &fakeSource{
		open: func(context.Context) error {
			busy.Store(true)
			defer busy.Store(false)
			if script.open != nil {
				<-script.open
			}
			return nil
		},
		read: func() (Frame, error) {
			busy.Store(true)
			defer busy.Store(false)
			if script.frames == 0 {
				<-script.release
			}
			script.frames--
			time.Sleep(100 * time.Millisecond)
			return f.frame(), nil
		},
		close: func() error {
			if busy.Load() {
				f.t.Error("a source was closed during a call")
			}
			f.closed.Add(1)
			return nil
		},
	}
}

func (f *flaky) connections() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.opened)
}

// waits are the times from each opening to the next.
func (f *flaky) waits() (all []time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := 1; i < len(f.opened); i++ {
		all = append(all, f.opened[i].Sub(f.opened[i-1]))
	}
	return all
}

// TestAStalledCameraIsOpenedAgain: a read is stuck after 20 frames; the second
// connection takes over, and the late frame of the first is nobody's.
func TestAStalledCameraIsOpenedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		f := &flaky{t: t, script: func(n int) connection {
			if n == 0 {
				return connection{frames: 20, release: release}
			}
			return connection{frames: 1e9}
		}}
		var got collector
		var seqs []uint64
		s := serve(t, Options{
			OnState: got.onState,
			Models: model(&fakeDetector{detect: func(f Frame) ([]Detection, Timing, error) {
				seqs = append(seqs, f.Seq)
				return nil, Timing{}, nil
			}}),
			Cameras: []CameraOptions{{ID: "a", Model: "m", StallAfter: 2 * time.Second, NewSource: f.source}},
		})
		time.Sleep(4550 * time.Millisecond) // frames to 2 s, stalled at 4 s, given up by 4.5 s
		if c := s.camera("a"); c.State != Blind || c.Reason != ReasonStalled || c.FPS != 0 || c.Detail == "" || c.StuckReaders != 1 || c.Abandoned != 1 {
			t.Errorf("after stall_after: %+v", c)
		}
		time.Sleep(5 * time.Second)
		if c := s.camera("a"); c.State != Online || c.Reconnects != 1 || c.Stalled != 3600*time.Millisecond || s.Stats().StuckReaders != 1 {
			t.Errorf("after it was opened again: %+v", c)
		}
		frames := s.camera("a").Frames
		close(release)
		synctest.Wait()
		time.Sleep(150 * time.Millisecond) // the late frame takes 100 ms more, in which the camera has 1 or 2
		if c := s.camera("a"); c.Frames-frames > 2 || c.StuckReaders != 0 || s.Stats().StuckReaders != 0 || f.closed.Load() != 1 || c.State != Online {
			t.Errorf("after the late frame: %+v, %d sources closed", c, f.closed.Load())
		}
		s.stop()
		balanced(t, s.camera("a"))
		for i, n := range seqs {
			if n != uint64(i+1) {
				t.Fatalf("inspected frame %d has number %d", i+1, n)
			}
		}
		if f.open.Load() != 0 || f.closed.Load() != 2 {
			t.Errorf("%d images open, %d sources closed", f.open.Load(), f.closed.Load())
		}
		want := []string{"offline/starting", "online/", "blind/stalled", "online/", "offline/stopped"}
		if states := got.seen("a"); !slices.Equal(states, want) {
			t.Errorf("states %v, want %v", states, want)
		}
	})
}

// TestStuckReadersAreBounded: each connection is stuck, in Open or in Read.
func TestStuckReadersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		one := make(chan struct{})
		f := &flaky{t: t, script: func(n int) connection {
			switch n {
			case 0:
				return connection{open: one, release: release}
			case 1:
				return connection{open: release, release: release}
			}
			return connection{frames: 0, release: release}
		}}
		s := serve(t, Options{
			ShutdownTimeout: time.Second, MaxStuck: 4,
			Cameras: []CameraOptions{
				{ID: "a", StallAfter: 2 * time.Second, NewSource: f.source},
				{ID: "b", StallAfter: 2 * time.Second, NewSource: f.every(time.Second)},
			},
		})
		time.Sleep(time.Minute)
		c := s.camera("a")
		if f.connections() != 3 || c.StuckReaders != 3 || c.Abandoned != 2 || c.State != Blind || c.Reason != ReasonStuck || c.Detail == "" {
			t.Errorf("at the bound of one camera: %d opened, %+v", f.connections(), c)
		}
		if err := s.Stats().Stuck(); err != nil || s.camera("b").State != Online {
			t.Errorf("one camera at its bound: %v, the other %v", err, s.camera("b").State)
		}
		close(one) // a call returns: there is room for one more connection
		time.Sleep(time.Minute)
		if c := s.camera("a"); f.connections() != 4 || c.StuckReaders != 3 || f.closed.Load() != 1 {
			t.Errorf("after a call returned: %d opened, %d closed, %+v", f.connections(), f.closed.Load(), c)
		}
		err := s.stop()
		if !errors.Is(err, ErrAbandoned) || s.Stats().AbandonedReaders != 3 {
			t.Errorf("Serve returned %v, %d abandoned; want 3", err, s.Stats().AbandonedReaders)
		}
		close(release)
		synctest.Wait()
		time.Sleep(time.Second)
		if f.closed.Load() != 4 || f.open.Load() != 0 || s.Stats().StuckReaders != 0 {
			t.Errorf("in the end: %d closed, %d images open, %d stuck", f.closed.Load(), f.open.Load(), s.Stats().StuckReaders)
		}
	})
}

// TestManyStuckCamerasSaySo: the bound in all is met before that of a camera.
func TestManyStuckCamerasSaySo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		f := &flaky{t: t, script: func(int) connection { return connection{release: release} }}
		o := Options{ShutdownTimeout: time.Second}
		for _, id := range []string{"a", "b", "c", "d"} {
			o.Cameras = append(o.Cameras, CameraOptions{ID: id, StallAfter: 2 * time.Second, NewSource: f.source})
		}
		s := serve(t, o)
		time.Sleep(time.Hour)
		st := s.Stats()
		if err := st.Stuck(); !errors.Is(err, ErrStuck) || st.MaxStuck != DefaultMaxStuck {
			t.Errorf("got %v, %d stuck", err, st.StuckReaders)
		}
		if n := f.connections(); n > DefaultMaxStuck+len(o.Cameras)-1 {
			t.Errorf("%d connections were opened", n)
		}
		for _, c := range st.Cameras {
			if c.State != Blind || c.Reason != ReasonStuck {
				t.Errorf("%+v", c)
			}
		}
		close(release) // all return, and frames flow
		time.Sleep(time.Minute)
		if st := s.Stats(); st.Stuck() != nil || st.StuckReaders != 0 || st.Cameras[0].State != Online {
			t.Errorf("after all calls returned: %v, %+v", st.Stuck(), st.Cameras[0])
		}
		s.stop()
	})
}

// TestStallsBackOff: connections that never bring a frame are opened at growing
// distances, which start over once frames came.
func TestStallsBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &flaky{t: t, script: func(n int) connection {
			release := make(chan struct{})
			time.AfterFunc(4*time.Second, func() { close(release) }) // late, and so for nobody
			if n == 22 {
				return connection{frames: 10, release: release}
			}
			return connection{release: release}
		}}
		s := serve(t, Options{
			ShutdownTimeout: 5 * time.Second,
			Cameras:         []CameraOptions{{ID: "a", StallAfter: 2 * time.Second, NewSource: f.source}},
		})
		time.Sleep(7 * time.Minute)
		s.stop()
		time.Sleep(5 * time.Second)
		waits := f.waits()
		if len(waits) < 24 {
			t.Fatalf("opened only after %v", waits)
		}
		for i, got := range waits[:24] {
			want := Backoff(i) + 2*time.Second
			if i == 22 { // which had frames for a second
				want = Backoff(0) + 3*time.Second
			} else if i > 22 {
				want = Backoff(i-22) + 2*time.Second
			}
			if got < want || got > want+time.Second {
				t.Errorf("wait %d: %v, want %v to a tick more", i, got, want)
			}
		}
		if f.open.Load() != 0 || s.camera("a").Frames != 10 {
			t.Errorf("%d images open, %d frames", f.open.Load(), s.camera("a").Frames)
		}
	})
}

// TestAPacedSourceIsNotStuck: a source that waits for its context ends with it.
func TestAPacedSourceIsNotStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var img images
		s := serve(t, Options{Cameras: []CameraOptions{{ID: "a", StallAfter: 2 * time.Second, NewSource: img.every(time.Hour)}}})
		time.Sleep(time.Minute)
		if c := s.camera("a"); c.StuckReaders != 0 || c.Abandoned < 5 || c.State != Blind {
			t.Errorf("%+v", c)
		}
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
}

// patient is a source that says that it waits by itself.
type patient struct{ Source }

func (patient) Waits() {}

// TestAWaiterIsNotOpenedAgain, although it is silent and its camera blind.
func TestAWaiterIsNotOpenedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var img images
		s := serve(t, Options{Cameras: []CameraOptions{{ID: "a", StallAfter: 2 * time.Second, NewSource: func() Source {
			return patient{img.every(time.Minute)()}
		}}}})
		time.Sleep(59 * time.Second)
		if c := s.camera("a"); c.State != Blind || c.Reason != ReasonStalled {
			t.Errorf("while it is silent: %+v", c)
		}
		time.Sleep(2 * time.Second)
		if c := s.camera("a"); c.State != Online || c.Frames != 1 || c.Abandoned != 0 || c.Reconnects != 0 {
			t.Errorf("after its frame: %+v", c)
		}
		s.stop()
	})
}

// TestAFrameThatIsStuckAfterItsGrab was counted and is dropped.
func TestAFrameThatIsStuckAfterItsGrab(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var img images
		release := make(chan struct{})
		var n atomic.Int64
		g := &fakeGrabber{
			grab: func() (time.Time, error) { time.Sleep(100 * time.Millisecond); return time.Now(), nil },
			retrieve: func() (Frame, error) {
				if n.Add(1) == 5 {
					<-release
				}
				return img.frame(), nil
			},
		}
		s := serve(t, Options{
			Models:  model(person(0)),
			Cameras: []CameraOptions{{ID: "a", Model: "m", StallAfter: 2 * time.Second, NewSource: func() Source { return g }}},
		})
		time.Sleep(10 * time.Second)
		close(release)
		time.Sleep(time.Second)
		s.stop()
		c := s.camera("a")
		balanced(t, c)
		if c.Dropped == 0 || c.Abandoned != 1 || img.open.Load() != 0 {
			t.Errorf("%+v, %d open", c, img.open.Load())
		}
	})
}
