package head

import (
	"math/rand/v2"
	"testing"

	"outstation/vision"
)

// BenchmarkDecode is YOLOX-nano's output for a busy street: 3549×85.
func BenchmarkDecode(b *testing.B) {
	y := yolox(b, Options{Width: 416, Height: 416, Classes: vision.COCO()})
	out := []Tensor{{[]int{3549, 85}, randomOutput(rand.New(rand.NewPCG(1, 2)), 3549, 80, 15)}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := y.Decode(out, TopLeft(0.54, 768, 576)); err != nil {
			b.Fatal(err)
		}
	}
}
