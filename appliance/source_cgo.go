//go:build !novision

package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"outstation/vision"
	"outstation/vision/capture"
	"outstation/vision/models"
	"outstation/vision/onnx"
	"outstation/vision/sim"
	"outstation/vision/sim/detector"
)

// newSource returns what opens a camera's source; it does no I/O. skipped is
// told of files of a directory that are no pictures.
func newSource(cam CameraConfig, skipped func(file string, err error)) (func() vision.Source, error) {
	if vision.Kind(cam.Source) == vision.KindSim {
		return sim.Factory(sim.Options{URL: cam.Source, Unpaced: cam.Lossless})
	}
	return capture.Factory(captureOptions(cam, skipped))
}

// captureOptions has a read end a little before stall_after: the camera's own
// error says more than that it was given up, and leaves no call behind.
func captureOptions(cam CameraConfig, skipped func(string, error)) capture.Options {
	return capture.Options{
		URL: cam.Source, Decoder: capture.Decoder(cam.Decoder), Loop: cam.Loop, Paced: !cam.Lossless, Skipped: skipped,
		ReadTimeout: cam.StallAfter * 9 / 10,
	}
}

// probeCamera looks at a camera for about the time of length.
func probeCamera(ctx context.Context, cam CameraConfig, length time.Duration) (capture.Report, error) {
	if err := prepareCapture(); err != nil {
		return capture.Report{}, err
	}
	o := captureOptions(cam, nil)
	o.ReadTimeout = max(o.ReadTimeout, capture.DefaultReadTimeout, length)
	r, err := capture.Probe(ctx, o, length)
	if err != nil && ctx.Err() == nil {
		err = usageError{err}
	}
	return r, err
}

// newDetector returns what loads a model; it does no I/O.
func newDetector(cfg VisionConfig, m ModelConfig) vision.OpenDetector {
	return func(context.Context) (vision.Detector, error) {
		opt := onnx.Options{
			Library: cfg.ONNXRuntime, ModelPath: m.Path, ModelName: m.Name, Classes: m.Classes,
			Providers: cfg.Providers, Threads: cfg.Threads, Confidence: m.Confidence, Floor: m.floor,
			MaxBatch: m.MaxBatch, Cameras: max(1, cfg.camerasOf(m.Name)), EngineDir: cfg.EngineDir, Scratch: cfg.Scratch,
		}
		if m.Path == detector.Path {
			opt.ModelPath, opt.Model, opt.File = "", detector.ONNX(), detector.File()
			opt.Confidence = cmp.Or(m.Confidence, sim.Confidence)
		}
		opt.SHA256, _ = modelSum(m.Path) // where the file cannot be read, New says what to do
		return onnx.New(opt)
	}
}

// newClassifier returns what loads a model of the second stage; it does no I/O.
func newClassifier(cfg VisionConfig, m ClassifierConfig) func(context.Context) (vision.Classifier, error) {
	return onnx.ClassifierOpener(onnx.ClassifierOptions{
		Library: cfg.ONNXRuntime, ModelPath: m.Path, Labels: m.Labels, Mean: triple(m.Mean), Std: triple(m.Std),
	})
}

// describeModel reads a model without running it on a frame.
func describeModel(c modelInspectCommand) (out modelDescription, err error) {
	d, err := onnx.Describe(onnx.Options{Library: c.ONNX, ModelPath: c.File, ModelName: c.File, Classes: c.Classes})
	if errors.Is(err, onnx.ErrLibrary) {
		err = fmt.Errorf("%w: %w", errCannotLook, err)
	}
	if err != nil {
		return out, err
	}
	for _, p := range d.Graph.Inputs {
		out.inputs = append(out.inputs, p.String())
	}
	for _, p := range d.Graph.Outputs {
		out.outputs = append(out.outputs, p.String())
	}
	out.metadata, out.settings, out.problem = d.Metadata, d.Settings, d.Problem
	out.head, out.width, out.height, out.batch = string(d.Head), d.Width, d.Height, d.Batch
	return out, nil
}

// modelSum is the SHA-256 of a model, in hex.
func modelSum(path string) (string, error) {
	if path != detector.Path {
		sum, _, err := models.SumFile(path)
		return sum, err
	}
	sum := sha256.Sum256(detector.ONNX())
	return hex.EncodeToString(sum[:]), nil
}

// prepareCapture bounds what reconnects leave behind, and what slow cameras wait
// for. It is for the whole process and comes before the first camera.
func prepareCapture() error { return errors.Join(capture.GiveMemoryBack(), capture.OpenSooner()) }

// redact removes the password from a camera's address.
func redact(source string) string { return capture.Redact(source) }
