//go:build !novision

package onnx

import "math"

// fromHalf is the value of an IEEE 754 binary16 number.
func fromHalf(h uint16) float32 {
	sign, exponent, fraction := uint32(h&0x8000)<<16, uint32(h>>10&0x1f), uint32(h&0x3ff)
	switch exponent {
	case 0: // zero and what is below the normal numbers: fraction × 2^-24
		return math.Float32frombits(sign | math.Float32bits(float32(fraction)*0x1p-24))
	case 0x1f: // infinities and not-a-numbers
		return math.Float32frombits(sign | 0x7f800000 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+127-15)<<23 | fraction<<13)
}

// toHalf is the binary16 number nearest to f, of two equally near the even
// one. What is too large becomes an infinity.
func toHalf(f float32) uint16 {
	bits := math.Float32bits(f)
	sign, size := uint16(bits>>16&0x8000), bits&0x7fffffff
	switch {
	case size > 0x7f800000: // not a number; its upper bits are kept
		return sign | 0x7e00 | uint16(size>>13&0x3ff)
	case size >= 0x477ff000: // 65520, half-way to the number after the largest
		return sign | 0x7c00
	case size < 0x38800000: // below 2^-14: adding 0.5 rounds to whole 2^-24
		return sign | uint16(math.Float32bits(math.Float32frombits(size)+0.5)-math.Float32bits(0.5))
	}
	size += 0xfff + size>>13&1 // half of the last place, less one unless it is odd
	return sign | uint16(size>>13-(127-15)<<10)
}
