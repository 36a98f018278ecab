//go:build !novision

package capture

import (
	"errors"
	"fmt"
	"image"

	"gocv.io/x/gocv"

	"outstation/vision"
)

var _ vision.JPEGer = (*Image)(nil)

// AppendJPEG encodes with OpenCV. Scaling averages over areas, which keeps
// fine lines.
func (m *Image) AppendJPEG(dst []byte, crop image.Rectangle, maxSide, quality int) (out []byte, err error) {
	mat := m.mat
	whole := image.Rect(0, 0, mat.Cols(), mat.Rows())
	if !crop.Empty() && !crop.Eq(whole) {
		if !crop.In(whole) {
			return dst, fmt.Errorf("capture: JPEG of %v, want a part of %v", crop, whole)
		}
		mat = m.mat.Region(crop)
		defer func(part gocv.Mat) { err = errors.Join(err, part.Close()) }(mat)
	}
	if w, h := vision.ScaledSize(mat.Cols(), mat.Rows(), maxSide); w != mat.Cols() || h != mat.Rows() {
		small := gocv.NewMat()
		defer func() { err = errors.Join(err, small.Close()) }()
		if err := gocv.Resize(mat, &small, image.Pt(w, h), 0, 0, gocv.InterpolationArea); err != nil {
			return dst, fmt.Errorf("capture: scaling to %d×%d: %w", w, h, err)
		}
		mat = small
	}
	buf, err := gocv.IMEncodeWithParams(gocv.JPEGFileExt, mat, []int{gocv.IMWriteJpegQuality, quality})
	if err != nil {
		buf.Close()
		return dst, fmt.Errorf("capture: JPEG of %d×%d: %w", mat.Cols(), mat.Rows(), err)
	}
	defer buf.Close()
	return append(dst, buf.GetBytes()...), nil
}
