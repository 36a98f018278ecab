//go:build !novision

package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"outstation/uplink"
	"outstation/uplink/wire"
	"outstation/vision/testfiles"
	"outstation/web"
)

const detectionTopic = "vision/reg/site-1/cam-1/detection"

// visionConfig is a testConfig whose camera inspects every frame of the real
// footage with the real model.
func visionConfig(t testing.TB, dir string, brokers ...string) Config {
	cfg := testConfig(t, dir, brokers...)
	cfg.Vision.ONNXRuntime = testfiles.Library().Need(t)
	cfg.Vision.Models = []ModelConfig{{Name: "yolox-nano", Path: testfiles.Model().Need(t)}}
	camera := CameraConfig{ID: "cam-1", Source: testfiles.Video().Need(t), Model: "yolox-nano", Loop: true, Lossless: true}
	camera.SetDefaults()
	cfg.Vision.Cameras = []CameraConfig{camera}
	return cfg
}

// TestFootageToCentre runs the real program on real footage with a real
// model against a real centre, cuts the centre, kills the program during the
// outage, and expects every event that was accepted at the centre.
func TestFootageToCentre(t *testing.T) {
	dir := t.TempDir()
	centre := startMosquitto(t)
	seen := consume(t, centre.URL(), "vision/#", "appliance/#")
	cfg := visionConfig(t, dir, centre.URL())
	program := binary(t)

	first := start(t, cfg, nil, program)
	first.eventually("events at the centre", func() bool { return len(seen.on(detectionTopic)) >= 40 })
	if err := centre.Stop(); err != nil {
		t.Fatal(err)
	}
	s := first.until("a queue that fills", func(s web.Snapshot) bool { return s.Queue.Records >= 60 })
	if s.Health.State != web.Unhealthy || s.Uplink.State != web.UplinkDown {
		t.Errorf("during the outage: health %s, uplink %s", s.Health.State, s.Uplink.State)
	}
	first.kill()

	second := start(t, cfg, nil, program)
	second.until("more in the queue than before the kill", func(now web.Snapshot) bool { return now.Queue.Records >= s.Queue.Records+20 })
	if err := centre.Start(); err != nil {
		t.Fatal(err)
	}
	second.until("the whole recording", func(s web.Snapshot) bool { return s.Cameras[0].Inspected >= 795+20 })
	if code := second.stop(); code != 0 {
		t.Errorf("exit status %d after SIGTERM:\n%s", code, second.out.String())
	}
	drained := drain(t, cfg)
	events := checkEvents(t, seen, drained)
	checkGolden(t, events)
	for _, topic := range []string{"appliance/reg/site-1/dev-1/status", "vision/reg/site-1/cam-1/status"} {
		if p, err := wire.ParsePresence(seen.last(topic)); err != nil || p.State != wire.Offline || p.Reason != "stopped" {
			t.Errorf("%s after a clean stop: %+v (%v)", topic, p, err)
		}
	}
	if _, err := wire.ParseHealth(seen.last("/health")); err != nil {
		t.Errorf("health: %v", err)
	}
}

// drain runs the appliance without cameras until its queue is empty, and
// returns the ledger.
func drain(t *testing.T, cfg Config) uplink.Account {
	t.Helper()
	cfg.Vision.Cameras = nil
	p := start(t, cfg, nil, binary(t))
	p.until("an empty queue", func(s web.Snapshot) bool {
		for _, l := range s.Ledger {
			if l.Route == "detection" {
				return l.Queued.Records == 0
			}
		}
		return false
	})
	p.stop()
	q, err := uplink.Open(uplink.Options{Dir: filepath.Join(cfg.DataDir, "queue"), MinFreeBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	return q.Ledger()["detection"]
}

// checkEvents compares what the ledger accepted with what the centre has.
func checkEvents(t *testing.T, seen *consumer, ledger uplink.Account) []wire.Detection {
	t.Helper()
	if !ledger.Balanced() || ledger.Accepted != ledger.Delivered {
		t.Errorf("ledger: %+v", ledger)
	}
	byID := map[string]wire.Detection{}
	bySeq := map[uint64]string{}
	messages := seen.on(detectionTopic)
	for _, m := range messages {
		d, err := wire.ParseDetection(m.Payload())
		if err != nil {
			t.Errorf("%v: %s", err, m.Payload())
			continue
		}
		if other, ok := bySeq[d.Seq]; ok && other != d.EventID {
			t.Errorf("seq %d belongs to %s and %s", d.Seq, other, d.EventID)
		}
		byID[d.EventID], bySeq[d.Seq] = d, d.EventID
	}
	if got, want := int64(len(byID)), ledger.Accepted.Records; got != want {
		t.Errorf("%d events at the centre, %d were accepted", got, want)
	}
	var events []wire.Detection
	for seq := uint64(1); seq <= uint64(len(bySeq)); seq++ {
		id, ok := bySeq[seq]
		if !ok {
			t.Errorf("seq %d is missing", seq)
			continue
		}
		events = append(events, byID[id])
	}
	t.Logf("%d events, %d duplicates", len(byID), len(messages)-len(byID))
	return events
}

// golden is people in frames of vtest.avi, established by looking at them.
type golden struct {
	Frames []struct {
		Index  int      `json:"index"`
		People []person `json:"people"`
	} `json:"frames"`
}

type person struct {
	Confidence float64  `json:"confidence"`
	Box        wire.Box `json:"box"`
}

const (
	tolerancePX         = 4
	toleranceConfidence = 0.03
)

// checkGolden expects an event with the people of each golden frame.
func checkGolden(t *testing.T, events []wire.Detection) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "vision", "testdata", "vtest_golden.json"))
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(b, &g); err != nil || len(g.Frames) == 0 {
		t.Fatalf("golden frames: %d, %v", len(g.Frames), err)
	}
	for _, frame := range g.Frames {
		found := slices.ContainsFunc(events, func(e wire.Detection) bool {
			return !slices.ContainsFunc(frame.People, func(p person) bool { return !p.isIn(e) })
		})
		if !found {
			t.Errorf("no event has the %d people of frame %d", len(frame.People), frame.Index)
		}
	}
}

// isIn reports whether the event has this person, within the tolerances.
func (p person) isIn(e wire.Detection) bool {
	near := func(a, b float64) bool { return math.Abs(a-b) <= tolerancePX }
	return slices.ContainsFunc(e.Detections, func(o wire.Object) bool {
		return o.Class == "person" && math.Abs(o.Confidence-p.Confidence) <= toleranceConfidence &&
			near(o.Box.X, p.Box.X) && near(o.Box.Y, p.Box.Y) && near(o.Box.W, p.Box.W) && near(o.Box.H, p.Box.H)
	})
}

// TestPowerLossIsSeenAtTheCentre kills the program while the centre is up.
func TestPowerLossIsSeenAtTheCentre(t *testing.T) {
	centre := startMosquitto(t)
	seen := consume(t, centre.URL(), "vision/#", "appliance/#")
	cfg := testConfig(t, t.TempDir(), centre.URL())
	camera := CameraConfig{ID: "cam-1", Source: "sim://pattern"}
	camera.SetDefaults()
	cfg.Vision.Cameras = []CameraConfig{camera}
	p := start(t, cfg, nil, binary(t))
	topics := []string{"appliance/reg/site-1/dev-1/status", "vision/reg/site-1/cam-1/status"}
	state := func(topic, state string) func() bool {
		return func() bool {
			m, err := wire.ParsePresence(seen.last(topic))
			return err == nil && m.State == state
		}
	}
	for _, topic := range topics {
		p.eventually(topic+" online", state(topic, wire.Online))
	}
	p.kill()
	for _, topic := range topics {
		eventually(t, topic+" offline", state(topic, wire.Offline))
	}
}
