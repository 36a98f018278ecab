//go:build !novision

package main

import (
	"context"
	"errors"
	"time"

	"outstation/vision"
	"outstation/vision/onnx"
	"outstation/vision/sim"
	"outstation/vision/sim/detector"
	"outstation/vision/testfiles"
)

// gpuFor is how long one size of batch is measured.
const gpuFor = 5 * time.Second

// gpuLine is the built-in model on CUDA with batches of one size, or why there
// is none.
type gpuLine struct {
	Bench     string             `json:"bench"`
	Skipped   string             `json:"skipped,omitempty"`
	Batch     int                `json:"batch,omitempty"`
	PerSecond float64            `json:"frames_per_s,omitempty"`     // letterbox to detections
	Alone     float64            `json:"ort_frames_per_s,omitempty"` // ORT's run alone, with its copies to the GPU and back
	Overhead  float64            `json:"overhead,omitempty"`         // all but ORT's run, as a share of it
	Nodes     []vision.NodeCount `json:"nodes,omitempty"`
}

// benchGPU measures batches of 1, 8 and 32 where there is a GPU.
func benchGPU(ctx context.Context, _ options, emit func(any) error) error {
	library, ok := testfiles.GPULibrary().Find()
	if !ok {
		return emit(gpuLine{Bench: "gpu", Skipped: testfiles.GPULibrary().What + " is not at " + library + "; .ci/deps onnxruntime-gpu fetches it"})
	}
	for _, size := range []int{1, 8, 32} {
		d, err := onnx.New(onnx.Options{
			Library: library, Model: detector.ONNX(), ModelName: "line", File: detector.File(), Confidence: sim.Confidence,
			Providers: []string{onnx.ProviderCUDA}, MaxBatch: size,
		})
		if err != nil {
			return emit(gpuLine{Bench: "gpu", Skipped: err.Error()})
		}
		line, err := measureGPU(ctx, d, size)
		if err := errors.Join(err, d.Close()); err != nil {
			return err
		}
		if err := emit(line); err != nil {
			return err
		}
	}
	return nil
}

func measureGPU(ctx context.Context, d *onnx.Detector, size int) (gpuLine, error) {
	out := gpuLine{Bench: "gpu", Batch: size, Nodes: d.Info().Nodes}
	line, err := sim.NewLine(sim.LineOptions{Seed: 1})
	if err != nil {
		return out, err
	}
	frames := make([]vision.Frame, size)
	for i := range frames {
		frames[i] = vision.Frame{Width: line.Options().Width, Height: line.Options().Height, Image: line.Image(int64(50 * i))}
		defer frames[i].Image.Close()
	}
	var done int
	var run time.Duration
	began := time.Now()
	for time.Since(began) < gpuFor {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		_, t, err := d.DetectBatch(frames)
		if err != nil {
			return out, err
		}
		done += size
		run += t.Run
	}
	total := time.Since(began)
	out.PerSecond, out.Alone = float64(done)/total.Seconds(), float64(done)/run.Seconds()
	out.Overhead = float64(total-run) / float64(run)
	return out, nil
}
