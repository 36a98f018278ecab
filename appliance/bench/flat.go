//go:build !novision

package main

import (
	"context"
	"encoding/json"
	"fmt"
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
	RSSMiB       float64 `json:"rss_anon_mib"` // at the end
	AllocsFrame  float64 `json:"allocs_per_frame"`
	EventsFrame  float64 `json:"events_per_frame"` // each is an allocation of its own
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

// flatChild is that process.
func flatChild(ctx context.Context, o options, emit func(any) error) error {
	if o.frames <= flatFirst {
		return fmt.Errorf("%d frames, want more than %d", o.frames, flatFirst)
	}
	camera, err := lineCamera("cam", sim.Options{URL: fmt.Sprintf("sim://line?seed=1&frames=%d", o.frames), Unpaced: true})
	if err != nil {
		return err
	}
	camera.Lossless = true
	models, err := lineModel(1, 1)
	if err != nil {
		return err
	}
	var events atomic.Uint64
	p, err := vision.New(vision.Options{Models: models, Cameras: []vision.CameraOptions{camera}, Sink: func(vision.Event) { events.Add(1) }})
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- p.Serve(ctx) }()
	line := flatLine{Bench: "flat"}
	if err := line.measure(ctx, p, uint64(o.frames)); err != nil {
		return err
	}
	line.EventsFrame = float64(events.Load()) / float64(line.Frames)
	line.DetectErrors = p.Stats().Cameras[0].DetectorErrors
	if err := p.Close(); err != nil {
		return err
	}
	if err := <-served; err != nil {
		return err
	}
	return emit(line)
}

// measure looks at memory after the first frames and after all of them.
func (l *flatLine) measure(ctx context.Context, p *vision.Pipeline, frames uint64) error {
	if err := inspected(ctx, p, flatFirst); err != nil {
		return err
	}
	began, from := time.Now(), mallocs()
	first := p.Stats().Cameras[0].Inspected
	l.RSSFirstMiB = float64(rssAnonKiB()) / 1024
	if err := inspected(ctx, p, frames); err != nil {
		return err
	}
	l.RSSMiB, l.Frames = float64(rssAnonKiB())/1024, frames
	counted := float64(frames - first)
	l.AllocsFrame = float64(mallocs()-from) / counted
	l.FramesPS = counted / time.Since(began).Seconds()
	return nil
}

// inspected waits until the pipeline's camera has had n frames inspected.
func inspected(ctx context.Context, p *vision.Pipeline, n uint64) error {
	tick := time.NewTicker(500 * time.Millisecond) // Stats allocates too
	defer tick.Stop()
	for {
		s := p.Stats()
		if s.Models[0].Error != "" {
			return fmt.Errorf("the model: %s", s.Models[0].Error)
		}
		if c := s.Cameras[0]; c.Inspected+c.DetectorErrors >= n {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}
