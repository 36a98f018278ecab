package vision

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// Bounds of what a camera's picture may be divided into.
const (
	MaxCorners = 64 // of a polygon
	MaxZones   = 64 // of a camera, since a ZoneSet has so many bits
	MaxMasks   = 64 // of a camera
)

// Point is a place in a picture as a part of its width and height, both in
// [0, 1], so that it stays where it is when a camera changes its resolution.
type Point struct{ X, Y float64 }

// Polygon is an area of a picture by its corners, the last joined to the first.
type Polygon []Point

// Zone is a named part of a camera's picture.
type Zone struct {
	Name    string
	Area    Polygon
	Classes []string // whose objects it takes; empty: all
}

// ZoneSet is a set of a camera's zones: bit i is the ith that is configured.
type ZoneSet uint64

// Check reports what is wrong with a polygon: fewer than three corners or more
// than MaxCorners, one outside the picture, or sides that meet.
func (p Polygon) Check() error {
	if len(p) < 3 || len(p) > MaxCorners {
		return fmt.Errorf("%d corners, expected 3 to %d", len(p), MaxCorners)
	}
	for i, c := range p {
		if !(c.X >= 0 && c.X <= 1 && c.Y >= 0 && c.Y <= 1) {
			return fmt.Errorf("corner %d is at (%v, %v), expected parts of the picture's width and height, 0 to 1", i+1, c.X, c.Y)
		}
	}
	for i := range p {
		for j := range i {
			if p.sidesMeet(j, i) {
				return fmt.Errorf("its sides %d and %d meet, expected corners in the order in which one walks around the area", j+1, i+1)
			}
		}
	}
	return nil
}

// side is the ith side's ends.
func (p Polygon) side(i int) (a, b Point) { return p[i], p[(i+1)%len(p)] }

// sidesMeet reports whether two sides have more in common than a polygon's
// sides should: a corner for neighbours, nothing for others. i is below j.
func (p Polygon) sidesMeet(i, j int) bool {
	a, b := p.side(i)
	c, d := p.side(j)
	switch {
	case j == i+1: // b is c: they meet again only where the second turns straight back
		return turn(a, b, d) == 0 && along(b, a, d) >= 0
	case i == 0 && j == len(p)-1: // d is a
		return turn(c, d, b) == 0 && along(a, c, b) >= 0
	}
	return crosses(a, b, c, d)
}

// turn is positive where a, b, c turn left, negative where right, and 0 on a
// line, as far as numbers such as 0.1 can be on one.
func turn(a, b, c Point) float64 {
	const rounding = 1e-12
	t := (b.X-a.X)*(c.Y-a.Y) - (b.Y-a.Y)*(c.X-a.X)
	if math.Abs(t) < rounding {
		return 0
	}
	return t
}

// along is positive where a and b lie in the same direction from o.
func along(o, a, b Point) float64 { return (a.X-o.X)*(b.X-o.X) + (a.Y-o.Y)*(b.Y-o.Y) }

// crosses reports whether the segments ab and cd have a point in common.
func crosses(a, b, c, d Point) bool {
	t1, t2, t3, t4 := turn(a, b, c), turn(a, b, d), turn(c, d, a), turn(c, d, b)
	if t1*t2 < 0 && t3*t4 < 0 {
		return true
	}
	return t1 == 0 && between(a, b, c) || t2 == 0 && between(a, b, d) || t3 == 0 && between(c, d, a) || t4 == 0 && between(c, d, b)
}

// between reports whether p, on the line through a and b, lies between them.
func between(a, b, p Point) bool {
	return p.X >= min(a.X, b.X) && p.X <= max(a.X, b.X) && p.Y >= min(a.Y, b.Y) && p.Y <= max(a.Y, b.Y)
}

// Contains reports whether a point is inside: a ray from it to the right
// crosses an odd number of sides. Of two areas that share a side, each of its
// points is in one.
func (p Polygon) Contains(at Point) bool {
	inside := false
	for i := range p {
		a, b := p.side(i)
		if (a.Y > at.Y) != (b.Y > at.Y) && at.X < a.X+(at.Y-a.Y)/(b.Y-a.Y)*(b.X-a.X) {
			inside = !inside
		}
	}
	return inside
}

// Anchor is the point of a box that decides where its object is.
type Anchor string

// The anchors.
const (
	AnchorBottom Anchor = "bottom" // the middle of the lower side, where a thing stands; the default
	AnchorCentre Anchor = "centre"
)

// of returns the anchor of a box in a w×h frame. What touches the edge is
// taken as inside of it.
func (a Anchor) of(b Box, w, h int) Point {
	y := b.Y + b.H
	if a == AnchorCentre {
		y = b.Y + b.H/2
	}
	const inside = 1 - 1e-9
	return Point{min((b.X+b.W/2)/float64(w), inside), min(y/float64(h), inside)}
}

// zonesOf returns the zones that an object of a class is in.
func zonesOf(zones []Zone, class string, at Point) (set ZoneSet) {
	for i := range zones {
		z := &zones[i]
		if (len(z.Classes) == 0 || slices.Contains(z.Classes, class)) && z.Area.Contains(at) {
			set |= 1 << i
		}
	}
	return set
}

// masked reports whether a point is in one of the masks.
func masked(masks []Polygon, at Point) bool {
	return slices.ContainsFunc(masks, func(m Polygon) bool { return m.Contains(at) })
}

// Region is an upright rectangle of a picture as parts of its width and
// height, from its top-left corner. The zero Region is the whole picture.
type Region struct{ X, Y, W, H float64 }

// Check reports what is wrong with a region.
func (r Region) Check() error {
	if r == (Region{}) {
		return nil
	}
	if !(r.X >= 0 && r.Y >= 0 && r.W > 0 && r.H > 0 && r.X+r.W <= 1+1e-9 && r.Y+r.H <= 1+1e-9) {
		return fmt.Errorf("x %v, y %v, w %v, h %v: expected a rectangle within the picture, in parts of its width and height, 0 to 1", r.X, r.Y, r.W, r.H)
	}
	return nil
}

// pixels is the region in a w×h frame, of at least one pixel.
func (r Region) pixels(w, h int) (x, y, width, height int) {
	if r == (Region{}) {
		return 0, 0, w, h
	}
	x = min(int(math.Round(r.X*float64(w))), w-1)
	y = min(int(math.Round(r.Y*float64(h))), h-1)
	width = min(max(int(math.Round(r.W*float64(w))), 1), w-x)
	height = min(max(int(math.Round(r.H*float64(h))), 1), h-y)
	return x, y, width, height
}

// checkZones reports every mistake in a camera's zones and masks.
func checkZones(zones []Zone, masks []Polygon, required []string) error {
	var errs []error
	if len(zones) > MaxZones || len(masks) > MaxMasks {
		errs = append(errs, fmt.Errorf("%d zones and %d masks, expected at most %d and %d", len(zones), len(masks), MaxZones, MaxMasks))
	}
	names := map[string]bool{}
	for i, z := range zones {
		if z.Name == "" || names[z.Name] {
			errs = append(errs, fmt.Errorf("zone %d is called %q, expected a name of its own", i+1, z.Name))
		}
		names[z.Name] = true
		if err := z.Area.Check(); err != nil {
			errs = append(errs, fmt.Errorf("zone %q: %w", z.Name, err))
		}
	}
	for i, m := range masks {
		if err := m.Check(); err != nil {
			errs = append(errs, fmt.Errorf("mask %d: %w", i+1, err))
		}
	}
	for _, name := range required {
		if !names[name] {
			errs = append(errs, fmt.Errorf("required zone %q is not one of the camera's zones", name))
		}
	}
	return errors.Join(errs...)
}
