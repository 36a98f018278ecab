package sim

import (
	"math"
	"slices"
	"testing"

	"outstation/vision"
)

// picture is a frame at its full size.
type picture struct {
	width, height int
	bgr           []byte
}

func newPicture(t testing.TB, l *Line, index int64) picture {
	return picture{l.opts.Width, l.opts.Height, drawn(t, l, index, l.opts.Width, l.opts.Height)}
}

// Channels of a picture.
const (
	green = 1
	red   = 2
)

func (p picture) at(x, y, channel int) float64 { return float64(p.bgr[(y*p.width+x)*3+channel]) }

// grey is the luma of a pixel.
func (p picture) grey(x, y int) float64 {
	return 0.114*p.at(x, y, 0) + 0.587*p.at(x, y, green) + 0.299*p.at(x, y, red)
}

// each calls f for the pixels of a box that lie in the picture.
func (p picture) each(b vision.Box, f func(x, y int)) {
	for y := max(int(math.Floor(b.Y)), 0); y < min(int(math.Ceil(b.Y+b.H)), p.height); y++ {
		for x := max(int(math.Floor(b.X)), 0); x < min(int(math.Ceil(b.X+b.W)), p.width); x++ {
			f(x, y)
		}
	}
}

func (p picture) mean(b vision.Box) float64 {
	sum, n := 0.0, 0.0
	p.each(b, func(x, y int) { sum, n = sum+p.at(x, y, green), n+1 })
	return sum / n
}

func grown(b vision.Box, by float64) vision.Box {
	return vision.Box{X: b.X - by, Y: b.Y - by, W: b.W + 2*by, H: b.H + 2*by}
}

// TestTheTruthIsWhereThePixelsAre compares frames of one line with those of
// another that differs in nothing but that its parts have no flaws.
func TestTheTruthIsWhereThePixelsAre(t *testing.T) {
	flawless := newLine(t, LineOptions{Seed: 11, DefectRate: 1e-12})
	l := newLine(t, LineOptions{Seed: 11, DefectRate: 1})
	seen := map[string]int{}
	for i := int64(0); i < 2600; i += 100 {
		a, b, truth := newPicture(t, l, i), newPicture(t, flawless, i), l.Truth(i)
		var boxes []vision.Box
		for _, p := range l.place(i) {
			for _, d := range p.part.defects {
				boxes = append(boxes, grown(p.box(d.box), 7)) // also those that count as hidden; a hole has an edge
			}
		}
		stray := 0
		for y := range a.height {
			for x := range a.width {
				if at := (y*a.width+x)*3 + red; a.bgr[at] != b.bgr[at] && !slices.ContainsFunc(boxes, func(b vision.Box) bool {
					return float64(x) >= b.X && float64(x) < b.X+b.W && float64(y) >= b.Y && float64(y) < b.Y+b.H
				}) {
					stray++
				}
			}
		}
		if stray > 0 {
			t.Errorf("frame %d: %d pixels differ where no flaw is", i, stray)
		}
		for _, p := range truth.Parts {
			for _, d := range p.Defects {
				neighbours := slices.DeleteFunc(slices.Clone(boxes), func(b vision.Box) bool { return Overlap(b, grown(d.Box, 4)) == 0 })
				if d.Contrast < 0.12 || !whole(l, grown(d.Box, 5)) || len(neighbours) > 1 {
					continue // noise, the edge of the frame or another flaw has a say in what differs
				}
				seen[d.Class]++
				if found := difference(a, b, grown(d.Box, 4)); Overlap(found, d.Box) < 0.5 {
					t.Errorf("frame %d: the %s at %+v, the pixels at %+v", i, d.Class, d.Box, found)
				}
			}
		}
	}
	for _, class := range Classes()[1:] {
		if seen[class] < 5 {
			t.Errorf("only %d of class %s", seen[class], class)
		}
	}
}

// difference is the box around the pixels in which two pictures differ by more
// than a quarter of the most.
func difference(a, b picture, in vision.Box) vision.Box {
	most := 0.0
	a.each(in, func(x, y int) { most = max(most, math.Abs(a.grey(x, y)-b.grey(x, y))) })
	x0, y0, x1, y1 := math.Inf(1), math.Inf(1), math.Inf(-1), math.Inf(-1)
	a.each(in, func(x, y int) {
		if math.Abs(a.grey(x, y)-b.grey(x, y)) > most/4 {
			x0, y0, x1, y1 = min(x0, float64(x)), min(y0, float64(y)), max(x1, float64(x+1)), max(y1, float64(y+1))
		}
	})
	return vision.Box{X: x0, Y: y0, W: x1 - x0, H: y1 - y0}
}

// TestContrastIsThatOfTheTruth measures it in the frames: of a missing hole
// against what is around it, of the rest against the same part without it.
// Motion blur takes up to a quarter of the narrowest scratches.
func TestContrastIsThatOfTheTruth(t *testing.T) {
	off := map[string][]float64{}
	for seed := range uint64(2) {
		flawless := newLine(t, LineOptions{Seed: seed, DefectRate: 1e-12})
		l := newLine(t, LineOptions{Seed: seed, DefectRate: 1})
		for i := int64(0); i < 2000; i += 100 {
			a, b := newPicture(t, l, i), newPicture(t, flawless, i)
			for _, p := range l.Truth(i).Parts {
				for _, d := range p.Defects {
					if !whole(l, grown(d.Box, 5)) {
						continue
					}
					got := changed(a, b, d.Box)
					if d.Class == ClassMissingHole {
						got = against(a, d.Box)
					}
					off[d.Class] = append(off[d.Class], got-d.Contrast)
				}
			}
		}
	}
	for _, class := range Classes()[1:] {
		list := off[class]
		slices.Sort(list)
		n := len(list)
		t.Logf("%s: %d, off by %.3f to %.3f, median %.3f", class, n, list[0], list[n-1], list[n/2])
		if n < 20 || list[0] < -0.08 || list[n-1] > 0.04 || math.Abs(list[n/2]) > 0.02 {
			t.Errorf("%s: the contrast is not that of the truth", class)
		}
	}
}

// changed is the contrast of a flaw in a against the same place in b: what
// three in a hundred of its pixels exceed.
func changed(a, b picture, box vision.Box) float64 {
	var all []float64
	a.each(box, func(x, y int) {
		if b.grey(x, y) > 60 { // not in a hole
			all = append(all, math.Abs(a.grey(x, y)/b.grey(x, y)-1))
		}
	})
	slices.Sort(all)
	return all[len(all)*97/100]
}

// against is how much darker the middle of a box is than what is around it.
func against(p picture, box vision.Box) float64 {
	var in, out []float64
	cx, cy := box.X+box.W/2, box.Y+box.H/2
	p.each(grown(box, 4), func(x, y int) {
		switch r := hypot(float64(x)+0.5-cx, float64(y)+0.5-cy) - box.W/2; {
		case r < -3:
			in = append(in, p.at(x, y, green))
		case r > 2 && r < 4:
			out = append(out, p.at(x, y, green))
		}
	})
	slices.Sort(in)
	slices.Sort(out)
	return 1 - in[len(in)/2]/out[len(out)/2]
}

// TestAStainShowsBesideAnotherPart: the corners of a sprite hide nothing.
func TestAStainShowsBesideAnotherPart(t *testing.T) {
	for _, tint := range [][]byte{nil, {9, 9, 9}} {
		p := placed{sprite: &sprite{w: 3, h: 1, luma: []byte{0, 0, 50}, alpha: []byte{0, 100, 255}, tint: tint}}
		luma, brown := []byte{80, 80, 80}, []byte{200, 200, 200}
		p.blit(luma, brown, 0)
		want := []byte{200, 200, 0}
		if tint != nil {
			want[2] = 9
		}
		if !slices.Equal(brown, want) {
			t.Errorf("%v, want %v", brown, want)
		}
	}
}

// TestLetterboxScalesTheFrame compares what a detector gets with the frame at
// its full size, scaled here.
func TestLetterboxScalesTheFrame(t *testing.T) {
	l := newLine(t, LineOptions{Seed: 2, DefectRate: 1e-12})
	for _, c := range []struct {
		width, height int
		most          float64 // levels
		mean          float64
	}{
		{640, 384, 1, 0.5},
		{320, 192, 1, 0.5},
		{1280, 720, 0, 0},
		{416, 416, 8, 0.6}, // places between pixels are rounded to sixteenths
	} {
		full, got := newPicture(t, l, 500), drawn(t, l, 500, c.width, c.height)
		w, h, _ := vision.Fit(full.width, full.height, c.width, c.height)
		most, sum := 0.0, 0.0
		for y := range c.height {
			for x := range c.width {
				for channel := range 3 {
					want := 114.0
					if x < w && y < h {
						want = full.between(place(x, w, full.width), place(y, h, full.height), channel)
					}
					off := math.Abs(want - float64(got[(y*c.width+x)*3+channel]))
					most, sum = max(most, off), sum+off
				}
			}
		}
		if mean := sum / float64(3*c.width*c.height); most > c.most || mean > c.mean {
			t.Errorf("%d×%d: off by %.2f levels at most and by %.2f on average, want %v and %v", c.width, c.height, most, mean, c.most, c.mean)
		}
	}
}

// place is where pixel i of n falls in a row of size pixels.
func place(i, n, size int) float64 {
	return min(max((float64(i)+0.5)*float64(size)/float64(n)-0.5, 0), float64(size-1))
}

// between interpolates bilinearly.
func (p picture) between(x, y float64, channel int) float64 {
	x0, y0 := int(x), int(y)
	x1, y1 := min(x0+1, p.width-1), min(y0+1, p.height-1)
	fx, fy := x-float64(x0), y-float64(y0)
	top := p.at(x0, y0, channel)*(1-fx) + p.at(x1, y0, channel)*fx
	return top*(1-fy) + (p.at(x0, y1, channel)*(1-fx)+p.at(x1, y1, channel)*fx)*fy
}
