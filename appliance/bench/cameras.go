//go:build !novision

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"

	"outstation/uplink"
	"outstation/uplink/wire"
	"outstation/vision"
	"outstation/vision/onnx"
	"outstation/vision/sim"
	"outstation/vision/sim/detector"
	"outstation/vision/testfiles"
)

const (
	benchCameraCount = 8
	benchCameraFPS   = 15
	benchCameraTime  = 30 * time.Second
)

// camerasLine is eight simulated lines that one model looks at, in one
// process with the queue. Drawing the lines is a part of cpu_ms_per_frame.
type camerasLine struct {
	Bench       string  `json:"bench"`
	Cameras     int     `json:"cameras"`
	FPS         int     `json:"fps"`
	Seconds     float64 `json:"seconds"`
	Frames      uint64  `json:"frames"`
	Inspected   uint64  `json:"inspected"`
	Dropped     uint64  `json:"dropped"` // replaced by a newer frame before they were inspected
	Errors      uint64  `json:"detector_errors"`
	LeastShare  float64 `json:"least_inspected_share"` // of the camera that fared worst
	Events      int     `json:"events_queued"`
	P50MS       float64 `json:"captured_to_queued_p50_ms"` // to the sync of the event
	P99MS       float64 `json:"captured_to_queued_p99_ms"`
	RunP50MS    float64 `json:"ort_p50_ms"`
	CPUMSFrame  float64 `json:"cpu_ms_per_frame"`
	Unpublished int     `json:"events_refused"`
}

// benchCameras counts what 8 × 15 frames a second become.
func benchCameras(ctx context.Context, o options, emit func(any) error) (err error) {
	dir, err := os.MkdirTemp(o.dir, "bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	q, err := uplink.Open(uplink.Options{Dir: dir, MinFreeBytes: 16 << 20})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	watch := &stopwatch{queue: q}
	opt := vision.Options{Sink: watch.sink}
	if opt.Models, err = lineModel(0, benchCameraCount); err != nil {
		return err
	}
	for i := range benchCameraCount {
		camera, err := lineCamera(fmt.Sprintf("cam-%d", i), sim.Options{URL: fmt.Sprintf("sim://line?seed=%d&fps=%d", i+1, benchCameraFPS)})
		if err != nil {
			return err
		}
		opt.Cameras = append(opt.Cameras, camera)
	}
	line := camerasLine{Bench: "cameras", Cameras: benchCameraCount, FPS: benchCameraFPS}
	from, to, err := serveFor(ctx, opt, benchCameraTime, watch, &line)
	if err != nil {
		return err
	}
	watch.pending.Wait()
	line.judge(from, to, watch)
	return emit(line)
}

// lineModel is the built-in model on the CPU for so many cameras; 0 threads
// are one a core.
func lineModel(threads, cameras int) ([]vision.ModelOptions, error) {
	library, ok := testfiles.Library().Find()
	if !ok {
		return nil, fmt.Errorf("%s is not at %s", testfiles.Library().What, library)
	}
	return []vision.ModelOptions{{Name: "line", Open: onnx.Opener(onnx.Options{
		Library: library, Model: detector.ONNX(), ModelName: "line", File: detector.File(), Confidence: sim.Confidence, Threads: threads, Cameras: cameras,
	})}}, nil
}

func lineCamera(id string, o sim.Options) (vision.CameraOptions, error) {
	source, err := sim.Factory(o)
	return vision.CameraOptions{ID: id, Kind: vision.KindSim, NewSource: source, Model: "line"}, err
}

// serveFor runs a pipeline and returns its statistics when the model was
// loaded, before which no frame can be inspected, and length later. It notes
// for how much CPU time.
func serveFor(ctx context.Context, opt vision.Options, length time.Duration, w *stopwatch, line *camerasLine) (from, to vision.Stats, err error) {
	p, err := vision.New(opt)
	if err != nil {
		return from, to, err
	}
	served := make(chan error, 1)
	go func() { served <- p.Serve(ctx) }()
	if err := loaded(ctx, p); err != nil {
		return from, to, errors.Join(err, p.Close(), <-served)
	}
	w.reset()
	from = p.Stats()
	began, cpu := time.Now(), cpuTime()
	select {
	case <-time.After(length):
	case <-ctx.Done():
	}
	to = p.Stats()
	line.Seconds = time.Since(began).Seconds()
	for i, c := range to.Cameras {
		line.Frames += c.Frames - from.Cameras[i].Frames
	}
	line.CPUMSFrame = milliseconds(cpuTime()-cpu) / float64(max(line.Frames, 1))
	return from, to, errors.Join(ctx.Err(), p.Close(), <-served)
}

// loaded waits until a pipeline's model is there.
func loaded(ctx context.Context, p *vision.Pipeline) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if m := p.Stats().Models[0]; m.Error != "" {
			return fmt.Errorf("the model: %s", m.Error)
		} else if m.Ready {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func (l *camerasLine) judge(from, to vision.Stats, w *stopwatch) {
	l.LeastShare = 1
	for i, c := range to.Cameras {
		was := from.Cameras[i]
		l.Inspected += c.Inspected - was.Inspected
		l.Dropped += c.Dropped - was.Dropped
		l.Errors += c.DetectorErrors - was.DetectorErrors
		l.LeastShare = min(l.LeastShare, float64(c.Inspected-was.Inspected)/float64(max(c.Frames-was.Frames, 1)))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.Sort(w.took)
	if n := len(w.took); n > 0 {
		l.Events, l.P50MS, l.P99MS = n, milliseconds(w.took[(n-1)/2]), milliseconds(w.took[(n-1)*99/100])
	}
	l.RunP50MS = milliseconds(to.Models[0].Run.P50)
	l.Unpublished = w.refused
}

// cpuTime is what this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// stopwatch queues events as the appliance does and times them, from the
// frame's arrival to the sync.
type stopwatch struct {
	queue   *uplink.Queue
	pending sync.WaitGroup

	mu      sync.Mutex
	took    []time.Duration
	refused int
}

func (w *stopwatch) sink(e vision.Event) {
	payload, err := json.Marshal(benchDetection(e))
	if err == nil {
		w.pending.Add(1)
		m := uplink.Message{Route: "detection", Lane: 8, QoS: 1, Topic: "vision/r/s/" + e.Camera + "/detection", Payload: payload}
		err = w.queue.Enqueue(m, func(err error) { w.done(e, err); w.pending.Done() })
		if err != nil {
			w.pending.Done()
		}
	}
	if err != nil {
		w.done(e, err)
	}
}

// reset forgets what was timed so far.
func (w *stopwatch) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.took, w.refused = nil, 0
}

func (w *stopwatch) done(e vision.Event, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.refused++
		return
	}
	w.took = append(w.took, time.Since(e.CapturedAt))
}

func benchDetection(e vision.Event) wire.Detection {
	d := wire.Detection{
		SchemaVersion: wire.DetectionV1, EventID: uuid.NewString(), DeviceID: "bench", CameraID: e.Camera,
		CapturedAt: wire.At(e.CapturedAt), InferredAt: wire.At(e.InferredAt), ModelName: e.Model,
		FrameWidth: e.FrameWidth, FrameHeight: e.FrameHeight,
	}
	for _, o := range e.Detections {
		d.Detections = append(d.Detections, wire.Object{Class: o.Class, Confidence: o.Confidence, Box: wire.Box(o.Box)})
	}
	return d
}
