package vision

import (
	"math/rand/v2"
	"testing"
	"time"
)

// all says of every box that it is strong or weak by its confidence.
func all(found []Detection) []bool {
	strong := make([]bool, len(found))
	for i, d := range found {
		strong[i] = d.Confidence >= 0.5
	}
	return strong
}

// follow is a tracker and its clock.
type follow struct {
	*tracker
	at   time.Time
	next uint64
}

func newFollow(o TrackOptions) *follow {
	f := &follow{at: time.Unix(1000, 0)}
	f.tracker = newTracker(o, func() uint64 { f.next++; return f.next })
	return f
}

// see offers boxes dt later and returns their tracks.
func (f *follow) see(dt time.Duration, found ...Detection) []uint64 {
	f.at = f.at.Add(dt)
	f.update(f.at, found, all(found))
	ids := make([]uint64, len(found))
	for i, d := range found {
		ids[i] = d.Track
	}
	return ids
}

func thing(class string, confidence, x, y float64) Detection {
	return Detection{Class: class, Confidence: confidence, Box: Box{x, y, 40, 80}}
}

const step = 100 * time.Millisecond

func TestATrackIsConfirmedKeptAndEnded(t *testing.T) {
	f := newFollow(TrackOptions{})
	if got := f.see(step, thing("a", 0.9, 0, 0)); got[0] != 0 {
		t.Errorf("first frame: track %d, want none", got[0])
	}
	for i := range 5 {
		if got := f.see(step, thing("a", 0.9, float64(4*i), 0)); got[0] != 1 {
			t.Fatalf("frame %d: track %d, want 1", i+2, got[0])
		}
	}
	if got := f.see(step, thing("a", 0.2, 20, 0)); got[0] != 1 {
		t.Errorf("a weak box: track %d, want 1", got[0])
	}
	f.see(step)
	if got := f.see(step, thing("a", 0.9, 28, 0)); got[0] != 1 {
		t.Errorf("after a missing frame: track %d, want 1", got[0])
	}
	for range 10 {
		if f.see(step); len(f.ended) > 0 {
			t.Errorf("ended %v after it was last seen", f.at.Sub(f.ended[0].seen))
		}
	}
	if f.see(step); len(f.ended) != 1 || f.ended[0].id != 1 || len(f.tracks) != 0 {
		t.Errorf("ended %v", f.ended)
	}
}

func TestWhatMakesNoTrack(t *testing.T) {
	f := newFollow(TrackOptions{})
	for range 3 {
		f.see(step, thing("a", 0.3, 0, 0)) // never strong
		f.see(step, thing("a", 0.9, 300, 0))
		f.see(step, thing("a", 0.9, 300, 300)) // never twice
	}
	if f.next != 0 {
		t.Errorf("%d tracks", f.next)
	}
	f.see(step, thing("a", 0.9, 0, 0))
	f.see(step, thing("a", 0.9, 0, 0))
	if got := f.see(step, thing("b", 0.9, 0, 0)); got[0] != 0 {
		t.Errorf("another class is track %d", got[0])
	}
	if got := f.see(step, thing("b", 0.9, 0, 0), thing("a", 0.9, 0, 0)); got[0] != 2 || got[1] != 1 {
		t.Errorf("got %v, want 2 and 1", got)
	}
}

// TestALostTrackIsNotContinuedByAWeakBox: ByteTrack's second stage is for
// tracks that were seen in the frame before.
func TestALostTrackIsNotContinuedByAWeakBox(t *testing.T) {
	f := newFollow(TrackOptions{})
	for range 3 {
		f.see(step, thing("a", 0.9, 0, 0))
	}
	f.see(step)
	if got := f.see(step, thing("a", 0.2, 0, 0)); got[0] != 0 {
		t.Errorf("track %d", got[0])
	}
	if got := f.see(step, thing("a", 0.9, 0, 0)); got[0] != 1 {
		t.Errorf("track %d, want 1", got[0])
	}
}

// TestRatesVary: what moves 15 pixels a second is followed whether the
// next frame comes after 50 ms or after 900.
func TestRatesVary(t *testing.T) {
	f := newFollow(TrackOptions{})
	x := 0.0
	r := rand.New(rand.NewPCG(1, 1))
	for i := range 200 {
		dt := []time.Duration{50 * time.Millisecond, 500 * time.Millisecond, 900 * time.Millisecond}[r.IntN(3)]
		x += 15 * dt.Seconds()
		if got := f.see(dt, thing("a", 0.9, x, 0)); got[0] != 1 && i > 0 {
			t.Fatalf("frame %d: track %d, want 1", i, got[0])
		}
	}
}

// TestTwoThatCross keep their tracks, because each goes on as it went.
func TestTwoThatCross(t *testing.T) {
	f := newFollow(TrackOptions{})
	var got []uint64
	for i := range 60 {
		p := float64(i) * 5
		got = f.see(step/3, thing("a", 0.9, p, 0), thing("a", 0.9, 295-p, 20))
		if i > 1 && (got[0] != 1 || got[1] != 2) {
			t.Fatalf("frame %d: %v", i, got)
		}
	}
}

func TestTracksAreBounded(t *testing.T) {
	f := newFollow(TrackOptions{})
	var many []Detection
	for i := range maxTracks + 50 {
		many = append(many, thing("a", 0.9, float64(i%20)*100, float64(i/20)*100))
	}
	f.see(step, many[:100]...)
	f.see(step, many[100:]...) // the first were never confirmed
	f.see(step, many[100:]...)
	f.see(step, many[:maxTracks]...)
	if len(f.tracks) != maxTracks || f.refused == 0 {
		t.Errorf("%d tracks, %d refused", len(f.tracks), f.refused)
	}
	for _, id := range f.see(step, many...)[maxTracked:] {
		if id != 0 {
			t.Errorf("a box beyond the %dth has track %d", maxTracked, id)
		}
	}
}

// TestTrackingAllocatesNothing once its memory has grown.
func TestTrackingAllocatesNothing(t *testing.T) {
	f := newFollow(TrackOptions{})
	var many []Detection
	for i := range 40 {
		many = append(many, thing("a", 0.3+float64(i%3)/4, float64(i%20)*100, float64(i/20)*100))
	}
	strong := all(many)
	if n := testing.AllocsPerRun(200, func() {
		f.at = f.at.Add(step)
		f.update(f.at, many, strong)
	}); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
}

// BenchmarkTrack is a busy frame: 40 objects.
func BenchmarkTrack(b *testing.B) {
	f := newFollow(TrackOptions{})
	var many []Detection
	for i := range 40 {
		many = append(many, thing("a", 0.9, float64(i%20)*100, float64(i/20)*100))
	}
	strong := all(many)
	b.ReportAllocs()
	for b.Loop() {
		f.at = f.at.Add(step)
		f.update(f.at, many, strong)
	}
}
