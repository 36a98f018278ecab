//go:build !novision

package main

import (
	"fmt"
	"strings"
	"testing"

	"outstation/uplink/wire"
	"outstation/vision/testfiles"
	"outstation/web"
)

// TestAnOverloadedDetectorIsKeptForTheCameraThatMatters gives the real program
// far more frames than its real model can inspect, and then fewer.
func TestAnOverloadedDetectorIsKeptForTheCameraThatMatters(t *testing.T) {
	centre := startMosquitto(t)
	seen := consume(t, centre.URL(), "events/#")
	cfg := testConfig(t, t.TempDir(), centre.URL())
	cfg.Vision.ONNXRuntime = testfiles.Library().Need(t)
	cfg.Vision.Models = []ModelConfig{{Name: "yolox-nano", Path: testfiles.Model().Need(t)}}
	cfg.Vision.Threads = 1
	for i := range 9 {
		cam := CameraConfig{ID: fmt.Sprintf("low-%d", i), Source: "sim://pattern?fps=60&width=320&height=240", Model: "yolox-nano", Priority: 2}
		if i == 0 {
			cam.ID, cam.Priority, cam.FPS = "high", 9, 15
		}
		cam.SetDefaults()
		cfg.Vision.Cameras = append(cfg.Vision.Cameras, cam)
	}
	p := start(t, cfg, nil, binary(t))
	s := p.until("low cameras that are reduced", func(s web.Snapshot) bool {
		for _, c := range s.Cameras[1:] {
			if c.ReducedTo == 0 || c.ReducedFor == "" {
				return false
			}
		}
		return s.Cameras[0].Inspected > 0 &&
			strings.Contains(s.Health.FirstCause, "cannot keep up") && s.Detectors[0].Behind
	})
	if c := s.Cameras[0]; c.ReducedTo != 0 || c.Priority != 9 {
		t.Errorf("high is reduced: %+v", c.Shedding)
	}
	before := s.Cameras[0]
	p.until("nothing of the high camera dropped for a while", func(s web.Snapshot) bool {
		c := s.Cameras[0]
		dropped, inspected := c.Dropped-before.Dropped, c.Inspected-before.Inspected
		if dropped*10 > inspected {
			before = c
			return false
		}
		return inspected >= 60
	})
	s, err := p.status()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range s.Cameras[1:] {
		if c.Throttled == 0 || c.State != web.CameraOnline { // they may have room again by now
			t.Errorf("%s: %d throttled, %s", c.ID, c.Throttled, c.State)
		}
	}
	p.eventually("the events at the centre", func() bool {
		return len(seen.on("/outstation/"+eventShedBegin)) >= 8 && len(seen.on("/outstation/"+eventBehindBegin)) >= 1
	})
	for _, m := range seen.on("/outstation/" + eventShedBegin) {
		if e, err := wire.ParseEnvelope(m.Payload()); err != nil || !strings.Contains(string(e.Payload), `"camera_id":"low-`) {
			t.Errorf("%s, %v", m.Payload(), err)
		}
	}
	if code := p.stop(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}
