package vision

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// ladderOf is rungs that want 10 frames a second.
func ladderOf(priorities ...int) (rungs []*rung) {
	for _, p := range priorities {
		rungs = append(rungs, &rung{priority: p, wanted: 10, floor: 4})
	}
	return rungs
}

func stepsOf(rungs []*rung) (s string) {
	for _, r := range rungs {
		s += fmt.Sprint(r.steps)
	}
	return s
}

// TestTheLowestPriorityGoesFirstAndComesBackLast, and never below the floor.
func TestTheLowestPriorityGoesFirstAndComesBackLast(t *testing.T) {
	rungs := ladderOf(5, 1, 9, 1)
	for i, want := range []string{"0101", "0202", "0303", "1303", "2303", "3303", "3313", "3323", "3333", "3333"} {
		more := lower(rungs, MaxPriority+1)
		if got := stepsOf(rungs); got != want || more != (i < 9) {
			t.Errorf("step %d down: %s, %v, want %s", i+1, got, more, want)
		}
	}
	for _, r := range rungs {
		if r.rate() != 4 {
			t.Errorf("at the end %.2f frames a second, the floor is 4", r.rate())
		}
	}
	for i, want := range []string{"3323", "3313", "3303", "2303", "1303", "0303", "0202", "0101", "0000", "0000"} {
		more := raise(rungs)
		if got := stepsOf(rungs); got != want || more != (i < 9) {
			t.Errorf("step %d up: %s, %v, want %s", i+1, got, more, want)
		}
	}
	if lower(rungs, 5); stepsOf(rungs) != "0101" {
		t.Errorf("below 5: %s", stepsOf(rungs))
	}
	if rungs = ladderOf(5, 5); lower(rungs, 5) {
		t.Error("equals were reduced")
	}
	slow := []*rung{{priority: 1, wanted: 2, floor: 4}, {priority: 1}}
	if lower(slow, 10) || slow[0].rate() != 2 || slow[1].rate() != 0 {
		t.Errorf("cameras below the floor were reduced: %+v %+v", slow[0], slow[1])
	}
}

// TestAStepBackThatHurtsIsTriedLessOften: 3 windows, then 6, 12, …, 96.
func TestAStepBackThatHurtsIsTriedLessOften(t *testing.T) {
	l := &load{rungs: ladderOf(9, 1)}
	l.look(9)
	var waited []int
	for range 7 {
		n := 0
		for stepsOf(l.rungs) == "01" {
			l.look(0)
			n++
		}
		waited = append(waited, n)
		l.look(9) // it hurts
	}
	if got, want := fmt.Sprint(waited), "[3 6 12 24 48 96 96]"; got != want {
		t.Errorf("waited %s windows, want %s", got, want)
	}
	for range 96 + 96 + 48 {
		l.look(0)
	}
	if l.patience != 24 || stepsOf(l.rungs) != "00" {
		t.Errorf("patience %d after quiet spells, steps %s", l.patience, stepsOf(l.rungs))
	}
}

func TestHeatHasHysteresis(t *testing.T) {
	h := &heat{rungs: ladderOf(5, 1), hot: 85, cool: 80}
	for i, c := range []struct {
		celsius float64
		known   bool
		steps   string
		on      bool
	}{
		{84, true, "00", false}, {85, true, "01", true}, {90, true, "02", true}, {82, true, "02", true},
		{86, true, "03", true}, {86, true, "13", true}, {80, true, "03", false}, {84, true, "03", false}, {70, true, "02", false},
		{0, false, "01", false}, {0, false, "00", false}, {99, false, "00", false},
	} {
		h.look(c.celsius, c.known)
		if got := stepsOf(h.rungs); got != c.steps || h.on != c.on {
			t.Errorf("look %d, %v °C: steps %s, hot %v; want %s, %v", i, c.celsius, got, h.on, c.steps, c.on)
		}
	}
	never := &heat{rungs: ladderOf(1)}
	if never.look(200, true); never.on || stepsOf(never.rungs) != "0" {
		t.Error("0 and 0 mean never")
	}
}

// overloaded has a camera of high priority and three of low ones, which
// together want 55 frames a second of a detector that takes cost for each.
func overloaded(t *testing.T, img *images, cost *atomic.Int64, shed ShedOptions) *served {
	d := &fakeDetector{detect: func(Frame) ([]Detection, Timing, error) {
		time.Sleep(time.Duration(cost.Load())) // the work of the model, not synchronisation
		return nil, Timing{}, nil
	}}
	o := Options{Models: model(d), Shed: shed, Cameras: []CameraOptions{
		{ID: "high", Model: "m", FPS: 10, Priority: 9, NewSource: img.every(20 * time.Millisecond)},
		{ID: "low-1", Model: "m", FPS: 15, Priority: 2, NewSource: img.every(20 * time.Millisecond)},
		{ID: "low-2", Model: "m", Priority: 2, NewSource: img.every(66 * time.Millisecond)},
		{ID: "plain", Model: "m", FPS: 15, NewSource: img.every(20 * time.Millisecond)},
		{ID: "unseen", NewSource: img.every(20 * time.Millisecond)},
	}}
	return serve(t, o)
}

// rates are the frames inspected a second over the next d.
func (s *served) rates(d time.Duration) map[string]float64 {
	s.t.Helper()
	before := map[string]uint64{}
	for _, c := range s.Stats().Cameras {
		before[c.ID] = c.Inspected
	}
	time.Sleep(d)
	out := map[string]float64{}
	for _, c := range s.Stats().Cameras {
		out[c.ID] = float64(c.Inspected-before[c.ID]) / d.Seconds()
	}
	return out
}

// TestASlowDetectorIsKeptForTheCameraThatMatters, and all recover when it is
// fast again.
func TestASlowDetectorIsKeptForTheCameraThatMatters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var img images
		var cost atomic.Int64
		cost.Store(int64(50 * time.Millisecond)) // 20 a second
		s := overloaded(t, &img, &cost, ShedOptions{})
		time.Sleep(100 * time.Millisecond)
		if r := s.rates(2 * time.Second); r["high"] > 8 {
			t.Errorf("before the first look high has %.1f frames a second: the detector is not overloaded", r["high"])
		}
		time.Sleep(2 * time.Minute)
		r := s.rates(30 * time.Second)
		t.Logf("slow: %v", r)
		if r["high"] < 9.5 {
			t.Errorf("high has %.2f frames a second, wants 10", r["high"])
		}
		if r["low-1"] > 3 || r["low-2"] > 3 || r["low-1"] < 0.29 || r["low-2"] < 0.29 {
			t.Errorf("low ones have %.2f and %.2f", r["low-1"], r["low-2"])
		}
		if r["plain"] < 2*r["low-1"] {
			t.Errorf("plain has %.2f frames a second, low-1 %.2f", r["plain"], r["low-1"])
		}
		for _, id := range []string{"low-1", "low-2", "high", "plain", "unseen"} {
			c := s.camera(id)
			if (c.ReducedFor == ReducedByLoad) != (c.ReducedTo > 0) || (id[:3] == "low" && c.ReducedTo == 0) || ((id == "high" || id == "unseen") && c.ReducedTo > 0) || c.State != Online {
				t.Errorf("%s: %s, reduced to %.2f for %q", id, c.State, c.ReducedTo, c.ReducedFor)
			}
		}
		if !s.Stats().Models[0].Behind {
			t.Error("the model does not say that it is behind")
		}
		cost.Store(int64(5 * time.Millisecond))
		time.Sleep(8 * time.Minute)
		r = s.rates(30 * time.Second)
		t.Logf("fast: %v", r)
		if r["high"] < 9.5 || r["low-1"] < 14 || r["low-2"] < 14 || r["plain"] < 14 || s.Stats().Models[0].Behind {
			t.Errorf("after it is fast again: %v, behind: %v", r, s.Stats().Models[0].Behind)
		}
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"high", "low-1", "low-2", "plain"} {
			balanced(t, s.camera(id))
		}
		if n := img.open.Load(); n != 0 {
			t.Errorf("%d images are open", n)
		}
	})
}

// TestAHotDeviceInspectsLess until it has cooled down.
func TestAHotDeviceInspectsLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var img images
		var cost, celsius atomic.Int64
		celsius.Store(90)
		s := overloaded(t, &img, &cost, ShedOptions{
			Hot: 85, Cool: 80,
			Temperature: func() (float64, string, bool) { return float64(celsius.Load()), "tj", true },
		})
		time.Sleep(heatWindow + time.Second)
		if h := s.Stats().Heat; h != (Heat{true, 90, "tj", true}) {
			t.Errorf("%+v", h)
		}
		if c := s.camera("low-1"); c.ReducedFor != ReducedByHeat || c.ReducedTo < 10.4 || c.ReducedTo > 10.6 {
			t.Errorf("after one window: reduced to %.2f for %q", c.ReducedTo, c.ReducedFor)
		}
		if c := s.camera("high"); c.ReducedTo != 0 {
			t.Errorf("high is reduced to %.2f", c.ReducedTo)
		}
		time.Sleep(6 * time.Minute)
		r := s.rates(time.Minute)
		t.Logf("hot: %v", r)
		for _, id := range []string{"high", "low-1", "low-2", "plain"} {
			if r[id] < 0.25 || r[id] > 0.35 || s.camera(id).State != Online {
				t.Errorf("%s: %.2f frames a second, %s; the floor is 0.3", id, r[id], s.camera(id).State)
			}
		}
		celsius.Store(70)
		time.Sleep(6 * time.Minute)
		if r = s.rates(10 * time.Second); r["high"] < 9.5 || r["low-1"] < 14 || r["plain"] < 14 || s.Stats().Heat.Hot {
			t.Errorf("after it has cooled down: %v", r)
		}
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestCamerasOfOnePriorityAreLeftToTheNewestFrame: to reduce them would gain
// nothing; but the detector says that it is behind.
func TestCamerasOfOnePriorityAreLeftToTheNewestFrame(t *testing.T) {
	for _, fps := range []float64{0, 15} {
		synctest.Test(t, func(t *testing.T) {
			var img images
			o := Options{Models: model(person(50 * time.Millisecond))}
			for _, id := range []string{"a", "b"} {
				o.Cameras = append(o.Cameras, CameraOptions{ID: id, Model: "m", FPS: fps, NewSource: img.every(40 * time.Millisecond)})
			}
			s := serve(t, o)
			time.Sleep(time.Minute)
			r := s.rates(10 * time.Second)
			if r["a"] < 9 || r["b"] < 9 || s.camera("a").ReducedTo != 0 {
				t.Errorf("fps %v: %v", fps, r)
			}
			// Without a target a camera has all that the detector can take.
			if behind := s.Stats().Models[0].Behind; behind != (fps > 0) {
				t.Errorf("fps %v: behind %v", fps, behind)
			}
			if err := s.stop(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestAThrottleThatBecomesShorterTakesEffectAtOnce.
func TestAThrottleThatBecomesShorterTakesEffectAtOnce(t *testing.T) {
	th := newThrottle(10)
	at := time.Date(2026, 11, 21, 1, 0, 0, 0, time.UTC)
	th.shed.Store(int64(10 * time.Second))
	if !th.allow(at) || th.allow(at.Add(time.Second)) {
		t.Fatal("one frame in 10 s")
	}
	th.shed.Store(0)
	n := 0
	for i := range 50 { // 25 a second
		if th.allow(at.Add(time.Second + time.Duration(i)*40*time.Millisecond)) {
			n++
		}
	}
	if n < 19 || n > 21 {
		t.Errorf("%d frames in 2 s, want 20", n)
	}
}

func TestShedOptions(t *testing.T) {
	for _, c := range []struct {
		o        ShedOptions
		priority int
		ok       bool
	}{
		{ShedOptions{}, 0, true}, {ShedOptions{Hot: 85, Cool: 80}, 10, true}, {ShedOptions{Hot: 80, Cool: 80}, 1, false},
		{ShedOptions{Hot: 80, Cool: 85}, 1, false}, {ShedOptions{Cool: 80}, 1, false}, {ShedOptions{}, 11, false}, {ShedOptions{}, -1, false},
	} {
		_, err := New(Options{Shed: c.o, Cameras: []CameraOptions{{ID: "a", Priority: c.priority, NewSource: func() Source { return nil }}}})
		if (err == nil) != c.ok {
			t.Errorf("%+v, priority %d: %v", c.o, c.priority, err)
		}
	}
}

// TestNothingIsShedForAModelThatIsNotThere.
func TestNothingIsShedForAModelThatIsNotThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var img images
		o := Options{Models: []ModelOptions{{Name: "m", Open: func(context.Context) (Detector, error) { return nil, errTest }}}}
		for i, id := range []string{"a", "b"} {
			o.Cameras = append(o.Cameras, CameraOptions{ID: id, Model: "m", FPS: 5, Priority: 1 + i, NewSource: img.every(40 * time.Millisecond)})
		}
		s := serve(t, o)
		time.Sleep(time.Minute)
		if c := s.camera("a"); c.ReducedTo != 0 || s.Stats().Models[0].Behind || c.Dropped < 100 {
			t.Errorf("reduced to %.1f, behind %v, %d dropped", c.ReducedTo, s.Stats().Models[0].Behind, c.Dropped)
		}
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
	})
}
