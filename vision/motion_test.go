package vision

import (
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// scene is a grey wall with a dark square on it, with noise.
type scene struct {
	grey   byte
	square int // its side in pixels of 1280×720; 0: none
	x      int
	noise  *rand.Rand
	err    error
}

func (s *scene) Letterbox(dst []byte, w, h int, pad byte) (float64, error) {
	fw, fh, scale := Fit(1280, 720, w, h)
	for y := range h {
		for x := range w {
			v := pad
			if x < fw && y < fh {
				v = s.grey
				px, py := int(float64(x)/scale), int(float64(y)/scale)
				if px >= s.x && px < s.x+s.square && py >= 300 && py < 300+s.square {
					v = 40
				}
				if s.noise != nil {
					v = byte(min(max(float64(v)+6*s.noise.NormFloat64(), 0), 255))
				}
			}
			p := dst[(y*w+x)*3:]
			p[0], p[1], p[2] = v, v, v
		}
	}
	return scale, s.err
}

func (s *scene) Close() {}

// guard is a gate and its clock.
type guard struct {
	*gate
	at time.Time
}

func (g *guard) see(s *scene) bool {
	g.at = g.at.Add(step)
	return g.pass(Frame{Arrived: g.at, Width: 1280, Height: 720, Image: s})
}

// passed is how many of n frames pass.
func (g *guard) passed(n int, s *scene) (count int) {
	for range n {
		if g.see(s) {
			count++
		}
	}
	return count
}

func newGuard() *guard {
	g := &guard{gate: newGate(MotionOptions{On: true}), at: time.Unix(1000, 0)}
	return g
}

func TestTheGateOpensForWhatMoves(t *testing.T) {
	g := newGuard()
	still := &scene{grey: 120, noise: rand.New(rand.NewPCG(1, 2))}
	if n := g.passed(30, still); n != 30 {
		t.Errorf("%d of the first 3 s passed, want all: whether they move is not known", n)
	}
	if n := g.passed(300, still); n < 5 || n > 7 {
		t.Errorf("%d frames of 30 s of noise passed, want one in 5 s", n)
	}
	moving := &scene{grey: 120, square: 60, x: 100, noise: still.noise}
	for i := range 20 {
		if moving.x = 100 + 20*i; !g.see(moving) {
			t.Fatalf("frame %d of something that moves did not pass", i)
		}
	}
	if n := g.passed(200, still); n < 30 || n > 45 {
		t.Errorf("%d of 20 s after it had gone passed, want those of 3 s and one in 5 s", n)
	}
}

// TestLightThatDriftsIsNoMotion, and what has come to stay becomes background.
func TestLightThatDriftsIsNoMotion(t *testing.T) {
	g := newGuard()
	s := &scene{grey: 120}
	g.passed(100, s)
	for i := range 600 {
		s.grey = byte(120 + i/10) // one level a second
		if g.see(s); g.at.Sub(g.moved) < 5*time.Second {
			t.Fatalf("motion at level %d", s.grey)
		}
	}
	s.square, s.x = 200, 400
	g.passed(400, s)
	if g.at.Sub(g.moved) < 5*time.Second {
		t.Errorf("what came to stay moved %v ago", g.at.Sub(g.moved))
	}
}

// TestTheGateOpensWhenItCannotTell: at the first frame, after silence, at
// another size, and when the picture cannot be had.
func TestTheGateOpensWhenItCannotTell(t *testing.T) {
	g := newGuard()
	s := &scene{grey: 120}
	g.passed(200, s)
	s.err = errTest
	if !g.see(s) || !errors.Is(s.err, errTest) {
		t.Error("closed without a picture")
	}
	s.err = nil
	g.passed(200, s)
	if g.at = g.at.Add(time.Minute); !g.see(s) || g.moved != g.at {
		t.Error("closed after a minute of silence")
	}
	g.passed(200, s)
	g.at = g.at.Add(step)
	if !g.pass(Frame{Arrived: g.at, Width: 720, Height: 720, Image: s}) || g.moved != g.at {
		t.Error("closed at another size")
	}
}

// TestMaskedFramesAreAccountedFor, and a camera that is not inspected because
// nothing moves is not blind.
func TestMaskedFramesAreAccountedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var img images
		camera := CameraOptions{
			ID: "a", Model: "m", Motion: MotionOptions{On: true, Every: 15 * time.Second}, NewSource: img.every(100 * time.Millisecond),
		}
		s := serve(t, Options{Models: model(person(0)), Cameras: []CameraOptions{camera}})
		time.Sleep(time.Minute + 50*time.Millisecond)
		c := s.camera("a")
		if c.State != Online || c.Inspected < 30 || c.Inspected > 40 || c.Masked != c.Frames-c.Inspected {
			t.Errorf("%+v", c)
		}
		s.stop()
		balanced(t, s.camera("a"))
		if img.open.Load() != 0 {
			t.Errorf("%d images are open", img.open.Load())
		}
	})
}

// flat is a picture of one grey.
type flat struct{ grey byte }

func (p flat) Letterbox(dst []byte, w, h int, _ byte) (float64, error) {
	for i := range dst {
		dst[i] = p.grey
	}
	return float64(w) / 640, nil
}
func (flat) Close() {}

// TestAGatedCameraIsNotBlindBetweenTwoLooks, also one that is shed as far as
// it goes: something moves at first, and nothing from then on.
func TestAGatedCameraIsNotBlindBetweenTwoLooks(t *testing.T) {
	for _, c := range []CameraOptions{
		{},
		{BlindAfter: 10 * time.Second},
		{BlindAfter: 2 * time.Second, Motion: MotionOptions{Every: time.Second}},
		{Motion: MotionOptions{Every: 15 * time.Second}},
		{Motion: MotionOptions{Every: 10 * time.Second}, BlindAfter: 20 * time.Second, FPS: 0.16},
	} {
		synctest.Test(t, func(t *testing.T) {
			var got collector
			var still atomic.Bool
			n := byte(0)
			c.ID, c.Model, c.Motion.On, c.NewSource = "a", "m", true, func() Source {
				return &fakeSource{read: func() (Frame, error) {
					time.Sleep(300 * time.Millisecond)
					if !still.Load() {
						n += 100
					}
					return Frame{Arrived: time.Now(), Width: 640, Height: 360, Image: flat{n}}, nil
				}}
			}
			s := serve(t, Options{
				Models: model(person(0)), Cameras: []CameraOptions{c}, OnBlind: got.onBlind,
				Shed: ShedOptions{Hot: 85, Cool: 80, Temperature: func() (float64, string, bool) { return 90, "tj", true }},
			})
			time.Sleep(2 * time.Minute)
			still.Store(true)
			time.Sleep(10 * time.Second)
			r := s.rates(2 * time.Minute)
			k := s.camera("a")
			every := c.Motion.withDefaults().Every.Seconds()
			if r["a"] > 1.01/every || (k.ReducedTo == 0 && c.FPS == 0) {
				t.Errorf("%.3f frames a second, reduced to %.2f: the camera is not gated or not shed", r["a"], k.ReducedTo)
			}
			if all := got.intervals(); len(all) != 0 {
				t.Errorf("blind_after %v, every %v s: %v", k.BlindAfter, every, kinds(all))
			}
			s.stop()
		})
	}
}

// TestBlindAfterLeavesTimeForTheGate: a gated camera is looked at twice in it.
func TestBlindAfterLeavesTimeForTheGate(t *testing.T) {
	camera := CameraOptions{ID: "a", NewSource: func() Source { return nil }, Motion: MotionOptions{On: true, Every: 6 * time.Second}}
	if got := camera.BlindLimit(); got != 12*time.Second {
		t.Errorf("without a blind_after it is %v, want 12s", got)
	}
	for after, ok := range map[time.Duration]bool{0: true, 12 * time.Second: true, 12*time.Second - 1: false} {
		camera.BlindAfter = after
		if _, err := New(Options{Cameras: []CameraOptions{camera}}); (err == nil) != ok {
			t.Errorf("blind_after %v: got %v", after, err)
		}
	}
	camera.Motion.On = false
	if _, err := New(Options{Cameras: []CameraOptions{camera}}); err != nil {
		t.Errorf("without a gate: %v", err)
	}
}

func TestTheGateAllocatesNothing(t *testing.T) {
	g := newGuard()
	s := &scene{grey: 120}
	g.see(s)
	if n := testing.AllocsPerRun(100, func() { g.see(s) }); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
}

// BenchmarkGate is the gate's own share: without reading the picture.
func BenchmarkGate(b *testing.B) {
	g := newGuard()
	blank := &fakeImage{}
	b.ReportAllocs()
	for b.Loop() {
		g.at = g.at.Add(step)
		g.pass(Frame{Arrived: g.at, Width: 640, Height: 360, Image: blank})
	}
}
