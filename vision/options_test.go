package vision

import (
	"context"
	"strings"
	"testing"
	"time"
)

func TestNewReportsEveryImpossibleOption(t *testing.T) {
	source := func() Source { return &fakeSource{} }
	_, err := New(Options{
		EventBuffer: -1,
		Models:      []ModelOptions{{Name: "m"}, {Name: "n", Open: func(context.Context) (Detector, error) { return nil, nil }}},
		Cameras: []CameraOptions{
			{ID: "a", NewSource: source, Model: "absent"},
			{ID: "a", NewSource: source, FPS: -1},
			{ID: "b"},
			{ID: "c", NewSource: source, FPS: 5, Lossless: true},
			{ID: "d", NewSource: source, StallAfter: -time.Second},
		},
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`model 0 ("m")`, `model "absent" is not configured`, `camera "a" is configured twice`, "fps -1",
		`camera 2 ("b")`, "lossless and fps 5", "stall_after -1s", "event buffer -1",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
}

func TestKind(t *testing.T) {
	for address, want := range map[string]string{
		"rtsp://10.0.0.7/stream1": KindRTSP, "rtsps://h/": KindRTSP, "v4l2:///dev/video0": KindV4L2, "csi://0": KindCSI, "dir:///a?watch=1": KindDir,
		"gst:videotestsrc ! appsink": KindGst, "gst:rtspsrc location=rtsp://h ! appsink": KindGst,
		"sim://pattern?fps=1": KindSim, "media/vtest.avi": KindFile, "/a.mp4": KindFile, "file:///a.mp4": KindFile,
		"": "", "http://camera/": "",
	} {
		if got := Kind(address); got != want {
			t.Errorf("%q is %q, want %q", address, got, want)
		}
	}
}

func TestFit(t *testing.T) {
	for _, c := range []struct{ sw, sh, dw, dh, w, h int }{
		{768, 576, 416, 416, 416, 312}, {576, 768, 416, 416, 312, 416}, {416, 416, 416, 416, 416, 416},
		{1920, 1080, 416, 416, 416, 234}, {100, 50, 416, 416, 416, 208}, {10000, 1, 416, 416, 416, 1},
	} {
		w, h, scale := Fit(c.sw, c.sh, c.dw, c.dh)
		if w != c.w || h != c.h || scale != min(float64(c.dw)/float64(c.sw), float64(c.dh)/float64(c.sh)) {
			t.Errorf("%d×%d into %d×%d: %d×%d by %v, want %d×%d", c.sw, c.sh, c.dw, c.dh, w, h, scale, c.w, c.h)
		}
	}
}

func TestHWCToCHW(t *testing.T) {
	src := []byte{1, 2, 3, 4, 5, 6, 250, 251, 255}
	dst := make([]float32, 9)
	HWCToCHW(dst, src)
	for i, want := range []float32{1, 4, 250, 2, 5, 251, 3, 6, 255} {
		if dst[i] != want {
			t.Fatalf("got %v", dst)
		}
	}
}
