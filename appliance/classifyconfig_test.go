package main

import (
	"strings"
	"testing"

	"outstation/vision"
)

const classified = judged + `
      model: line
      classify: {model: colour, classes: [part], max: 3, margin: 0.2}
  classifiers:
    - {name: colour, path: colour.onnx, labels: [red, green]}
`

func TestClassifierKeys(t *testing.T) {
	cfg, err := parseConfig("o.yaml", []byte(classified), nil)
	if err != nil {
		t.Fatal(err)
	}
	var o vision.CameraOptions
	cfg.Vision.Cameras[0].applyView(&o)
	if o.Classify.Model != "colour" || o.Classify.Classes[0] != "part" || o.Classify.Max != 3 || o.Classify.Margin != 0.2 {
		t.Errorf("%+v", o.Classify)
	}
	if c := cfg.Vision.classifiers(); len(c) != 1 || c[0].Name != "colour" || c[0].Open == nil {
		t.Errorf("%+v", c)
	}
	for change, want := range map[[2]string]string{
		{"{model: colour", "{model: color"}:                     `vision.cameras[0].classify.model: no classifier is called "color"`,
		{"max: 3", "max: -3"}:                                   "vision.cameras[0].classify: expected max",
		{"classes: [part]", "classes: [paint]"}:                 `vision.cameras[0].classify.classes[0]: model line has no class "paint"`,
		{"path: colour.onnx", `path: "store:colour"`}:           "vision.classifiers[0].path: expected the path of an ONNX file",
		{"labels: [red, green]", "labels: []"}:                  "vision.classifiers[0].labels: ",
		{"path: colour.onnx", `path: ""`}:                       "vision.classifiers[0].path: ",
		{"name: colour", `name: ""`}:                            "vision.classifiers[0].name: ",
		{"green]}", "green], mean: [0.5]}"}:                     "vision.classifiers[0].mean: ",
		{"green]}", "green], mean: [0, 0, 0], std: [1, 0, 1]}"}: "vision.classifiers[0].std: ",
	} {
		_, err := parseConfig("o.yaml", []byte(strings.Replace(classified, change[0], change[1], 1)), nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", change[1], err, want)
		}
	}
}
