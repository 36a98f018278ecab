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
	arrived time.Time    // of the last Grab
	whole   vision.Frame // that Grab took with its picture, from GStreamer
}

var (
	_ vision.Grabber = (*grabber)(nil)
	_ vision.Starter = (*grabber)(nil)
)

// Grab blocks until the next frame is there and returns when that was.
func (g *grabber) Grab() (time.Time, error) {
	if g.feed != nil && g.decoder != DecoderFFmpeg {
		return g.grabWhole()
	}
	at, err := g.next(g.grab)
	g.arrived = at
	return at, err
}

func (g *grabber) grab() bool {
	before := g.video.Get(gocv.VideoCapturePosFrames)
	return g.video.Grab(1) == nil && g.video.Get(gocv.VideoCapturePosFrames) != before
}

// grabWhole reads a frame of a backend whose grab says nothing of its failure.
func (g *grabber) grabWhole() (time.Time, error) {
	g.forget()
	var err error
	g.whole, err = g.Read()
	return g.whole.Arrived, err
}

// forget closes a frame that was grabbed and not retrieved.
func (g *grabber) forget() {
	if g.whole.Image != nil {
		g.whole.Image.Close()
		g.whole.Image = nil
	}
}

// Retrieve converts the frame of the last Grab to BGR.
func (g *grabber) Retrieve() (vision.Frame, error) {
	if g.whole.Image != nil {
		f := g.whole
		g.whole.Image = nil
		return f, nil
	}
	m := g.images.get()
	if !g.video.Retrieve(&m.mat) {
		m.Close()
		return vision.Frame{}, fmt.Errorf("capture: %s: %w: the grabbed frame could not be decoded", g.target.name, ErrRead)
	}
	return g.frame(m, g.arrived)
}

// Close frees the connection. Frames that are still out stay valid.
func (g *grabber) Close() error {
	g.forget()
	return g.source.Close()
}
