//go:build !novision

package onnx

import (
	"fmt"

	"outstation/vision"
	"outstation/vision/head"
)

// writer puts letterboxed pictures, BGR rows, into an input tensor.
type writer interface {
	// write makes image i of the batch the picture.
	write(i int, bgr []byte)
}

// values are the memory of an input tensor, and what a pixel becomes in it: a
// table, so that normalisation and conversion cost one look-up.
type values[T uint8 | uint16 | float32] struct {
	memory []T
	table  [3][256]T // by blue, green and red
	swap   bool      // the model wants red first
	planar bool
}

func newValues[T uint8 | uint16 | float32](s shape, n int, convert func(float64) T) *values[T] {
	v := &values[T]{memory: make([]T, n*3*s.width*s.height), swap: s.prep.Colour == head.RGB, planar: s.planar}
	for c := range 3 {
		of := c
		if v.swap {
			of = 2 - c
		}
		for p := range 256 {
			v.table[c][p] = convert(s.prep.Value(of, byte(p)))
		}
	}
	return v
}

func (v *values[T]) write(i int, bgr []byte) {
	n := len(bgr)
	dst := v.memory[i*n : (i+1)*n]
	if v.planar {
		planes(dst, bgr, &v.table, v.swap)
	} else {
		interleave(dst, bgr, &v.table, v.swap)
	}
}

// planes writes a plane for each channel.
func planes[T uint8 | uint16 | float32](dst []T, bgr []byte, table *[3][256]T, swap bool) {
	n := len(bgr) / 3
	blue, green, red := dst[:n], dst[n:2*n], dst[2*n:3*n]
	if swap {
		blue, red = red, blue
	}
	green, red = green[:len(blue)], red[:len(blue)]
	for i := range blue {
		p := bgr[3*i : 3*i+3 : 3*i+3]
		blue[i], green[i], red[i] = table[0][p[0]], table[1][p[1]], table[2][p[2]]
	}
}

func interleave[T uint8 | uint16 | float32](dst []T, bgr []byte, table *[3][256]T, swap bool) {
	blue, red := 0, 2
	if swap {
		blue, red = 2, 0
	}
	for i := 0; i+3 <= len(bgr); i += 3 {
		p, q := bgr[i:i+3:i+3], dst[i:i+3:i+3]
		q[blue], q[1], q[red] = table[0][p[0]], table[1][p[1]], table[2][p[2]]
	}
}

// plain is the memory of a float32 tensor of planes whose values are the pixels'
// own, which need no table.
type plain []float32

func (v plain) write(i int, bgr []byte) {
	n := len(bgr)
	vision.HWCToCHW(v[i*n:(i+1)*n], bgr)
}

// slack is how many bytes past the picture letterbox may write.
func (s shape) slack() int { return 3 * s.width }

// letterbox writes the frame into dst, which has the picture's size and, unless
// its X is 0, the slack. A frame in the middle begins at an offset: what its
// rows are padded with on the right is then the padding on both sides.
func (s shape) letterbox(dst []byte, f vision.Frame, at head.Placement) (head.Placement, error) {
	if s.prep.Letterbox == head.LetterboxStretch {
		image, ok := f.Image.(vision.Stretcher)
		if !ok {
			return at, fmt.Errorf("onnx: preprocessing: a picture of type %T cannot be stretched; choose another letterbox in model.yaml", f.Image)
		}
		if err := image.Stretch(dst, s.width, s.height); err != nil {
			return at, fmt.Errorf("onnx: preprocessing: %w", err)
		}
		return at, nil
	}
	begin := 3 * (int(at.Y)*s.width + int(at.X))
	for i := range dst[:begin] {
		dst[i] = s.prep.Pad
	}
	scale, err := f.Image.Letterbox(dst[begin:], s.width, s.height-int(at.Y), s.prep.Pad)
	if err != nil {
		return at, fmt.Errorf("onnx: preprocessing: %w", err)
	}
	at.ScaleX, at.ScaleY = scale, scale
	return at, nil
}
