// Package sim is a camera without hardware: frames whose every pixel follows
// from their index, so that what should be found in them is known.
//
// It owns no pixels: an image is drawn straight into the detector's letterbox
// at the size asked for. It refuses sounds of realism (noise, exposure, lost
// frames); those belong to recordings.
package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"time"

	"outstation/vision"
)

// Defaults of an address.
const (
	DefaultFPS    = 15
	DefaultWidth  = 1280
	DefaultHeight = 720
)

// Options says what to simulate.
type Options struct {
	// URL is sim://pattern with the optional parameters fps (0.1 to 1000),
	// width and height (16 to 8192 pixels) and frames (then the source ends;
	// 0, the default, never does).
	URL string

	// Unpaced delivers frames as fast as they are read instead of fps a second.
	Unpaced bool
}

// Factory checks the options and returns a function that makes sources.
func Factory(o Options) (func() vision.Source, error) {
	t, err := parse(o.URL)
	if err != nil {
		return nil, fmt.Errorf("sim: source %q: %w", o.URL, err)
	}
	t.paced = !o.Unpaced
	return func() vision.Source { return &source{pattern: t} }, nil
}

// pattern is a parsed address.
type pattern struct {
	fps           float64
	width, height int
	frames        int
	paced         bool
}

func parse(address string) (pattern, error) {
	u, err := url.Parse(address)
	if err != nil {
		return pattern{}, err
	}
	if u.Scheme != "sim" || u.Host != "pattern" || (u.Path != "" && u.Path != "/") {
		return pattern{}, errors.New("want sim://pattern?fps=15&width=1280&height=720")
	}
	t := pattern{fps: DefaultFPS, width: DefaultWidth, height: DefaultHeight}
	var errs []error
	for key, values := range u.Query() {
		if err := t.set(key, values[len(values)-1]); err != nil {
			errs = append(errs, err)
		}
	}
	return t, errors.Join(errs...)
}

// set applies one parameter of the address.
func (t *pattern) set(key, value string) error {
	v, err := strconv.ParseFloat(value, 64)
	if err != nil {
		return fmt.Errorf("%s=%q is not a number", key, value)
	}
	low, high := 16.0, 8192.0
	switch key {
	case "fps":
		low, high = 0.1, 1000
		t.fps = v
	case "width":
		t.width = int(v)
	case "height":
		t.height = int(v)
	case "frames":
		low, high = 0, 1e9
		t.frames = int(v)
	default:
		return fmt.Errorf("unknown parameter %q, want fps, width, height or frames", key)
	}
	if !(v >= low && v <= high) {
		return fmt.Errorf("%s=%s: want %v to %v", key, value, low, high)
	}
	return nil
}

// source implements vision.Source.
type source struct {
	pattern pattern
	ctx     context.Context // of Open: ends the waiting in Read
	start   time.Time
	index   int
}

var _ vision.Source = (*source)(nil)

func (s *source) Open(ctx context.Context) error {
	s.ctx, s.start = ctx, time.Now()
	return ctx.Err()
}

func (s *source) Close() error { return nil }

// Read waits until the next frame is due and returns it. A reader that is late
// gets every frame nonetheless, without waiting, until it has caught up.
func (s *source) Read() (vision.Frame, error) {
	t := &s.pattern
	if t.frames > 0 && s.index >= t.frames {
		return vision.Frame{}, io.EOF
	}
	if err := s.wait(); err != nil {
		return vision.Frame{}, err
	}
	f := vision.Frame{
		Arrived: time.Now(),
		Width:   t.width,
		Height:  t.height,
		Image:   &Image{Index: s.index, Width: t.width, Height: t.height},
	}
	s.index++
	return f, nil
}

// wait paces Read.
func (s *source) wait() error {
	if !s.pattern.paced {
		return s.ctx.Err()
	}
	due := s.start.Add(time.Duration(float64(s.index) / s.pattern.fps * float64(time.Second)))
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}
