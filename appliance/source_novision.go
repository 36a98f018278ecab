//go:build novision

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"outstation/vision"
	"outstation/vision/capture"
	"outstation/vision/sim"
)

// errNoVision says what this binary cannot do.
var errNoVision = errors.New("this outstation was built without vision (tag novision): it takes sim:// cameras only, and no models")

// newSource returns what opens a camera's source; it does no I/O.
func newSource(cam CameraConfig, _ func(file string, err error)) (func() vision.Source, error) {
	if vision.Kind(cam.Source) != vision.KindSim {
		return nil, errNoVision
	}
	return sim.Factory(sim.Options{URL: cam.Source, Unpaced: cam.Lossless})
}

// probeCamera fails.
func probeCamera(context.Context, CameraConfig, time.Duration) (capture.Report, error) {
	return capture.Report{}, errNoVision
}

// newDetector fails where it is used, so that the page says why.
func newDetector(VisionConfig, ModelConfig) vision.OpenDetector {
	return func(context.Context) (vision.Detector, error) { return nil, errNoVision }
}

// newClassifier fails where it is used, so that the page says why.
func newClassifier(VisionConfig, ClassifierConfig) func(context.Context) (vision.Classifier, error) {
	return func(context.Context) (vision.Classifier, error) { return nil, errNoVision }
}

// describeModel cannot look into a graph.
func describeModel(modelInspectCommand) (modelDescription, error) {
	return modelDescription{}, fmt.Errorf("%w: %w", errCannotLook, errNoVision)
}

// prepareCapture has nothing to do without cameras.
func prepareCapture() error { return nil }

// redact has nothing to do: a simulated camera has no password.
func redact(source string) string { return source }
