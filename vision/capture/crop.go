//go:build !novision

package capture

import (
	"fmt"
	"image"

	"gocv.io/x/gocv"

	"outstation/vision"
)

var _ vision.Cropper = (*Image)(nil)

// Crop returns a part of the frame: a header of the same pixels. An image has
// one part, whose scaled picture keeps its memory from one part to the next and
// from one frame to the next in the same Mat.
func (m *Image) Crop(x, y, w, h int) (vision.Image, error) {
	r := image.Rect(x, y, x+w, y+h)
	if w <= 0 || h <= 0 || !r.In(image.Rect(0, 0, m.mat.Cols(), m.mat.Rows())) {
		return nil, fmt.Errorf("capture: part %v of a frame of %d×%d, want one within it", r, m.mat.Cols(), m.mat.Rows())
	}
	m.uncrop()
	if m.part == nil {
		m.part = &Image{small: gocv.NewMat()}
	}
	m.part.mat = m.mat.Region(r)
	return m.part, nil
}

// uncrop lets go of the frame's pixels, which a part would keep.
func (m *Image) uncrop() {
	if m.part != nil && !m.part.mat.Closed() {
		m.part.uncrop()
		m.part.mat.Close()
	}
}
