// Package head turns the raw outputs of detection models into detections: one
// decoder for each form in which such models are exported.
//
// It owns the decoders, the rule by which a graph's outputs are recognised, and
// the way from pixels of a model's input back to pixels of the frame. It
// promises that a box lies within its frame and is finite whatever the model
// said. It refuses to guess: outputs that fit several forms, or none, are an
// error that names the candidates.
package head

import (
	"fmt"

	"outstation/vision"
)

// Decoder turns the outputs of a model into detections. It keeps scratch
// memory, so one goroutine uses it at a time.
type Decoder interface {
	// Outputs are the graph's outputs that Decode takes, as positions in the
	// list that New was given, in Decode's order.
	Outputs() []int

	// Decode returns what one image shows, in pixels of the frame, the most
	// confident first. out is as Outputs says. The result is the decoder's own
	// memory, valid until the next Decode. An error concerns this image only.
	Decode(out []Tensor, at Placement) ([]vision.Detection, error)
}

// Tensor is one output for one image, its numbers as float32 whatever their
// type in the graph. Dims leave out the batch dimension. The exception is a
// form whose rows name their image (YOLOv7End2End): there it is the whole
// output, rows × 7, for every image of the batch.
type Tensor struct {
	Dims []int
	Data []float32
}

// Placement says where a frame lies in a model's input. A pixel (x, y) of the
// frame lies at (x × ScaleX + X, y × ScaleY + Y) of the input.
type Placement struct {
	ScaleX, ScaleY float64 // pixels of the input for a pixel of the frame, more than 0
	X, Y           float64 // pixels of the input
	Width, Height  int     // of the frame, in pixels
	Image          int     // which image of the batch it is, from 0
}

// TopLeft is the placement of a frame that was scaled alike in both directions
// and lies in the input's corner.
func TopLeft(scale float64, width, height int) Placement {
	return Placement{ScaleX: scale, ScaleY: scale, Width: width, Height: height}
}

// toFrame brings a box from the input to the frame, whose edges it keeps to.
// ok is false when nothing of it is left, or a corner is not a number.
func (p Placement) toFrame(c *candidate) (b vision.Box, ok bool) {
	x0, x1 := max((c.x0-p.X)/p.ScaleX, 0), min((c.x1-p.X)/p.ScaleX, float64(p.Width))
	y0, y1 := max((c.y0-p.Y)/p.ScaleY, 0), min((c.y1-p.Y)/p.ScaleY, float64(p.Height))
	b = vision.Box{X: x0, Y: y0, W: x1 - x0, H: y1 - y0}
	return b, b.W > 0 && b.H > 0
}

func (p Placement) check() error {
	if !(p.ScaleX > 0 && p.ScaleY > 0) {
		return fmt.Errorf("vision: letterbox scale %v×%v, want more than 0", p.ScaleX, p.ScaleY)
	}
	return nil
}
