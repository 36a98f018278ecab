package sim

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"outstation/vision"
)

// The classes of the line's truth and of the model that was trained on it.
const (
	ClassPart        = "part"
	ClassScratch     = "scratch"
	ClassDent        = "dent"
	ClassMissingHole = "missing_hole"
	ClassStain       = "stain"
)

// Classes lists them in the order of the model's outputs.
func Classes() []string {
	return []string{ClassPart, ClassScratch, ClassDent, ClassMissingHole, ClassStain}
}

// Defaults of LineOptions.
const (
	DefaultPartsPerMinute = 60
	DefaultDefectRate     = 0.2
)

// Geometry of the line, in pixels of a frame 720 pixels high. Other heights
// are scaled.
const (
	baseHeight = 720
	pitch      = 260 // between two parts, on average
	railWidth  = 44  // above and below the belt
	partMin    = 90  // longer side of a part's box
	partMax    = 160
	edgeShown  = 24 // of a part's width, from which on it counts as shown
)

// hiddenPart is how much of a defect may be covered or cut off before it does
// not count as shown.
const hiddenPart = 0.4

// LineOptions describe a conveyor.
type LineOptions struct {
	Seed           uint64
	FPS            float64 // frames a second, in [0.1, 1000]
	PartsPerMinute float64 // in [1, 600]
	DefectRate     float64 // share of parts with at least one defect, in [0, 1]
	Width, Height  int     // pixels, in [64, 8192]
}

// withDefaults fills in what was left zero.
func (o LineOptions) withDefaults() LineOptions {
	if o.FPS == 0 {
		o.FPS = DefaultFPS
	}
	if o.PartsPerMinute == 0 {
		o.PartsPerMinute = DefaultPartsPerMinute
	}
	if o.Width == 0 {
		o.Width = DefaultWidth
	}
	if o.Height == 0 {
		o.Height = DefaultHeight
	}
	return o
}

func (o LineOptions) validate() error {
	var errs []error
	within := func(name string, v, low, high float64) {
		if !(v >= low && v <= high) {
			errs = append(errs, fmt.Errorf("%s=%v: want %v to %v", name, v, low, high))
		}
	}
	within("fps", o.FPS, 0.1, 1000)
	within("parts_per_min", o.PartsPerMinute, 1, 600)
	within("defects", o.DefectRate, 0, 1)
	within("width", float64(o.Width), minSide, maxSide)
	within("height", float64(o.Height), minSide, maxSide)
	return errors.Join(errs...)
}

// Line is a conveyor under a camera. Each frame and its truth follow from the
// options and the frame's index alone, so any frame can be asked for, in any
// order. It is safe for concurrent use.
//
// The random numbers are those of math/rand/v2's PCG, whose sequence is fixed.
// On an architecture that fuses multiplication and addition a pixel may differ
// by one level.
type Line struct {
	opts  LineOptions
	scale float64 // pixels of a frame for one of the geometry
	speed float64 // pixels of the geometry a second
	look  look
	belt  *belt
	cache spriteCache
	pool  canvasPool
}

// NewLine checks the options and draws the belt.
func NewLine(o LineOptions) (*Line, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("sim: line: %w", err)
	}
	l := &Line{opts: o, scale: float64(o.Height) / baseHeight, speed: o.PartsPerMinute / 60 * pitch}
	l.look = newLook(l.random(streamLook, 0), l.speed)
	l.belt = newBelt(l.random(streamBelt, 0), l)
	return l, nil
}

// Options are those of NewLine with defaults filled in.
func (l *Line) Options() LineOptions { return l.opts }

// Streams of random numbers; each has one use.
const (
	streamLook = iota + 1
	streamBelt
	streamPart
	streamFrame
)

// random is the stream of random numbers for the nth thing of a kind.
func (l *Line) random(stream uint64, n int64) *rand.Rand {
	return rand.New(rand.NewPCG(l.opts.Seed, stream<<56^uint64(n)))
}

// Truth is what one frame shows.
type Truth struct {
	Index int64
	Parts []Part // by id
}

// Part is a part that a frame shows.
type Part struct {
	ID      int64 // in the order of entering, from 0
	Box     vision.Box
	Defects []Defect // that the frame shows
}

// Defect is a flaw of a part, in a frame.
type Defect struct {
	Class    string
	Box      vision.Box
	Contrast float64 // against its surroundings, in [0.08, 0.30]
}

// Label is one box that a detector should find.
type Label struct {
	Class string
	Box   vision.Box
	Part  int64 // id
}

// Labels lists the boxes of all parts and their defects.
func (t Truth) Labels() []Label {
	var list []Label
	for _, p := range t.Parts {
		list = append(list, Label{ClassPart, p.Box, p.ID})
		for _, d := range p.Defects {
			list = append(list, Label{d.Class, d.Box, p.ID})
		}
	}
	return list
}

// travelled is how far the belt has come at a frame, in pixels of the geometry.
func (l *Line) travelled(index int64) float64 {
	return float64(index) / l.opts.FPS * l.speed
}

// placed is a part at its place in a frame, in pixels of the frame.
type placed struct {
	part   *part
	sprite *sprite
	x, y   int // of the sprite's top-left corner
}

// place finds the parts that a frame may show, in the order of drawing.
func (l *Line) place(index int64) []placed {
	way := l.travelled(index)
	width := float64(l.opts.Width) / l.scale
	const margin = partMax + pitch // a part may lie off its nominal place
	first := max(int64(math.Ceil((way-margin)/pitch)), 0)
	last := int64(math.Floor((way + width + margin) / pitch))
	list := make([]placed, 0, last-first+1)
	for id := first; id <= last; id++ {
		s := l.cache.get(id, l.draw)
		x := int(math.Round((width+way-float64(id)*pitch+s.part.dx)*l.scale)) - s.w/2
		y := int(math.Round(s.part.y*l.scale)) - s.h/2
		if x < l.opts.Width && x+s.w > 0 {
			list = append(list, placed{s.part, s, x, y})
		}
	}
	return list
}

// Truth says what a frame shows.
func (l *Line) Truth(index int64) Truth {
	t := Truth{Index: index}
	list := l.place(index)
	for i, p := range list {
		box, ok := l.clip(p.box(p.part.box))
		if !ok || box.W < min(edgeShown*l.scale, p.part.box.W) {
			continue
		}
		shown := Part{ID: p.part.id, Box: box}
		for _, d := range p.part.defects {
			full := p.box(d.box)
			box, ok := l.clip(full)
			if ok && box.W*box.H >= (1-hiddenPart)*full.W*full.H && !covered(box, list[i+1:]) {
				shown.Defects = append(shown.Defects, Defect{d.class, box, d.contrast})
			}
		}
		t.Parts = append(t.Parts, shown)
	}
	return t
}

// box moves a box of the sprite to its place in the frame.
func (p placed) box(b vision.Box) vision.Box {
	return vision.Box{X: b.X + float64(p.x), Y: b.Y + float64(p.y), W: b.W, H: b.H}
}

// clip limits a box to the frame; ok is false when nothing is left.
func (l *Line) clip(b vision.Box) (_ vision.Box, ok bool) {
	x0, y0 := max(b.X, 0), max(b.Y, 0)
	x1, y1 := min(b.X+b.W, float64(l.opts.Width)), min(b.Y+b.H, float64(l.opts.Height))
	return vision.Box{X: x0, Y: y0, W: x1 - x0, H: y1 - y0}, x1 > x0 && y1 > y0
}

// covered reports whether later parts hide too much of a box: it looks at
// points of a grid.
func covered(b vision.Box, later []placed) bool {
	const n = 8
	hidden := 0
	for i := range n {
		for j := range n {
			x := int(b.X + (float64(i)+0.5)/n*b.W)
			y := int(b.Y + (float64(j)+0.5)/n*b.H)
			for _, p := range later {
				if p.sprite.solid(x-p.x, y-p.y) {
					hidden++
					break
				}
			}
		}
	}
	return float64(hidden) > hiddenPart*n*n
}

// Crossing is how many frames after one no part of it is left.
func (l *Line) Crossing() int64 {
	way := float64(l.opts.Width)/l.scale + 2*(partMax+pitch)
	return int64(math.Ceil(way / l.speed * l.opts.FPS))
}
