//go:build !novision

package onnx

import (
	"math"
	"slices"
	"testing"

	ort "github.com/yalue/onnxruntime_go"

	"outstation/vision"
	"outstation/vision/head"
	"outstation/vision/sim"
	"outstation/vision/sim/detector"
	"outstation/vision/testfiles"
)

// lineDetector is the built-in model.
func lineDetector(t testing.TB, confidence float64) *Detector {
	t.Helper()
	return opened(t, Options{
		Library: testfiles.Library().Need(t), Model: detector.ONNX(), ModelName: "line", File: detector.File(), Confidence: confidence, Threads: 1,
	})
}

// TestBuiltInModelFindsTheLine is a short form of `outstation sim eval` with
// the bars of its README, on a seed that training never saw. A few frames
// say less than thousands, so the bars of the flaws are lower here.
func TestBuiltInModelFindsTheLine(t *testing.T) {
	d := lineDetector(t, 0.01)
	line, err := sim.NewLine(sim.LineOptions{Seed: 77, DefectRate: 0.6})
	if err != nil {
		t.Fatal(err)
	}
	scorer, o := sim.NewScorer(), line.Options()
	for i := range int64(60) {
		index := i * line.Crossing()
		f := vision.Frame{Width: o.Width, Height: o.Height, Image: line.Image(index)}
		found, _, err := d.Detect(f)
		f.Image.Close()
		if err != nil {
			t.Fatal(err)
		}
		scorer.Add(line.Truth(index).Labels(), found)
	}
	classes, mean := scorer.Result(head.DefaultConfidence)
	t.Logf("mAP@0.5 %.3f, %+v", mean, classes)
	if mean < 0.90 || classes[0].AP < 0.98 {
		t.Errorf("mAP@0.5 %.3f, part %.3f; want 0.90 and 0.98 at least", mean, classes[0].AP)
	}
}

// TestBytesAreNeverStale alternates two pictures of a model whose input is the
// pixels themselves.
func TestBytesAreNeverStale(t *testing.T) {
	d := lineDetector(t, 0)
	line, err := sim.NewLine(sim.LineOptions{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	expectNeverStale(t, d, func() vision.Frame {
		return vision.Frame{Width: 1280, Height: 720, Image: line.Image(200)}
	})
}

func TestModelInTwoPlacesIsRefused(t *testing.T) {
	if _, err := New(Options{Library: "x", ModelPath: "y", Model: detector.ONNX(), ModelName: "line"}); err == nil {
		t.Error("no error")
	}
}

// TestBatchOfTheBuiltInModel: two pictures at once give what each gives alone.
func TestBatchOfTheBuiltInModel(t *testing.T) {
	if err := load(testfiles.Library().Need(t)); err != nil {
		t.Fatal(err)
	}
	session, err := ort.NewDynamicAdvancedSessionWithONNXData(detector.ONNX(), []string{"images"}, []string{"boxes"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Destroy()
	const width, height, cells = 640, 384, 3840
	line, err := sim.NewLine(sim.LineOptions{Seed: 3})
	if err != nil {
		t.Fatal(err)
	}
	pixels := make([]byte, 2*3*width*height)
	for i := range 2 {
		if _, err := line.Image(int64(500*i)).Letterbox(pixels[i*3*width*height:], width, height, 114); err != nil {
			t.Fatal(err)
		}
	}
	run := func(pixels []byte, n int64) []float32 {
		in, err := ort.NewTensor(ort.NewShape(n, height, width, 3), pixels)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Destroy()
		out, err := ort.NewEmptyTensor[float32](ort.NewShape(n, 9, cells))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Destroy()
		if err := session.Run([]ort.Value{in}, []ort.Value{out}); err != nil {
			t.Fatal(err)
		}
		return slices.Clone(out.GetData())
	}
	both := run(pixels, 2)
	for i := range 2 {
		alone := run(pixels[i*3*width*height:(i+1)*3*width*height], 1)
		for j, v := range alone {
			if got := both[i*9*cells+j]; math.Abs(float64(got-v)) > 1e-3*max(1, math.Abs(float64(v))) {
				t.Fatalf("picture %d, value %d: %v in the batch, %v alone", i, j, got, v)
			}
		}
	}
}
