package sim

import (
	"bytes"
	"math"
	"reflect"
	"slices"
	"sync"
	"testing"

	"outstation/vision"
)

// TestAFrameFollowsFromItsIndex asks two lines with the same options for the
// same frames in different orders and from several goroutines.
func TestAFrameFollowsFromItsIndex(t *testing.T) {
	opts := LineOptions{Seed: 7, DefectRate: 0.5}
	indices := []int64{0, 1, 700, 100_000}
	type frame struct {
		pixels []byte
		truth  Truth
	}
	want, first := map[int64]frame{}, newLine(t, opts)
	for _, i := range indices {
		want[i] = frame{drawn(t, first, i, 320, 192), first.Truth(i)}
	}
	line := newLine(t, opts)
	var all sync.WaitGroup
	for range 2 {
		slices.Reverse(indices)
		order := slices.Clone(indices)
		all.Go(func() {
			for _, i := range order {
				dst := make([]byte, 3*320*192)
				m := line.Image(i)
				if _, err := m.Letterbox(dst, 320, 192, 114); err != nil {
					t.Error(err)
				}
				m.Close()
				if !bytes.Equal(dst, want[i].pixels) {
					t.Errorf("frame %d has other pixels", i)
				}
				if got := line.Truth(i); !reflect.DeepEqual(got, want[i].truth) {
					t.Errorf("frame %d: %+v, want %+v", i, got, want[i].truth)
				}
			}
		})
	}
	all.Wait()
	other := newLine(t, LineOptions{Seed: 8, DefectRate: 0.5})
	if bytes.Equal(drawn(t, other, 700, 320, 192), want[700].pixels) || reflect.DeepEqual(other.Truth(700), want[700].truth) {
		t.Error("another seed is the same line")
	}
	if bytes.Equal(want[0].pixels, want[1].pixels) {
		t.Error("the belt stands still")
	}
}

// TestAFarFrameIsLikeANearOne looks at indices that an epoch leads to.
func TestAFarFrameIsLikeANearOne(t *testing.T) {
	l := newLine(t, LineOptions{Seed: 1, DefectRate: 1})
	for _, from := range []int64{1e9, 26_850_000_000, 1e11} {
		var ids []int64
		for i := from; i < from+30; i++ {
			now, next := l.Truth(i), l.Truth(i+1)
			if len(now.Parts) < 3 {
				t.Fatalf("frame %d shows %d parts", i, len(now.Parts))
			}
			for _, p := range now.Parts {
				ids = append(ids, p.ID)
				for _, q := range next.Parts {
					// 260 pixels a second to the right, in whole pixels.
					if moved := q.Box.X - p.Box.X; p.ID == q.ID && whole(l, p.Box) && whole(l, q.Box) && math.Abs(moved-260.0/15) > 1 {
						t.Errorf("frame %d: part %d moves by %v pixels", i, p.ID, moved)
					}
				}
			}
		}
		if want := int64(float64(from) / 15); slices.Min(ids) < want-1 || slices.Max(ids) > want+8 {
			t.Errorf("frame %d shows parts %d to %d", from, slices.Min(ids), slices.Max(ids))
		}
		at := newPicture(t, l, from)
		for _, p := range l.Truth(from).Parts {
			if light := at.mean(p.Box); light < 90 {
				t.Errorf("frame %d: no part %d at %+v, which has a mean of %.0f", from, p.ID, p.Box, light)
			}
		}
	}
}

// whole reports whether nothing of a box is cut off.
func whole(l *Line, b vision.Box) bool {
	return b.X > 0 && b.Y > 0 && b.X+b.W < float64(l.opts.Width) && b.Y+b.H < float64(l.opts.Height)
}

// TestDifficulty counts over thousands of parts what the line promises about
// their sizes and flaws.
func TestDifficulty(t *testing.T) {
	const count = 2000
	limits := map[string][2]float64{
		ClassScratch: {scratchLengthMin, scratchLengthMax}, ClassDent: {10, 24}, ClassMissingHole: {12, 20}, ClassStain: {14, 40},
	}
	seen := map[string]int{}
	flawed, contrasts := 0, []float64{}
	for seed := range uint64(2) {
		l := newLine(t, LineOptions{Seed: seed, DefectRate: 0.2})
		for id := range int64(count) {
			p := l.newPart(id)
			w, h := p.extent()
			if longer := max(w, h) * p.radius; longer < 90 || longer > 160 {
				t.Fatalf("part %d is %.1f pixels long", id, longer)
			}
			if len(p.defects) > 0 {
				flawed++
			}
			for _, d := range p.defects {
				seen[d.class]++
				contrasts = append(contrasts, d.contrast)
				if limit := limits[d.class]; d.size < limit[0] || d.size > limit[1] {
					t.Errorf("part %d: a %s of %.1f pixels", id, d.class, d.size)
				}
				if d.class == ClassScratch && (d.width < 2 || d.width > 4) {
					t.Errorf("part %d: a scratch %.1f pixels wide", id, d.width)
				}
			}
		}
	}
	if share := float64(flawed) / (2 * count); math.Abs(share-0.2) > 0.02 {
		t.Errorf("%.3f of the parts have a defect, want 0.2", share)
	}
	if low, high := slices.Min(contrasts), slices.Max(contrasts); low < 0.08 || low > 0.09 || high > 0.30 || high < 0.29 {
		t.Errorf("contrasts from %.3f to %.3f, want 0.08 to 0.30", low, high)
	}
	for class := range limits {
		if seen[class] < flawed/8 {
			t.Errorf("%d of %d flaws are a %s", seen[class], len(contrasts), class)
		}
	}
}

// TestBoxesLieInTheFrame also checks that the frames together show every part.
func TestBoxesLieInTheFrame(t *testing.T) {
	for _, o := range []LineOptions{
		{Seed: 3, DefectRate: 1, Width: 960, Height: 540, PartsPerMinute: 200}, {Seed: 3, DefectRate: 1, Width: 320, Height: 192},
	} {
		l := newLine(t, o)
		next := int64(0)
		for i := range int64(600) {
			truth := l.Truth(i)
			if truth.Index != i {
				t.Fatalf("index %d of frame %d", truth.Index, i)
			}
			for _, label := range truth.Labels() {
				b := label.Box
				if b.X < 0 || b.Y < 0 || b.W < 1 || b.H < 1 || b.X+b.W > float64(l.opts.Width) || b.Y+b.H > float64(l.opts.Height) {
					t.Fatalf("%+v, frame %d: %+v", o, i, label)
				}
				if !slices.Contains(Classes(), label.Class) {
					t.Fatalf("class %q", label.Class)
				}
				if label.Class == ClassPart && label.Part >= next {
					if label.Part != next {
						t.Fatalf("%+v, frame %d: part %d comes after %d", o, i, label.Part, next-1)
					}
					next++
				}
			}
		}
		if next < 30 {
			t.Errorf("%+v: only %d parts", o, next)
		}
	}
}

// TestHiddenDefectsAreNotTruth follows parts through the frame. A flaw under
// another part is never in the truth, and any other is while its part is whole
// in view.
func TestHiddenDefectsAreNotTruth(t *testing.T) {
	l := newLine(t, LineOptions{Seed: 5, DefectRate: 1})
	hidden, shown := 0, 0
	for i := int64(0); i < 4800; i += 40 {
		truth := l.Truth(i)
		list := l.place(i)
		for at, p := range list {
			var got []Defect
			for _, q := range truth.Parts {
				if q.ID == p.part.id {
					got = q.Defects
				}
			}
			for _, d := range p.part.defects {
				box := p.box(d.box)
				in := slices.ContainsFunc(got, func(g Defect) bool { return g.Class == d.class && near(g.Box, box) })
				switch under := hiddenShare(box, list[at+1:]); {
				case !whole(l, box):
				case under == 0 && !in:
					t.Errorf("frame %d, part %d: the %s at %+v is missing", i, p.part.id, d.class, box)
				case under > 0.55 && in:
					t.Errorf("frame %d, part %d: the %s at %+v is hidden", i, p.part.id, d.class, box)
				case under > 0.55:
					hidden++
				case under == 0:
					shown++
				}
			}
		}
	}
	if hidden < 2 || shown < 200 {
		t.Errorf("only %d hidden and %d shown flaws: nothing was tested", hidden, shown)
	}
}

// near is equality but for rounding.
func near(a, b vision.Box) bool {
	return max(math.Abs(a.X-b.X), math.Abs(a.Y-b.Y), math.Abs(a.W-b.W), math.Abs(a.H-b.H)) < 1e-6
}

// hiddenShare is how much of a box lies in the outlines of later parts, pixel
// by pixel.
func hiddenShare(b vision.Box, later []placed) float64 {
	hidden, all := 0, 0
	for y := int(b.Y); y < int(b.Y+b.H); y++ {
		for x := int(b.X); x < int(b.X+b.W); x++ {
			all++
			for _, p := range later {
				u, v := float64(x-p.x)-float64(p.sprite.w)/2, float64(y-p.y)-float64(p.sprite.h)/2
				cos, sin := math.Cos(p.part.angle), math.Sin(p.part.angle)
				if p.part.outline(u*cos+v*sin, -u*sin+v*cos) < 0 {
					hidden++
					break
				}
			}
		}
	}
	return float64(hidden) / float64(max(all, 1))
}
