//go:build !novision

package onnx

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"outstation/vision"
)

// golden is vision/testdata/vtest_golden.json.
type golden struct {
	Tolerance struct{ Pixels, Confidence float64 }
	Frames    []struct {
		Index            int
		People, Mistakes []goldenBox
	}
}

type goldenBox struct {
	Confidence float64
	Box        vision.Box
}

func readGolden(t *testing.T) golden {
	t.Helper()
	raw, err := os.ReadFile("../testdata/vtest_golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(raw, &g); err != nil {
		t.Fatal(err)
	}
	if len(g.Frames) == 0 || g.Tolerance.Pixels == 0 {
		t.Fatal("the golden file has no frames or no tolerance")
	}
	return g
}

// near reports whether two boxes agree within tolerance pixels in every number.
func near(a, b vision.Box, tolerance float64) bool {
	d := max(math.Abs(a.X-b.X), math.Abs(a.Y-b.Y), math.Abs(a.W-b.W), math.Abs(a.H-b.H))
	return d <= tolerance
}

// contains reports whether one of the boxes is near b.
func contains(boxes []goldenBox, b vision.Box, tolerance float64) bool {
	for _, g := range boxes {
		if near(g.Box, b, tolerance) {
			return true
		}
	}
	return false
}

// TestGoldenPeople checks people in real footage, through the real capture,
// model and library, against boxes that were verified by eye.
func TestGoldenPeople(t *testing.T) {
	g := readGolden(t)
	d := newDetector(t, nil)
	src := footage(t)
	next := 0
	for _, want := range g.Frames {
		for ; next < want.Index; next++ {
			read(t, src).Image.Close()
		}
		f := read(t, src)
		next++
		found, _, err := d.Detect(f)
		f.Image.Close()
		if err != nil {
			t.Fatalf("frame %d: %v", want.Index, err)
		}
		for _, w := range want.People {
			if !matched(found, w, g) {
				t.Errorf("frame %d: no person near %+v; found %+v", want.Index, w, found)
			}
		}
		known := append(want.People, want.Mistakes...)
		for _, f := range found {
			if f.Class == "person" && f.Confidence >= 0.5+g.Tolerance.Confidence && !contains(known, f.Box, g.Tolerance.Pixels) {
				t.Errorf("frame %d: a person that nobody saw: %+v", want.Index, f)
			}
		}
	}
}

func matched(found []vision.Detection, want goldenBox, g golden) bool {
	for _, f := range found {
		if f.Class == "person" && near(f.Box, want.Box, g.Tolerance.Pixels) && math.Abs(f.Confidence-want.Confidence) <= g.Tolerance.Confidence {
			return true
		}
	}
	return false
}

func read(t testing.TB, src vision.Source) vision.Frame {
	t.Helper()
	f, err := src.Read()
	if err != nil {
		t.Fatal(err)
	}
	return f
}
