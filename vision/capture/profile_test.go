//go:build !novision && matprofile

package capture

import (
	"testing"

	"gocv.io/x/gocv"

	"outstation/vision"
)

// TestNoMatIsLeaked counts Mats with gocv's profile (-tags matprofile) over
// many connections, with frames that are closed before and after their source.
func TestNoMatIsLeaked(t *testing.T) {
	for _, url := range []string{clip(t, 4), "/nonexistent/a.avi"} {
		factory, err := Factory(Options{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		before := gocv.MatProfile.Count()
		for range 20 {
			connect(t, factory())
		}
		if after := gocv.MatProfile.Count(); after != before {
			t.Errorf("%s: %d Mats before, %d after", url, before, after)
		}
	}
}

// connect reads a source to its end and closes every second frame after it.
func connect(t *testing.T, src vision.Source) {
	t.Helper()
	var held []vision.Frame
	err := src.Open(t.Context())
	for i := 0; err == nil; i++ {
		var f vision.Frame
		if f, err = src.Read(); err != nil {
			break
		}
		grey(t, f)
		if _, err := f.Image.(vision.Cropper).Crop(0, 0, 2, 2); err != nil {
			t.Error(err)
		}
		if i%2 == 0 {
			f.Image.Close()
		} else {
			held = append(held, f)
		}
	}
	if err := src.Close(); err != nil {
		t.Error(err)
	}
	for _, f := range held {
		f.Image.Close()
	}
}
