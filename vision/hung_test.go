package vision

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// slow is a detector whose nth call takes the nth of these times, and any
// further one until release is closed.
func slow(release <-chan struct{}, takes ...time.Duration) *fakeDetector {
	n := 0
	return &fakeDetector{detect: func(Frame) ([]Detection, Timing, error) {
		if n == len(takes) {
			<-release
			return nil, Timing{}, nil
		}
		n++
		time.Sleep(takes[n-1]) // the work of the model, not synchronisation
		return nil, Timing{}, nil
	}}
}

// TestADetectorThatDoesNotAnswerIsSaid, after a time that its own calls and
// their number decide.
func TestADetectorThatDoesNotAnswerIsSaid(t *testing.T) {
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		takes []time.Duration
		hung  time.Duration // after the last call began
	}{
		"fast":      {[]time.Duration{10 * ms, 10 * ms, 10 * ms}, time.Minute},
		"first":     {nil, 5 * time.Minute},
		"slow":      {[]time.Duration{30 * time.Second, ms}, 150 * time.Second},
		"very slow": {[]time.Duration{10 * time.Minute, ms}, 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var imgs images
				release := make(chan struct{})
				s := serve(t, Options{
					Models:  model(slow(release, c.takes...)),
					Cameras: []CameraOptions{{ID: "c", NewSource: imgs.every(100 * ms), Model: "m"}},
				})
				var since time.Time
				for { // until the last call is under way
					time.Sleep(100 * ms)
					since = s.Stats().Models[0].RunningSince
					if s.Stats().Models[0].Inferences == uint64(len(c.takes)) && !since.IsZero() {
						break
					}
				}
				time.Sleep(time.Until(since.Add(c.hung - ms)))
				if st := s.Stats(); st.Models[0].Hung || st.Hung() != nil {
					t.Errorf("too early: %v", st.Hung())
				}
				time.Sleep(ms)
				st := s.Stats()
				if err := st.Hung(); !st.Models[0].Hung || !errors.Is(err, ErrHung) || !strings.Contains(err.Error(), `the detector of model "m" since 2000-01-01T00:`) {
					t.Errorf("after %v: %v", c.hung, err)
				}
				if cam := s.camera("c"); cam.State != Blind || cam.Reason != ReasonUninspected {
					t.Errorf("got %+v", cam)
				}
				close(release)
				time.Sleep(time.Second)
				if st := s.Stats(); st.Hung() != nil || st.Models[0].LastInspected.IsZero() {
					t.Errorf("it has answered: %+v", st.Models[0])
				}
				if err := s.stop(); err != nil {
					t.Error(err)
				}
				balanced(t, s.camera("c"))
			})
		})
	}
}

// TestADetectorThatFailsAndThenHangsIsBlind: it inspects nothing, so its
// camera is no longer degraded.
func TestADetectorThatFailsAndThenHangsIsBlind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var imgs images
		release, n := make(chan struct{}), 0
		s := serve(t, Options{
			Models: model(&fakeDetector{detect: func(Frame) ([]Detection, Timing, error) {
				if n++; n > 3 {
					<-release
				}
				return nil, Timing{}, errTest
			}}),
			Cameras: []CameraOptions{{ID: "c", NewSource: imgs.every(10 * time.Millisecond), Model: "m"}},
		})
		time.Sleep(5 * time.Second)
		if c := s.camera("c"); c.State != Degraded {
			t.Errorf("got %+v", c)
		}
		time.Sleep(10 * time.Second)
		if c := s.camera("c"); c.State != Blind || c.Reason != ReasonUninspected {
			t.Errorf("got %+v", c)
		}
		close(release)
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
}

// series opens a detector that only fails until the nth, which finds a person,
// and notices when two are open at once.
type series struct {
	good   int
	err    error
	opened []time.Time
	open   atomic.Int32
	both   atomic.Bool
}

func (m *series) Open(context.Context) (Detector, error) {
	m.opened = append(m.opened, time.Now())
	if m.open.Add(1) > 1 {
		m.both.Store(true)
	}
	d := person(0)
	if len(m.opened) != m.good {
		d.detect = func(Frame) ([]Detection, Timing, error) { return nil, Timing{}, m.err }
	}
	d.close = func() error { m.open.Add(-1); return nil }
	return d, nil
}

// gaps are the times between the openings, in whole seconds.
func (m *series) gaps() (out []int) {
	for i := range m.opened[1:] {
		out = append(out, int(m.opened[i+1].Sub(m.opened[i]).Seconds()))
	}
	return out
}

func TestADetectorThatOnlyFailsIsOpenedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var imgs images
		var got collector
		m := &series{good: 8, err: errTest}
		s := serve(t, Options{
			OnState: got.onState,
			Models:  []ModelOptions{{Name: "m", Open: m.Open}},
			Cameras: []CameraOptions{{ID: "c", NewSource: imgs.every(100 * time.Millisecond), Model: "m"}},
		})
		time.Sleep(29 * time.Second)
		if st := s.Stats().Models[0]; st.Reopened != 0 || st.Failing < 200 || st.Failure != errTest.Error() {
			t.Errorf("too early: %+v", st)
		}
		time.Sleep(1500 * time.Millisecond)
		st := s.Stats().Models[0]
		if st.Reopened != 1 || st.Ready || !strings.Contains(st.Error, "closed, to be opened anew") || !strings.Contains(st.Error, errTest.Error()) {
			t.Errorf("got %+v", st)
		}
		if c := s.camera("c"); c.State != Blind || c.Reason != ReasonNoDetector {
			t.Errorf("got %+v", c)
		}
		time.Sleep(5 * time.Minute)
		st = s.Stats().Models[0]
		if st.Reopened != 7 || !st.Ready || st.Failing != 0 || st.Failure != "" || st.Error != "" || st.LastInspected.IsZero() {
			t.Errorf("got %+v", st)
		}
		if want := []int{31, 31, 31, 31, 31, 35, 35}; !slices.Equal(m.gaps(), want) || m.both.Load() {
			t.Errorf("opened after %v s, want %v; two at once: %v", m.gaps(), want, m.both.Load())
		}
		if c := s.camera("c"); c.State != Online {
			t.Errorf("got %+v", c)
		}
		if err := s.stop(); err != nil || m.open.Load() != 0 || imgs.open.Load() != 0 {
			t.Errorf("%v, %d detectors and %d images are open", err, m.open.Load(), imgs.open.Load())
		}
		balanced(t, s.camera("c"))
	})
}

// TestWhatIsNotTheDetectorsReopensNothing: one success now and then, few
// failures, and pictures that cannot be cropped.
func TestWhatIsNotTheDetectorsReopensNothing(t *testing.T) {
	now := 0
	for name, c := range map[string]struct {
		every time.Duration
		err   func() error
	}{
		"one in a hundred succeeds": {100 * time.Millisecond, func() error {
			if now++; now%100 == 0 {
				return nil
			}
			return errTest
		}},
		"too few":           {4 * time.Second, func() error { return errTest }},
		"the camera's view": {100 * time.Millisecond, func() error { return ErrCrop }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var imgs images
				d := person(0)
				d.detect = func(Frame) ([]Detection, Timing, error) { return nil, Timing{}, c.err() }
				s := serve(t, Options{Models: model(d), Cameras: []CameraOptions{{ID: "c", NewSource: imgs.every(c.every), Model: "m"}}})
				time.Sleep(35 * time.Second)
				if st := s.Stats().Models[0]; st.Reopened != 0 || st.Errors < 5 {
					t.Errorf("got %+v", st)
				}
				if err := s.stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// givenUp is a pipeline whose only detector failed, was closed, and waits an
// hour to be opened anew.
func givenUp(t *testing.T, m *series) *served {
	t.Helper()
	var imgs images
	s := serve(t, Options{
		Models:  []ModelOptions{{Name: "m", Open: m.Open}},
		Cameras: []CameraOptions{{ID: "c", NewSource: imgs.every(100 * time.Millisecond), Model: "m"}},
		Backoff: func(int) time.Duration { return time.Hour },
	})
	time.Sleep(time.Minute)
	return s
}

// TestASwapEndsTheWaitForADetectorThatFailed, and its end ends the pipeline.
func TestASwapEndsTheWaitForADetectorThatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &series{err: errTest}
		s := givenUp(t, m)
		next := newVersion(1)
		if err := s.Swap(t.Context(), "m", next.open); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if st := s.Stats().Models[0]; st.Reopened != 1 || !st.Ready || st.Failing != 0 || st.ModelSHA256 != "v1" || next.frames.Load() < 5 {
			t.Errorf("got %+v", st)
		}
		if err := s.stop(); err != nil || next.closed.Load() != 1 {
			t.Errorf("%v, closed %d times", err, next.closed.Load())
		}
	})
}

// TestAPipelineEndsWhileADetectorWaitsToBeOpened.
func TestAPipelineEndsWhileADetectorWaitsToBeOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &series{err: errTest}
		s := givenUp(t, m)
		if err := s.stop(); err != nil || m.open.Load() != 0 || len(m.opened) != 1 {
			t.Errorf("%v, %d are open, %d were", err, m.open.Load(), len(m.opened))
		}
		balanced(t, s.camera("c"))
	})
}

// TestACloseThatNeverReturnsIsNoAnswer either.
func TestACloseThatNeverReturnsIsNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var imgs images
		release := make(chan struct{})
		d := person(0)
		d.detect = func(Frame) ([]Detection, Timing, error) { return nil, Timing{}, errTest }
		d.close = func() error { <-release; return nil }
		s := serve(t, Options{Models: model(d), Cameras: []CameraOptions{{ID: "c", NewSource: imgs.every(100 * time.Millisecond), Model: "m"}}})
		time.Sleep(2 * time.Minute)
		if st := s.Stats(); st.Hung() == nil {
			t.Errorf("got %+v", st.Models[0])
		}
		close(release)
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
}

// stuckNamer names the first parts and then does not return until it is
// released.
type stuckNamer struct {
	left    int
	release chan struct{}
}

func (n *stuckNamer) Classify(Image) (string, float64, error) {
	if n.left--; n.left < 0 {
		<-n.release
	}
	return "x", 1, nil
}
func (*stuckNamer) Close() error { return nil }

// TestAHungSecondStageIsNamed, and not the detector that waits for it.
func TestAHungSecondStageIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		names := &stuckNamer{3, make(chan struct{})}
		source := func() Source {
			return &fakeSource{read: func() (Frame, error) {
				time.Sleep(100 * time.Millisecond)
				f := frameOf(1280, 720)
				f.Arrived = time.Now()
				return f, nil
			}}
		}
		s := serve(t, Options{
			Models:      model(person(0)),
			Classifiers: []ClassifierOptions{{Name: "colour", Open: func(context.Context) (Classifier, error) { return names, nil }}},
			Cameras:     []CameraOptions{{ID: "cam", Model: "m", NewSource: source, Classify: ClassifyOptions{Model: "colour"}}},
		})
		time.Sleep(30 * time.Second)
		if st := s.Stats(); st.Hung() != nil || st.Classifiers[0].RunningSince.IsZero() {
			t.Errorf("too early: %+v", st.Classifiers[0])
		}
		time.Sleep(time.Minute)
		st := s.Stats()
		if err := st.Hung(); err == nil || !strings.Contains(err.Error(), `classifier "colour" since`) || st.Models[0].Hung {
			t.Errorf("got %v, %+v", err, st.Models[0])
		}
		close(names.release)
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
}
