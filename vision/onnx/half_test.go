//go:build !novision

package onnx

import (
	"math"
	"testing"
)

// halfValue is what IEEE 754-2008, section 3.4, says of the 16 bits.
func halfValue(h uint16) float64 {
	exponent, fraction := int(h>>10)&31, float64(h&1023)
	v := math.Ldexp(1+fraction/1024, exponent-15)
	switch {
	case exponent == 0:
		v = math.Ldexp(fraction/1024, -14)
	case exponent == 31 && fraction == 0:
		v = math.Inf(1)
	case exponent == 31:
		v = math.NaN()
	}
	if h&0x8000 != 0 {
		v = -v
	}
	return v
}

// TestEveryHalf goes through all 65,536 values in both directions.
func TestEveryHalf(t *testing.T) {
	for i := range 1 << 16 {
		h := uint16(i)
		want, got := halfValue(h), fromHalf(h)
		if math.IsNaN(want) {
			if got == got || !math.IsNaN(halfValue(toHalf(got))) {
				t.Fatalf("%#04x: got %v and back %#04x, want not a number", h, got, toHalf(got))
			}
			continue
		}
		if float64(got) != want || math.Signbit(float64(got)) != math.Signbit(want) {
			t.Fatalf("%#04x: got %v, want %v", h, got, want)
		}
		if back := toHalf(got); back != h {
			t.Fatalf("%#04x: %v became %#04x", h, got, back)
		}
	}
}

// TestHalfRounds takes what lies between every two neighbours: below, at and
// above the middle.
func TestHalfRounds(t *testing.T) {
	for h := uint16(0); h < 0x7bff; h++ {
		low, high := halfValue(h), halfValue(h+1)
		middle := float32((low + high) / 2) // exact: one more bit
		even := h + h&1
		for value, want := range map[float32]uint16{
			math.Nextafter32(middle, 0): h, middle: even, math.Nextafter32(middle, math.MaxFloat32): h + 1,
		} {
			if got := toHalf(value); got != want {
				t.Fatalf("%v: got %#04x, want %#04x", value, got, want)
			}
			if got := toHalf(-value); got != want|0x8000 {
				t.Fatalf("%v: got %#04x, want %#04x", -value, got, want|0x8000)
			}
		}
	}
	for value, want := range map[float32]uint16{
		65519.996: 0x7bff, 65520: 0x7c00, math.MaxFloat32: 0x7c00, float32(math.Inf(1)): 0x7c00, math.SmallestNonzeroFloat32: 0,
	} {
		if got := toHalf(value); got != want {
			t.Errorf("%v: got %#04x, want %#04x", value, got, want)
		}
	}
}
