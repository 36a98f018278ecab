package main

import (
	"strings"
	"testing"
	"time"

	"outstation/uplink/wire"
	"outstation/vision"
)

func TestWhatIsShedIsTold(t *testing.T) {
	w := newWatched(t, 0)
	w.facts.vision = vision.Stats{
		Models:  []vision.ModelStats{{Name: "m", Ready: true, Provider: "cpu"}},
		Cameras: []vision.CameraStats{{ID: "cam", State: vision.Online, Priority: 2, FPS: 10}},
		Heat:    vision.Heat{Known: true, Celsius: 60, Sensor: "tj-thermal"},
	}
	v := &w.facts.vision
	state := func() string {
		c := visionCheck(w.facts)
		for _, sub := range c.Checks {
			c.Detail += "; " + sub.Name + " " + sub.State + ": " + sub.Detail
		}
		return c.State + " " + c.Detail
	}
	w.after(time.Second)
	if got := state(); !strings.HasPrefix(got, wire.Healthy) || !strings.Contains(got, "heat healthy: 60 °C, tj-thermal") {
		t.Errorf("got %s", got)
	}
	v.Models[0].Behind = true
	v.Cameras[0].ReducedTo, v.Cameras[0].ReducedFor = 4.9, vision.ReducedByLoad
	w.after(time.Second)
	if got := state(); !strings.HasPrefix(got, wire.Impaired) || !strings.Contains(got, "camera cam degraded: reduced to 4.9 frames a second: the detector is behind") ||
		!strings.Contains(got, "model m degraded: runs on cpu; it cannot keep up with its cameras") {
		t.Errorf("got %s", got)
	}
	v.Heat.Hot, v.Heat.Celsius = true, 86
	w.after(time.Second)
	if got := state(); !strings.Contains(got, "heat degraded: 86 °C, tj-thermal: too hot") {
		t.Errorf("got %s", got)
	}
	v.Cameras[0].ReducedTo = 3.4 // no news
	w.after(8 * time.Second)
	*v = vision.Stats{Models: []vision.ModelStats{{Name: "m"}}, Cameras: []vision.CameraStats{{ID: "cam", State: vision.Online, Priority: 2}}}
	w.after(time.Second)
	w.expect(
		`detector_behind_begin "model":"m"`, `camera_shed_begin "camera_id":"cam" "priority":2 "reduced_to_fps":4.9`,
		`device_hot_begin "celsius":86 "sensor":"tj-thermal"`, `device_hot_end "lasted_s":9`, `detector_behind_end "lasted_s":10`,
		`camera_shed_end "camera_id":"cam" "lasted_s":10`,
	)
}

// TestConfigurationOfPicturesAndShedding reports each impossible value at its
// key, and fills in what is left out.
func TestConfigurationOfPicturesAndShedding(t *testing.T) {
	const head = minimal + `
vision:
  models: [{name: m, path: "builtin:line"}]
`
	for text, want := range map[string]string{
		"  cameras: [{id: a, source: 'sim://line', model: m, snapshot: {}}]":                                  "",
		"  cameras: [{id: a, source: 'sim://line', model: m, snapshot: {of: crop, every: 0s}, priority: 10}]": "",
		"  throttle: {hot: 0}":            "",
		"  throttle: {hot: 200}":          "vision.throttle.hot",
		"  throttle: {hot: 70}":           "vision.throttle.cool",
		"  snapshots: {max_bytes: 10KiB}": "vision.snapshots.max_bytes",
		"  snapshots: {max_age: 0s}":      "vision.snapshots.max_age",
		"  snapshots: {max_bites: 1MiB}":  "vision.snapshots.max_bites",
		"  cameras: [{id: a, source: 'sim://line', model: m, priority: 11}]":            "vision.cameras[0].priority",
		"  cameras: [{id: a, source: 'sim://line', snapshot: {of: frame}}]":             "vision.cameras[0].snapshot",
		"  cameras: [{id: a, source: 'sim://line', model: m, snapshot: {of: box}}]":     "vision.cameras[0].snapshot.of",
		"  cameras: [{id: a, source: 'sim://line', model: m, snapshot: {of: ''}}]":      "vision.cameras[0].snapshot.of",
		"  cameras: [{id: a, source: 'sim://line', model: m, snapshot: {every: -1s}}]":  "vision.cameras[0].snapshot.every",
		"  cameras: [{id: a, source: 'sim://line', model: m, snapshot: {quality: 0}}]":  "vision.cameras[0].snapshot.quality",
		"  cameras: [{id: a, source: 'sim://line', model: m, snapshot: {max_side: 8}}]": "vision.cameras[0].snapshot.max_side",
	} {
		cfg, err := parseConfig("x", []byte(head+text+"\n"), nil)
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", text, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: got %v, want it at %s", text, err, want)
		}
		if strings.Contains(text, "snapshot: {}") {
			if s := *cfg.Vision.Cameras[0].Snapshot; s != (SnapshotConfig{"frame", time.Second, 85, 1280}) {
				t.Errorf("%+v", s)
			}
		}
	}
	if p := (CameraConfig{Heartbeat: true}).priority(); p != vision.MaxPriority {
		t.Errorf("the heartbeat has priority %d", p)
	}
}
