package main

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"outstation/uplink/wire"
	"outstation/vision"
	"outstation/vision/sim"
)

// seer is a detector that knows the truth, and may stop seeing it.
type seer struct {
	line  *sim.Line
	epoch time.Time
	sees  atomic.Int64 // of ten parts
	fails atomic.Bool
	found []vision.Detection
}

var _ vision.Detector = (*seer)(nil)

// Detect finds the first of every ten parts.
func (s *seer) Detect(f vision.Frame) ([]vision.Detection, vision.Timing, error) {
	if s.fails.Load() {
		return nil, vision.Timing{}, errors.New("broken")
	}
	s.found = s.found[:0]
	index := int64(f.Arrived.Sub(s.epoch).Seconds()*s.line.Options().FPS + 0.5)
	for _, p := range s.line.Truth(index).Parts {
		if p.ID%10 < s.sees.Load() {
			b := p.Box
			s.found = append(s.found, vision.Detection{Class: sim.ClassPart, Confidence: 0.9, Box: vision.Box{X: b.X + b.W/10, Y: b.Y, W: b.W, H: b.H}})
		}
	}
	return s.found, vision.Timing{}, nil
}

func (s *seer) Info() vision.DetectorInfo { return vision.DetectorInfo{Model: "line"} }

func (s *seer) Close() error { return nil }

// beating is a heartbeat at work, in a bubble of synctest.
type beating struct {
	t      *testing.T
	eye    *seer
	h      *heartbeat
	line   *vision.Pipeline
	events atomic.Int64
}

// startBeating runs the pipeline of the real camera with a seer.
func startBeating(t *testing.T, cam CameraConfig) *beating {
	t.Helper()
	h, err := newHeartbeat([]CameraConfig{{ID: "cam-1"}, cam})
	if err != nil {
		t.Fatal(err)
	}
	b := &beating{t: t, h: h, eye: &seer{line: h.line, epoch: h.epoch}}
	b.eye.sees.Store(10)
	run := heartbeatCamera(cam)
	source, err := sim.Factory(sim.Options{URL: run.Source})
	if err != nil {
		t.Fatal(err)
	}
	b.line, err = vision.New(vision.Options{
		Models:  []vision.ModelOptions{{Name: "line", Open: func(context.Context) (vision.Detector, error) { return b.eye, nil }}},
		Cameras: []vision.CameraOptions{{ID: run.ID, Kind: vision.KindSim, NewSource: source, Model: "line", FPS: run.FPS, Judge: vision.JudgeOptions{Policy: vision.PolicyEveryFrame}}},
		Sink:    h.sink(func(vision.Event) { b.events.Add(1) }), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- b.line.Serve(context.Background()) }()
	t.Cleanup(func() {
		if err := errors.Join(b.line.Close(), <-served); err != nil {
			t.Error(err)
		}
	})
	return b
}

// expect lets some time pass and looks at health.
func (b *beating) expect(after time.Duration, state, detail string) {
	b.t.Helper()
	time.Sleep(after) // of the bubble's clock
	synctest.Wait()
	f := facts{heartbeat: b.h.stats(), vision: b.line.Stats(), started: time.Now(), now: time.Now()}
	checks := heartbeatCheck(f)
	if len(checks) != 1 || checks[0].Name != "heartbeat" || checks[0].State != state || !strings.Contains(checks[0].Detail, detail) {
		b.t.Errorf("got %+v, expected %s with %q", checks, state, detail)
	}
	in := false
	for _, c := range diagnose(f) {
		in = in || c.Name == "heartbeat" && c.State == state
	}
	if !in {
		b.t.Error("the check is not in the tree")
	}
}

// TestHeartbeatSeesABlindDetector: the detector sees, goes blind, sees half,
// fails, and recovers.
func TestHeartbeatSeesABlindDetector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBeating(t, CameraConfig{ID: "heartbeat", Source: "sim://line?seed=3", Model: "line", Heartbeat: true})
		b.expect(2*time.Second, wire.Healthy, "too little")
		b.expect(28*time.Second, wire.Healthy, "parts in view in the last minute")
		if n := b.events.Load(); n < 28 || n > 32 {
			t.Errorf("%d events in 30 s, expected one a second", n)
		}

		b.eye.sees.Store(0)
		b.expect(20*time.Second, wire.Impaired, "were found, expected at least 90 %")
		b.expect(61*time.Second, wire.Impaired, "nothing was detected in the last minute")
		if n := b.events.Load(); n > 32 {
			t.Errorf("%d events: frames without detections became events", n)
		}
		if s := b.h.stats(); s.Empty < 80 || s.Empty > 82 {
			t.Errorf("%d empty frames in 81 s", s.Empty)
		}

		b.eye.sees.Store(5)
		b.expect(61*time.Second, wire.Impaired, "were found, expected at least 90 %")
		b.eye.sees.Store(10)
		b.expect(61*time.Second, wire.Healthy, "in view in the last minute")

		b.eye.fails.Store(true)
		b.expect(61*time.Second, wire.Impaired, "no frame of it was inspected in the last minute; the camera is ")
		b.eye.fails.Store(false)
		b.expect(61*time.Second, wire.Healthy, "in view in the last minute")
	})
}

// TestHeartbeatOfALineWithAnEpoch numbers its frames from there.
func TestHeartbeatOfALineWithAnEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBeating(t, CameraConfig{ID: "heartbeat", Source: "sim://line?seed=3&fps=10&epoch=900000000", Model: "line", FPS: 2, Heartbeat: true, JudgeConfig: JudgeConfig{Policy: "every_frame"}})
		b.expect(30*time.Second, wire.Healthy, "in view")
		b.eye.sees.Store(0)
		b.expect(30*time.Second, wire.Impaired, "were found")
		if n := b.events.Load(); n < 118 {
			t.Errorf("%d events in a minute of every_frame at 2 frames a second", n)
		}
	})
}

// TestADetectorThatSeesElsewhere: boxes beside the parts are not these parts.
func TestADetectorThatSeesElsewhere(t *testing.T) {
	h, err := newHeartbeat([]CameraConfig{{ID: "heartbeat", Source: "sim://line", Model: "line", Heartbeat: true}})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1_790_000_000, 0)
	look := func(class string, shift float64) heartbeatStats {
		before := *h.stats()
		e := vision.Event{Camera: heartbeatID, CapturedAt: at}
		for _, p := range h.line.Truth(1_790_000_000 * sim.DefaultFPS).Parts {
			e.Detections = append(e.Detections, vision.Detection{Class: class, Box: vision.Box{X: p.Box.X + shift*p.Box.W, Y: p.Box.Y, W: p.Box.W, H: p.Box.H}})
		}
		h.look(e)
		now := *h.stats()
		return heartbeatStats{Shown: now.Shown - before.Shown, Found: now.Found - before.Found}
	}
	for _, c := range []struct {
		class string
		shift float64
		found bool
	}{{sim.ClassPart, 0, true}, {sim.ClassPart, 0.2, true}, {sim.ClassPart, 0.5, false}, {sim.ClassPart, 4, false}, {sim.ClassStain, 0, false}} {
		if got := look(c.class, c.shift); got.Shown < 2 || (got.Found == got.Shown) != c.found || !c.found && got.Found != 0 {
			t.Errorf("%+v: %d of %d found", c, got.Found, got.Shown)
		}
	}
}

func TestHeartbeatIsChecked(t *testing.T) {
	const head = minimal + "vision:\n  models: [{name: line, path: m.onnx}]\n  cameras:\n"
	for cameras, want := range map[string]string{
		"    - {id: beat, source: \"sim://line\", model: line, heartbeat: true}":                                                                                   `vision.cameras[0].id: a camera with heartbeat: true has to be called "heartbeat", got "beat"`,
		"    - {id: heartbeat, source: \"sim://pattern\", model: line, heartbeat: true}":                                                                           "vision.cameras[0].source: a camera with heartbeat: true shows sim://line",
		"    - {id: heartbeat, source: \"sim://line\", heartbeat: true}":                                                                                           "vision.cameras[0].model: a camera with heartbeat: true needs a model",
		"    - {id: heartbeat, source: \"sim://line\", model: line, lossless: true, heartbeat: true}":                                                              "vision.cameras[0].lossless: ",
		"    - {id: heartbeat, source: \"sim://line\", model: line}":                                                                                               `vision.cameras[0].id: "heartbeat" is kept for`,
		"    - {id: heartbeat, source: \"sim://line\", model: line, heartbeat: true}\n    - {id: heartbeat, source: \"sim://line\", model: line, heartbeat: true}": "vision.cameras[1].id: two cameras",
		"    - {id: heartbeat, source: \"sim://line\", model: line, heartbeat: true}":                                                                              "",
	} {
		_, err := parseConfig("o.yaml", []byte(head+cameras+"\n"), nil)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, expected %q", cameras, err, want)
		}
	}
}

// TestTheHeartbeatIsNoCamera of those that health counts.
func TestTheHeartbeatIsNoCamera(t *testing.T) {
	cameras := []vision.CameraStats{{ID: "cam-1", State: vision.Online}, {ID: "heartbeat", State: vision.Online}}
	f := facts{vision: vision.Stats{Cameras: cameras}, heartbeat: &heartbeatStats{}}
	if got := visionCheck(f); got.Detail != "cameras: 1" || len(got.Checks) != 2 {
		t.Errorf("got %+v", got)
	}
}

func TestHeartbeatCamera(t *testing.T) {
	for source, want := range map[string]string{
		"sim://line":                 "sim://line?epoch=0",
		"sim://line?seed=4&fps=5":    "sim://line?epoch=0&fps=5&seed=4",
		"sim://line?epoch=17&seed=4": "sim://line?epoch=17&seed=4",
	} {
		got := heartbeatCamera(CameraConfig{Source: source, Heartbeat: true})
		if got.Source != want || got.FPS != 1 {
			t.Errorf("%s: %+v", source, got)
		}
		plain := CameraConfig{Source: source}
		if got := heartbeatCamera(plain); !reflect.DeepEqual(got, plain) {
			t.Errorf("%s without a heartbeat: %+v", source, got)
		}
	}
	if got := heartbeatCamera(CameraConfig{Source: "sim://line", FPS: 2, Heartbeat: true}); got.FPS != 2 {
		t.Errorf("fps %v", got.FPS)
	}
	if got := (VisionConfig{Cameras: []CameraConfig{{ID: "a"}, {ID: "heartbeat", Heartbeat: true}}}).cameras(); got != 1 {
		t.Errorf("%d cameras", got)
	}
}
