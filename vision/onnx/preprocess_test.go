//go:build !novision

package onnx

import (
	"bytes"
	"image"
	"math"
	"testing"

	"outstation/vision"
	"outstation/vision/head"
	"outstation/vision/sim"
)

// orange is the bounding box of the pattern's square in a BGR picture, in whole
// pixels, and the number of pixels that are neither of the frame nor of pad.
func orange(pixels []byte, width int, pad byte) (box image.Rectangle, frame image.Rectangle) {
	for i := 0; i+3 <= len(pixels); i += 3 {
		at := image.Rect(i/3%width, i/3/width, i/3%width+1, i/3/width+1)
		p := pixels[i : i+3]
		if p[0] == 0 && p[1] == 140 && p[2] == 255 {
			box = box.Union(at)
		}
		if p[0] != pad || p[1] != pad || p[2] != pad {
			frame = frame.Union(at)
		}
	}
	return box, frame
}

// TestWayBackToTheFrame finds the pattern's square in the prepared picture, and
// expects its place in the frame to be that where it was drawn.
func TestWayBackToTheFrame(t *testing.T) {
	const pad = 7
	inputs := []image.Point{{96, 64}, {64, 96}, {416, 416}, {640, 384}}
	frames := []image.Point{{1280, 720}, {720, 1280}, {640, 480}, {101, 203}, {96, 64}, {40, 30}}
	for _, mode := range []head.Letterbox{head.LetterboxTopLeft, head.LetterboxCentre, head.LetterboxStretch} {
		for _, in := range inputs {
			for _, size := range frames {
				s := shape{width: in.X, height: in.Y, prep: head.Preparation{Colour: head.BGR, Scale: 1, Std: [3]float64{1, 1, 1}, Letterbox: mode, Pad: pad}}
				picture := &sim.Image{Index: 5, Width: size.X, Height: size.Y}
				f := vision.Frame{Width: size.X, Height: size.Y, Image: picture}
				pixels := make([]byte, 3*in.X*in.Y+s.slack())
				at, err := s.letterbox(pixels, f, mode.Place(size.X, size.Y, in.X, in.Y))
				if err != nil {
					t.Fatal(err)
				}
				box, frame := orange(pixels[:3*in.X*in.Y], in.X, pad)
				checkFrame(t, mode, in, size, frame)
				want := picture.Square()
				got := vision.Box{
					X: (float64(box.Min.X) - at.X) / at.ScaleX, Y: (float64(box.Min.Y) - at.Y) / at.ScaleY,
					W: float64(box.Dx()) / at.ScaleX, H: float64(box.Dy()) / at.ScaleY,
				}
				if tolerance := 1.01 / min(at.ScaleX, at.ScaleY); !near(got, want, max(tolerance, 1.01)) {
					t.Errorf("%s, %v in %v: the square is at %+v, want %+v (%+v)", mode, size, in, got, want, at)
				}
			}
		}
	}
}

// checkFrame expects the frame where its mode says, and padding everywhere else.
func checkFrame(t *testing.T, mode head.Letterbox, in, size image.Point, got image.Rectangle) {
	t.Helper()
	w, h, _ := vision.Fit(size.X, size.Y, in.X, in.Y)
	want := image.Rect(0, 0, w, h)
	switch mode {
	case head.LetterboxCentre:
		want = want.Add(image.Pt((in.X-w)/2, (in.Y-h)/2))
	case head.LetterboxStretch:
		want = image.Rectangle{Max: in}
	}
	if got != want {
		t.Errorf("%s, %v in %v: the frame is at %v, want %v", mode, size, in, got, want)
	}
}

// TestLetterboxKeepsToItsPicture: what comes after a picture in a batch stays.
func TestLetterboxKeepsToItsPicture(t *testing.T) {
	for _, mode := range []head.Letterbox{head.LetterboxTopLeft, head.LetterboxCentre, head.LetterboxStretch} {
		for _, size := range []image.Point{{1280, 720}, {720, 1280}, {96, 64}} {
			s := shape{
				inputs: []head.Port{{Name: "images", Type: head.Uint8, Dims: []int{-1, 64, 96, 3}}}, width: 96, height: 64,
				prep: head.Preparation{Colour: head.BGR, Scale: 1, Std: [3]float64{1, 1, 1}, Letterbox: mode, Pad: 7},
			}
			m, err := newMemory(s, 3)
			if err != nil {
				t.Fatal(err)
			}
			mark := bytes.Repeat([]byte{201}, len(m.inPlace.memory))
			copy(m.inPlace.memory, mark)
			f := vision.Frame{Width: size.X, Height: size.Y, Image: &sim.Image{Width: size.X, Height: size.Y}}
			if _, err := m.prepare(1, f); err != nil {
				t.Fatal(err)
			}
			n := 3 * 96 * 64
			if got := m.inPlace.memory; !bytes.Equal(got[:n], mark[:n]) || bytes.Contains(got[n:2*n], mark[:3]) || !bytes.Equal(got[2*n:], mark[:n]) {
				t.Errorf("%s, %v: the second picture of three is not all that was written", mode, size)
			}
			if err := m.close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestWritersNormalise writes a picture into every kind of tensor.
func TestWritersNormalise(t *testing.T) {
	bgr := []byte{0, 100, 255, 10, 20, 30} // two pixels
	prep := head.Preparation{Scale: 0.5, Mean: [3]float64{1, 2, 3}, Std: [3]float64{2, 4, 8}}
	for _, colour := range []head.Colour{head.BGR, head.RGB} {
		for _, planar := range []bool{true, false} {
			prep.Colour = colour
			s := shape{width: 2, height: 1, planar: planar, prep: prep}
			full := newValues(s, 2, func(v float64) float32 { return float32(v) })
			half := newValues(s, 2, func(v float64) uint16 { return toHalf(float32(v)) })
			full.write(1, bgr)
			half.write(1, bgr)
			for pixel := range 2 {
				for channel := range 3 {
					from := channel // in the model's order
					if colour == head.RGB {
						from = 2 - channel
					}
					want := (float64(bgr[3*pixel+from])*0.5 - prep.Mean[channel]) / prep.Std[channel]
					i := 6 + 3*pixel + channel
					if planar {
						i = 6 + 2*channel + pixel
					}
					if got := float64(full.memory[i]); math.Abs(got-want) > 1e-5 {
						t.Errorf("%s, planar %v, pixel %d, channel %d: got %v, want %v", colour, planar, pixel, channel, got, want)
					}
					if got := float64(fromHalf(half.memory[i])); math.Abs(got-want) > 0.05 {
						t.Errorf("%s, planar %v, pixel %d, channel %d: got %v as float16, want %v", colour, planar, pixel, channel, got, want)
					}
				}
			}
			if full.memory[0] != 0 || half.memory[5] != 0 {
				t.Error("the picture before was written too")
			}
		}
	}
}

// TestStretchNeedsAnImageThatCan: the error says what to do.
func TestStretchNeedsAnImageThatCan(t *testing.T) {
	s := shape{width: 32, height: 32, prep: head.Preparation{Letterbox: head.LetterboxStretch}}
	if _, err := s.letterbox(make([]byte, 4000), blankFrame(), head.Placement{}); err == nil {
		t.Error("no error")
	}
}
