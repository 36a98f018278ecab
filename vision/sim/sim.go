// Package sim is a camera without hardware: frames whose every pixel follows
// from their index, so that what should be found in them is known.
//
// sim://line is a conveyor with machined parts and their flaws, drawn with the
// difficulties of a real one: light that drifts, motion blur, noise, parts that
// overlap. Line knows the truth of each frame. sim://pattern is a square that
// moves, for tests that need a picture at no cost.
//
// It owns no files and no clock but the pacing of its source. It refuses lost
// frames and stalls: those belong to tests of the pipeline.
package sim

import (
	"context"
	"fmt"
	"io"
	"math"
	"time"

	"outstation/vision"
)

// Defaults of an address.
const (
	DefaultFPS    = 15
	DefaultWidth  = 1280
	DefaultHeight = 720

	minSide, maxSide = 16, 8192 // pixels
)

// Options says what to simulate.
type Options struct {
	// URL is sim://line or sim://pattern with parameters; see README.
	URL string

	// Unpaced delivers frames as fast as they are read instead of fps a second.
	Unpaced bool
}

// Factory checks the options and returns a function that makes sources. Those
// share what they have drawn.
func Factory(o Options) (func() vision.Source, error) {
	a, err := parse(o.URL)
	if err != nil {
		return nil, fmt.Errorf("sim: source %q: %w", o.URL, err)
	}
	image, err := a.scene()
	if err != nil {
		return nil, fmt.Errorf("sim: source %q: %w", o.URL, err)
	}
	return func() vision.Source { return &source{address: a, image: image, paced: !o.Unpaced} }, nil
}

// scene returns what draws the frames.
func (a address) scene() (func(int64) vision.Image, error) {
	if a.kind == kindPattern {
		return func(i int64) vision.Image {
			return &Image{Index: int(i), Width: a.line.Width, Height: a.line.Height}
		}, nil
	}
	line, err := NewLine(a.line)
	if err != nil {
		return nil, err
	}
	return line.Image, nil
}

// source implements vision.Source.
type source struct {
	address address
	image   func(int64) vision.Image
	paced   bool
	ctx     context.Context // of Open: ends the waiting in Read
	start   time.Time       // when the first frame is due
	first   int64           // its index
	read    int64           // frames since
}

var _ vision.Waiter = (*source)(nil)

// Waits says that Read ends with the context of Open.
func (s *source) Waits() {}

// Open sets the index of the first frame: 0, or what the epoch says.
func (s *source) Open(ctx context.Context) error {
	s.ctx, s.start = ctx, time.Now()
	if !s.address.epoch.IsZero() {
		since := s.start.Sub(s.address.epoch)
		s.first = max(int64(math.Ceil(since.Seconds()*s.address.line.FPS)), 0)
		s.start = s.start.Add(s.at(s.first) - since)
	}
	return ctx.Err()
}

func (s *source) Close() error { return nil }

// at is when a frame is due, after the one with index 0.
func (s *source) at(index int64) time.Duration {
	return time.Duration(float64(index) / s.address.line.FPS * float64(time.Second))
}

// Read waits until the next frame is due and returns it. A reader that is late
// gets every frame nonetheless, without waiting, until it has caught up. A
// paced frame has arrived when it was due, however late its reader is.
func (s *source) Read() (vision.Frame, error) {
	if n := s.address.frames; n > 0 && s.read >= n {
		return vision.Frame{}, io.EOF
	}
	index := s.first + s.read
	arrived := s.start.Add(s.at(index) - s.at(s.first))
	if err := s.wait(arrived); err != nil {
		return vision.Frame{}, err
	}
	if !s.paced {
		arrived = time.Now()
	}
	s.read++
	return vision.Frame{Arrived: arrived, Width: s.address.line.Width, Height: s.address.line.Height, Image: s.image(index)}, nil
}

// wait paces Read.
func (s *source) wait(due time.Time) error {
	if !s.paced {
		return s.ctx.Err()
	}
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}
