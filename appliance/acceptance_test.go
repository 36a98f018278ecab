//go:build !novision

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"outstation/appliance/internal/acceptance"
	"outstation/broker"
	"outstation/uplink"
	"outstation/uplink/mosquittotest"
	"outstation/vision/testfiles"
)

// acceptanceSite is a configuration of a site whose centre asks who is there
// and lets each user do only what it needs.
func acceptanceSite(t *testing.T, rules string) (file, dir string) {
	t.Helper()
	dir = t.TempDir()
	centre, err := mosquittotest.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	acl := filepath.Join(centre.Dir, "acl")
	if err := os.WriteFile(acl, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	centre.Extra = "acl_file " + acl + "\n"
	if err := centre.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { centre.Stop() })
	cfg := testConfig(t, filepath.Join(dir, "site"), centre.URL())
	cfg.Uplink.Username = "dev-1"
	cfg.Vision.ONNXRuntime = testfiles.Library().Need(t)
	file = filepath.Join(dir, "site.yaml")
	writeConfig(t, file, cfg)
	return file, dir
}

const siteRules = "user dev-1\ntopic readwrite vision/reg/site-1/#\ntopic readwrite appliance/reg/site-1/#\ntopic write events/reg/site-1/#\n"

// TestAcceptance is a short run of the real program beside a real centre: the
// link is cut once, and the process is killed meanwhile.
func TestAcceptance(t *testing.T) {
	t.Parallel()
	file, dir := acceptanceSite(t, siteRules)
	code, out := runOnce(t, "acceptance", "--minutes", "0.5", "--outages", "1", "--kill", "1", "--config", file, "--report", filepath.Join(dir, "report"))
	if code != 0 {
		t.Fatalf("exit status %d:\n%s", code, out)
	}
	b, err := os.ReadFile(filepath.Join(dir, "report", "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r acceptance.Report
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	if r.Verdict != acceptance.Passed || r.Lost != 0 || r.SeqGaps != 0 || r.EventsAccepted == 0 || r.EventsAtCentre != r.EventsAccepted {
		t.Errorf("verdict %s, lost %d, gaps %d, accepted %d, at the centre %d", r.Verdict, r.Lost, r.SeqGaps, r.EventsAccepted, r.EventsAtCentre)
	}
	if r.PartsShown < 30 || r.PartsDetected < r.PartsShown*9/10 || r.Device != "dev-1-acceptance" || r.StandIn {
		t.Errorf("parts: %d of %d; device %s", r.PartsDetected, r.PartsShown, r.Device)
	}
	if len(r.Faults) != 2 || r.Faults[0].RecoveredS == 0 || r.Faults[1].RecoveredS == 0 || r.Frames.Due == 0 || r.FramesDropped["process_dead"] == 0 {
		t.Errorf("faults: %+v; frames: %+v, dropped %v", r.Faults, r.Frames, r.FramesDropped)
	}
	if page, err := os.ReadFile(filepath.Join(dir, "report", "report.html")); err != nil || !bytes.Contains(page, []byte("Passed")) {
		t.Errorf("report.html: %v", err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "site")); err != nil || len(left) != 0 {
		t.Errorf("left in the data directory: %v (%v)", left, err)
	}
	t.Log(out)
}

// TestAcceptanceFindsALoss hides one event at the centre, which is what a loss
// looks like.
func TestAcceptanceFindsALoss(t *testing.T) {
	t.Parallel()
	centre := startMosquitto(t)
	dir := t.TempDir()
	cfg := testConfig(t, dir, centre.URL())
	cfg.Vision.ONNXRuntime = testfiles.Library().Need(t)
	cfg.Vision.Models = []ModelConfig{{Name: "line", Path: builtinLine}}
	var arrived atomic.Int32
	opt := acceptance.Options{
		Device: cfg.DeviceID, Region: cfg.Region, Site: cfg.Site, Since: time.Now().Add(-time.Second),
		Centre: cfg.Uplink.centre(), Backoff: cfg.Uplink.Backoff.backoff(), Length: 5 * time.Second, Silence: 2 * time.Second,
		Hide: func(uplink.Tapped) bool { return arrived.Add(1) == 20 },
	}
	if err := writeAcceptance(cfg, dir, 1, &opt); err != nil {
		t.Fatal(err)
	}
	opt.Executable = binary(t)
	r, err := acceptance.Run(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict != acceptance.Failed || r.Lost != 1 || r.SeqGaps != 1 || r.EventsAccepted != r.EventsAtCentre+1 {
		t.Errorf("verdict %s, lost %d, gaps %d of %d: %v", r.Verdict, r.Lost, r.SeqGaps, r.EventsAccepted, r.Reasons)
	}
	var out bytes.Buffer
	if err := (&acceptanceCommand{}).finish(r, &out); err == nil {
		t.Errorf("the verdict is no error:\n%s", out.String())
	}
}

// TestAcceptanceSaysWhatToGrant has a centre that acknowledges the events and
// drops them.
func TestAcceptanceSaysWhatToGrant(t *testing.T) {
	t.Parallel()
	file, _ := acceptanceSite(t, strings.Replace(siteRules, "readwrite vision/", "write vision/", 1))
	code, out := runOnce(t, "acceptance", "--minutes", "0.25", "--outages", "0", "--kill", "0", "--config", file)
	if want := `does its ACL let the user "dev-1" publish and subscribe to [vision/reg/site-1/dev-1-acceptance-1/detection`; code != 1 || !strings.Contains(out, want) {
		t.Errorf("exit status %d, expected %q in:\n%s", code, want, out)
	}
}

// TestAcceptanceEndsCleanly interrupts a run, and kills one: no appliance is
// left running either way.
func TestAcceptanceEndsCleanly(t *testing.T) {
	t.Parallel()
	for name, signal := range map[string]os.Signal{"interrupted": os.Interrupt, "killed": syscall.SIGKILL} {
		dir := t.TempDir()
		cmd := exec.Command(binary(t), "acceptance", "--minutes", "1", "--outages", "0", "--kill", "0", "--dir", dir, "--report", filepath.Join(dir, "report"),
			"--onnxruntime", testfiles.Library().Need(t))
		file, err := os.Create(filepath.Join(dir, "out"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		cmd.Stdout, cmd.Stderr = file, file
		said := func() string {
			b, _ := os.ReadFile(file.Name())
			return string(b)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer cmd.Process.Kill()
		eventually(t, "the run", func() bool { return strings.Contains(said(), "the run begins") })
		child := childOf(t, cmd.Process.Pid)
		t.Cleanup(func() {
			if !ended(child) {
				_ = syscall.Kill(child, syscall.SIGKILL) // the test has failed
			}
		})
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // its status is looked at
		eventually(t, name+": the end of the appliance", func() bool { return ended(child) })
		if code := cmd.ProcessState.ExitCode(); signal == os.Interrupt && code != 1 {
			t.Errorf("exit status %d", code)
		}
		if signal != os.Interrupt {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, "report", "report.json"))
		if err != nil || !bytes.Contains(b, []byte(`"verdict": "interrupted"`)) {
			t.Errorf("report: %v\n%s\n%s", err, b, said())
		}
		if left, err := filepath.Glob(filepath.Join(dir, "acceptance-*")); err != nil || len(left) != 0 {
			t.Errorf("left: %v (%v)", left, err)
		}
	}
}

// childOf is the one process that a process has started.
func childOf(t *testing.T, pid int) (child int) {
	t.Helper()
	eventually(t, "the child", func() bool {
		all, err := filepath.Glob("/proc/[0-9]*/stat")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range all {
			b, _ := os.ReadFile(file) // it may have ended by now
			_, rest, _ := strings.Cut(string(b), ") ")
			var state string
			var parent int
			if n, _ := fmt.Sscan(rest, &state, &parent); n == 2 && parent == pid && state != "Z" {
				child, err = strconv.Atoi(filepath.Base(filepath.Dir(file)))
				return err == nil
			}
		}
		return false
	})
	return child
}

// ended reports whether a process is gone, or only waits to be looked at.
func ended(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return strings.HasPrefix(rest, "Z")
}

// TestAcceptanceNeedsALinkThatCanBeCut has a centre on this machine by
// WebSocket, which no proxy of the environment is asked for.
func TestAcceptanceNeedsALinkThatCanBeCut(t *testing.T) {
	t.Parallel()
	centre := broker.New(broker.Options{
		Listeners: []broker.Listener{{Type: broker.TypeWS, Address: "127.0.0.1:0"}}, Logger: slog.New(slog.DiscardHandler),
	})
	if err := centre.Listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { centre.Close() })
	dir := t.TempDir()
	cfg := testConfig(t, dir, "ws://"+centre.Addresses()[0]+broker.WebSocketPath)
	cfg.Vision.ONNXRuntime = testfiles.Library().Need(t)
	file := filepath.Join(dir, "site.yaml")
	writeConfig(t, file, cfg)
	code, out := runOnce(t, "acceptance", "--minutes", "0.25", "--outages", "0", "--kill", "0", "--config", file)
	if code != 1 || !strings.Contains(out, "the link cannot be cut") {
		t.Errorf("exit status %d:\n%s", code, out)
	}
}

// TestAcceptanceStopsBeforeItBegins has a context that ended.
func TestAcceptanceStopsBeforeItBegins(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := acceptance.Run(ctx, acceptance.Options{Length: time.Minute, Centre: uplink.Centre{Brokers: []string{"tcp://127.0.0.1:1"}}}); err == nil {
		t.Error("no error")
	}
}
