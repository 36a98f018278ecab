//go:build !novision

package main

import (
	"math"
	"slices"
	"strings"
	"testing"

	"outstation/uplink/wire"
	"outstation/vision"
	"outstation/vision/sim"
	"outstation/vision/testfiles"
	"outstation/web"
)

// beatingConfig is a testConfig with a camera and a heartbeat.
func beatingConfig(t *testing.T, centre string, m ModelConfig, beat CameraConfig) Config {
	cfg := testConfig(t, t.TempDir(), centre)
	cfg.Vision.ONNXRuntime = testfiles.Library().Need(t)
	cfg.Vision.Models = []ModelConfig{m}
	plain := CameraConfig{ID: "cam-1", Source: "sim://pattern"}
	beat.ID, beat.Source, beat.Model, beat.Heartbeat = "heartbeat", "sim://line?seed=1", m.Name, true
	plain.SetDefaults()
	beat.SetDefaults()
	cfg.Vision.Cameras = []CameraConfig{plain, beat}
	return cfg
}

// beatAtTheCentre is the check of the newest health at the centre.
func beatAtTheCentre(seen *consumer) (found wire.Check) {
	h, err := wire.ParseHealth(seen.last("/health"))
	if err != nil {
		return found
	}
	for _, c := range h.Checks {
		if c.Name == "heartbeat" {
			found = c
		}
	}
	return found
}

// TestHeartbeatReachesTheCentre runs the real program with the model that
// knows the line, at the rate of the default: events come to the centre at
// times that give their index, with the parts that this index shows.
func TestHeartbeatReachesTheCentre(t *testing.T) {
	centre := startMosquitto(t)
	seen := consume(t, centre.URL(), "vision/#", "appliance/#")
	cfg := beatingConfig(t, centre.URL(), ModelConfig{Name: "line", Path: builtinLine}, CameraConfig{})
	line, err := sim.NewLine(sim.LineOptions{Seed: 1, DefectRate: sim.DefaultDefectRate})
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, cfg, nil, binary(t))
	p.eventually("events at the centre", func() bool { return len(seen.on("vision/reg/site-1/heartbeat/detection")) >= 8 })
	shown, found := 0, 0
	for _, m := range seen.on("/heartbeat/detection") {
		d, err := wire.ParseDetection(m.Payload())
		if err != nil || d.CameraID != "heartbeat" {
			t.Fatalf("%+v, %v", d, err)
		}
		index := float64(d.CapturedAt.UnixNano()) / 1e9 * sim.DefaultFPS
		if off := math.Abs(index - math.Round(index)); off > 0.01 {
			t.Errorf("captured at %v, which is %v frames beside a frame", d.CapturedAt, off)
		}
		for _, part := range line.Truth(int64(math.Round(index))).Parts {
			shown++
			if slices.ContainsFunc(d.Detections, func(o wire.Object) bool {
				return o.Class == sim.ClassPart && sim.Overlap(vision.Box(o.Box), part.Box) >= sim.MatchIoU
			}) {
				found++
			}
		}
	}
	if shown < 20 || float64(found) < 0.8*float64(shown) {
		t.Errorf("%d of %d parts were found", found, shown)
	}
	p.until("a verdict", func(s web.Snapshot) bool {
		return slices.ContainsFunc(s.Health.Checks, func(c web.Check) bool {
			return c.Name == "heartbeat" && c.State == web.Healthy && strings.Contains(c.Detail, "were found")
		})
	})
	p.eventually("health at the centre", func() bool { return beatAtTheCentre(seen).State == wire.Healthy })
	s := p.until("both cameras", func(s web.Snapshot) bool { return len(s.Cameras) == 2 })
	if s.Cameras[0].Heartbeat || !s.Cameras[1].Heartbeat || s.Cameras[1].Source != "sim://line?seed=1" || s.Cameras[1].FPSTarget != 1 {
		t.Errorf("cameras %+v", s.Cameras)
	}
}

// TestAModelThatDoesNotKnowTheLine finds no parts, whatever else it takes them
// for, and health says so here and at the centre.
func TestAModelThatDoesNotKnowTheLine(t *testing.T) {
	centre := startMosquitto(t)
	seen := consume(t, centre.URL(), "vision/#", "appliance/#")
	cfg := beatingConfig(t, centre.URL(), ModelConfig{Name: "yolox-nano", Path: testfiles.Model().Need(t)}, CameraConfig{FPS: 5})
	p := start(t, cfg, nil, binary(t))
	p.eventually("health at the centre", func() bool { return beatAtTheCentre(seen).State == wire.Impaired })
	p.until("the verdict on the page", func(s web.Snapshot) bool {
		return s.Health.State == web.Degraded && strings.HasPrefix(s.Health.FirstCause, "heartbeat: ")
	})
}

// TestAProviderThatWasAskedForAndIsNotThere runs the real program with a
// library that has no CUDA: health is red, whether the CPU serves or nothing.
func TestAProviderThatWasAskedForAndIsNotThere(t *testing.T) {
	for want, providers := range map[string][]string{
		"model line: runs on cpu, not on cuda: ": {"cuda", "cpu"},
		"no configured provider works: ":         {"cuda"},
	} {
		cfg := beatingConfig(t, freeLoopback(t), ModelConfig{Name: "line", Path: builtinLine}, CameraConfig{})
		cfg.Uplink.Brokers, cfg.Demo.Centre = nil, "127.0.0.1:0"
		cfg.Vision.Providers = providers
		start(t, cfg, nil, binary(t)).until("a red health that names the library", func(s web.Snapshot) bool {
			return s.Health.State == web.Unhealthy && strings.Contains(s.Health.FirstCause, want) &&
				strings.Contains(s.Health.FirstCause, "libonnxruntime_providers_shared.so")
		})
	}
}

// TestFilesOfTheConfigurationMayComeLater: a service tries again, and health
// says which file of a camera or a model is not there.
func TestFilesOfTheConfigurationMayComeLater(t *testing.T) {
	cfg := beatingConfig(t, freeLoopback(t), ModelConfig{Name: "late", Path: "no.onnx"}, CameraConfig{})
	cfg.Uplink.Brokers, cfg.Demo.Centre = nil, "127.0.0.1:0"
	cfg.Vision.Cameras[0].Source = "file://no.avi"
	start(t, cfg, nil, binary(t)).until("both files in health", func(s web.Snapshot) bool {
		said := map[string]string{}
		for _, part := range s.Health.Checks {
			for _, c := range part.Checks {
				if c.State != web.Healthy {
					said[c.Name] = c.Detail
				}
			}
		}
		return strings.Contains(said["camera cam-1"], "no.avi: cannot open: no such file") && strings.Contains(said["model late"], "no.onnx: no such file")
	})
}
