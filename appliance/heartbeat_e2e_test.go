//go:build !novision

package main

import (
	"math"
	"testing"
	"time"

	"outstation/uplink/wire"
	"outstation/vision/sim"
	"outstation/vision/testfiles"
	"outstation/web"
)

// TestHeartbeatReachesTheCentre runs the real program with a model that does
// not know the line: its events come to the centre as those of a heartbeat,
// at times that give their index, and health says there that nothing is found.
func TestHeartbeatReachesTheCentre(t *testing.T) {
	centre := startMosquitto(t)
	seen := consume(t, centre.URL(), "vision/#", "appliance/#")
	cfg := testConfig(t, t.TempDir(), centre.URL())
	cfg.Vision.ONNXRuntime = testfiles.Library().Need(t)
	cfg.Vision.Models = []ModelConfig{{Name: "yolox-nano", Path: testfiles.Model().Need(t)}}
	plain := CameraConfig{ID: "cam-1", Source: "sim://pattern"}
	beat := CameraConfig{ID: "heartbeat", Source: "sim://line?seed=1", Model: "yolox-nano", FPS: 5, EveryFrame: true, Heartbeat: true}
	plain.SetDefaults()
	beat.SetDefaults()
	cfg.Vision.Cameras = []CameraConfig{plain, beat}
	p := start(t, cfg, nil, binary(t))
	p.eventually("events at the centre", func() bool { return len(seen.on("vision/reg/site-1/heartbeat/detection")) >= 5 })
	for _, m := range seen.on("/heartbeat/detection") {
		d, err := wire.ParseDetection(m.Payload())
		if err != nil || d.CameraID != "heartbeat" {
			t.Errorf("%+v, %v", d, err)
		}
		index := float64(d.CapturedAt.Sub(time.Unix(0, 0))) / 1e9 * sim.DefaultFPS
		if off := math.Abs(index - math.Round(index)); off > 0.01 {
			t.Errorf("captured at %v, which is %v frames beside a frame", d.CapturedAt, off)
		}
	}
	p.eventually("health at the centre", func() bool {
		h, err := wire.ParseHealth(seen.last("/health"))
		if err != nil {
			return false
		}
		for _, c := range h.Checks {
			if c.Name == "heartbeat" {
				return c.State == wire.Impaired
			}
		}
		return false
	})
	s := p.until("the page", func(s web.Snapshot) bool { return len(s.Cameras) == 2 && s.Health.State != web.Healthy })
	if s.Cameras[0].Heartbeat || !s.Cameras[1].Heartbeat || s.Cameras[1].Source != "sim://line?seed=1" {
		t.Errorf("cameras %+v", s.Cameras)
	}
}
