package main

import (
	"strings"
	"testing"
	"time"

	"outstation/uplink/wire"
	"outstation/vision"
)

func TestModelHealthSaysWhatItRunsOn(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	nodes := []vision.NodeCount{{Provider: "cuda", Nodes: 213}, {Provider: "cpu", Nodes: 2, Ops: []string{"Shape", "Gather"}}}
	rates := []vision.BatchRate{{Batch: 1, PerSecond: 84.2}, {Batch: 8, PerSecond: 79.9}, {Batch: 16, Error: "out of memory"}}
	for name, c := range map[string]struct {
		m     vision.ModelStats
		state string
		want  string
	}{
		"all well": {vision.ModelStats{Ready: true, Provider: "cuda", Nodes: nodes, Batch: vision.BatchStats{Max: 1, Rates: rates}}, wire.Healthy,
			"runs on cuda; 213 of its 215 nodes; 2 on cpu: Shape, Gather; one frame a run (measured: 84 img/s with 1, 80 img/s with 8, out of memory with 16)"},
		"configured":  {vision.ModelStats{Ready: true, Provider: "cpu", Batch: vision.BatchStats{Max: 4}}, wire.Healthy, "runs on cpu; up to 4 frames a run"},
		"all nodes":   {vision.ModelStats{Ready: true, Provider: "cuda", Nodes: nodes[:1]}, wire.Healthy, "runs on cuda; all its 213 nodes"},
		"no batches":  {vision.ModelStats{Ready: true, Provider: "cpu", Batch: vision.BatchStats{Max: 1}}, wire.Healthy, "runs on cpu"},
		"not loaded":  {vision.ModelStats{Error: "no such file"}, wire.Impaired, "no such file"},
		"loading":     {vision.ModelStats{LoadingSince: now.Add(-3 * time.Minute)}, wire.Impaired, "loading for 3m0s so far"},
		"not begun":   {vision.ModelStats{}, wire.Impaired, "loading"},
		"no such GPU": {refusedBy(vision.Refusal{Provider: "cuda", Reason: "this ONNX Runtime has no provider cuda"}), wire.Healthy, "runs on cpu; not on cuda, which nobody asked for: this ONNX Runtime has no provider cuda"},
		"a later one is installed": {refusedBy(vision.Refusal{Provider: "tensorrt", Reason: "none"}, vision.Refusal{Provider: "cuda", Reason: "no driver", Installed: true}), wire.Unhealthy,
			"runs on cpu, not on cuda: no driver"},
		"nothing asked for runs": {vision.ModelStats{Error: "no driver", NoProvider: true}, wire.Impaired, "no driver"},
		"no driver": {refusedBy(vision.Refusal{Provider: "cuda", Reason: "missing: the NVIDIA driver (libcuda.so.1)", Installed: true}), wire.Unhealthy,
			"not on cuda: missing: the NVIDIA driver (libcuda.so.1)"},
		"an engine is built": {vision.ModelStats{Ready: true, Provider: "cuda", Upgrade: vision.UpgradeStats{What: "the engine", Since: now.Add(-4 * time.Minute)}}, wire.Impaired,
			"runs on cuda while making the engine: 4m0s so far"},
		"no engine": {vision.ModelStats{Ready: true, Provider: "cuda", Upgrade: vision.UpgradeStats{What: "the engine", Since: now, Error: "no memory"}}, wire.Unhealthy,
			"runs on cuda; the engine could not be made: no memory"},
		"hung": {vision.ModelStats{Ready: true, Provider: "cpu", Hung: true, RunningSince: now.Add(-7 * time.Minute)}, wire.Unhealthy,
			"the detector does not answer since 2026-11-21T11:53:00Z (7m0s)"},
		"only fails": {vision.ModelStats{Ready: true, Provider: "cuda", Failing: 41, Failure: "CUDA error 700", Reopened: 2}, wire.Unhealthy,
			"the last 41 inspections failed, the last: CUDA error 700; opened anew so far: 2"},
		"opened anew":  {vision.ModelStats{Error: "closed, to be opened anew", Failing: 41, Failure: "CUDA error 700"}, wire.Unhealthy, "closed, to be opened anew"},
		"failed twice": {vision.ModelStats{Ready: true, Provider: "cpu", Failing: 2, Failure: "x"}, wire.Healthy, "runs on cpu"},
		"no proof": {vision.ModelStats{Ready: true, Provider: "cpu", Unproven: "no space left"}, wire.Impaired,
			"runs on cpu; where its nodes run was not recorded: no space left; it needs a little room below data_dir"},
		"batches ended": {vision.ModelStats{Ready: true, Provider: "cpu", Batch: vision.BatchStats{Max: 1, Stopped: "3 batches in a row failed"}}, wire.Impaired,
			"runs on cpu without batches: 3 batches in a row failed"},
	} {
		t.Run(name, func(t *testing.T) {
			c.m.Name = "m"
			if got := modelCheck(c.m, false, now); got.State != c.state || got.Name != "model m" || !strings.Contains(got.Detail, c.want) {
				t.Errorf("%s, %q\nwant %s, %q", got.State, got.Detail, c.state, c.want)
			}
		})
	}
}

func refusedBy(r ...vision.Refusal) vision.ModelStats {
	return vision.ModelStats{Ready: true, Provider: "cpu", Refused: r}
}

// TestAProviderThatSomebodyChoseHasToRun, whether it is installed or not.
func TestAProviderThatSomebodyChoseHasToRun(t *testing.T) {
	for want, m := range map[string]vision.ModelStats{
		"runs on cpu, not on tensorrt: this ONNX Runtime has no provider tensorrt; if": refusedBy(vision.Refusal{Provider: "tensorrt", Reason: "this ONNX Runtime has no provider tensorrt"}, vision.Refusal{Provider: "cuda", Reason: "no driver", Installed: true}),
		"no configured provider works": {Error: "no configured provider works: provider cuda", NoProvider: true},
	} {
		if got := modelCheck(m, true, time.Now()); got.State != wire.Unhealthy || !strings.Contains(got.Detail, want) {
			t.Errorf("%s, %q\nwant unhealthy, %q", got.State, got.Detail, want)
		}
	}
	if got := modelCheck(vision.ModelStats{Error: "no such file"}, true, time.Now()); got.State != wire.Impaired {
		t.Errorf("a file that is missing is %s", got.State)
	}
}

// TestWhoChoseTheProviders: the file, the environment or nobody.
func TestWhoChoseTheProviders(t *testing.T) {
	for _, c := range []struct {
		text, environ string
		want          bool
	}{
		{"", "", false}, {"vision: {threads: 1}", "", false}, {"vision: {providers: [tensorrt, cuda, cpu]}", "", true},
		{"", "OUTSTATION_VISION_PROVIDERS=[cuda, cpu]", true}, {"", "OUTSTATION_VISION_PROVIDERS_0=cuda", true},
	} {
		cfg, err := parseConfig("o.yaml", []byte(minimal+c.text), []string{c.environ})
		if err != nil || cfg.Vision.asked != c.want {
			t.Errorf("%q, %q: asked %v, error %v", c.text, c.environ, cfg.Vision.asked, err)
		}
	}
	cfg, err := loadConfig("outstation.yaml", nil)
	if err != nil || cfg.Vision.asked {
		t.Errorf("the documented example asks for a GPU (%v)", err)
	}
}

func TestWebInference(t *testing.T) {
	now := time.Now()
	got := webInference(vision.ModelStats{
		Batch:   vision.BatchStats{Max: 4, Runs: 3, Mean: 2, Sizes: [6]uint64{1, 1, 1}, Wait: vision.Quantiles{P50: time.Millisecond, P99: 2 * time.Millisecond}, Failed: 1},
		Upgrade: vision.UpgradeStats{What: "x", Since: now.Add(-time.Minute)},
	}, now)
	if got.MaxBatch != 4 || got.MeanBatch != 2 || got.WaitP99MS != 2 || got.FailedBatches != 1 || got.UpgradeS != 60 ||
		len(got.Sizes) != 6 || got.Sizes[2].Frames != "3-4" || got.Sizes[2].Runs != 1 {
		t.Errorf("%+v", got)
	}
}

func TestImpossibleBatchesAreReported(t *testing.T) {
	_, err := parseConfig("o.yaml", []byte(minimal+`vision:
  models:
    - {name: a, path: a.onnx, max_batch: 65, max_wait: 2s}
    - {name: b, path: b.onnx, max_batch: -1, max_wait: -1s}
    - {name: c, path: c.onnx, max_batch: 8, max_wait: 20ms}
`), nil)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"models[0].max_batch: expected 1 (no batches) to 64", "models[0].max_wait: expected 0s (which means 10ms) to 1s, got 2s",
		"models[1].max_batch", "models[1].max_wait"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("missing %q in:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "models[2]") {
		t.Errorf("c is right:\n%v", err)
	}
}

func TestACameraWhoseRulesNameNoClassOfItsModelIsNotHealthy(t *testing.T) {
	c := vision.CameraStats{ID: "c", Model: "m", State: vision.Online, UnknownClasses: []string{"dgo", "peron"}}
	if got := cameraCheck(c); got.State != wire.Impaired || !strings.Contains(got.Detail, "classes that its model m does not have: dgo, peron;") {
		t.Errorf("%s, %q", got.State, got.Detail)
	}
	for _, state := range []vision.State{vision.Online, vision.Offline} {
		c.State, c.BlindSince, c.BlindReason = state, time.Now(), vision.BlindDropped
		if got := cameraCheck(c); !strings.Contains(got.Detail, "not inspected since") || !strings.Contains(got.Detail, "dgo, peron;") {
			t.Errorf("%s: one of the two reasons is missing: %q", state, got.Detail)
		}
	}
}
