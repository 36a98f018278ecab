package head

import (
	"fmt"
	"math"

	"outstation/vision"
)

// Letterbox is how a frame is fitted into a model's input.
type Letterbox string

// The ways to fit a frame.
const (
	LetterboxTopLeft Letterbox = "top-left" // scaled alike in both directions, in the corner, the rest padded
	LetterboxCentre  Letterbox = "centre"   // scaled alike in both directions, half of the padding on each side
	LetterboxStretch Letterbox = "stretch"  // scaled to fill the input
)

// Colour is the order of a picture's channels.
type Colour string

// The orders of channels.
const (
	BGR Colour = "bgr"
	RGB Colour = "rgb"
)

// Preparation is what is done to a picture before the model sees it. A channel
// of a pixel, 0 to 255, becomes (value × Scale − Mean) / Std; Mean and Std are
// in the order of Colour.
type Preparation struct {
	Colour    Colour
	Scale     float64
	Mean, Std [3]float64
	Letterbox Letterbox
	Pad       byte // what is around the frame, before Scale
}

// What the families were trained with.
var (
	yoloxUsual = Preparation{Colour: BGR, Scale: 1, Std: [3]float64{1, 1, 1}, Letterbox: LetterboxTopLeft, Pad: 114}
	yoloUsual  = Preparation{Colour: RGB, Scale: 1. / 255, Std: [3]float64{1, 1, 1}, Letterbox: LetterboxCentre, Pad: 114}
	detrUsual  = Preparation{Colour: RGB, Scale: 1. / 255, Std: [3]float64{1, 1, 1}, Letterbox: LetterboxStretch, Pad: 114}
)

// Raw reports whether values stay as they are.
func (p Preparation) Raw() bool {
	return p.Scale == 1 && p.Mean == [3]float64{} && p.Std == [3]float64{1, 1, 1}
}

// Value is what a channel's value, 0 to 255, becomes.
func (p Preparation) Value(channel int, value byte) float64 {
	return (float64(value)*p.Scale - p.Mean[channel]) / p.Std[channel]
}

// Place says where a frame of w×h pixels lies in an input of inW×inH. Offsets
// are whole pixels, so that the frame can be written there.
func (l Letterbox) Place(w, h, inW, inH int) Placement {
	if l == LetterboxStretch {
		return Placement{ScaleX: float64(inW) / float64(w), ScaleY: float64(inH) / float64(h), Width: w, Height: h}
	}
	fitW, fitH, scale := vision.Fit(w, h, inW, inH)
	p := TopLeft(scale, w, h)
	if l == LetterboxCentre {
		p.X, p.Y = math.Floor(float64(inW-fitW)/2), math.Floor(float64(inH-fitH)/2)
	}
	return p
}

// String is the preparation in words, for the log.
func (p Preparation) String() string {
	values := "values as they are"
	if !p.Raw() {
		values = fmt.Sprintf("(value × %.6g − %v) / %v", p.Scale, p.Mean, p.Std)
	}
	return fmt.Sprintf("%s, %s, letterbox %s, pad %d", p.Colour, values, p.Letterbox, p.Pad)
}
