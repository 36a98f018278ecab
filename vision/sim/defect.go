package sim

import (
	"math"
	"math/rand/v2"

	"outstation/vision"
)

// The difficulty of defects: sizes in pixels of the geometry, contrast as a
// share of the luma around them.
const (
	contrastMin, contrastMax           = 0.08, 0.30
	scratchLengthMin, scratchLengthMax = 20, 60
	scratchWidthMin, scratchWidthMax   = 2, 4
	dentMin, dentMax                   = 10, 24
	stainMin, stainMax                 = 14, 40
)

// placings is how often a place for a flaw is looked for.
const placings = 300

// scratchMargin is how far a scratch's box reaches beyond the line on every
// side: what the optics smear it into.
const scratchMargin = 1

// defect is a flaw of a part, in the part's own directions.
type defect struct {
	class    string
	contrast float64
	sign     float64 // of a scratch: 1 is brighter, -1 darker
	at       point   // centre
	size     float64 // diameter, or length of a scratch
	width    float64 // of a scratch
	curve    []point // of a scratch, from end to end
	wave     [2]float64
	box      vision.Box // in pixels of the frame, from the corner of the sprite
}

// addDefects gives the part its flaws; what finds no place is left out, but
// for the first.
func (p *part) addDefects(r *rand.Rand, rate float64) {
	if r.Float64() >= rate {
		return
	}
	n := 1
	if more := r.Float64(); more > 0.95 {
		n = 3
	} else if more > 0.7 {
		n = 2
	}
	makers := []func(*rand.Rand) *defect{p.scratch, p.dent, p.missingHole, p.stain}
	for len(p.defects) < n {
		d := p.tryDefect(r, makers)
		if d == nil {
			if len(p.defects) > 0 {
				return
			}
			continue // another class has more room; a missing hole always fits
		}
		p.defects = append(p.defects, d)
	}
}

// tryDefect makes a flaw of a random class, or nil if there is no room for it.
func (p *part) tryDefect(r *rand.Rand, makers []func(*rand.Rand) *defect) *defect {
	maker := makers[r.IntN(len(makers))]
	for range placings {
		d := maker(r)
		if d != nil && !p.crowded(d) {
			d.contrast = between(r, contrastMin, contrastMax)
			return d
		}
	}
	return nil
}

// crowded reports whether a flaw is too close to another one.
func (p *part) crowded(d *defect) bool {
	for _, o := range p.defects {
		if hypot(d.at.x-o.at.x, d.at.y-o.at.y) < (d.size+o.size)/2+4 {
			return true
		}
	}
	return false
}

// spot is a random point of the part.
func (p *part) spot(r *rand.Rand) point {
	return point{between(r, -p.radius, p.radius), between(r, -p.radius, p.radius)}
}

func (p *part) scratch(r *rand.Rand) *defect {
	d := &defect{
		class: ClassScratch, at: p.spot(r), sign: 1,
		size:  between(r, scratchLengthMin, min(scratchLengthMax, p.radius)),
		width: between(r, scratchWidthMin, scratchWidthMax),
	}
	if r.IntN(2) == 0 {
		d.sign = -1
	}
	along, bend := between(r, 0, math.Pi), between(r, -0.15, 0.15)*d.size
	cos, sin := math.Cos(along), math.Sin(along)
	const steps = 8
	for i := range steps + 1 {
		t := float64(i)/steps*2 - 1
		u, v := t*d.size/2, bend*(1-t*t)
		at := point{d.at.x + u*cos - v*sin, d.at.y + u*sin + v*cos}
		if !p.bare(at, d.width/2) {
			return nil
		}
		d.curve = append(d.curve, at)
	}
	return d
}

func (p *part) dent(r *rand.Rand) *defect {
	d := &defect{class: ClassDent, at: p.spot(r), size: between(r, dentMin, dentMax)}
	if !p.bare(d.at, d.size/2) {
		return nil
	}
	return d
}

func (p *part) missingHole(r *rand.Rand) *defect {
	return &defect{class: ClassMissingHole, at: p.holes[r.IntN(len(p.holes))], size: 2 * p.hole}
}

// stain may lie across holes, as a liquid does, but not across the rim.
func (p *part) stain(r *rand.Rand) *defect {
	d := &defect{class: ClassStain, at: p.spot(r), size: between(r, stainMin, stainMax)}
	d.wave = [2]float64{between(r, 0, 2*math.Pi), between(r, 0, 2*math.Pi)}
	if p.outline(d.at.x, d.at.y) > -d.size/2-clearance || hypot(d.at.x, d.at.y) < p.bore+d.size/4 {
		return nil
	}
	return d
}

// effect is what the flaw does at a point: luma is multiplied by 1 + shade, and
// tint, in [0, 1], is how brown it gets. light is the direction that light comes
// from, in the part's own directions.
func (d *defect) effect(u, v float64, light point) (shade, tint float64) {
	x, y := u-d.at.x, v-d.at.y
	if x*x+y*y > (d.size/2+4)*(d.size/2+4) {
		return 0, 0
	}
	switch d.class {
	case ClassScratch:
		return d.sign * d.contrast * cover(d.width/2-d.distance(u, v)), 0
	case ClassDent:
		q := hypot(x, y) / (d.size / 2)
		if q >= 1 {
			return 0, 0
		}
		// A bowl: one side is turned to the light, the other away from it. The
		// factor makes the strongest shade that of the contrast.
		return -d.contrast * (x*light.x + y*light.y) / (d.size / 2) * (1 - q*q) * 2.6, 0
	case ClassMissingHole:
		return -d.contrast * cover(d.size/2-hypot(x, y)), 0
	case ClassStain:
		in := min(max((d.stainRadius(math.Atan2(y, x))-hypot(x, y))/2.5+0.5, 0), 1)
		return -d.contrast * in, in
	}
	return 0, 0
}

// stainRadius is how far a stain reaches in a direction, at most half its size.
func (d *defect) stainRadius(at float64) float64 {
	return d.size / 2 * (0.8 + 0.13*math.Sin(2*at+d.wave[0]) + 0.07*math.Sin(3*at+d.wave[1]))
}

// distance is how far a point is from the scratch's curve.
func (d *defect) distance(u, v float64) float64 {
	best := math.Inf(1)
	for i := range len(d.curve) - 1 {
		a, b := d.curve[i], d.curve[i+1]
		x, y := b.x-a.x, b.y-a.y
		t := min(max(((u-a.x)*x+(v-a.y)*y)/(x*x+y*y), 0), 1)
		best = min(best, hypot(u-a.x-t*x, v-a.y-t*y))
	}
	return best
}

// rim lists points around the flaw that its box has to hold, and by how much
// the box reaches beyond them.
func (d *defect) rim() (points []point, margin float64) {
	if d.class == ClassScratch {
		return d.curve, d.width/2 + scratchMargin
	}
	const steps = 64
	for i := range steps {
		at := 2 * math.Pi * float64(i) / steps
		radius := d.size / 2
		if d.class == ClassStain {
			radius = d.stainRadius(at)
		}
		points = append(points, point{d.at.x + radius*math.Cos(at), d.at.y + radius*math.Sin(at)})
	}
	return points, 0
}

// cover is how much of a pixel lies inside, from the depth of its centre.
func cover(depth float64) float64 { return min(max(depth+0.5, 0), 1) }
