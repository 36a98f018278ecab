package modelfile

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"outstation/vision/head"
)

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadTakesEveryKey(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "labels.txt", "bolt\r\n nut \r\nwasher\n\n")
	path := write(t, dir, "m.yaml", `
head: yolov8
classes: labels.txt
input: {width: 640, height: 384}
colour: rgb
normalise: {scale: 1/255, mean: [0.5, 0.4, 0.3], std: [0.2, 0.3, 0.4]}
letterbox: centre
pad: 114
confidence: 0.4
iou: 0.5
class_confidence: {nut: 0.6}
`)
	got, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	pad := byte(114)
	want := &File{
		Path: path, Head: "yolov8", Classes: []string{"bolt", "nut", "washer"}, Labels: "labels.txt", Width: 640, Height: 384,
		Colour: head.RGB, Normalise: &Normalise{1. / 255, [3]float64{0.5, 0.4, 0.3}, [3]float64{0.2, 0.3, 0.4}},
		Letterbox: head.LetterboxCentre, Pad: &pad, Confidence: 0.4, IoU: 0.5, ClassConfidence: map[string]float64{"nut": 0.6},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if empty, err := Parse("x", nil); err != nil || !reflect.DeepEqual(empty, &File{Path: "x"}) {
		t.Errorf("an empty file: %+v, %v", empty, err)
	}
}

// TestReadIsStrict: each mistake is an error that says what is expected.
func TestReadIsStrict(t *testing.T) {
	for text, want := range map[string]string{
		"head: yolov8\nclases: [a]":              `line 2: unknown key "clases"`,
		"input: {width: 1, height: 2, depth: 3}": `line 1: unknown key "depth": want one of width, height`,
		"normalise:\n  scal: 1":                  `line 2: unknown key "scal"`,
		"- a":                                    "line 1: want a mapping",
		"input: 640":                             "line 1: want a mapping of keys width",
		"head: yolo":                             "want one of",
		"head: yolov8\nhead: ssd":                "line 2",
		"input: {width: 640}":                    "width 640 and height 0",
		"input: {width: 640, height: 90000}":     "1 to 8192",
		"input: {width: wide, height: 1}":        "line 1",
		"colour: grey":                           "rgb or bgr",
		"letterbox: middle":                      "top-left, centre or stretch",
		"pad: 256":                               "0 to 255",
		"pad: -1":                                "0 to 255",
		"confidence: 1":                          "less than 1",
		"confidence: 0":                          "more than 0",
		"confidence: .nan":                       "more than 0",
		"iou: 1.5":                               "at most 1",
		"class_confidence: {a: 2}":               "class_confidence.a: got 2",
		"normalise: {scale: 1/0}":                "fraction such as 1/255",
		"normalise: {scale: x}":                  "fraction such as 1/255",
		"normalise: {mean: [1, 2]}":              "got 2 numbers, want 3",
		"normalise: {std: [1, 0, 1]}":            "std more than 0",
		"normalise: {mean: [.nan, 0, 0]}":        "up to a million",
		"classes: []":                            "at least one",
		"classes: [a, '']":                       "name 2 of 2 is empty",
		"classes: ../labels.txt":                 "in the directory of this one",
		"classes: labels.txt":                    "labels.txt",
		"classes: {0: a}":                        "a list of names",
		"a: [":                                   "not YAML",
	} {
		_, err := Parse(filepath.Join(t.TempDir(), "model.yaml"), []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "model.yaml") {
			t.Errorf("%q: got %v, want the file and %q", text, err, want)
		}
	}
}

// TestFind: a file of the model's own name comes before the directory's.
func TestFind(t *testing.T) {
	dir := t.TempDir()
	model := filepath.Join(dir, "yolo.onnx")
	if f, err := Find(model); f != nil || err != nil {
		t.Errorf("without any: %v, %v", f, err)
	}
	write(t, dir, Name, "head: ssd")
	if f, err := Find(model); err != nil || f == nil || f.Head != "ssd" {
		t.Errorf("model.yaml: %+v, %v", f, err)
	}
	write(t, dir, "yolo.yaml", "head: yolov8")
	if f, err := Find(model); err != nil || f == nil || f.Head != "yolov8" {
		t.Errorf("yolo.yaml: %+v, %v", f, err)
	}
	write(t, dir, "yolo.yaml", "classes: labels.txt")
	if f, err := Find(model); err == nil {
		t.Errorf("labels that are missing: %+v and no error", f)
	}
	write(t, dir, "yolo.yaml", strings.Repeat("#", maxSize+1))
	if f, err := Find(model); err == nil {
		t.Errorf("a file that is too large: %+v and no error", f)
	}
}

func TestReadMetadata(t *testing.T) {
	got, err := ReadMetadata(map[string]string{
		"author": "Ultralytics", "task": "detect", "imgsz": "[384, 640]", "names": `{0: 'person', 1: "driver's seat", 2: 'two words'}`, "other": "x",
	})
	want := Metadata{Classes: []string{"person", "driver's seat", "two words"}, Width: 640, Height: 384, Task: "detect", Ultralytics: true}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if got, err := ReadMetadata(map[string]string{"names": "['a', 'b']"}); err != nil || !reflect.DeepEqual(got.Classes, []string{"a", "b"}) {
		t.Errorf("YOLOv5's list: %+v, %v", got, err)
	}
	for _, props := range []map[string]string{
		{"names": "{0: 'a', 2: 'b'}"}, {"names": "{-1: 'a'}"}, {"names": "{0: ''}"}, {"names": "nothing"}, {"names": `{0: 'a\'b"'}`},
		{"imgsz": "640"}, {"imgsz": "[1, 2, 3]"},
	} {
		if got, err := ReadMetadata(props); err == nil || !strings.Contains(err.Error(), "model.yaml") {
			t.Errorf("%v: got %+v, %v; want an error that says what to do", props, got, err)
		}
	}
}

// FuzzParse: whatever the text, there is a file or an error.
func FuzzParse(f *testing.F) {
	f.Add("head: yolov8\nclasses: [a]\nnormalise: {scale: 1/255}")
	f.Add("input: {width: &a 1, height: *a}\n? x")
	f.Add("{0: 'a', 1: 'b'}")
	f.Fuzz(func(t *testing.T, text string) {
		_, _ = ReadMetadata(map[string]string{"names": text, "imgsz": text})
		file, err := Parse("/nowhere/model.yaml", []byte(text))
		if (file == nil) == (err == nil) {
			t.Errorf("got %+v and %v", file, err)
		}
	})
}
