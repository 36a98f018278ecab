package vision

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestYOLOv8FindsWhatIsThere writes boxes into an output by hand, in the
// layout of the family, and expects them in the frame.
func TestYOLOv8FindsWhatIsThere(t *testing.T) {
	const cells = 60
	classes := []string{"a", "b", "c"}
	y, err := NewYOLOv8(HeadOptions{Width: 64, Height: 64, Classes: classes, Confidence: 0.4}, cells)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]float32, y.Values())
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
		found, err := y.Decode(out, 0.5, 126, 126)
		if err != nil {
			t.Fatal(err)
		}
		want := []Detection{
			{Class: "c", Confidence: 0.9, Box: Box{32, 16, 16, 8}}, {Class: "b", Confidence: 0.7, Box: Box{110, 110, 16, 16}},
			{Class: "a", Confidence: 0.5, Box: Box{32, 16, 16, 8}},
		}
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
	opts := HeadOptions{Width: 64, Height: 64, Classes: []string{"a"}}
	if _, err := NewYOLOv8(opts, 0); err == nil {
		t.Error("0 cells: no error")
	}
	if _, err := NewYOLOv8(HeadOptions{Width: 63, Height: 64, Classes: []string{"a"}}, 1); err == nil {
		t.Error("a width of 63: no error")
	}
	y, err := NewYOLOv8(opts, 4)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := y.Decode(make([]float32, 19), 1, 64, 64); err == nil {
		t.Error("an output that is too short: no error")
	}
	if _, err := y.Decode(make([]float32, 20), 0, 64, 64); err == nil {
		t.Error("a scale of 0: no error")
	}
}
