//go:build !novision

package onnx

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"outstation/vision"
	"outstation/vision/sim"
	"outstation/vision/testfiles"
)

// colour is a picture of one colour.
type colour [3]int // red, green, blue

func (p colour) Letterbox(dst []byte, w, h int, _ byte) (float64, error) {
	for i := range w * h {
		dst[3*i], dst[3*i+1], dst[3*i+2] = byte(p[2]), byte(p[1]), byte(p[0])
	}
	return 1, nil
}

func (colour) Close() {}

func classifierOptions(t *testing.T) ClassifierOptions {
	return ClassifierOptions{Library: testfiles.Library().Need(t), ModelPath: "testdata/classifier.onnx", Labels: []string{"red", "green", "blue"}}
}

// TestClassifierAgreesWithPyTorch on pictures of one colour; see
// testdata/classifier.py.
func TestClassifierAgreesWithPyTorch(t *testing.T) {
	c, err := NewClassifier(classifierOptions(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var answers []struct {
		RGB    colour
		Scores []float64
	}
	b, err := os.ReadFile("testdata/classifier.json")
	if err == nil {
		err = json.Unmarshal(b, &answers)
	}
	if err != nil || len(answers) < 5 {
		t.Fatalf("%d answers (%v)", len(answers), err)
	}
	for range 2 { // nothing is left of the pictures before
		for _, a := range answers {
			best := 0
			for i, s := range a.Scores {
				if s > a.Scores[best] {
					best = i
				}
			}
			label, p, err := c.Classify(a.RGB)
			if err != nil || label != c.opts.Labels[best] || math.Abs(p-a.Scores[best]) > 1e-4 {
				t.Errorf("%v: %s %v (%v), PyTorch says %s %v", a.RGB, label, p, err, c.opts.Labels[best], a.Scores[best])
			}
		}
	}
}

func TestImpossibleClassifiers(t *testing.T) {
	for want, change := range map[string]func(*ClassifierOptions){
		"as many as there are labels": func(o *ClassifierOptions) { o.Labels = o.Labels[:2] },
		"0 labels":                    func(o *ClassifierOptions) { o.Labels = nil },
		"std":                         func(o *ClassifierOptions) { o.Mean = [3]float32{1, 1, 1} },
		"no such file":                func(o *ClassifierOptions) { o.ModelPath = "testdata/none.onnx" },
		"not a model":                 func(o *ClassifierOptions) { o.ModelPath = "testdata/classifier.py" },
		"want float32 1×":             func(o *ClassifierOptions) { o.ModelPath = testfiles.Model().Need(t) },
	} {
		o := classifierOptions(t)
		change(&o)
		if _, err := NewClassifier(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestScores(t *testing.T) {
	for _, c := range []struct {
		scores []float32
		best   int
		p      float64
	}{
		{[]float32{0.2, 0.7, 0.1}, 1, 0.7},
		{[]float32{0, 0, 1}, 2, 1},
		{[]float32{2, 2}, 0, 0.5},
		{[]float32{1000, -1000}, 0, 1},
		{[]float32{-1, -3}, 0, 1 / (1 + math.Exp(-2))},
	} {
		if best, p, err := probable(c.scores); err != nil || best != c.best || math.Abs(p-c.p) > 1e-6 {
			t.Errorf("%v: %d, %v (%v)", c.scores, best, p, err)
		}
	}
	if _, _, err := probable([]float32{0, float32(math.NaN())}); err == nil {
		t.Error("no error for a score that is not a number")
	}
}

// TestPartsOfTheLineAreNamed runs both stages through the pipeline.
func TestPartsOfTheLineAreNamed(t *testing.T) {
	d := lineDetector(t, 0.5)
	source, err := sim.Factory(sim.Options{URL: "sim://line?seed=4&frames=40&epoch=900000000", Unpaced: true})
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	open := ClassifierOpener(classifierOptions(t))
	ended := make(chan struct{})
	labels := map[string]int{}
	p, err := vision.New(vision.Options{
		Models: []vision.ModelOptions{{Name: "line", Open: func(context.Context) (vision.Detector, error) {
			<-ready // so that no frame is inspected before there are labels
			return stays{d}, nil
		}}},
		Classifiers: []vision.ClassifierOptions{{Name: "colour", Open: open}},
		Cameras: []vision.CameraOptions{{
			ID: "cam", NewSource: source, Model: "line", Lossless: true, Classify: vision.ClassifyOptions{Model: "colour", Classes: []string{sim.ClassPart}},
		}},
		Sink: func(e vision.Event) {
			for _, o := range e.Detections {
				if (o.Label != "") != (o.Class == sim.ClassPart) || (o.Label != "" && o.LabelConfidence < 0.33) {
					t.Errorf("%+v", o)
				}
				labels[o.Label]++
			}
		},
		OnState: func(s vision.CameraState) {
			if s.Reason == vision.ReasonEnded {
				close(ended)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for deadline := time.Now().Add(time.Minute); !p.Stats().Classifiers[0].Ready && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		close(ready)
	}()
	served := make(chan error, 1)
	go func() { served <- p.Serve(t.Context()) }()
	<-ended
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	t.Logf("%v, %+v", labels, p.Stats().Classifiers[0])
	delete(labels, "") // of flaws
	if len(labels) == 0 {
		t.Error("no part was named")
	}
}

// stays is a detector that the test closes, not the pipeline.
type stays struct{ vision.Detector }

func (stays) Close() error { return nil }
