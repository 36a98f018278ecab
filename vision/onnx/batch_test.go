//go:build !novision

package onnx

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"outstation/vision"
	"outstation/vision/sim"
	"outstation/vision/sim/detector"
	"outstation/vision/testfiles"
)

// fixture is the network of testdata/batch.py.
func fixture(t testing.TB, file string, change func(*Options)) *Detector {
	t.Helper()
	return newDetector(t, func(o *Options) {
		o.ModelPath, o.Classes, o.Confidence = "testdata/"+file, []string{"thing"}, 0.25
		if change != nil {
			change(o)
		}
	})
}

// lineBatches is the built-in model for batches of up to n.
func lineBatches(t testing.TB, n int) *Detector {
	t.Helper()
	return newDetector(t, func(o *Options) {
		o.ModelPath, o.Model, o.File, o.Confidence, o.MaxBatch = "", detector.ONNX(), detector.File(), 0.2, n
	})
}

// scenes are n different pictures of the line.
func scenes(t testing.TB, n int) []vision.Frame {
	t.Helper()
	line, err := sim.NewLine(sim.LineOptions{Seed: 5, DefectRate: 0.5})
	if err != nil {
		t.Fatal(err)
	}
	frames := make([]vision.Frame, n)
	for i := range frames {
		o := line.Options()
		frames[i] = vision.Frame{Width: o.Width, Height: o.Height, Image: line.Image(int64(200 + 37*i))}
		t.Cleanup(frames[i].Image.Close)
	}
	return frames
}

// same compares detections. Another batch is another order of sums.
func same(a, b []vision.Detection) bool {
	near := func(x, y, by float64) bool { return math.Abs(x-y) <= by }
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		p, q := a[i].Box, b[i].Box
		if a[i].Class != b[i].Class || !near(a[i].Confidence, b[i].Confidence, 1e-4) ||
			!near(p.X, q.X, 0.05) || !near(p.Y, q.Y, 0.05) || !near(p.W, q.W, 0.05) || !near(p.H, q.H, 0.05) {
			return false
		}
	}
	return true
}

// TestABatchFindsWhatEachFrameAloneShows, at every size: 3 and 5 are filled up
// to 4 and 8 with what the batch before left there.
func TestABatchFindsWhatEachFrameAloneShows(t *testing.T) {
	for name, d := range map[string]*Detector{
		"bytes, YOLOv8 form": lineBatches(t, 8),
		"floats, YOLOX form": fixture(t, "batch_dynamic.onnx", func(o *Options) { o.MaxBatch = 8 }),
	} {
		t.Run(name, func(t *testing.T) {
			frames := scenes(t, 8)
			alone := make([][]vision.Detection, len(frames))
			things := 0
			for i, f := range frames {
				found, _, err := d.Detect(f)
				if err != nil {
					t.Fatal(err)
				}
				alone[i] = append(alone[i], found...)
				things += len(found)
			}
			if things < len(frames) || same(alone[0], alone[1]) {
				t.Fatalf("%d things in %d frames, want more, and not the same in all", things, len(frames))
			}
			for _, n := range []int{8, 3, 5, 1, 4, 2} {
				for from := 0; from+n <= len(frames); from += 3 {
					results, _, err := d.DetectBatch(frames[from : from+n])
					if err != nil || len(results) != n {
						t.Fatalf("batch of %d: %d results, error %v", n, len(results), err)
					}
					for i, r := range results {
						if r.Err != nil || !same(r.Detections, alone[from+i]) {
							t.Errorf("batch of %d, frame %d: %v (%v), alone %v", n, from+i, r.Detections, r.Err, alone[from+i])
						}
					}
				}
			}
		})
	}
}

// TestAFrameThatCannotBeReadIsLeftOut, and the others get their own results.
func TestAFrameThatCannotBeReadIsLeftOut(t *testing.T) {
	d, frames, broken := lineBatches(t, 4), scenes(t, 4), errors.New("no pixels")
	var want [][]vision.Detection
	for _, f := range frames {
		found, _, err := d.Detect(f)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, append([]vision.Detection(nil), found...))
	}
	frames[1].Image = unreadable{broken}
	results, _, err := d.DetectBatch(frames)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		if i == 1 {
			if !errors.Is(r.Err, broken) || len(r.Detections) != 0 {
				t.Errorf("frame 1: %v, %v; want its own error", r.Detections, r.Err)
			}
		} else if r.Err != nil || !same(r.Detections, want[i]) {
			t.Errorf("frame %d: %v, %v; want %v", i, r.Detections, r.Err, want[i])
		}
	}
}

func TestAFixedBatchRunsAsItIs(t *testing.T) {
	d, frames := fixture(t, "batch_2.onnx", nil), scenes(t, 3)
	if info := d.Info(); info.MaxBatch != 2 || len(info.Rates) != 0 {
		t.Fatalf("%+v, want batches of two and nothing measured", info)
	}
	dynamic := fixture(t, "batch_dynamic.onnx", func(o *Options) { o.MaxBatch = 1 })
	for i, f := range frames {
		want, _, err := dynamic.Detect(f)
		if err != nil {
			t.Fatal(err)
		}
		if got, _, err := d.Detect(f); err != nil || !same(got, want) {
			t.Errorf("frame %d: %v (%v), want %v", i, got, err, want)
		}
	}
	if _, _, err := d.DetectBatch(frames); err == nil || !strings.Contains(err.Error(), "a batch of 3 frames: want 1 to 2") {
		t.Errorf("three frames: %v", err)
	}
}

// TestYOLOXNanoHasABatchOfOne, so it cannot have batches, and says so.
func TestYOLOXNanoHasABatchOfOne(t *testing.T) {
	if info := newDetector(t, nil).Info(); info.MaxBatch != 1 || len(info.Rates) != 0 {
		t.Errorf("%+v, want no batches and nothing measured", info)
	}
	o := options(t)
	o.MaxBatch = 4
	if d, err := New(o); err == nil || !strings.Contains(err.Error(), "fixed at 1") {
		t.Errorf("error %v, want that the batch is fixed", err)
		if err == nil {
			d.Close()
		}
	}
}

// TestBatchIsChosenByMeasuring on the real model and library, whatever comes
// of it on this machine.
func TestBatchIsChosenByMeasuring(t *testing.T) {
	measured := func(cameras int) vision.DetectorInfo {
		return fixture(t, "batch_dynamic.onnx", func(o *Options) { o.Cameras = cameras }).Info()
	}
	info := measured(6)
	if len(info.Rates) == 0 || len(info.Rates) > 4 || info.MaxBatch != smallest(info.Rates) { // a busy machine may end it early
		t.Fatalf("%+v, want the rates of 1, 2, 4 and 6, and one of them chosen", info)
	}
	for i, r := range info.Rates {
		if want := []int{1, 2, 4, 6}[i]; r.Batch != want || r.PerSecond <= 0 || r.Error != "" {
			t.Errorf("%+v, want a rate for %d", r, want)
		}
	}
	if info := measured(1); info.MaxBatch != 1 || len(info.Rates) != 1 {
		t.Errorf("one camera: %+v, want no batches", info)
	}
}

// TestABatchThatCannotBeRunIsNoted, as it is where memory runs out: the
// smaller ones are measured all the same.
func TestABatchThatCannotBeRunIsNoted(t *testing.T) {
	d, full := fixture(t, "batch_dynamic.onnx", nil), errors.New("out of memory")
	o, err := Options{Library: options(t).Library, ModelPath: "testdata/batch_dynamic.onnx", ModelName: "m"}.check()
	if err != nil {
		t.Fatal(err)
	}
	measure := func(fails int) ([]vision.BatchRate, error) {
		b, err := unbound(d.shape, 8)
		if err != nil {
			t.Fatal(err)
		}
		defer b.close()
		return b.measure(sizes(8), func(n int) error {
			if n == fails {
				return full
			}
			return b.connect(o, ProviderCPU, n)
		})
	}
	rates, err := measure(2)
	if err != nil || len(rates) != 2 || rates[0].PerSecond <= 0 || rates[1] != (vision.BatchRate{Batch: 2, Error: full.Error()}) || smallest(rates) != 1 {
		t.Errorf("%+v (%v), want the rate of 1 and the error of 2", rates, err)
	}
	if _, err := measure(1); !errors.Is(err, full) {
		t.Errorf("not even one picture: %v", err)
	}
}

func TestSmallestBatchThatIsNearlyAsFast(t *testing.T) {
	for _, c := range []struct {
		rates []float64 // at 1, 2, 4, 8
		want  int
	}{
		{[]float64{84, 83, 82, 80}, 1}, {[]float64{100, 124, 124, 120}, 1}, {[]float64{100, 126, 126, 126}, 2},
		{[]float64{100, 180, 300, 310}, 4}, {[]float64{100, 180, 300, 400}, 8}, {[]float64{100, 50}, 1}, {nil, 1},
		{[]float64{100, 300, 0}, 2}, // the largest could not be run
	} {
		var rates []vision.BatchRate
		for i, r := range c.rates {
			rates = append(rates, vision.BatchRate{Batch: 1 << i, PerSecond: r})
		}
		if got := smallest(rates); got != c.want {
			t.Errorf("%v: batch %d, want %d", c.rates, got, c.want)
		}
	}
}

func TestSizes(t *testing.T) {
	for most, want := range map[int]string{1: "[1]", 2: "[1 2]", 3: "[1 2 3]", 8: "[1 2 4 8]", 9: "[1 2 4 8 9]"} {
		if got := fmt.Sprint(sizes(most)); got != want {
			t.Errorf("up to %d: %s, want %s", most, got, want)
		}
	}
}

func TestABatchAllocatesNothing(t *testing.T) {
	d := lineBatches(t, 4)
	frames := []vision.Frame{blankFrame(), blankFrame(), blankFrame()}
	if n := testing.AllocsPerRun(10, func() { d.DetectBatch(frames) }); n != 0 {
		t.Errorf("%v allocations a batch, want 0", n)
	}
}

func TestImpossibleBatches(t *testing.T) {
	o := Options{Library: testfiles.Library().Path, ModelPath: "m", ModelName: "m", MaxBatch: 65}
	if _, err := o.check(); err == nil || !strings.Contains(err.Error(), "max batch 65") {
		t.Errorf("error %v", err)
	}
}
