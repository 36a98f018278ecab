//go:build !novision

package capture

import (
	"bytes"
	"testing"

	"gocv.io/x/gocv"

	"outstation/vision"
	"outstation/vision/testfiles"
)

// pixelsOf is an image at its own size.
func pixelsOf(t *testing.T, m vision.Image, w, h int) []byte {
	t.Helper()
	out := make([]byte, w*h*3)
	if scale, err := m.Letterbox(out, w, h, 0); err != nil || scale != 1 {
		t.Fatal(scale, err)
	}
	return out
}

// TestPartsAreThoseOfTheirFrame over frames that share a pool, whose parts are
// kept from one to the next.
func TestPartsAreThoseOfTheirFrame(t *testing.T) {
	src := open(t, Options{URL: testfiles.Video().Need(t)})
	const x, y, w, h = 101, 55, 300, 211
	var before []byte
	var kept vision.Image
	for i := range 6 {
		f, err := src.Read()
		if err != nil {
			t.Fatal(err)
		}
		part, err := f.Image.(vision.Cropper).Crop(x, y, w, h)
		if err != nil {
			t.Fatal(err)
		}
		whole, got := pixelsOf(t, f.Image, f.Width, f.Height), pixelsOf(t, part, w, h)
		for row := range h {
			if !bytes.Equal(got[row*w*3:][:w*3], whole[((y+row)*f.Width+x)*3:][:w*3]) {
				t.Fatalf("frame %d, row %d differs", i, row)
			}
		}
		if bytes.Equal(got, before) {
			t.Errorf("frame %d shows the part of the frame before", i)
		}
		if kept != nil && part != kept {
			t.Errorf("frame %d has a part of its own", i)
		}
		before, kept = got, part
		part.Close()
		if again := pixelsOf(t, part, w, h); !bytes.Equal(again, got) {
			t.Error("Close of a part did something")
		}
		f.Image.Close()
	}
}

func TestPartsLieWithinTheFrame(t *testing.T) {
	src := open(t, Options{URL: testfiles.Video().Need(t)})
	f, err := src.Read()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Image.Close()
	m := f.Image.(*Image)
	for _, bad := range [][4]int{{-1, 0, 5, 5}, {0, 0, 769, 5}, {767, 575, 2, 1}, {0, 0, 0, 5}} {
		if _, err := m.Crop(bad[0], bad[1], bad[2], bad[3]); err == nil {
			t.Errorf("no error for %v", bad)
		}
	}
}

// TestPartsShareTheirMemory: an image keeps one scaled picture for all of its
// parts, and of these nothing once it is closed.
func TestPartsShareTheirMemory(t *testing.T) {
	if err := GiveMemoryBack(); err != nil {
		t.Fatal(err)
	}
	m := (&pool{}).get()
	m.mat.Close()
	m.mat = gocv.NewMatWithSizeFromScalar(gocv.NewScalar(1, 2, 3, 0), 720, 1280, gocv.MatTypeCV8UC3)
	scaled := make([]byte, 640*640*3)
	look := func(i int) {
		part, err := m.Crop(i, i, 300, 300-i%3)
		if err != nil {
			t.Fatal(err)
		}
		if err := part.(vision.Stretcher).Stretch(scaled, 640, 640); err != nil {
			t.Fatal(err)
		}
	}
	look(0)
	before := residentMiB(t)
	for i := range 60 { // kept, they would be 70 MiB
		look(i)
	}
	if after := residentMiB(t); after > before+20 {
		t.Errorf("60 parts took %d MiB", after-before)
	}
	m.Close()
	if !m.part.mat.Closed() {
		t.Error("a part keeps the pixels of an image that was closed")
	}
	m.pool.close()
}
