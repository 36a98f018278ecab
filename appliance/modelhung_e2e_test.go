//go:build !novision

package main

import (
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"outstation/vision"
	"outstation/web"
)

// TestAnApplianceWithAHungDetectorRestartsItself, and its next run has the
// version before the one that hung in its trial.
func TestAnApplianceWithAHungDetectorRestartsItself(t *testing.T) {
	cfg := testConfig(t, t.TempDir(), startMosquitto(t).URL())
	cfg.Vision.Models = []ModelConfig{{Name: "inspect", Path: "store:press"}}
	camera := CameraConfig{ID: "cam-1", Source: "sim://pattern?fps=20", Model: "inspect"}
	camera.SetDefaults()
	camera.StallAfter = time.Second
	cfg.Vision.Cameras = []CameraConfig{camera}
	k := newModelKeeper(cfg, slog.New(slog.DiscardHandler))
	sound, hangs := addFake(t, k, "finds 1"), addFake(t, k, "hangs 1")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	environment := []string{beProgram + "=1", beRestart + "=8s", beHung + "=1s"}
	p := start(t, cfg, environment, self)
	at := []string{"--web", "http://" + cfg.Web.Listen}
	p.model(0, at, "activate", "press@"+sound, "--no-gate")
	p.inspects(sound)
	p.model(0, at, "activate", "press@"+hangs, "--no-gate")
	s := p.until("a detector that does not answer", func(s web.Snapshot) bool { return s.Detectors[0].Inference.Hung != "" })
	if s.Detectors[0].ModelSHA256 != hangs || s.Health.State != web.Unhealthy || !strings.Contains(s.Health.FirstCause, "does not answer since") {
		t.Errorf("health %v %q, %+v", s.Health.State, s.Health.FirstCause, s.Detectors[0])
	}
	p.until("a blind camera", func(s web.Snapshot) bool {
		return s.Cameras[0].State == web.CameraBlind && strings.HasPrefix(s.Cameras[0].Reason, vision.ReasonUninspected)
	})
	select {
	case err := <-p.done:
		p.done <- err
	case <-time.After(time.Minute):
		t.Fatal("it does not restart itself")
	}
	if code := p.cmd.ProcessState.ExitCode(); code != restartCode || !strings.Contains(p.out.String(), "to be started again") {
		t.Errorf("status %d:\n%s", code, p.out.String())
	}
	p = start(t, cfg, environment, self)
	s = p.inspects(sound)
	if d := s.Detectors[0].Stored; d == nil || d.Version != sound || d.RolledBackFrom != hangs || !strings.Contains(d.RolledBackWhy, "does not answer since") {
		t.Errorf("got %+v", d)
	}
	if code := p.stop(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}
