//go:build !novision

package onnx

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"outstation/vision"
	"outstation/vision/head"
	"outstation/vision/modelfile"
	"outstation/vision/testfiles"
)

// property is an element of a model's metadata_props: field 14 of ModelProto,
// with which a file may be continued. Key and value are shorter than 128 bytes.
func property(key, value string) []byte {
	entry := append([]byte{1<<3 | 2, byte(len(key))}, key...)
	entry = append(append(entry, 2<<3|2, byte(len(value))), value...)
	return append([]byte{14<<3 | 2, byte(len(entry))}, entry...)
}

// TestNothingIsGuessed: what a graph does not say is asked for.
func TestNothingIsGuessed(t *testing.T) {
	three := []string{"bolt", "nut", "washer"}
	said := func(change func(*modelfile.File)) func(*Options) {
		return func(o *Options) {
			o.File = &modelfile.File{Classes: three}
			if change != nil {
				change(o.File)
			}
		}
	}
	cases := map[string]struct {
		model  string
		change func(*Options)
		want   []string
	}{
		"decoded YOLOX or YOLOv6":        {"yolox-decoded", said(nil), []string{"yolox-decoded", "yolov6", "name one as head in model.yaml"}},
		"how YOLOv5's pictures are":      {"yolov5", said(nil), []string{"those of yolov5", "colour, normalise, letterbox, pad", "head: yolov5"}},
		"how an SSD's pictures are":      {"ssd", said(nil), []string{"those of ssd", "colour, normalise, letterbox, pad in model.yaml"}},
		"a uint8 input is normalised":    {"tf-detection", said(func(f *modelfile.File) { f.Normalise = nil }), []string{"say colour, letterbox, pad"}},
		"classes that nobody names":      {"yolov7-end2end", func(o *Options) { o.File = &modelfile.File{} }, []string{"do not show how many classes", "name classes in model.yaml"}},
		"two classes, and three outputs": {"yolov8", func(o *Options) { o.Classes = three[:2] }, []string{"yolov8 with 3 classes, but 2 are named"}},
		"another head":                   {"yolov8", said(func(f *modelfile.File) { f.Head = "yolov5" }), []string{"yolov5 wants one output, 3 × cells", "1×7×126"}},
		"another size":                   {"yolov8", said(func(f *modelfile.File) { f.Width, f.Height = 640, 640 }), []string{"wants 96×64 pixels, model.yaml says 640×640"}},
		"a class that is none": {"yolov8", said(func(f *modelfile.File) { f.ClassConfidence = map[string]float64{"screw": 0.5} }),
			[]string{`"screw"`, "no such class"}},
		"normalised bytes": {"yolox-bytes", said(func(f *modelfile.File) {
			f.Normalise = &modelfile.Normalise{Scale: 1. / 255, Std: [3]float64{1, 1, 1}}
		}), []string{"takes uint8", "leave it out of model.yaml"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			o := Options{Library: testfiles.Library().Need(t), ModelPath: "testdata/heads/" + c.model + ".onnx", ModelName: c.model, Threads: 1}
			c.change(&o)
			d, err := New(o)
			if err == nil {
				d.Close()
				t.Fatalf("no error, but %+v", d.Info())
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
}

// TestMetadataOfTheGraph: a task that is no detection, and a size that is only
// there.
func TestMetadataOfTheGraph(t *testing.T) {
	library := testfiles.Library().Need(t)
	plain, err := os.ReadFile("testdata/heads/yolov8.onnx")
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Library: library, Model: append(slices.Clone(plain), property("task", "segment")...), ModelName: "m"}
	if _, err := New(o); err == nil || !strings.Contains(err.Error(), `task is "segment"`) {
		t.Errorf("a segmentation: %v", err)
	}
	dynamic, err := os.ReadFile("testdata/heads/yolov8-dynamic.onnx")
	if err != nil {
		t.Fatal(err)
	}
	o.Model = append(dynamic, property("imgsz", "nothing")...)
	if _, err := New(o); err == nil || !strings.Contains(err.Error(), "say input in model.yaml") {
		t.Errorf("a size that is not understood: %v", err)
	}
	g := head.Graph{Inputs: []head.Port{{Name: "images", Type: head.Float32, Dims: []int{-1, 3, -1, -1}}}}
	if _, err := inspect(g, modelfile.File{}, modelfile.Metadata{}); err == nil || !strings.Contains(err.Error(), "input: {width") {
		t.Errorf("a size that nobody says: %v", err)
	}
	s, err := inspect(g, modelfile.File{Width: 320, Height: 192}, modelfile.Metadata{Width: 640, Height: 640})
	if err != nil || s.width != 320 || s.height != 192 || s.batch != 0 {
		t.Errorf("the model file's size: %+v, %v", s, err)
	}
}

// TestInspectRefuses what is no picture.
func TestInspectRefuses(t *testing.T) {
	port := func(name string, of head.Type, dims ...int) head.Port {
		return head.Port{Name: name, Type: of, Dims: dims}
	}
	for name, inputs := range map[string][]head.Port{
		"nothing":        nil,
		"only sizes":     {port(head.SizesInput, head.Int64, 1, 2)},
		"two pictures":   {port("a", head.Float32, 1, 3, 64, 64), port("b", head.Float32, 1, 3, 64, 64)},
		"another vector": {port("a", head.Float32, 1, 3, 64, 64), port("scale_factor", head.Float32, 1, 2)},
		"grey":           {port("a", head.Float32, 1, 1, 64, 64)},
		"doubles":        {port("a", "float64", 1, 3, 64, 64)},
		"either way":     {port("a", head.Float32, 1, 3, 64, 3)},
	} {
		if s, err := inspect(head.Graph{Inputs: inputs}, modelfile.File{}, modelfile.Metadata{}); err == nil {
			t.Errorf("%s: %+v and no error", name, s)
		}
	}
}

// TestTheConfigurationWins over the model file, and says so.
func TestTheConfigurationWins(t *testing.T) {
	frame := exportedFrames(t)["flat"]
	all := openExported(t, "yolov8", nil)
	few := openExported(t, "yolov8", func(o *Options) {
		o.Classes, o.Confidence = []string{"x", "y", "z"}, 0.46
	})
	foundAll, _, err := all.Detect(frame)
	if err != nil {
		t.Fatal(err)
	}
	want := 0
	for _, f := range foundAll {
		if f.Confidence >= 0.46 {
			want++
		}
	}
	found, _, err := few.Detect(frame)
	if err != nil || len(found) != want || want == 0 || want == len(foundAll) {
		t.Fatalf("found %+v, %v; want the %d of %+v that reach 0.46", found, err, want, foundAll)
	}
	if !strings.Contains("xyz", found[0].Class) {
		t.Errorf("class %q, want one of the configuration's", found[0].Class)
	}
	if got := few.Info().Classes; strings.Join(got, "") != "xyz" {
		t.Errorf("classes %q, want those of the configuration", got)
	}
	settings := strings.Join(few.Info().Settings, "\n")
	for _, want := range []string{
		"model file: testdata/heads/yolov8.yaml", "0.46 of the configuration wins over 0.4", "the 3 of the configuration",
		"the 3 of the graph's metadata are not used", "head: yolov8, recognised",
	} {
		if !strings.Contains(settings, want) {
			t.Errorf("the settings do not say %q:\n%s", want, settings)
		}
	}
}

// TestAClassThatIsNotNamedIsAnError, in the forms whose outputs do not show how
// many there are.
func TestAClassThatIsNotNamedIsAnError(t *testing.T) {
	d := openExported(t, "efficient-nms", func(o *Options) { o.Classes = []string{"bolt"} })
	var failed error
	for _, f := range exportedFrames(t) {
		if _, _, err := d.Detect(f); err != nil {
			failed = errors.Join(failed, err)
		}
	}
	if failed == nil || !strings.Contains(failed.Error(), "more classes than the 1 that are named") {
		t.Errorf("got %v", failed)
	}
}

// TestAFloorBringsWeakBoxesAndSaysWhatCounts, for the classes that differ too.
func TestAFloorBringsWeakBoxesAndSaysWhatCounts(t *testing.T) {
	frame := exportedFrames(t)["flat"]
	own := map[string]float64{"a": 0.9}
	open := func(floor float64) *Detector {
		return openExported(t, "yolov8", func(o *Options) {
			file, err := modelfile.Find(o.ModelPath)
			if err != nil {
				t.Fatal(err)
			}
			o.Classes, o.Confidence, o.Floor, o.File = []string{"a", "b", "c"}, 0.46, floor, file
			o.File.ClassConfidence = own
		})
	}
	count := func(d *Detector, of func(vision.Detection) bool) (n int) {
		found, _, err := d.Detect(frame)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if of(f) {
				n++
			}
		}
		return n
	}
	plain, low := open(0), open(0.05)
	if i := plain.Info(); i.Confidence != 0 || i.ClassConfidence != nil {
		t.Errorf("without a floor all counts, got %v and %v", i.Confidence, i.ClassConfidence)
	}
	i := low.Info()
	if i.Confidence != 0.46 || i.ClassConfidence["a"] != 0.9 || own["a"] != 0.9 {
		t.Errorf("got %v and %v", i.Confidence, i.ClassConfidence)
	}
	counts := func(f vision.Detection) bool {
		if f.Class == "a" {
			return f.Confidence >= 0.9
		}
		return f.Confidence >= 0.46
	}
	every := func(vision.Detection) bool { return true }
	if a, b, all := count(plain, every), count(low, counts), count(low, every); a != b || a == 0 || all <= a {
		t.Errorf("without a floor %d boxes, with one %d that count, of %d", a, b, all)
	}
}
