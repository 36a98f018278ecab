//go:build !novision

package capture

import (
	"fmt"
	"time"

	"gocv.io/x/gocv"

	"outstation/vision"
)

// grabber is a source of OpenCV's FFmpeg backend. Only there can a grab be
// trusted: gocv discards what OpenCV's grab returns, and after a failed one a
// retrieve may give the previous picture again, but FFmpeg's frame counter
// advances with every frame that was really taken.
type grabber struct {
	*source
	arrived time.Time // of the last Grab
}

var _ vision.Grabber = (*grabber)(nil)

// Grab blocks until the next frame is there and returns when that was.
func (g *grabber) Grab() (time.Time, error) {
	at, err := g.next(g.grab)
	g.arrived = at
	return at, err
}

func (g *grabber) grab() bool {
	before := g.video.Get(gocv.VideoCapturePosFrames)
	return g.video.Grab(1) == nil && g.video.Get(gocv.VideoCapturePosFrames) != before
}

// Retrieve converts the frame of the last Grab to BGR.
func (g *grabber) Retrieve() (vision.Frame, error) {
	m := g.images.get()
	if !g.video.Retrieve(&m.mat) {
		m.Close()
		return vision.Frame{}, fmt.Errorf("capture: %s: %w: the grabbed frame could not be decoded", g.target.name, ErrRead)
	}
	return g.frame(m, g.arrived)
}
