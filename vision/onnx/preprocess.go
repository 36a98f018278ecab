//go:build !novision

package onnx

import (
	"fmt"

	"outstation/vision"
)

// letterboxPad is the grey that YOLOX was trained with around its pictures.
const letterboxPad = 114

// prepare writes a frame into its place and returns its letterbox' scale.
func prepare(f vision.Frame, b picture, s shape) (scale float64, err error) {
	scale, err = f.Image.Letterbox(b.pixels, s.width, s.height, letterboxPad)
	if err != nil {
		return 0, fmt.Errorf("onnx: preprocessing: %w", err)
	}
	if b.input != nil {
		vision.HWCToCHW(b.input, b.pixels)
	}
	return scale, nil
}
