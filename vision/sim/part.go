package sim

import (
	"math"
	"math/rand/v2"

	"outstation/vision"
)

// The outlines of parts.
const (
	shapeDisc = iota
	shapeHexagon
	shapeSquare
	shapes
)

// Sizes in pixels of the geometry.
const (
	holeMin, holeMax = 12, 20
	clearance        = 2   // of a defect from rim, bore and holes
	overlapRate      = 0.2 // of every second part, to lie partly on the one before it
)

// part is a machined part as it lies on the belt. Lengths are in pixels of the
// geometry, and points are from the part's centre; boxes are in pixels of
// the frame from the corner of its sprite.
type part struct {
	id       int64
	shape    int
	angle    float64 // radians
	radius   float64 // of the outline's inscribed circle
	bore     float64 // radius
	ring     float64 // radius of the circle of holes
	hole     float64 // radius
	holes    []point
	albedo   float64 // luma of its surface, in [0, 255]
	dx, y    float64 // from its nominal place along the belt; across the frame
	defects  []*defect
	box      vision.Box
	textures uint64 // seed
}

type point struct{ x, y float64 }

// newPart is a part with its place and its flaws. Where it lies may depend on the
// part before it.
func (l *Line) newPart(id int64) *part {
	p := l.lonePart(id)
	r := l.random(streamPart, ^id)
	if id%2 == 1 && r.Float64() < overlapRate {
		p.layOn(l.lonePart(id-1), r)
	}
	p.addDefects(r, l.opts.DefectRate)
	return p
}

// lonePart is a part with a place of its own.
func (l *Line) lonePart(id int64) *part {
	r := l.random(streamPart, id)
	p := &part{id: id, shape: r.IntN(shapes), angle: between(r, 0, 2*math.Pi), textures: r.Uint64()}
	longer := between(r, partMin+2, partMax-2)
	w, h := p.extent()
	p.radius = longer / max(w, h)
	p.bore = p.radius * between(r, 0.24, 0.32)
	p.ring = p.radius * 0.64
	p.hole = (holeMin + (holeMax-holeMin)*(longer-partMin)/(partMax-partMin)) / 2
	n := 4
	if longer > 125 {
		n = 6
	}
	for i := range n {
		at := 2 * math.Pi * float64(i) / float64(n)
		p.holes = append(p.holes, point{p.ring * math.Cos(at), p.ring * math.Sin(at)})
	}
	p.albedo = between(r, 138, 172)
	p.dx = between(r, -45, 45)
	p.y = between(r, railWidth+10+longer/2, baseHeight-railWidth-10-longer/2)
	return p
}

// layOn moves the part so that it covers some of another, which entered one
// pitch before it.
func (p *part) layOn(under *part, r *rand.Rand) {
	distance := (p.radius + under.radius) * between(r, 0.8, 0.95)
	at := between(r, -1, 1)
	y := under.y + distance*math.Sin(at)
	low, high := railWidth+10+p.radius*1.2, baseHeight-railWidth-10-p.radius*1.2
	if y < low || y > high {
		y = under.y - distance*math.Sin(at)
	}
	p.y = min(max(y, low), high)
	across := p.y - under.y
	p.dx = under.dx + pitch - math.Sqrt(max(distance*distance-across*across, 0))
}

// extent is the size of the outline's box for a radius of 1.
func (p *part) extent() (w, h float64) {
	switch p.shape {
	case shapeHexagon:
		return 2 * support(p.angle, 6), 2 * support(p.angle+math.Pi/2, 6)
	case shapeSquare:
		s := squareSide * (math.Abs(math.Cos(p.angle)) + math.Abs(math.Sin(p.angle)))
		return 2 * (s + squareRound), 2 * (s + squareRound)
	}
	return 2, 2
}

// support is the farthest that a regular polygon with inscribed radius 1 and n
// sides, turned by angle, reaches along the x axis.
func support(angle float64, n int) float64 {
	far := 0.0
	for i := range n {
		corner := angle + 2*math.Pi*(float64(i)+0.5)/float64(n)
		far = max(far, math.Cos(corner)/math.Cos(math.Pi/float64(n)))
	}
	return far
}

// A square with rounded corners, for a radius of 1.
const (
	squareRound = 0.3
	squareSide  = 1 - squareRound // half the side of the square that is rounded
)

// outline is the signed distance of a point from the rim, negative inside, in
// the part's own directions. It is exact inside, where defects are placed, and
// close to the rim, where pixels are blended.
func (p *part) outline(u, v float64) float64 {
	switch p.shape {
	case shapeHexagon:
		far := math.Inf(-1)
		for i := range 6 {
			far = max(far, u*hexNormals[i].x+v*hexNormals[i].y)
		}
		return far - p.radius
	case shapeSquare:
		x, y := math.Abs(u)-squareSide*p.radius, math.Abs(v)-squareSide*p.radius
		return hypot(max(x, 0), max(y, 0)) + min(max(x, y), 0) - squareRound*p.radius
	}
	return hypot(u, v) - p.radius
}

var hexNormals = func() (n [6]point) {
	for i := range n {
		n[i] = point{math.Cos(float64(i) * math.Pi / 3), math.Sin(float64(i) * math.Pi / 3)}
	}
	return n
}()

// bare reports whether a disc of the surface is free of rim, bore and holes.
func (p *part) bare(at point, radius float64) bool {
	if p.outline(at.x, at.y) > -radius-clearance || hypot(at.x, at.y) < p.bore+radius+clearance {
		return false
	}
	for _, h := range p.holes {
		if hypot(at.x-h.x, at.y-h.y) < p.hole+radius+clearance {
			return false
		}
	}
	return true
}

func between(r *rand.Rand, low, high float64) float64 { return low + r.Float64()*(high-low) }

// hypot is math.Hypot without its care for overflow: five times as fast.
func hypot(x, y float64) float64 { return math.Sqrt(x*x + y*y) }
