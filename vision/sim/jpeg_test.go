package sim

import (
	"bytes"
	"image"
	"image/jpeg"
	"testing"

	"outstation/vision"
)

// TestTheJPEGIsTheFrame decodes a picture of the pattern and of the line, and
// compares it with what a detector is shown.
func TestTheJPEGIsTheFrame(t *testing.T) {
	line, err := NewLine(LineOptions{Width: 320, Height: 180, FPS: 15, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]vision.Image{"pattern": &Image{Index: 3, Width: 320, Height: 180}, "line": line.Image(40)} {
		want := make([]byte, 320*180*3)
		if _, err := m.Letterbox(want, 320, 180, 0); err != nil {
			t.Fatal(err)
		}
		crop := image.Rect(20, 10, 300, 170)
		b, err := m.(vision.JPEGer).AppendJPEG(nil, crop, 0, 95)
		if err != nil {
			t.Fatal(err)
		}
		got, err := jpeg.Decode(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if got.Bounds().Size() != crop.Size() {
			t.Fatalf("%s: %v, want %v", name, got.Bounds(), crop)
		}
		if off := meanOff(got, want, 320, crop); off > 6 {
			t.Errorf("%s: pixels differ by %.1f in the mean", name, off)
		}
		m.Close()
	}
}

// meanOff is the mean absolute one of green, which JPEG keeps best.
func meanOff(got image.Image, want []byte, stride int, crop image.Rectangle) float64 {
	sum := 0
	for y := range crop.Dy() {
		for x := range crop.Dx() {
			_, g, _, _ := got.At(x, y).RGBA()
			d := int(g>>8) - int(want[((y+crop.Min.Y)*stride+x+crop.Min.X)*3+1])
			sum += max(d, -d)
		}
	}
	return float64(sum) / float64(crop.Dx()*crop.Dy())
}
