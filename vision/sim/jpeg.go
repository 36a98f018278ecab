package sim

import (
	"image"

	"outstation/vision"
)

var (
	_ vision.JPEGer = (*lineImage)(nil)
	_ vision.JPEGer = (*Image)(nil)
)

// AppendJPEG draws the frame and encodes it in plain Go.
func (m *lineImage) AppendJPEG(dst []byte, crop image.Rectangle, maxSide, quality int) ([]byte, error) {
	return appendJPEG(m, m.line.opts.Width, m.line.opts.Height, dst, crop, maxSide, quality)
}

// AppendJPEG draws the frame and encodes it in plain Go.
func (m *Image) AppendJPEG(dst []byte, crop image.Rectangle, maxSide, quality int) ([]byte, error) {
	return appendJPEG(m, m.Width, m.Height, dst, crop, maxSide, quality)
}

// appendJPEG draws an image at its own size first.
func appendJPEG(m vision.Image, w, h int, dst []byte, crop image.Rectangle, maxSide, quality int) ([]byte, error) {
	pixels := make([]byte, w*h*3)
	if _, err := m.Letterbox(pixels, w, h, 0); err != nil {
		return dst, err
	}
	return vision.AppendJPEG(dst, pixels, w, h, crop, maxSide, quality)
}
