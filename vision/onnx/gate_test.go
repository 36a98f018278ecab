//go:build !novision

package onnx

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"outstation/vision/models"
	"outstation/vision/sim/detector"
	"outstation/vision/testfiles"
)

// noise is the built-in model with its largest weights replaced by noise of
// the same size: it loads and runs, and finds something else.
func noise(t *testing.T) []byte {
	t.Helper()
	model := bytes.Clone(detector.ONNX())
	rnd := rand.New(rand.NewPCG(1, 1))
	changed := 0
	for i := 0; i+4 <= len(model); i += 4 {
		v := math.Float32frombits(binary.LittleEndian.Uint32(model[i:]))
		if a := math.Abs(float64(v)); a > 1e-3 && a < 0.5 && i > len(model)/4 && i < len(model)*3/4 {
			binary.LittleEndian.PutUint32(model[i:], math.Float32bits(float32(rnd.NormFloat64()*a)))
			changed++
		}
	}
	if changed < 1000 {
		t.Fatalf("only %d weights were changed", changed)
	}
	return model
}

// TestGateOnRealModels lets the models that are known by name inspect their
// golden frames, and one whose weights are noise.
func TestGateOnRealModels(t *testing.T) {
	line, ok := models.Known("line")
	yolox, ok2 := models.Known("yolox-nano")
	if !ok || !ok2 {
		t.Fatal("the catalogue has changed")
	}
	library := testfiles.Library().Need(t)
	for name, c := range map[string]struct {
		entry      models.Entry
		model      []byte
		confidence float64
		passes     bool
	}{
		"line":       {line, detector.ONNX(), line.Confidence, true},
		"noise":      {line, noise(t), line.Confidence, false},
		"yolox-nano": {yolox, content(t, testfiles.Model().Need(t)), yolox.Confidence, true},
		// Where next to nothing counts, the same boxes have to be found.
		"line, strict":  {line, detector.ONNX(), 0.99, true},
		"noise, strict": {line, noise(t), 0.99, false},
	} {
		t.Run(name, func(t *testing.T) {
			floor, err := models.GoldenFloor(c.entry.Golden())
			if err != nil {
				t.Fatal(err)
			}
			o := Options{Library: library, Model: c.model, ModelName: name, Confidence: c.confidence, Floor: floor, Threads: 1, SHA256: "abc"}
			if c.entry.Name == "line" {
				o.File = detector.File()
			}
			d, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			g, err := models.RunGate(t.Context(), c.entry.Golden(), d, time.Now())
			t.Logf("%+v", g)
			if g.Passed != c.passes || (err == nil) != c.passes || (!c.passes && !errors.Is(err, models.ErrGate)) {
				t.Errorf("got %v", err)
			}
			if c.passes && (g.Boxes < 10 || g.LeastIoU < 0.98 || g.MostOff > 0.02) { // the same arithmetic, or almost
				t.Errorf("the boxes are only just those that are expected: %+v", g)
			}
			if i := d.Info(); i.ModelSHA256 != "abc" || !strings.HasPrefix(i.Runtime, "onnxruntime 1.") {
				t.Errorf("got %+v", i)
			}
		})
	}
}

func content(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
