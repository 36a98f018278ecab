//go:build !novision

package framebench

import (
	"testing"

	"outstation/vision/testfiles"
)

// TestRun checks the measuring. The target of 0.10 is for the benchmark on a
// quiet machine: the race detector alone makes the Go part ten times slower.
func TestRun(t *testing.T) {
	r, err := Run(t.Context(), Options{
		Model:   testfiles.Model().Need(t),
		Video:   testfiles.Video().Need(t),
		Library: testfiles.Library().Need(t),
		Frames:  40,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", r)
	if r.Frames != 40 || r.OrtMs <= 0 || r.PreMs <= 0 || r.PostMs <= 0 || r.DecodeMs <= 0 || r.TotalMs < r.OrtMs {
		t.Errorf("impossible result %+v", r)
	}
	for _, s := range r.Stages {
		if s.P50 <= 0 || s.P99 < s.P50 {
			t.Errorf("impossible stage %+v", s)
		}
	}
	if want := (r.TotalMs - r.OrtMs) / r.OrtMs; r.Overhead <= 0 || r.Overhead < want/2 || r.Overhead > want*2 {
		t.Errorf("overhead %.3f does not fit the medians, %.3f", r.Overhead, want)
	}
}

func TestRunStopsWhenAFileIsMissing(t *testing.T) {
	o := Options{Model: testfiles.Model().Need(t), Library: testfiles.Library().Need(t), Video: t.TempDir() + "/none.avi"}
	if _, err := Run(t.Context(), o); err == nil {
		t.Error("no error without a video")
	}
	if _, err := Run(t.Context(), Options{Frames: -1}); err == nil {
		t.Error("no error for a negative number of frames")
	}
}
