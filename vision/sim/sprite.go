package sim

import (
	"math"
	"math/rand/v2"
	"sync"

	"outstation/vision"
)

// sprite is a drawn part: what it does to the pixels of a frame.
type sprite struct {
	part  *part
	w, h  int    // pixels of the frame
	luma  []byte // w×h, of the surface
	alpha []byte // w×h, how much of the belt it hides
	tint  []byte // w×h, how brown it is; nil if nowhere
}

// shadow is how dark and how wide, in pixels of the geometry, the belt gets
// beside a part.
const (
	shadowDepth = 0.35
	shadowWidth = 6.0
)

// solid reports whether the part hides what is below that pixel.
func (s *sprite) solid(x, y int) bool {
	return x >= 0 && y >= 0 && x < s.w && y < s.h && s.alpha[y*s.w+x] > 200 && s.luma[y*s.w+x] > 0
}

// draw makes the sprite of a part and works out the boxes.
func (l *Line) draw(id int64) *sprite {
	p := l.newPart(id)
	w, h := p.extent()
	margin := shadowWidth + l.look.blur/2 + 2
	s := &sprite{
		part: p,
		w:    int(math.Ceil((w*p.radius+2*margin)*l.scale)) | 1,
		h:    int(math.Ceil((h*p.radius+2*margin)*l.scale)) | 1,
	}
	p.measure(s, l.scale)
	s.paint(l)
	return s
}

// measure works out the boxes of the part and its flaws in the sprite.
func (p *part) measure(s *sprite, scale float64) {
	w, h := p.extent()
	cx, cy := float64(s.w)/2, float64(s.h)/2
	p.box = vision.Box{X: cx - w*p.radius*scale/2, Y: cy - h*p.radius*scale/2, W: w * p.radius * scale, H: h * p.radius * scale}
	cos, sin := math.Cos(p.angle), math.Sin(p.angle)
	for _, d := range p.defects {
		x0, y0, x1, y1 := math.Inf(1), math.Inf(1), math.Inf(-1), math.Inf(-1)
		points, margin := d.rim()
		for _, q := range points {
			x, y := q.x*cos-q.y*sin, q.x*sin+q.y*cos
			x0, y0, x1, y1 = min(x0, x), min(y0, y), max(x1, x), max(y1, y)
		}
		d.box = vision.Box{
			X: cx + (x0-margin)*scale, Y: cy + (y0-margin)*scale,
			W: (x1 - x0 + 2*margin) * scale, H: (y1 - y0 + 2*margin) * scale,
		}
	}
}

// paint fills the pixels in.
func (s *sprite) paint(l *Line) {
	p := s.part
	s.luma, s.alpha = make([]byte, s.w*s.h), make([]byte, s.w*s.h)
	luma, alpha := make([]float64, s.w*s.h), make([]float64, s.w*s.h)
	grain := newGrain(p.textures)
	cos, sin := math.Cos(p.angle), math.Sin(p.angle)
	light := point{l.look.light.x*cos + l.look.light.y*sin, -l.look.light.x*sin + l.look.light.y*cos}
	for y := range s.h {
		for x := range s.w {
			px, py := (float64(x)+0.5-float64(s.w)/2)/l.scale, (float64(y)+0.5-float64(s.h)/2)/l.scale
			u, v := px*cos+py*sin, -px*sin+py*cos
			d := p.outline(u, v)
			at := y*s.w + x
			if d > 0.5/l.scale {
				alpha[at] = shadowDepth * max(1-d/shadowWidth, 0)
				continue
			}
			in := cover(-d * l.scale)
			shade, tint := p.flaws(u, v, light)
			luma[at] = in * p.surface(u, v, d, light, l.scale) * (1 + shade) * (1 + 0.012*grain.at(x, y))
			alpha[at] = in + (1-in)*shadowDepth
			if tint > 0 {
				if s.tint == nil {
					s.tint = make([]byte, s.w*s.h)
				}
				s.tint[at] = byte(255 * tint)
			}
		}
	}
	blurRows(luma, s.w, l.look.blur*l.scale)
	blurRows(alpha, s.w, l.look.blur*l.scale)
	for i := range luma {
		s.alpha[i] = byte(alpha[i]*255 + 0.5)
		if alpha[i] > 0 {
			s.luma[i] = byte(min(luma[i]/alpha[i], 255) + 0.5)
		}
	}
}

// flaws is the effect of all flaws at a point.
func (p *part) flaws(u, v float64, light point) (shade, tint float64) {
	for _, d := range p.defects {
		s, t := d.effect(u, v, light)
		shade, tint = shade+s, max(tint, t)
	}
	return shade, tint
}

// surface is the luma of the part at a point that is d from its rim.
func (p *part) surface(u, v, d float64, light point, scale float64) float64 {
	r := hypot(u, v)
	luma := p.albedo * (1 + 0.012*math.Sin(r*1.1)) // marks of turning
	if depth := -d; depth < 5 && r > 0 {           // a chamfer
		luma *= 1 + 0.22*(u*light.x+v*light.y)/r*(1-depth/5)
	}
	luma = pit(luma, p.albedo, p.bore-r, scale)
	for _, h := range p.holes {
		if math.Abs(u-h.x) < p.hole+4 && math.Abs(v-h.y) < p.hole+4 && !p.missing(h) {
			luma = pit(luma, p.albedo, p.hole-hypot(u-h.x, v-h.y), scale)
		}
	}
	return luma
}

// pit is the luma in and around a bored hole.
func pit(luma, albedo, depth, scale float64) float64 {
	if depth < -3 {
		return luma
	}
	in := cover(depth * scale)
	edge := 1 + 0.1*max(1-math.Abs(depth+1)/2, 0) // a bright edge
	return luma*edge*(1-in) + albedo*0.2*in
}

func (p *part) missing(h point) bool {
	for _, d := range p.defects {
		if d.class == ClassMissingHole && d.at == h {
			return true
		}
	}
	return false
}

// blurRows averages each row over a window of some pixels, which need not be
// a whole number.
func blurRows(v []float64, w int, window float64) {
	if window <= 1 {
		return
	}
	side := (window - 1) / 2
	whole := int(side)
	part := side - float64(whole)
	row := make([]float64, w)
	for at := 0; at < len(v); at += w {
		copy(row, v[at:at+w])
		get := func(i int) float64 {
			if i < 0 || i >= w {
				return 0
			}
			return row[i]
		}
		for x := range w {
			sum := part * (get(x-whole-1) + get(x+whole+1))
			for i := x - whole; i <= x+whole; i++ {
				sum += get(i)
			}
			v[at+x] = sum / window
		}
	}
}

// grain is a table of normal deviates.
type grain [1 << 12]float64

func newGrain(seed uint64) *grain {
	r := rand.New(rand.NewPCG(seed, 0))
	g := &grain{}
	for i := range g {
		g[i] = r.NormFloat64()
	}
	return g
}

func (g *grain) at(x, y int) float64 { return g[(y*67+x)%len(g)] }

// spriteCache keeps the sprites that were drawn last.
type spriteCache struct {
	mu   sync.Mutex
	list []*sprite
}

// cachedSprites is above what a frame may show.
const cachedSprites = 64

func (c *spriteCache) get(id int64, draw func(int64) *sprite) *sprite {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.list {
		if s.part.id == id {
			return s
		}
	}
	s := draw(id)
	if len(c.list) < cachedSprites {
		c.list = append(c.list, s)
		return s
	}
	copy(c.list, c.list[1:])
	c.list[len(c.list)-1] = s
	return s
}
