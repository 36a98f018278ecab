package sim

import (
	"bytes"
	"testing"

	"outstation/vision"
)

// TestPartsAreTheFrames: a part at its own size is what the frame shows there,
// and it scales as the frame does.
func TestPartsAreTheFrames(t *testing.T) {
	line, err := NewLine(LineOptions{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]vision.Image{"line": line.Image(200), "pattern": &Image{Index: 7, Width: 1280, Height: 720}} {
		whole := make([]byte, 1280*720*3)
		if _, err := m.Letterbox(whole, 1280, 720, 0); err != nil {
			t.Fatal(err)
		}
		const x, y, w, h = 301, 77, 400, 250
		part, err := m.(vision.Cropper).Crop(x, y, w, h)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, (w+10)*(h+4)*3)
		if scale, err := part.Letterbox(got, w, h, 9); err != nil || scale != 1 {
			t.Fatal(scale, err)
		}
		for row := range h {
			if want := whole[((y+row)*1280+x)*3:][:w*3]; !bytes.Equal(got[row*w*3:][:w*3], want) {
				t.Fatalf("%s: row %d differs", name, row)
			}
		}
		// One that is the whole frame, at half the size, differs by rounding alone.
		all, err := m.(vision.Cropper).Crop(0, 0, 1280, 720)
		if err != nil {
			t.Fatal(err)
		}
		a, b := make([]byte, 640*384*3), make([]byte, 640*384*3)
		_, errA := m.Letterbox(a, 640, 384, 114)
		_, errB := all.Letterbox(b, 640, 384, 114)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		off := 0
		for i := range a {
			if d := int(a[i]) - int(b[i]); d > 2 || d < -2 {
				off++
			}
		}
		if off > len(a)/100 {
			t.Errorf("%s: %d of %d values of the scaled part differ", name, off, len(a))
		}
		for _, bad := range [][4]int{{-1, 0, 5, 5}, {0, 0, 1281, 5}, {1279, 719, 2, 1}, {0, 0, 0, 5}} {
			if _, err := m.(vision.Cropper).Crop(bad[0], bad[1], bad[2], bad[3]); err == nil {
				t.Errorf("%s: no error for %v", name, bad)
			}
		}
		m.Close()
	}
}
