//go:build !novision

package main

import (
	"bytes"
	floats "encoding/binary"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"outstation/uplink/wire"
	"outstation/vision/models"
	"outstation/vision/sim"
	"outstation/vision/sim/detector"
	"outstation/vision/testfiles"
	"outstation/web"
)

// noiseModel writes the built-in model with noise for weights.
func noiseModel(t *testing.T) string {
	t.Helper()
	model, rnd := bytes.Clone(detector.ONNX()), rand.New(rand.NewPCG(1, 1))
	for i := len(model) / 16 * 4; i < len(model)*3/4; i += 4 {
		v := math.Float32frombits(floats.LittleEndian.Uint32(model[i:]))
		if a := math.Abs(float64(v)); a > 1e-3 && a < 0.5 {
			floats.LittleEndian.PutUint32(model[i:], math.Float32bits(float32(rnd.NormFloat64()*a)))
		}
	}
	path := filepath.Join(t.TempDir(), "noise.onnx")
	if err := os.WriteFile(path, model, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(strings.TrimSuffix(path, ".onnx")+".yaml", detector.YAML(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// storeConfig is an appliance with two simulated lines on the store's model.
func storeConfig(t *testing.T, dir string, brokers ...string) Config {
	cfg := testConfig(t, dir, brokers...)
	cfg.Vision.ONNXRuntime, cfg.Vision.Threads = testfiles.Library().Need(t), 1
	cfg.Vision.Models = []ModelConfig{{Name: "inspect", Path: "store:line", Classes: sim.Classes(), Confidence: 0.45}}
	for _, id := range []string{"cam-1", "cam-2"} {
		camera := CameraConfig{ID: id, Source: "sim://line?seed=1&fps=30", Model: "inspect"}
		camera.SetDefaults()
		cfg.Vision.Cameras = append(cfg.Vision.Cameras, camera)
	}
	return cfg
}

// model runs a command about models and returns what it says.
func (p *process) model(code int, where []string, args ...string) string {
	p.t.Helper()
	got, out := runOnce(p.t, slices.Concat([]string{"model"}, args, where)...)
	if got != code {
		p.t.Fatalf("model %s: exit status %d, want %d:\n%s", strings.Join(args, " "), got, code, out)
	}
	return out
}

// inspects waits until a version has inspected frames of both cameras.
func (p *process) inspects(sha string) web.Snapshot {
	p.t.Helper()
	var before uint64
	return p.until("frames inspected by "+models.Short(sha), func(s web.Snapshot) bool {
		if len(s.Detectors) == 0 || s.Detectors[0].ModelSHA256 != sha {
			before = 0
			return false
		}
		if before == 0 {
			before = s.Detectors[0].Inferences + 1
		}
		return s.Detectors[0].Inferences > before+5
	})
}

// TestModelsOfTheStore adds, tries, activates and rolls back real models in a
// running appliance under load, then kills it in a trial.
func TestModelsOfTheStore(t *testing.T) {
	dir := t.TempDir()
	centre := startMosquitto(t)
	seen := consume(t, centre.URL(), "vision/#", "events/#")
	cfg := storeConfig(t, dir, centre.URL())
	p := start(t, cfg, nil, binary(t))
	at, in := []string{"--web", "http://" + cfg.Web.Listen}, []string{"--dir", dir}
	p.until("why nothing is inspected", func(s web.Snapshot) bool {
		return strings.Contains(s.Health.FirstCause, "outstation model activate line")
	})
	p.model(0, in, "add", "line")
	p.model(0, in, "add", noiseModel(t), "--name", "line", "--golden", "../vision/models/golden/line")
	s := cfg.modelStore()
	m, err := s.Model("line")
	if err != nil || len(m.Versions) != 2 {
		t.Fatalf("%+v, %v", m, err)
	}
	good, noise := "", ""
	for _, v := range m.Versions {
		if v.Source == "part of outstation" {
			good = v.SHA256
		} else {
			noise = v.SHA256
		}
	}
	if out := p.model(0, at, "activate", "line@"+good[:8]); !strings.Contains(out, "golden frames: 2 passed on cpu, boxes found: 13") {
		t.Errorf("got %s", out)
	}
	p.inspects(good)
	if out := p.model(1, at, "activate", "line@"+noise[:8]); !strings.Contains(out, "00000060.jpg: expected part") {
		t.Errorf("got %s", out)
	}
	p.inspects(good)
	for range 3 {
		p.model(0, at, "activate", "line@"+noise, "--no-gate")
		p.inspects(noise)
		if out := p.model(0, at, "rollback", "line"); !strings.Contains(out, "active: line@"+models.Short(good)) {
			t.Errorf("got %s", out)
		}
		p.inspects(good)
	}
	for _, c := range p.inspects(good).Cameras {
		if open := int64(c.Frames) - int64(c.Inspected+c.Dropped+c.Throttled+c.DetectorErrors); open < 0 || open > 2 { // one waits, one is inspected
			t.Errorf("camera %s: %d frames are not accounted for after seven swaps: %+v", c.ID, open, c)
		}
	}
	rolledBack := func(n int) func() bool {
		return func() bool { return len(seen.on("events/reg/site-1/outstation/model_rolled_back")) >= n }
	}
	p.eventually("the events of three rollbacks by hand", rolledBack(3)) // a kill could lose the last one
	p.model(0, at, "activate", "line@"+noise, "--no-gate")
	killInTrial(t, p, noise)

	p = start(t, cfg, nil, binary(t))
	snap := p.inspects(good)
	if d := snap.Detectors[0].Stored; d == nil || d.RolledBackFrom != noise || !strings.Contains(d.RolledBackWhy, "3 times") {
		t.Errorf("got %+v", d)
	}
	p.until("health", func(s web.Snapshot) bool {
		return strings.Contains(s.Health.FirstCause, "rolled back from "+models.Short(noise))
	})
	if out := p.model(0, in, "ls"); !strings.Contains(out, "line: rolled back from "+models.Short(noise)) {
		t.Errorf("got %s", out)
	}
	p.model(0, in, "verify")
	p.eventually("the event of the rollback at the start", rolledBack(4))
	if code := p.stop(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	for _, msg := range seen.on("vision/reg/site-1/cam-1/detection") {
		d, err := wire.ParseDetection(msg.Payload())
		if err != nil || (d.ModelSHA256 != good && d.ModelSHA256 != noise) {
			t.Fatalf("%v: %s", err, msg.Payload())
		}
		if d.ModelSHA256 == noise && len(d.Detections) > 0 && d.Detections[0].Confidence > 0.9 {
			t.Errorf("an event names the model that did not make it: %s", msg.Payload())
		}
	}
}

// killInTrial kills an appliance and its successors as often as a trial takes it.
func killInTrial(t *testing.T, p *process, sha string) {
	t.Helper()
	for n := 1; ; n++ {
		p.inspects(sha)
		p.kill()
		if n == models.TrialStarts {
			return
		}
		p = start(t, p.cfg, nil, binary(t))
	}
}

// TestKilledDuringAnActivation kills the appliance at random moments of
// activations, and expects a version that was asked for, whole and serving.
func TestKilledDuringAnActivation(t *testing.T) {
	dir := t.TempDir()
	cfg := storeConfig(t, dir, "tcp://127.0.0.1:1")
	rnd := rand.New(rand.NewPCG(5, 5))
	p := start(t, cfg, nil, binary(t))
	at, in := []string{"--web", "http://" + cfg.Web.Listen}, []string{"--dir", dir}
	p.model(0, in, "add", "line")
	p.model(0, in, "add", noiseModel(t), "--name", "line")
	s := cfg.modelStore()
	m, err := s.Model("line")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	p.model(0, at, "activate", "line@"+m.Versions[0].SHA256, "--no-gate")
	takes := time.Since(began)
	for round := range 10 {
		st, err := s.State("line")
		if err != nil {
			t.Fatal(err)
		}
		p.inspects(st.Current)
		next := m.Versions[0].SHA256
		if st.Current == next {
			next = m.Versions[1].SHA256
		}
		activate := exec.Command(binary(t), "model", "activate", "line@"+next, "--no-gate", "--json", "--web", "http://"+cfg.Web.Listen)
		var out bytes.Buffer
		activate.Stdout = &out
		if err := activate.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rnd.Int64N(int64(takes * 3 / 2)))) // where the kill falls, not synchronisation
		p.kill()
		answered := activate.Wait() == nil
		var done activation
		if answered {
			if err := json.Unmarshal(out.Bytes(), &done); err != nil {
				t.Error(err)
			}
		}
		now, err := s.State("line")
		if err != nil || now.Damaged != "" || (now.Current != st.Current && now.Current != next) || (answered && now.Current != next) {
			t.Fatalf("round %d: answered %v; %s was active, %s was to be; now %+v, %v", round, answered, st.Current, next, now, err)
		}
		t.Logf("round %d: answered %v, changed %v", round, answered, now.Current != st.Current)
		p = start(t, cfg, nil, binary(t))
	}
	if code := p.stop(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}
