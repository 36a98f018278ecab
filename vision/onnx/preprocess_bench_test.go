//go:build !novision

package onnx

import (
	"testing"

	"outstation/vision/head"
)

// BenchmarkWrite is one 416×416 picture into tensors of each type.
func BenchmarkWrite(b *testing.B) {
	src := make([]byte, 3*416*416)
	for i := range src {
		src[i] = byte(i * 7)
	}
	prep := head.Preparation{Colour: head.RGB, Scale: 1. / 255, Std: [3]float64{1, 1, 1}}
	for name, w := range map[string]writer{
		"float32 planar":      newValues(shape{width: 416, height: 416, planar: true, prep: prep}, 1, func(v float64) float32 { return float32(v) }),
		"float32 interleaved": newValues(shape{width: 416, height: 416, prep: prep}, 1, func(v float64) float32 { return float32(v) }),
		"float16 planar":      newValues(shape{width: 416, height: 416, planar: true, prep: prep}, 1, func(v float64) uint16 { return toHalf(float32(v)) }),
		"uint8 planar":        newValues(shape{width: 416, height: 416, planar: true, prep: prep}, 1, func(v float64) uint8 { return uint8(v) }),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w.write(0, src)
			}
		})
	}
}
