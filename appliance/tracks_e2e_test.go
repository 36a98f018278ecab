//go:build !novision

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"outstation/uplink/wire"
	"outstation/vision/testfiles"
	"outstation/web"
)

// told is what the centre has of one track.
type told struct {
	events map[string]map[string]wire.Detection // by track event, then by event id
}

// tracksAt collects the events of tracks that came to the centre.
func tracksAt(t *testing.T, seen *consumer) map[string]told {
	t.Helper()
	all := map[string]told{}
	for _, m := range seen.on(detectionTopic) {
		d, err := wire.ParseDetection(m.Payload())
		if err != nil || d.TrackEvent == "" || len(d.Detections) != 1 || d.Detections[0].TrackID == "" {
			t.Fatalf("%v: %s", err, m.Payload())
		}
		id := d.Detections[0].TrackID
		if all[id].events == nil {
			all[id] = told{map[string]map[string]wire.Detection{}}
		}
		if all[id].events[d.TrackEvent] == nil {
			all[id].events[d.TrackEvent] = map[string]wire.Detection{}
		}
		all[id].events[d.TrackEvent][d.EventID] = d
	}
	return all
}

// TestEachTrackEndsAtTheCentre runs the real program on the simulated line with
// the model that knows it, kills it with parts on the belt, and runs it again
// to a clean stop: every part that was told to have come is told to have gone,
// once.
func TestEachTrackEndsAtTheCentre(t *testing.T) {
	centre := startMosquitto(t)
	seen := consume(t, centre.URL(), "vision/#")
	cfg := testConfig(t, t.TempDir(), centre.URL())
	cfg.Vision.ONNXRuntime = testfiles.Library().Need(t)
	cfg.Vision.Models = []ModelConfig{{Name: "line", Path: builtinLine}}
	camera := CameraConfig{ID: "cam-1", Source: "sim://line?seed=3&fps=10", Model: "line"}
	camera.SetDefaults()
	camera.Policy, camera.Only = "track", []string{"part"}
	camera.Zones = []ZoneConfig{{Name: "left", Points: [][]float64{{0, 0}, {0.5, 0}, {0.5, 1}, {0, 1}}}}
	cfg.Vision.Cameras = []CameraConfig{camera}

	first := start(t, cfg, nil, binary(t))
	first.eventually("ends at the centre", func() bool {
		ended := 0
		for _, k := range tracksAt(t, seen) {
			ended += len(k.events[wire.TrackEnd])
		}
		return ended >= 2
	})
	first.kill()
	var left tracksFile
	b, err := os.ReadFile(filepath.Join(cfg.DataDir, "tracks.json"))
	if err == nil {
		err = json.Unmarshal(b, &left)
	}
	if err != nil || len(left.Open) == 0 {
		t.Fatalf("the kill left %+v (%v)", left, err)
	}

	second := start(t, cfg, nil, binary(t))
	second.until("tracks of the second run", func(s web.Snapshot) bool { return s.Cameras[0].Events >= 3 })
	if code := second.stop(); code != 0 {
		t.Errorf("exit status %d:\n%s", code, second.out.String())
	}
	drain(t, cfg)
	all := tracksAt(t, seen)
	t.Logf("%d tracks, %d of them open at the kill", len(all), len(left.Open))
	for id, k := range all {
		killed := slices.ContainsFunc(left.Open, func(o openTrack) bool { return o.id() == id }) // perhaps before its start was stored
		if len(k.events[wire.TrackStart]) != 1 && !killed || len(k.events[wire.TrackEnd]) != 1 {
			t.Errorf("track %s: %+v", id, k.events)
		}
	}
	for _, open := range left.Open {
		end := all[open.id()].events[wire.TrackEnd]
		d, ok := end[open.EventID]
		if !ok || d.BootID != "" {
			t.Errorf("track %s, open at the kill: %+v", open.id(), end)
		}
	}
	if b, err = os.ReadFile(filepath.Join(cfg.DataDir, "tracks.json")); err == nil {
		err = json.Unmarshal(b, &left)
	}
	if err != nil || len(left.Open) != 0 {
		t.Errorf("a clean stop leaves %+v (%v)", left.Open, err)
	}
}
