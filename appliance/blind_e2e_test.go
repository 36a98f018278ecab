//go:build !novision

package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"outstation/uplink/wire"
	"outstation/web"
)

// blindSeen are the intervals that reached the centre, by event_id, in the
// order in which they opened.
type blindSeen struct {
	camera string
	all    []wire.Blind // the latest of each
	open   []string     // event_ids that were told as open
}

func blindAt(t *testing.T, seen *consumer, camera string) blindSeen {
	t.Helper()
	out := blindSeen{camera: camera}
	for _, m := range seen.on("/" + camera + "/blind") {
		b, err := wire.ParseBlind(m.Payload())
		if err != nil {
			t.Fatal(err)
		}
		if b.To == nil {
			out.open = append(out.open, b.EventID)
		}
		at := slices.IndexFunc(out.all, func(x wire.Blind) bool { return x.EventID == b.EventID })
		if at < 0 {
			out.all = append(out.all, b)
		} else if b.To != nil {
			out.all[at] = b
		}
	}
	return out
}

// expect compares reasons, and that all but the last interval are closed.
func (s blindSeen) expect(t *testing.T, lastOpen bool, reasons ...string) {
	t.Helper()
	for i, b := range s.all {
		if (b.To == nil) != (lastOpen && i == len(s.all)-1) || !slices.Contains(s.open, b.EventID) {
			t.Errorf("%s: interval %d of %d: %+v", s.camera, i, len(s.all), b)
		}
	}
	var got []string
	for _, b := range s.all {
		got = append(got, b.Reason)
	}
	if !slices.Equal(got, reasons) {
		t.Errorf("%s: got reasons %v, expected %v", s.camera, got, reasons)
	}
}

// TestBlindTimeReachesTheCentre kills the real program with a camera that looks
// and one that never did, starts it, stops it in order, and starts it again.
func TestBlindTimeReachesTheCentre(t *testing.T) {
	centre := startMosquitto(t)
	seen := consume(t, centre.URL(), "vision/#")
	cfg := visionConfig(t, t.TempDir(), centre.URL())
	cfg.Vision.Cameras[0].BlindAfter = 2 * time.Second
	dead := cfg.Vision.Cameras[0]
	dead.ID, dead.Source = "cam-2", filepath.Join(t.TempDir(), "absent.avi")
	cfg.Vision.Cameras = append(cfg.Vision.Cameras, dead)
	program := binary(t)
	looks := func(s web.Snapshot) bool { return s.Cameras[0].Inspected > 20 }

	first := start(t, cfg, nil, program)
	first.until("a camera that looks", looks)
	s := first.until("one that is blind", func(s web.Snapshot) bool { return !s.Cameras[1].Looked.BlindSince.IsZero() })
	if s.Cameras[1].Looked.BlindReason != "stalled" || s.Health.State == web.Healthy || s.Cameras[1].Looked.Hour > 0.5 {
		t.Errorf("health %v, %+v", s.Health.State, s.Cameras[1].Looked)
	}
	first.eventually("it at the centre", func() bool { return len(blindAt(t, seen, "cam-2").all) == 1 })
	first.kill()
	killed := time.Now()

	time.Sleep(3 * time.Second) // the time that is to be seen, not synchronisation
	second := start(t, cfg, nil, program)
	second.until("a camera that looks again", looks)
	second.until("one that is blind again", func(s web.Snapshot) bool { return !s.Cameras[1].Looked.BlindSince.IsZero() })
	second.eventually("the intervals at the centre", func() bool {
		return len(blindAt(t, seen, "cam-2").all) == 2 && len(blindAt(t, seen, "cam-1").all) == 1 && blindAt(t, seen, "cam-1").all[0].To != nil
	})
	blindAt(t, seen, "cam-2").expect(t, true, "stalled", "stalled")
	one := blindAt(t, seen, "cam-1")
	one.expect(t, false, "off")
	if b := one.all[0]; b.From.After(killed) || killed.Sub(b.From.Time) > coverageEvery+time.Second || b.To.Sub(killed) < 3*time.Second {
		t.Errorf("killed at %v: %+v", killed, b)
	}
	if code := second.stop(); code != 0 {
		t.Fatalf("status %d:\n%s", code, second.out.String())
	}

	third := start(t, cfg, nil, program)
	third.until("a camera that looks once more", looks)
	third.eventually("what was open when it stopped", func() bool {
		return len(blindAt(t, seen, "cam-1").all) == 2 && blindAt(t, seen, "cam-1").all[1].To != nil && len(blindAt(t, seen, "cam-2").all) == 3
	})
	blindAt(t, seen, "cam-1").expect(t, false, "off", "off")
	two := blindAt(t, seen, "cam-2")
	two.expect(t, true, "stalled", "stalled", "stalled")
	for i, b := range two.all[1:] {
		if !b.From.Equal(two.all[i].To.Time) {
			t.Errorf("cam-2: %v was not told until %v", two.all[i].To, b.From)
		}
	}
}

// TestAStuckApplianceRestartsItself: the camera is a pipe that nobody writes to,
// so that opening it never returns, as no time-out of OpenCV's ends it.
func TestAStuckApplianceRestartsItself(t *testing.T) {
	centre := startMosquitto(t)
	cfg := testConfig(t, t.TempDir(), centre.URL())
	pipe := filepath.Join(t.TempDir(), "camera.avi")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	camera := CameraConfig{ID: "cam-1", Source: pipe}
	camera.SetDefaults()
	camera.StallAfter = 200 * time.Millisecond
	cfg.Vision.Cameras = []CameraConfig{camera}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, cfg, []string{beProgram + "=1", beRestart + "=8s"}, self)
	s := p.until("calls that never return", func(s web.Snapshot) bool { return s.Cameras[0].Stuck == 3 })
	if c := s.Cameras[0]; c.State != web.CameraBlind || !strings.HasPrefix(c.Reason, "stuck: ") || s.Health.State != web.Unhealthy || !strings.Contains(s.Health.FirstCause, "restarts itself") {
		t.Errorf("camera %+v, health %v %q", c, s.Health.State, s.Health.FirstCause)
	}
	select {
	case err := <-p.done:
		p.done <- err
	case <-time.After(time.Minute):
		t.Fatal("it does not restart itself")
	}
	if code := p.cmd.ProcessState.ExitCode(); code != restartCode || !strings.Contains(p.out.String(), "to be started again") || !strings.Contains(p.out.String(), "msg=stopped") {
		t.Errorf("status %d:\n%s", code, p.out.String())
	}
	if was := readLastRun(cfg.DataDir, slog.New(slog.DiscardHandler)); was == nil || was.StoppedAt.IsZero() {
		t.Errorf("it was not stopped in order: %+v", was)
	}
}
