package sim

import (
	"fmt"

	"outstation/vision"
)

// Colours of the pattern, BGR.
const (
	backgroundDark  = 64
	backgroundLight = 96
)

// Image is the test pattern of one frame: grey stripes 64 pixels wide, and an
// orange square that moves along a line and returns.
type Image struct {
	Index         int // of the frame, from 0
	Width, Height int // pixels
}

var (
	_ vision.Image     = (*Image)(nil)
	_ vision.Stretcher = (*Image)(nil)
)

// Square is the truth about the frame: where the square is, in pixels. Its
// side is a quarter of the shorter side of the frame.
func (m *Image) Square() vision.Box {
	side := min(m.Width, m.Height) / 4
	return vision.Box{
		X: float64(bounce(m.Index*8, m.Width-side)),
		Y: float64(bounce(m.Index*4, m.Height-side)),
		W: float64(side),
		H: float64(side),
	}
}

// bounce maps a distance travelled to a position in [0, span] of something
// that turns round at both ends.
func bounce(distance, span int) int {
	at := distance % (2 * span)
	return min(at, 2*span-at)
}

// Letterbox draws the pattern at the size asked for, by nearest neighbour.
func (m *Image) Letterbox(dst []byte, width, height int, pad byte) (float64, error) {
	if width <= 0 || height <= 0 || len(dst) < width*height*3 {
		return 0, fmt.Errorf("sim: letterbox of %d×%d into %d bytes, want at least %d", width, height, len(dst), width*height*3)
	}
	w, h, scale := vision.Fit(m.Width, m.Height, width, height)
	m.draw(dst, width, w, h, pad, scale, scale)
	fill(dst[h*width*3:height*width*3], pad)
	return scale, nil
}

// Stretch draws the pattern at the size asked for, by nearest neighbour.
func (m *Image) Stretch(dst []byte, width, height int) error {
	if width <= 0 || height <= 0 || len(dst) < width*height*3 {
		return fmt.Errorf("sim: stretch to %d×%d into %d bytes, want at least %d", width, height, len(dst), width*height*3)
	}
	m.draw(dst, width, width, height, 0, float64(width)/float64(m.Width), float64(height)/float64(m.Height))
	return nil
}

// draw draws the pattern as w×h pixels into rows of width, whose rest is pad.
func (m *Image) draw(dst []byte, width, w, h int, pad byte, scaleX, scaleY float64) {
	row := dst[:width*3]
	fill(row, pad)
	for x := range w {
		grey := byte(backgroundDark)
		if int(float64(x)/scaleX)/64%2 == 1 {
			grey = backgroundLight
		}
		row[3*x], row[3*x+1], row[3*x+2] = grey, grey, grey
	}
	for y := 1; y < h; y++ {
		copy(dst[y*width*3:], row)
	}
	b := m.Square()
	x0, x1 := int(b.X*scaleX), min(int((b.X+b.W)*scaleX), w)
	for y := int(b.Y * scaleY); y < min(int((b.Y+b.H)*scaleY), h); y++ {
		for x := x0; x < x1; x++ {
			at := (y*width + x) * 3
			dst[at], dst[at+1], dst[at+2] = 0, 140, 255
		}
	}
}

func fill(b []byte, v byte) {
	for i := range b {
		b[i] = v
	}
}

// Close does nothing: the image is only its index.
func (m *Image) Close() {}
