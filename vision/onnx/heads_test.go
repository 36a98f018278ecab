//go:build !novision

package onnx

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"outstation/vision"
	"outstation/vision/head"
	"outstation/vision/testfiles"
)

// exported is testdata/heads/NAME.json: what export.py found with its own
// decoder in the network that it exported.
type exported struct {
	Head   string
	Named  bool // the model file names the head; else it is recognised
	Frames map[string][]struct {
		Class      string
		Confidence float64
		Box        [4]float64 // x, y, width, height
	}
}

// exportedModels are the names of all fixtures.
func exportedModels(t testing.TB) (names []string) {
	t.Helper()
	paths, err := filepath.Glob("testdata/heads/*.json")
	if err != nil || len(paths) < 18 {
		t.Fatalf("%d fixtures, want 18 at least (%v)", len(paths), err)
	}
	for _, path := range paths {
		names = append(names, strings.TrimSuffix(filepath.Base(path), ".json"))
	}
	return names
}

func readExported(t testing.TB, name string) (e exported) {
	t.Helper()
	raw, err := os.ReadFile("testdata/heads/" + name + ".json")
	if err == nil {
		err = json.Unmarshal(raw, &e)
	}
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// enlarged is a frame that is scaled by whole numbers only, so that its pixels
// in the model's input are known to the last bit.
type enlarged struct {
	pixels        []byte
	width, height int
}

func (e *enlarged) Close() {}

func (e *enlarged) Letterbox(dst []byte, width, height int, pad byte) (float64, error) {
	w, h, scale := vision.Fit(e.width, e.height, width, height)
	for i := range dst[:3*width*height] {
		dst[i] = pad
	}
	return scale, e.draw(dst, width, w, h)
}

func (e *enlarged) Stretch(dst []byte, width, height int) error {
	return e.draw(dst, width, width, height)
}

func (e *enlarged) draw(dst []byte, width, w, h int) error {
	if w%e.width != 0 || h%e.height != 0 {
		return fmt.Errorf("%d×%d to %d×%d is no whole number", e.width, e.height, w, h)
	}
	for y := range h {
		for x := range w {
			from := 3 * (y*e.height/h*e.width + x*e.width/w)
			copy(dst[3*(y*width+x):], e.pixels[from:from+3])
		}
	}
	return nil
}

// exportedFrames are the frames that export.py looked at.
func exportedFrames(t testing.TB) map[string]vision.Frame {
	t.Helper()
	frames := map[string]vision.Frame{}
	for name, size := range map[string][2]int{"flat": {48, 20}, "wide": {48, 16}, "tall": {16, 32}} {
		pixels, err := os.ReadFile("testdata/heads/" + name + ".bgr")
		if err != nil || len(pixels) != 3*size[0]*size[1] {
			t.Fatalf("%s: %d bytes, %v", name, len(pixels), err)
		}
		frames[name] = vision.Frame{Width: size[0], Height: size[1], Image: &enlarged{pixels, size[0], size[1]}}
	}
	return frames
}

func openExported(t testing.TB, name string, change func(*Options)) *Detector {
	t.Helper()
	o := Options{Library: testfiles.Library().Need(t), ModelPath: "testdata/heads/" + name + ".onnx", ModelName: name, Threads: 1, Cameras: 1}
	if change != nil {
		change(&o)
	}
	return opened(t, o)
}

// TestExportedModels runs a model in each form of export, and expects what a
// decoder that shares nothing with ours found in the same network.
func TestExportedModels(t *testing.T) {
	frames := exportedFrames(t)
	for _, name := range exportedModels(t) {
		t.Run(name, func(t *testing.T) {
			want := readExported(t, name)
			d := openExported(t, name, nil)
			info := d.Info()
			if info.Head != want.Head || info.InputWidth != 96 || info.InputHeight != 64 {
				t.Errorf("got %+v, want head %s of 96×64", info, want.Head)
			}
			if named := strings.Contains(strings.Join(info.Settings, "\n"), "named in the model file"); named != want.Named {
				t.Errorf("settings %q, want the head to be named: %v", info.Settings, want.Named)
			}
			for range 2 { // nothing is left of the picture before
				for frame := range want.Frames {
					compare(t, d, want, frame, frames[frame])
				}
			}
		})
	}
}

// compare expects in a frame what export.py found. Float16 has eleven bits.
func compare(t *testing.T, d *Detector, all exported, name string, f vision.Frame) {
	t.Helper()
	pixels, confidence := 0.01, 1e-4
	if d.shape.inputs[d.shape.image].Type == head.Float16 {
		pixels, confidence = 0.1, 2e-3
	}
	got, _, err := d.Detect(f)
	if err != nil {
		t.Fatal(err)
	}
	want := all.Frames[name]
	if len(got) != len(want) || len(want) == 0 {
		t.Fatalf("%s: got %+v, want %+v", name, got, want)
	}
	for i, w := range want {
		g := got[i]
		box := vision.Box{X: w.Box[0], Y: w.Box[1], W: w.Box[2], H: w.Box[3]}
		if g.Class != w.Class || math.Abs(g.Confidence-w.Confidence) > confidence || !near(g.Box, box, pixels) {
			t.Errorf("%s, detection %d: got %+v, want %+v", name, i, g, w)
		}
	}
}

// TestExportedModelsAllocateNothing: only outputs whose size is not known
// before a run are allocated by it.
func TestExportedModelsAllocateNothing(t *testing.T) {
	frame := exportedFrames(t)["tall"]
	for _, name := range exportedModels(t) {
		d := openExported(t, name, nil)
		_, allocates := d.bound.sessions[0].session.(*varying)
		if want := slices.Contains([]string{"yolov7-end2end", "tf-detection"}, name); allocates != want {
			t.Errorf("%s: allocates its outputs: %v, want %v", name, allocates, want)
		}
		n := testing.AllocsPerRun(5, func() {
			if _, _, err := d.Detect(frame); err != nil {
				t.Fatal(err)
			}
		})
		if n > 0 && !allocates {
			t.Errorf("%s: %v allocations a frame, want 0", name, n)
		}
	}
}

// TestABatchOfExportedModels gives both frames at once to the models whose
// graphs take two: each gets its own detections.
func TestABatchOfExportedModels(t *testing.T) {
	all := exportedFrames(t)
	for _, name := range []string{"yolov8-batch2", "yolov8-dynamic"} {
		d := openExported(t, name, func(o *Options) {
			if o.Cameras = 2; name == "yolov8-dynamic" {
				o.MaxBatch = 2
			}
		})
		results, _, err := d.DetectBatch([]vision.Frame{all["tall"], all["flat"]})
		if err != nil {
			t.Fatal(err)
		}
		want := readExported(t, name)
		for i, frame := range []string{"tall", "flat"} {
			if got := results[i].Detections; results[i].Err != nil || len(got) != len(want.Frames[frame]) ||
				got[0].Class != want.Frames[frame][0].Class || math.Abs(got[0].Confidence-want.Frames[frame][0].Confidence) > 1e-4 {
				t.Errorf("%s, %s: got %+v, %v; want %+v", name, frame, got, results[i].Err, want.Frames[frame])
			}
		}
	}
}
