//go:build !novision

package capture

import (
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
	if err != nil || !r.OK || r.Width != 64 || r.Height != 48 || r.StatedFPS != 100 || r.Decoder != "" {
		t.Errorf("got %+v, %v", r, err)
	}
	r, err = Probe(t.Context(), Options{URL: "/nonexistent/a.avi"}, time.Second)
	if err != nil || r.OK || !strings.Contains(r.Tried[0].Error, "check the path") {
		t.Errorf("got %+v, %v", r, err)
	}
}
