package head

import (
	"math"
	"math/rand/v2"
	"testing"

	"outstation/vision"
)

// columnsOf is one output of columns.
func columnsOf(rows int, data []float32) []Tensor {
	return []Tensor{{[]int{rows, len(data) / rows}, data}}
}

func detection(class string, confidence, x, y, w, h float64) vision.Detection {
	return vision.Detection{Class: class, Confidence: confidence, Box: vision.Box{X: x, Y: y, W: w, H: h}}
}

// TestYOLOv8FindsWhatIsThere writes boxes into an output by hand, in the
// layout of the family, and expects them in the frame.
func TestYOLOv8FindsWhatIsThere(t *testing.T) {
	const cells = 60
	classes := []string{"a", "b", "c"}
	y, err := New(YOLOv8, Options{Width: 64, Height: 64, Classes: classes, Confidence: 0.4}, nil)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]float32, 7*cells)
	r := rand.New(rand.NewPCG(1, 1))
	for i := 4 * cells; i < len(out); i++ {
		out[i] = r.Float32() * 0.39
	}
	set := func(cell int, cx, cy, w, h float32, class int, score float32) {
		for row, v := range []float32{cx, cy, w, h} {
			out[row*cells+cell] = v
		}
		out[(4+class)*cells+cell] = score
	}
	set(3, 20, 10, 8, 4, 2, 0.9)
	set(59, 20.5, 10, 8, 4, 2, 0.6) // the same object
	set(0, 20, 10, 8, 4, 0, 0.5)    // another class in the same place
	set(17, 60, 60, 10, 10, 1, 0.7) // reaches out of the frame
	set(18, 40, 40, 10, 10, 1, float32(math.NaN()))
	for range 2 { // nothing is left of the first time
		found, err := y.Decode(columnsOf(7, out), TopLeft(0.5, 126, 126))
		if err != nil {
			t.Fatal(err)
		}
		want := []vision.Detection{detection("c", 0.9, 32, 16, 16, 8), detection("b", 0.7, 110, 110, 16, 16), detection("a", 0.5, 32, 16, 16, 8)}
		if len(found) != len(want) {
			t.Fatalf("found %v, want %v", found, want)
		}
		for i, w := range want {
			if f := found[i]; f.Class != w.Class || math.Abs(f.Confidence-w.Confidence) > 1e-6 || f.Box != w.Box {
				t.Errorf("found %v, want %v", f, w)
			}
		}
	}
}

func TestYOLOv8RefusesWhatCannotBe(t *testing.T) {
	y, err := New(YOLOv8, Options{Width: 64, Height: 64, Classes: []string{"a"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := y.Decode([]Tensor{{[]int{5, 4}, make([]float32, 19)}}, TopLeft(1, 64, 64)); err == nil {
		t.Error("an output that is too short: no error")
	}
	if _, err := y.Decode(columnsOf(5, make([]float32, 20)), TopLeft(0, 64, 64)); err == nil {
		t.Error("a scale of 0: no error")
	}
}
