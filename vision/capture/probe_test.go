//go:build !novision

package capture

import (
	"math"
	"strings"
	"testing"
	"time"

	"outstation/vision/capture/rtsptest"
)

func TestProbeOfARealStream(t *testing.T) {
	for _, c := range []struct {
		codec    string
		height   int
		keyframe int
	}{{rtsptest.H264, 250, rtsptest.KeyframeInterval}, {rtsptest.MJPEG, 248, 1}} {
		t.Run(c.codec, func(t *testing.T) {
			s := camera(t, rtsptest.Options{Clip: coded(t, c.codec, 328, c.height), User: "u", Password: "secret"})
			r, err := Probe(t.Context(), Options{URL: s.URL()}, 2*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if !r.OK || r.Codec != c.codec || r.Width != 328 || r.Height != c.height || r.KeyframeInterval != c.keyframe ||
				r.Decoder != DecoderFFmpeg || r.Transport != "TCP" || r.FirstFrameMS <= 0 || r.Fault != "" || strings.Contains(r.Source, "secret") {
				t.Errorf("got %+v", r)
			}
			// Written at 25 a second; wide, since other work may hold a machine up.
			if r.MeasuredFPS < 15 || r.MeasuredFPS > 35 {
				t.Errorf("measured %.1f frames a second, want about 25", r.MeasuredFPS)
			}
		})
	}
}

// TestProbeSaysWhatIsWrong and what was tried.
func TestProbeSaysWhatIsWrong(t *testing.T) {
	s := camera(t, rtsptest.Options{User: "u", Password: "secret"})
	mute := camera(t, rtsptest.Options{})
	mute.Stall(true)
	for url, want := range map[string]Fault{
		"rtsp://u:secret2@" + s.Address() + "/stream": FaultUnauthorised,
		"rtsp://u:secret@" + s.Address() + "/other":   FaultPath,
		"rtsp://" + closedPort(t) + "/stream":         FaultRefused,
		mute.URL():                                    FaultTimeout,
	} {
		r, err := Probe(t.Context(), Options{URL: url, OpenTimeout: time.Second, ReadTimeout: time.Second}, time.Second)
		last := r.Tried[len(r.Tried)-1]
		if err != nil || r.OK || r.Fault != want || r.Advice == "" || last.Error == "" || strings.Contains(last.Error, "secret") {
			t.Errorf("%s: got %+v, %v, want %s", Redact(url), r, err, want)
		}
	}
}

func TestProbeOfARecording(t *testing.T) {
	r, err := Probe(t.Context(), Options{URL: clip(t, 12), Paced: true}, time.Second)
	if err != nil || !r.OK || r.Width != 64 || r.Height != 48 || r.StatedFPS != 100 || r.Decoder != "" || r.Codec != "MJPG" {
		t.Errorf("got %+v, %v", r, err)
	}
	dir := t.TempDir()
	for url, want := range map[string]string{
		"/nonexistent/a.avi":    "capture: /nonexistent/a.avi: cannot open: no such file or directory: check the path and that it is a video that FFmpeg reads",
		dir:                     "capture: " + dir + ": cannot open: it is a directory; the source of the pictures in it is dir://" + dir,
		"dir:///nonexistent/in": "capture: dir:///nonexistent/in: cannot open: no such file or directory: check the path",
	} {
		r, err = Probe(t.Context(), Options{URL: url}, time.Second)
		if err != nil || r.OK || !strings.HasPrefix(r.Tried[0].Error, want) {
			t.Errorf("%s: got %+v, %v, want %s", url, r, err, want)
		}
	}
}

func TestCodecsThatAreNoText(t *testing.T) {
	for code, want := range map[float64]string{
		-1: "", 0: "", math.NaN(): "", 1 << 40: "", 0x07: "", 0x47504a4d: "MJPG", 0x20776172: "raw",
	} {
		if got := codecName(code); got != want {
			t.Errorf("%v: got %q, want %q", code, got, want)
		}
	}
}
