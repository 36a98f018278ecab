//go:build !novision

package main

import (
	"context"
	"fmt"
	"time"

	"outstation/vision"
	"outstation/vision/models"
	"outstation/vision/onnx"
	"outstation/vision/sim"
	"outstation/vision/sim/detector"
	"outstation/vision/testfiles"
)

const (
	accuracyFrames = 600
	accuracySeed   = 1 // the model was trained on seeds from 2^32 on
)

// goldenLine is YOLOX-nano on its golden frames of vtest.avi. The tests of
// vision/onnx look at more of them.
type goldenLine struct {
	Bench    string  `json:"bench"`
	Model    string  `json:"model"`
	Frames   int     `json:"frames"`
	Boxes    int     `json:"golden_boxes_found"`
	Passed   bool    `json:"passed"` // every golden box and no other
	LeastIoU float64 `json:"least_iou"`
}

// precisionLine is the built-in model on frames of the simulated line that
// share no part.
type precisionLine struct {
	Bench  string  `json:"bench"`
	Model  string  `json:"model"`
	Frames int     `json:"frames"`
	MAP50  float64 `json:"map_50"`
	Part   float64 `json:"part_ap_50"`
}

func benchAccuracy(ctx context.Context, _ options, emit func(any) error) error {
	golden, err := goldenFrames(ctx)
	if err != nil {
		return err
	}
	if err := emit(golden); err != nil {
		return err
	}
	precision, err := lineAccuracy(ctx)
	if err != nil {
		return err
	}
	return emit(precision)
}

func goldenFrames(ctx context.Context) (goldenLine, error) {
	path, ok := testfiles.Model().Find()
	library, okLibrary := testfiles.Library().Find()
	known, okKnown := models.Known("yolox-nano")
	if !ok || !okLibrary || !okKnown {
		return goldenLine{}, fmt.Errorf("want the model at %s and the library at %s", path, library)
	}
	d, err := onnx.New(onnx.Options{Library: library, ModelPath: path, ModelName: known.Name, Threads: 1})
	if err != nil {
		return goldenLine{}, err
	}
	defer d.Close()
	g, err := models.RunGate(ctx, known.Golden(), d, time.Now())
	return goldenLine{"accuracy", known.Name, g.Frames, g.Boxes, g.Passed, g.LeastIoU}, err
}

// lineAccuracy scores the whole curve of precision over recall, so the least
// confidence is low.
func lineAccuracy(ctx context.Context) (precisionLine, error) {
	library, _ := testfiles.Library().Find()
	d, err := onnx.New(onnx.Options{
		Library: library, Model: detector.ONNX(), ModelName: "line", File: detector.File(), Confidence: 0.01, Threads: 1,
	})
	if err != nil {
		return precisionLine{}, err
	}
	defer d.Close()
	line, err := sim.NewLine(sim.LineOptions{Seed: accuracySeed, DefectRate: sim.DefaultDefectRate})
	if err != nil {
		return precisionLine{}, err
	}
	scorer, o := sim.NewScorer(), line.Options()
	for i := range int64(accuracyFrames) {
		if err := ctx.Err(); err != nil {
			return precisionLine{}, err
		}
		index := i * line.Crossing()
		f := vision.Frame{Width: o.Width, Height: o.Height, Image: line.Image(index)}
		found, _, err := d.Detect(f)
		f.Image.Close()
		if err != nil {
			return precisionLine{}, err
		}
		scorer.Add(line.Truth(index).Labels(), found)
	}
	classes, mean := scorer.Result(sim.Confidence)
	return precisionLine{"accuracy", "line", accuracyFrames, mean, classes[0].AP}, nil
}
