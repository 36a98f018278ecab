//go:build !novision

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"outstation/vision"
	"outstation/vision/sim"
)

// flatFirst is after how many frames memory is looked at first.
const flatFirst = 1000

// flatLine is a process that does nothing but inspect one simulated line, as
// fast as it goes, with one intra-op thread.
type flatLine struct {
	Bench        string  `json:"bench"`
	Frames       uint64  `json:"frames"`
	RSSFirstMiB  float64 `json:"rss_anon_mib_1000_frames"`
	RSSMiB       float64 `json:"rss_anon_mib"`            // at the end
	AllocsFrame  float64 `json:"allocs_per_frame"`        // without those of the simulated camera
	CameraAllocs float64 `json:"camera_allocs_per_frame"` // which draws each part anew
	EventsFrame  float64 `json:"events_per_frame"`        // each is an allocation of its own: its detections
	FramesPS     float64 `json:"frames_per_s"`
	DetectErrors uint64  `json:"detector_errors"`
}

// benchFlat runs this program again as a process that only inspects.
func benchFlat(ctx context.Context, o options, emit func(any) error) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, "-flat-child", "-frames", strconv.Itoa(o.frames))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("the process that inspects: %w", err)
	}
	var line flatLine
	if err := json.Unmarshal(out, &line); err != nil {
		return fmt.Errorf("the process that inspects: %w: %s", err, out)
	}
	return emit(line)
}

// flatChild is that process. The camera's own allocations are those of the
// same frames without a pipeline, afterwards.
func flatChild(ctx context.Context, o options, emit func(any) error) error {
	if o.frames <= flatFirst {
		return fmt.Errorf("%d frames, want more than %d", o.frames, flatFirst)
	}
	line := flatLine{Bench: "flat", Frames: uint64(o.frames)}
	watched := &watchedCamera{options: sim.Options{URL: fmt.Sprintf("sim://line?seed=1&frames=%d", o.frames), Unpaced: true}, ended: make(chan struct{})}
	if err := line.inspect(ctx, watched); err != nil {
		return err
	}
	first, last := watched.first, watched.last
	counted := float64(o.frames - flatFirst)
	line.RSSFirstMiB, line.RSSMiB = first.rssMiB, last.rssMiB
	line.EventsFrame = float64(last.events-first.events) / counted
	line.FramesPS = counted / last.at.Sub(first.at).Seconds()
	camera, err := cameraMallocs(ctx, watched.options)
	if err != nil {
		return err
	}
	line.CameraAllocs = float64(camera) / counted
	line.AllocsFrame = float64(last.mallocs-first.mallocs)/counted - line.CameraAllocs
	return emit(line)
}

// inspect runs a pipeline until its camera has ended.
func (l *flatLine) inspect(ctx context.Context, w *watchedCamera) error {
	camera, err := lineCamera("cam", w.options)
	if err != nil {
		return err
	}
	camera.Lossless = true
	newSource := camera.NewSource
	camera.NewSource = func() vision.Source {
		w.Waiter, _ = newSource().(vision.Waiter)
		return w
	}
	models, err := lineModel(1, 1)
	if err != nil {
		return err
	}
	p, err := vision.New(vision.Options{Models: models, Cameras: []vision.CameraOptions{camera}, Sink: func(vision.Event) { w.events.Add(1) }})
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- p.Serve(ctx) }()
	if err := w.wait(ctx, p); err != nil {
		return err
	}
	l.DetectErrors = p.Stats().Cameras[0].DetectorErrors
	if err := p.Close(); err != nil {
		return err
	}
	return <-served
}

// look is what a process held at a time.
type look struct {
	at              time.Time
	mallocs, events uint64
	rssMiB          float64
}

// watchedCamera looks at the process from within the reader, so that nothing
// has to ask the pipeline meanwhile, which allocates too. The frame before is
// always inspected: the camera is lossless.
type watchedCamera struct {
	vision.Waiter
	options     sim.Options
	events      atomic.Uint64
	read        int
	first, last look
	began       atomic.Bool
	ended       chan struct{} // closed at the end of the frames
}

// Read looks before the frame after the first flatFirst, and at the end.
func (w *watchedCamera) Read() (vision.Frame, error) {
	w.began.Store(w.read > 0)
	if w.read == flatFirst {
		w.first = w.look()
	}
	w.read++
	f, err := w.Waiter.Read()
	if err != nil {
		w.last = w.look()
		close(w.ended) // the pipeline reads no further
	}
	return f, err
}

func (w *watchedCamera) look() look {
	return look{at: time.Now(), mallocs: mallocs(), events: w.events.Load(), rssMiB: float64(rssAnonKiB()) / 1024}
}

// wait returns at the end of the frames. It asks the pipeline only until the
// first was inspected: a model that cannot be loaded inspects none.
func (w *watchedCamera) wait(ctx context.Context, p *vision.Pipeline) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.ended:
			return nil
		case <-tick.C:
		}
		if w.began.Load() {
			tick.Stop()
			continue
		}
		if problem := p.Stats().Models[0].Error; problem != "" {
			return fmt.Errorf("the model: %s", problem)
		}
	}
}

// cameraMallocs counts the allocations of a camera alone after its first
// flatFirst frames. Few pixels are drawn, which is what takes time and not memory.
func cameraMallocs(ctx context.Context, o sim.Options) (n uint64, err error) {
	factory, err := sim.Factory(o)
	if err != nil {
		return 0, err
	}
	camera := factory()
	if err := camera.Open(ctx); err != nil {
		return 0, err
	}
	var from uint64
	pixels := make([]byte, 3*64*64)
	for i := 0; ; i++ {
		if i == flatFirst {
			from = mallocs()
		}
		f, err := camera.Read()
		if errors.Is(err, io.EOF) {
			return mallocs() - from, camera.Close()
		}
		if err != nil {
			return 0, err
		}
		if _, err := f.Image.Letterbox(pixels, 64, 64, 0); err != nil {
			return 0, err
		}
		f.Image.Close()
	}
}

func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}
