package vision

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// versioned is a detector that says which version it is, in Info and in what
// it finds, and that notices when it is used after its end or by two at once.
type versioned struct {
	sha    string
	found  []Detection
	busy   atomic.Bool
	closed atomic.Int32
	misuse atomic.Int32
	frames atomic.Int64
}

var _ Detector = (*versioned)(nil)

func newVersion(n int) *versioned {
	name := fmt.Sprintf("v%d", n)
	return &versioned{sha: name, found: []Detection{{Class: name, Confidence: 1, Box: Box{0, 0, 1, 1}}}}
}

func (v *versioned) Detect(f Frame) ([]Detection, Timing, error) {
	if !v.busy.CompareAndSwap(false, true) || v.closed.Load() > 0 {
		v.misuse.Add(1)
	}
	defer v.busy.Store(false)
	v.frames.Add(1)
	if f.Seq%17 == 0 {
		return nil, Timing{}, errTest
	}
	return v.found, Timing{}, nil
}

func (v *versioned) Info() DetectorInfo {
	return DetectorInfo{Model: "m", Provider: "cpu", ModelSHA256: v.sha}
}

func (v *versioned) Close() error {
	if v.busy.Load() {
		v.misuse.Add(1)
	}
	v.closed.Add(1)
	return nil
}

func (v *versioned) open(context.Context) (Detector, error) { return v, nil }

// TestSwapUnderLoadLosesNoFramesAccount swaps a model again and again while
// four cameras send frames as fast as they can.
func TestSwapUnderLoadLosesNoFramesAccount(t *testing.T) {
	var imgs images
	var got collector
	first := newVersion(0)
	opts := Options{Models: []ModelOptions{{Name: "m", Open: first.open}}, Sink: got.sink, EventBuffer: 1 << 16}
	for i := range 4 {
		fps := 0.0
		if i == 3 {
			fps = 500 // some frames are throttled
		}
		opts.Cameras = append(opts.Cameras, CameraOptions{ID: fmt.Sprint(i), NewSource: imgs.every(time.Microsecond), Model: "m", FPS: fps, Judge: JudgeOptions{Policy: PolicyEveryFrame}})
	}
	s := serve(t, opts)
	all := []*versioned{first}
	for n := 1; n <= 60; n++ {
		last := all[len(all)-1]
		for deadline := time.Now().Add(10 * time.Second); last.frames.Load() == 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("version %d inspects nothing", n-1)
			}
		}
		next := newVersion(n)
		if err := s.Swap(t.Context(), "m", next.open); err != nil {
			t.Fatal(err)
		}
		all = append(all, next)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	var inspected uint64
	for _, c := range s.Stats().Cameras {
		balanced(t, c)
		inspected += c.Inspected + c.DetectorErrors
	}
	var detected int64
	for _, v := range all {
		detected += v.frames.Load()
		if v.closed.Load() != 1 || v.misuse.Load() != 0 {
			t.Errorf("%s: closed %d times, misused %d times", v.sha, v.closed.Load(), v.misuse.Load())
		}
	}
	m := s.Stats().Models[0]
	if uint64(detected) != inspected || m.Swaps != 60 || m.ModelSHA256 != "v60" || m.Inferences+m.Errors != inspected {
		t.Errorf("detectors saw %d frames, cameras count %d; %+v", detected, inspected, m)
	}
	for _, e := range got.events {
		if e.ModelSHA256 == "" || e.ModelSHA256 != e.Detections[0].Class {
			t.Fatalf("an event of %q names %q", e.Detections[0].Class, e.ModelSHA256)
		}
	}
	if n := imgs.open.Load(); n != 0 {
		t.Errorf("%d images are open", n)
	}
}

// TestSwapThatFailsKeepsTheOldModel: an Open that fails changes nothing.
func TestSwapThatFailsKeepsTheOldModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var imgs images
		old := newVersion(0)
		s := serve(t, Options{
			Models:  []ModelOptions{{Name: "m", Open: old.open}},
			Cameras: []CameraOptions{{ID: "c", NewSource: imgs.every(10 * time.Millisecond), Model: "m"}},
		})
		time.Sleep(time.Second)
		err := s.Swap(t.Context(), "m", func(context.Context) (Detector, error) { return nil, errTest })
		if !errors.Is(err, errTest) {
			t.Errorf("got %v", err)
		}
		if err := s.Swap(t.Context(), "x", old.open); !errors.Is(err, ErrNoModel) {
			t.Errorf("got %v", err)
		}
		before := old.frames.Load()
		time.Sleep(time.Second)
		if old.frames.Load() <= before || old.closed.Load() != 0 {
			t.Errorf("the old model does not go on: %d frames, then %d", before, old.frames.Load())
		}
		if err := s.stop(); err != nil {
			t.Error(err)
		}
		late := newVersion(1)
		if err := s.Swap(t.Context(), "m", late.open); !errors.Is(err, ErrServed) || late.closed.Load() != 1 {
			t.Errorf("after the end: %v, closed %d times", err, late.closed.Load())
		}
	})
}

// TestSwapEndsTheWaitForAModel: a model that cannot be loaded is replaced at
// once, not after its back-off.
func TestSwapEndsTheWaitForAModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var imgs images
		s := serve(t, Options{
			Models:  []ModelOptions{{Name: "m", Open: func(context.Context) (Detector, error) { return nil, errTest }}},
			Cameras: []CameraOptions{{ID: "c", NewSource: imgs.every(10 * time.Millisecond), Model: "m"}},
			Backoff: func(int) time.Duration { return time.Hour },
		})
		time.Sleep(time.Second)
		if c := s.camera("c"); c.State != Blind || c.Reason != ReasonNoDetector {
			t.Fatalf("got %+v", c)
		}
		next := newVersion(1)
		if err := s.Swap(t.Context(), "m", next.open); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if c, m := s.camera("c"), s.Stats().Models[0]; c.State != Online || !m.Ready || m.Error != "" || m.ModelSHA256 != "v1" {
			t.Errorf("got %+v, %+v", c, m)
		}
		if err := s.stop(); err != nil || next.closed.Load() != 1 {
			t.Errorf("%v, closed %d times", err, next.closed.Load())
		}
	})
}

// TestSlowCloseHoldsUpNoFrame: frames go to the new detector while the old
// one is still being closed, and the pipeline waits for it at its end.
func TestSlowCloseHoldsUpNoFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var imgs images
		var closed sync.WaitGroup
		closed.Add(1)
		old := person(0)
		old.close = func() error { time.Sleep(2 * time.Second); closed.Done(); return nil }
		s := serve(t, Options{
			Models:  model(old),
			Cameras: []CameraOptions{{ID: "c", NewSource: imgs.every(10 * time.Millisecond), Model: "m"}},
		})
		time.Sleep(time.Second)
		next := newVersion(1)
		if err := s.Swap(t.Context(), "m", next.open); err != nil {
			t.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond)
		if n := next.frames.Load(); n < 40 {
			t.Errorf("%d frames within half a second", n)
		}
		if err := s.stop(); err != nil {
			t.Error(err)
		}
		closed.Wait()
	})
}

func TestFailuresInARowAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var imgs images
		var failing atomic.Bool
		failing.Store(true)
		d := person(0)
		detect := d.detect
		d.detect = func(f Frame) ([]Detection, Timing, error) {
			if failing.Load() {
				return nil, Timing{}, errTest
			}
			return detect(f)
		}
		s := serve(t, Options{Models: model(d), Cameras: []CameraOptions{{ID: "c", NewSource: imgs.every(10 * time.Millisecond), Model: "m"}}})
		time.Sleep(105 * time.Millisecond)
		if m := s.Stats().Models[0]; m.Failing < 9 || m.Failing != m.Errors {
			t.Errorf("got %+v", m)
		}
		failing.Store(false)
		time.Sleep(100 * time.Millisecond)
		if m := s.Stats().Models[0]; m.Failing != 0 || m.Errors < 9 {
			t.Errorf("got %+v", m)
		}
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
}
