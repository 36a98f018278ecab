package vision

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// wound is how often a polygon winds around a point, by the angles under which
// its sides are seen. It has nothing in common with Contains.
func wound(p Polygon, at Point) int {
	sum := 0.0
	for i := range p {
		a, b := p.side(i)
		d := math.Atan2(b.Y-at.Y, b.X-at.X) - math.Atan2(a.Y-at.Y, a.X-at.X)
		sum += math.Remainder(d, 2*math.Pi)
	}
	return int(math.Round(math.Abs(sum) / (2 * math.Pi)))
}

// distance is that of a point from a polygon's nearest side.
func distance(p Polygon, at Point) float64 {
	best := math.Inf(1)
	for i := range p {
		a, b := p.side(i)
		length := (b.X-a.X)*(b.X-a.X) + (b.Y-a.Y)*(b.Y-a.Y)
		t := 0.0
		if length > 0 {
			t = min(max(((at.X-a.X)*(b.X-a.X)+(at.Y-a.Y)*(b.Y-a.Y))/length, 0), 1)
		}
		best = min(best, math.Hypot(at.X-a.X-t*(b.X-a.X), at.Y-a.Y-t*(b.Y-a.Y)))
	}
	return best
}

// randomPolygon is one whose corners lie around a point in the order of their
// angles, so that its sides do not meet.
func randomPolygon(r *rand.Rand) Polygon {
	n := 3 + r.IntN(9)
	var p Polygon
	for i := range n {
		angle := (float64(i) + 0.8*r.Float64()) / float64(n) * 2 * math.Pi
		radius := 0.05 + 0.44*r.Float64()
		p = append(p, Point{0.5 + radius*math.Cos(angle), 0.5 + radius*math.Sin(angle)})
	}
	return p
}

func TestContainsAgainstWinding(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	inside := 0
	for range 2000 {
		p := randomPolygon(r)
		if r.IntN(2) == 0 {
			slices.Reverse(p)
		}
		if err := p.Check(); err != nil && len(p) > 3 { // three corners may leave the centre out, and still be fine
			t.Fatalf("%v: %v", p, err)
		}
		for range 20 {
			at := Point{r.Float64(), r.Float64()}
			if distance(p, at) < 1e-9 {
				continue
			}
			want := wound(p, at) == 1
			if got := p.Contains(at); got != want {
				t.Fatalf("%v in %v: got %v, want %v", at, p, got, want)
			}
			if want {
				inside++
			}
		}
	}
	if inside < 1000 {
		t.Errorf("only %d points were inside of anything", inside)
	}
}

// FuzzPolygon: what Check accepts is simple by brute force, and Contains agrees
// with the winding of such a polygon.
func FuzzPolygon(f *testing.F) {
	f.Add([]byte{0, 0, 255, 0, 255, 255, 0, 255}, byte(100), byte(100))
	f.Add([]byte{0, 0, 255, 255, 255, 0, 0, 255}, byte(3), byte(9))
	f.Add([]byte{0, 0, 100, 0, 50, 0, 50, 50}, byte(3), byte(9))
	f.Fuzz(func(t *testing.T, b []byte, x, y byte) {
		var p Polygon
		for ; len(b) >= 2 && len(p) < 12; b = b[2:] {
			p = append(p, Point{float64(b[0]) / 255, float64(b[1]) / 255})
		}
		if p.Check() != nil {
			return
		}
		if !simple(p) {
			t.Fatalf("accepted %v", p)
		}
		at := Point{float64(x) / 255, float64(y) / 255}
		if distance(p, at) > 1e-9 && p.Contains(at) != (wound(p, at) == 1) {
			t.Errorf("%v in %v: %v, wound %d times", at, p, p.Contains(at), wound(p, at))
		}
	})
}

// simple reports whether the sides of a polygon whose corners are multiples of
// 1/255 meet only where neighbours do, by solving for the place where their
// lines cross, in whole numbers.
func simple(p Polygon) bool {
	whole := func(p Point) [2]int { return [2]int{int(math.Round(p.X * 255)), int(math.Round(p.Y * 255))} }
	for i := range p {
		for j := range i {
			if j == i-1 || (j == 0 && i == len(p)-1) {
				continue
			}
			a, b := p.side(i)
			c, d := p.side(j)
			if meet(whole(a), whole(b), whole(c), whole(d)) {
				return false
			}
		}
	}
	return true
}

func meet(a, b, c, d [2]int) bool {
	rx, ry, sx, sy := b[0]-a[0], b[1]-a[1], d[0]-c[0], d[1]-c[1]
	qx, qy := c[0]-a[0], c[1]-a[1]
	den := rx*sy - ry*sx
	t, u := qx*sy-qy*sx, qx*ry-qy*rx // of den
	if den < 0 {
		den, t, u = -den, -t, -u
	}
	if den != 0 {
		return t >= 0 && t <= den && u >= 0 && u <= den
	}
	apart := func(i int) bool { return max(a[i], b[i]) < min(c[i], d[i]) || max(c[i], d[i]) < min(a[i], b[i]) }
	return u == 0 && t == 0 && !apart(0) && !apart(1)
}

func TestUnreasonableZonesAreNamed(t *testing.T) {
	square := Polygon{{0, 0}, {1, 0}, {1, 1}, {0, 1}}
	for want, bad := range map[string]JudgeOptions{
		`zone "gate": 2 corners`:                    {Zones: []Zone{{Name: "gate", Area: square[:2]}}},
		`zone "gate": corner 2 is at (1.5, 0)`:      {Zones: []Zone{{Name: "gate", Area: Polygon{{0, 0}, {1.5, 0}, {1, 1}}}}},
		`zone "gate": corner 1 is at (NaN, 0)`:      {Zones: []Zone{{Name: "gate", Area: Polygon{{math.NaN(), 0}, {1, 0}, {1, 1}}}}},
		`mask 2: its sides 1 and 3 meet`:            {Masks: []Polygon{square, {{0, 0}, {1, 1}, {1, 0}, {0, 1}}}},
		`mask 1: its sides 1 and 2 meet`:            {Masks: []Polygon{{{0, 0}, {1, 0}, {0.5, 0}, {0.5, 0.5}}}},
		`mask 1: its sides 1 and 2 meet, expected `: {Masks: []Polygon{{{0, 0}, {0, 0}, {0.5, 0}, {0.5, 0.5}}}},
		`mask 1: 65 corners`:                        {Masks: []Polygon{make(Polygon, 65)}},
		`zone 2 is called "gate"`:                   {Zones: []Zone{{Name: "gate", Area: square}, {Name: "gate", Area: square}}},
		`required zone "door" is not one`:           {Zones: []Zone{{Name: "gate", Area: square}}, Required: []string{"door"}},
		`anchor "top"`:                              {Anchor: "top"},
		`policy "some"`:                             {Policy: "some"},
		`class "x": areas of 0.5 to 0.2`:            {Limits: Limits{MinArea: 0.5}, Classes: map[string]Limits{"x": {MaxArea: 0.2}}},
		`confidence 1:`:                             {Limits: Limits{Confidence: 1}},
	} {
		if err := bad.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	for _, good := range []Polygon{square, {{0, 0}, {0.5, 0}, {1, 0}, {0.5, 1}}, {{0.1, 0.1}, {0.9, 0.1}, {0.9, 0.9}, {0.5, 0.2}, {0.1, 0.9}}} {
		if err := good.Check(); err != nil {
			t.Errorf("%v: %v", good, err)
		}
	}
}

func TestEdgesOfThePictureAreInside(t *testing.T) {
	whole := Polygon{{0, 0}, {1, 0}, {1, 1}, {0, 1}}
	left, right := Polygon{{0, 0}, {0.5, 0}, {0.5, 1}, {0, 1}}, Polygon{{0.5, 0}, {1, 0}, {1, 1}, {0.5, 1}}
	for _, b := range []Box{{0, 0, 2, 2}, {638, 478, 2, 2}, {0, 0, 640, 480}, {639, 0, 1, 480}} {
		for _, a := range []Anchor{"", AnchorBottom, AnchorCentre} {
			at := a.of(b, 640, 480)
			if !whole.Contains(at) || left.Contains(at) == right.Contains(at) {
				t.Errorf("%v of %v is at %v: whole %v, left %v, right %v", a, b, at, whole.Contains(at), left.Contains(at), right.Contains(at))
			}
		}
	}
}
