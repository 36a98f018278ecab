package vision

import (
	"errors"
	"fmt"
	"time"
)

// MotionOptions lets only frames be inspected in which something moves. It is
// meant for cameras that watch a place; one that inspects products should see
// each of them.
type MotionOptions struct {
	On bool

	// Threshold is by how many of the 256 levels of grey a cell of the picture
	// has to differ from the background; 0 means DefaultMotionThreshold.
	Threshold int

	// Area is the part of the picture that has to differ, in (0, 1]; 0 means
	// DefaultMotionArea.
	Area float64

	// Hold is for how long frames are inspected after the last that moved; 0
	// means DefaultMotionHold.
	Hold time.Duration

	// Every is how often a frame is inspected although nothing moves, so that
	// the gate is no blind spot; 0 means DefaultMotionEvery. At most half of
	// BlindAfter.
	Every time.Duration
}

// Defaults of MotionOptions.
const (
	DefaultMotionThreshold = 20
	DefaultMotionArea      = 0.002
	DefaultMotionHold      = 3 * time.Second
	DefaultMotionEvery     = 5 * time.Second
)

// The picture in which motion is looked for: each cell is the mean of 2×2
// pixels, which takes half of their noise away.
const (
	motionColumns, motionRows = 64, 36
	motionWidth, motionHeight = 2 * motionColumns, 2 * motionRows
)

// motionAdapts is how long the background takes to take in two thirds of a
// change that stays, such as that of the light.
const motionAdapts = 10 * time.Second

func (o MotionOptions) withDefaults() MotionOptions {
	if o.Threshold == 0 {
		o.Threshold = DefaultMotionThreshold
	}
	if o.Area == 0 {
		o.Area = DefaultMotionArea
	}
	if o.Hold == 0 {
		o.Hold = DefaultMotionHold
	}
	if o.Every == 0 {
		o.Every = DefaultMotionEvery
	}
	return o
}

// Check reports every impossible option at once.
func (o MotionOptions) Check() error {
	var errs []error
	if o.Threshold < 0 || o.Threshold > 255 {
		errs = append(errs, fmt.Errorf("threshold %d: want 1 to 255 levels of grey", o.Threshold))
	}
	if !(o.Area >= 0 && o.Area <= 1) {
		errs = append(errs, fmt.Errorf("area %v: want a part of the picture, 0 to 1", o.Area))
	}
	if o.Hold < 0 || o.Every < 0 {
		errs = append(errs, fmt.Errorf("hold %v and every %v: want more than 0s", o.Hold, o.Every))
	}
	return errors.Join(errs...)
}

// gate decides which frames of a camera are worth inspecting. The reader is
// its only user.
type gate struct {
	opts       MotionOptions
	pixels     []byte
	background []float32 // of each cell; empty before the first frame
	last       time.Time // of the last frame
	moved      time.Time // when something moved
	passed     time.Time // when a frame went to the detector
}

func newGate(o MotionOptions) *gate {
	return &gate{opts: o.withDefaults(), pixels: make([]byte, 3*motionWidth*motionHeight)}
}

// pass reports whether a frame is to be inspected. Where it cannot tell, it is.
func (g *gate) pass(f Frame) bool {
	changed, err := g.changed(f)
	if err != nil || changed >= g.opts.Area {
		g.moved = f.Arrived
	}
	pass := f.Arrived.Sub(g.moved) < g.opts.Hold || f.Arrived.Sub(g.passed) >= g.opts.Every
	if pass {
		g.passed = f.Arrived
	}
	return pass
}

// changed is the part of the picture that differs from the background, which
// then takes some of the frame in. All of the first frame differs, and all of
// one after a long silence.
func (g *gate) changed(f Frame) (float64, error) {
	scale, err := f.Image.Letterbox(g.pixels, motionWidth, motionHeight, 0)
	if err != nil {
		return 0, fmt.Errorf("vision: motion: %w", err)
	}
	columns := max(min(int(float64(f.Width)*scale)/2, motionColumns), 1)
	rows := max(min(int(float64(f.Height)*scale)/2, motionRows), 1)
	since := f.Arrived.Sub(g.last)
	fresh := len(g.background) != columns*rows || since > motionAdapts
	g.background = resize(g.background, columns*rows)
	g.last = f.Arrived
	share := float32(min(since.Seconds()/motionAdapts.Seconds(), 1))
	if fresh {
		share = 1
	}
	differ := 0
	for y := range rows {
		for x := range columns {
			grey := g.cell(x, y)
			b := &g.background[y*columns+x]
			if d := grey - *b; fresh || d > float32(g.opts.Threshold) || d < -float32(g.opts.Threshold) {
				differ++
			}
			*b += share * (grey - *b)
		}
	}
	return float64(differ) / float64(columns*rows), nil
}

// cell is the luma of four pixels (ITU-R BT.601), in [0, 255].
func (g *gate) cell(x, y int) float32 {
	sum := 0
	for _, at := range [2]int{(2*y*motionWidth + 2*x) * 3, ((2*y+1)*motionWidth + 2*x) * 3} {
		p := g.pixels[at : at+6]
		sum += 29*(int(p[0])+int(p[3])) + 150*(int(p[1])+int(p[4])) + 77*(int(p[2])+int(p[5]))
	}
	return float32(sum) / 1024
}
