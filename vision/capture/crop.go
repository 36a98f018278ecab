//go:build !novision

package capture

import (
	"fmt"
	"image"

	"gocv.io/x/gocv"

	"outstation/vision"
)

// maxCrops bounds the parts of an image that are kept for its next frame.
const maxCrops = 2 * vision.MaxTiles

var _ vision.Cropper = (*Image)(nil)

// crop is a part of an image: a header of the same pixels.
type crop struct {
	Image
	rect image.Rectangle
	data *byte // of the image's first pixel; a Mat may get other memory
}

// Crop returns a part of the frame. It is kept for the next frame in the same
// memory, so that a camera's parts are made once.
func (m *Image) Crop(x, y, w, h int) (vision.Image, error) {
	r := image.Rect(x, y, x+w, y+h)
	if w <= 0 || h <= 0 || !r.In(image.Rect(0, 0, m.mat.Cols(), m.mat.Rows())) {
		return nil, fmt.Errorf("capture: part %v of a frame of %d×%d, want one within it", r, m.mat.Cols(), m.mat.Rows())
	}
	pixels, err := m.mat.DataPtrUint8()
	if err != nil {
		return nil, fmt.Errorf("capture: part of a frame: %w", err)
	}
	if len(m.crops) > 0 && m.crops[0].data != &pixels[0] || len(m.crops) >= maxCrops {
		m.freeCrops()
	}
	for _, c := range m.crops {
		if c.rect == r {
			return &c.Image, nil
		}
	}
	c := &crop{Image: Image{mat: m.mat.Region(r), small: gocv.NewMat()}, rect: r, data: &pixels[0]}
	m.crops = append(m.crops, c)
	return &c.Image, nil
}

func (m *Image) freeCrops() {
	for _, c := range m.crops {
		c.free()
	}
	m.crops = m.crops[:0]
}
