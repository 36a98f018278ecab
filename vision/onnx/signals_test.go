//go:build !novision

package onnx

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"outstation/vision"
	"outstation/vision/sim/detector"
	"outstation/vision/testfiles"
)

// compiled is a shared library made of C.
func compiled(t *testing.T, out string, args ...string) string {
	t.Helper()
	args = append([]string{"-shared", "-fPIC", "-o", out}, args...)
	if msg, err := exec.CommandContext(t.Context(), "cc", args...).CombinedOutput(); err != nil {
		t.Fatalf("cc %v: %v\n%s", args, err, msg)
	}
	return out
}

// TestSignalDuringInference: a process whose detector never rests gets a
// signal, with the real library, and with one that replaces the handlers of
// signals with each session, as CUDA does.
func TestSignalDuringInference(t *testing.T) {
	real, err := filepath.Abs(testfiles.Library().Need(t))
	if err != nil {
		t.Fatal(err)
	}
	replacing := compiled(t, filepath.Join(t.TempDir(), "libonnxruntime.so.1"), "-DREAL=\""+real+"\"", "testdata/signals.c", "-ldl")
	for name, c := range map[string]struct {
		library, spoil string
		send           syscall.Signal
		clean          bool
	}{
		"SIGTERM, the real library":    {real, "", syscall.SIGTERM, true},
		"SIGTERM, one like CUDA":       {replacing, "", syscall.SIGTERM, true},
		"SIGINT, one like CUDA":        {replacing, "", syscall.SIGINT, true},
		"SIGTERM, nothing is put back": {real, "after", syscall.SIGTERM, false},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestSignalChild$", "-test.v")
			cmd.Env = append(os.Environ(), "SIGNAL_CHILD="+c.library, "SIGNAL_SPOIL="+c.spoil)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			stdout, err := cmd.StdoutPipe()
			if err == nil {
				err = cmd.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			var said []string
			for lines := bufio.NewScanner(stdout); lines.Scan(); {
				said = append(said, lines.Text())
				if lines.Text() == "inspecting" {
					cmd.Process.Signal(c.send)
				}
			}
			err = cmd.Wait()
			if clean := err == nil && strings.Contains(strings.Join(said, "\n"), "closed"); clean != c.clean {
				t.Errorf("ended with %v, want a clean end: %v; it said %q\n%s", err, c.clean, said, stderr.String())
			}
		})
	}
}

// TestSignalChild is the process of TestSignalDuringInference; it does nothing
// where it was not started by that.
func TestSignalChild(t *testing.T) {
	library := os.Getenv("SIGNAL_CHILD")
	if library == "" {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	opened := make(chan struct{})
	p, err := vision.New(vision.Options{
		Models: []vision.ModelOptions{{Name: "line", Open: func(ctx context.Context) (vision.Detector, error) {
			d, err := New(Options{Library: library, Model: detector.ONNX(), ModelName: "line", File: detector.File(), MaxBatch: 8})
			if err == nil && os.Getenv("SIGNAL_SPOIL") != "" {
				_, err = sigaction(int(syscall.SIGTERM), &action{})
			}
			if err != nil {
				t.Error(err)
				return nil, err
			}
			close(opened)
			return d, nil
		}}},
		Cameras:         endless(8),
		ShutdownTimeout: 30 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-opened
		for p.Stats().Models[0].Inferences == 0 {
			time.Sleep(time.Millisecond)
		}
		fmt.Println("inspecting")
	}()
	if err := p.Serve(ctx); err != nil {
		t.Fatal(err)
	}
	fmt.Println("closed")
}

// endless are cameras that always have a grey frame.
func endless(n int) (cameras []vision.CameraOptions) {
	for i := range n {
		cameras = append(cameras, vision.CameraOptions{
			ID: fmt.Sprint("c", i), Model: "line", Lossless: true, NewSource: func() vision.Source { return grey{} },
		})
	}
	return cameras
}

// grey is a source of grey frames.
type grey struct{}

func (grey) Open(context.Context) error { return nil }
func (grey) Close() error               { return nil }
func (grey) Read() (vision.Frame, error) {
	f := blankFrame()
	f.Arrived = time.Now()
	return f, nil
}

// TestKeepSignals: Go's own handlers come back, also after an error, and those
// that were not Go's are left alone.
func TestKeepSignals(t *testing.T) {
	broken := errors.New("broken")
	before, err := handlers()
	if err != nil {
		t.Fatal(err)
	}
	const other = 40 // a real-time signal, which is nobody's here
	defer sigaction(other, &before[other])
	err = keepSignals(func() error {
		_, err1 := sigaction(int(syscall.SIGTERM), &action{})
		_, err2 := sigaction(int(syscall.SIGUSR1), &action{handler: 1}) // ignored
		_, err3 := sigaction(other, &action{handler: 1})
		return errors.Join(broken, err1, err2, err3)
	})
	if !errors.Is(err, broken) {
		t.Errorf("error %v, want that of the function", err)
	}
	after, err := handlers()
	if err != nil {
		t.Fatal(err)
	}
	for n := range after {
		if changed := after[n] != before[n]; changed && before[n].handler == before[syscall.SIGURG].handler {
			t.Errorf("signal %d: %+v, want Go's %+v", n, after[n], before[n])
		}
	}
	if before[other].handler != before[syscall.SIGURG].handler && after[other].handler != 1 {
		t.Errorf("signal %d was not Go's and was put back", other)
	}
}
