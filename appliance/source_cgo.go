//go:build !novision

package main

import (
	"context"

	"outstation/vision"
	"outstation/vision/capture"
	"outstation/vision/onnx"
	"outstation/vision/sim"
)

// newSource returns what opens a camera's source; it does no I/O.
func newSource(cam CameraConfig) (func() vision.Source, error) {
	if vision.Kind(cam.Source) == vision.KindSim {
		return sim.Factory(sim.Options{URL: cam.Source, Unpaced: cam.Lossless})
	}
	return capture.Factory(capture.Options{URL: cam.Source, Loop: cam.Loop, Paced: !cam.Lossless})
}

// newDetector returns what loads a model; it does no I/O.
func newDetector(cfg VisionConfig, m ModelConfig) vision.OpenDetector {
	return func(context.Context) (vision.Detector, error) {
		return onnx.New(onnx.Options{
			Library: cfg.ONNXRuntime, ModelPath: m.Path, ModelName: m.Name,
			Providers: cfg.Providers, Threads: cfg.Threads, Confidence: m.Confidence,
		})
	}
}

// redact removes the password from a camera's address.
func redact(source string) string { return capture.Redact(source) }
