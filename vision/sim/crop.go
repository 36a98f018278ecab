package sim

import (
	"fmt"
	"slices"

	"outstation/vision"
)

var (
	_ vision.Stretcher = (*cutout)(nil)

	_ vision.Cropper = (*lineImage)(nil)
	_ vision.Cropper = (*Image)(nil)
)

// Crop draws the whole frame once and returns a part of it.
func (m *lineImage) Crop(x, y, w, h int) (vision.Image, error) {
	width, height := m.line.opts.Width, m.line.opts.Height
	if m.drawn == nil || len(m.drawn.whole) == 0 {
		m.begin()
		c := m.drawn
		c.whole = slices.Grow(c.whole, width*height*3)[:width*height*3]
		if _, err := m.Letterbox(c.whole, width, height, 0); err != nil {
			return nil, err
		}
	}
	return newCutout(m.drawn.whole, width, height, x, y, w, h)
}

// Crop draws the whole frame and returns a part of it.
func (m *Image) Crop(x, y, w, h int) (vision.Image, error) {
	pixels := make([]byte, m.Width*m.Height*3)
	if _, err := m.Letterbox(pixels, m.Width, m.Height, 0); err != nil {
		return nil, err
	}
	return newCutout(pixels, m.Width, m.Height, x, y, w, h)
}

// cutout is a part of a drawn frame.
type cutout struct {
	pixels []byte // from its first pixel on
	stride int    // bytes between two rows
	w, h   int
}

func newCutout(pixels []byte, width, height, x, y, w, h int) (vision.Image, error) {
	if x < 0 || y < 0 || w <= 0 || h <= 0 || x+w > width || y+h > height {
		return nil, fmt.Errorf("sim: part %d×%d from (%d, %d) of a frame of %d×%d, want one within it", w, h, x, y, width, height)
	}
	return &cutout{pixels: pixels[(y*width+x)*3:], stride: width * 3, w: w, h: h}, nil
}

// Letterbox scales bilinearly with pixel centres aligned, as the line's own does.
func (p *cutout) Letterbox(dst []byte, width, height int, pad byte) (float64, error) {
	if width <= 0 || height <= 0 || len(dst) < width*height*3 {
		return 0, fmt.Errorf("sim: letterbox of %d×%d into %d bytes, want at least %d", width, height, len(dst), width*height*3)
	}
	w, h, scale := vision.Fit(p.w, p.h, width, height)
	for y := range h {
		row := dst[y*width*3 : (y+1)*width*3]
		p.scaleRow(row, w, y, h)
		fill(row[w*3:], pad)
	}
	fill(dst[h*width*3:height*width*3], pad)
	return scale, nil
}

// Stretch scales bilinearly to exactly width×height.
func (p *cutout) Stretch(dst []byte, width, height int) error {
	if width <= 0 || height <= 0 || len(dst) < width*height*3 {
		return fmt.Errorf("sim: stretch to %d×%d into %d bytes, want at least %d", width, height, len(dst), width*height*3)
	}
	for y := range height {
		p.scaleRow(dst[y*width*3:(y+1)*width*3], width, y, height)
	}
	return nil
}

// scaleRow is row y of h of the part scaled to w columns.
func (p *cutout) scaleRow(dst []byte, w, y, h int) {
	y0, y1, fy := sample(y, h, p.h)
	upper, lower := p.pixels[y0*p.stride:], p.pixels[y1*p.stride:]
	for x := range w {
		a, b, fx := sample(x, w, p.w)
		for c := range 3 {
			top := int32(upper[3*a+c])*(16-fx) + int32(upper[3*b+c])*fx
			bottom := int32(lower[3*a+c])*(16-fx) + int32(lower[3*b+c])*fx
			dst[3*x+c] = byte((top*(16-fy) + bottom*fy + 128) >> 8)
		}
	}
}

// Close does nothing: the pixels are the frame's.
func (p *cutout) Close() {}
