package main

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"outstation/appliance/internal/strictyaml"
	"outstation/vision"
)

const judged = minimal + `
vision:
  models:
    - {name: line, path: "builtin:line"}
    - {name: own, path: m.onnx, classes: [cat, dog], confidence: 0.4}
  cameras:
    - id: cam
      source: "sim://pattern"
`

func TestJudgeKeys(t *testing.T) {
	cfg, err := parseConfig("o.yaml", []byte(judged+`
      model: own
      policy: track
      debounce: 5
      confidence: 0.5
      min_area: 0.001
      max_area: 0.5
      classes: {cat: {confidence: 0.7, min_area: 0.01}}
      only: [cat]
      anchor: centre
      zones:
        - {name: gate, points: [[0, 0], [0.5, 0], [0.5, 1]], classes: [cat]}
      required_zones: [gate]
      masks: [[[0, 0], [0.1, 0], [0.1, 0.1], [0, 0.1]]]
      tracking: {low: 0.2, lost: 3s, confirm: 4}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	o := cfg.Vision.judge(cfg.Vision.Cameras[0])
	if err := o.Check(); err != nil {
		t.Error(err)
	}
	if o.Policy != vision.PolicyTrack || o.Debounce != 5 || o.Limits.Confidence != 0.5 || o.Limits.MinArea != 0.001 || o.Limits.MaxArea != 0.5 ||
		o.Classes["cat"] != (vision.Limits{Confidence: 0.7, MinArea: 0.01}) || !slices.Equal(o.Only, []string{"cat"}) || o.Anchor != vision.AnchorCentre {
		t.Errorf("%+v", o)
	}
	if len(o.Zones) != 1 || o.Zones[0].Name != "gate" || o.Zones[0].Area[1] != (vision.Point{X: 0.5}) || o.Zones[0].Classes[0] != "cat" ||
		o.Required[0] != "gate" || len(o.Masks[0]) != 4 || o.Tracking != (vision.TrackOptions{Low: 0.2, Lost: 3 * time.Second, Confirm: 4}) {
		t.Errorf("%+v", o)
	}
}

func TestImpossibleJudgeKeysAreNamed(t *testing.T) {
	for text, want := range map[string]string{
		"every_frame: true":                           "vision.cameras[0].every_frame: this key is now a policy; write policy: every_frame",
		"policy: sometimes":                           "vision.cameras[0].policy: expected detections or every_frame or on_change or track",
		"anchor: top":                                 "vision.cameras[0].anchor: ",
		"debounce: -1":                                "vision.cameras[0].debounce: ",
		"confidence: 1.5":                             "vision.cameras[0].confidence: ",
		"min_area: 2":                                 "vision.cameras[0].min_area: ",
		"{min_area: 0.5, max_area: 0.1}":              "vision.cameras[0].max_area: ",
		"zones: [{name: a, points: [[0, 0]]}]":        "vision.cameras[0].zones[0].points: 1 corners, expected 3",
		"masks: [[[0, 0], [1, 0], [1]]]":              "vision.cameras[0].masks[0][2]: expected a corner as [x, y], got 1 numbers",
		"masks: [[0, 0], [1, 0], [1, 1]]":             "vision.cameras[0].masks: expected a list of areas, each a list of corners [x, y], such as [[[0, 0], [1, 0], [1, 0.1]]] for one area",
		"masks: [[[0, 0], [1, 0], [1, x]]]":           "vision.cameras[0].masks: expected a list of areas",
		"masks: [[[0, 0], [1, 0], ~]]":                "vision.cameras[0].masks: expected a list of areas",
		"masks: 7":                                    "vision.cameras[0].masks: expected a list of areas",
		"zones: [{name: a, points: [0, 0, 1, 0]}]":    "vision.cameras[0].zones[0].points: expected the corners of one area, each [x, y], such as [[0, 0], [1, 0], [1, 0.1]]",
		"zones: [{name: a, points: [[[0, 0], [1]]]}]": "vision.cameras[0].zones[0].points: expected the corners of one area",
		"masks: [[[0, 0], [640, 0], [640, 480]]]":     "vision.cameras[0].masks[0]: corner 2 is at (640, 0), expected parts",
		"masks: [[[0, 0], [1, 1], [1, 0], [0, 1]]]":   "vision.cameras[0].masks[0]: its sides 1 and 3 meet",
		"zones: [{points: [[0, 0], [1, 1], [1, 0]]}]": "vision.cameras[0].zones[0].name: ",
		"required_zones: [x]":                         `vision.cameras[0].required_zones[0]: no zone of this camera is called "x"`,
		"tracking: {low: 1}":                          "vision.cameras[0].tracking: ",
		"{model: own, only: [cat, dgo]}":              `vision.cameras[0].only[1]: model own has no class "dgo", only cat, dog`,
		"{model: line, classes: {person: {}}}":        `vision.cameras[0].classes.person: model line has no class "person"`,
		"classes: {a: {confidence: 2}}":               "vision.cameras[0].classes.a.confidence: ",
	} {
		yaml := strings.ReplaceAll(strings.Trim(text, "{}"), ", max_area", "\n      max_area")
		if strings.HasPrefix(text, "{model") {
			yaml = strings.Replace(text[1:len(text)-1], ", ", "\n      ", 1)
		} else if !strings.HasPrefix(text, "{") {
			yaml = text
		}
		_, err := parseConfig("o.yaml", []byte(judged+"      "+yaml+"\n"), nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", yaml, err, want)
		}
		if all := new(strictyaml.Error); !errors.As(err, &all) || len(all.Problems) != 1 {
			t.Errorf("%s: want one problem, got %v", yaml, err)
		}
	}
}

// TestAModelIsAsLowAsItsCamerasAsk, and a camera that asks for nothing leaves it
// to the model that serves, whose own confidence stays as it is.
func TestAModelIsAsLowAsItsCamerasAsk(t *testing.T) {
	camera := func(model string, j JudgeConfig) CameraConfig { return CameraConfig{Model: model, JudgeConfig: j} }
	own := ModelConfig{Name: "own", Confidence: 0.4}
	for _, c := range []struct {
		cameras []CameraConfig
		floor   float64
		camera  float64 // of the first
	}{
		{[]CameraConfig{camera("own", JudgeConfig{})}, 0, 0},
		{[]CameraConfig{camera("own", JudgeConfig{Confidence: 0.6})}, 0.6, 0.6},
		{[]CameraConfig{camera("own", JudgeConfig{Confidence: 0.3})}, 0.3, 0.3},
		{[]CameraConfig{camera("own", JudgeConfig{}), camera("own", JudgeConfig{Confidence: 0.3})}, 0.3, 0},
		{[]CameraConfig{camera("own", JudgeConfig{}), camera("other", JudgeConfig{Confidence: 0.3})}, 0, 0},
		{[]CameraConfig{camera("own", JudgeConfig{Policy: "track"}), camera("own", JudgeConfig{Confidence: 0.3})}, 0.1, 0},
		{[]CameraConfig{camera("own", JudgeConfig{Tracking: TrackingConfig{On: true, Low: 0.2}})}, 0.2, 0},
		{[]CameraConfig{camera("own", JudgeConfig{Classes: map[string]ClassConfig{"cat": {Confidence: 0.25}}})}, 0.25, 0},
	} {
		v := VisionConfig{Models: []ModelConfig{own}, Cameras: c.cameras}
		if m, o := v.lowered(own), v.judge(c.cameras[0]); m.floor != c.floor || m.Confidence != 0.4 || o.Limits.Confidence != c.camera {
			t.Errorf("%+v: model %+v and camera %v, want a floor of %v and %v", c.cameras, m, o.Limits.Confidence, c.floor, c.camera)
		}
	}
}

// TestTheHeartbeatIsNotJudged: all that its camera finds is compared.
func TestTheHeartbeatIsNotJudged(t *testing.T) {
	text := strings.Replace(judged, "id: cam\n      source: \"sim://pattern\"", "id: heartbeat\n      heartbeat: true\n      model: line\n      source: \"sim://line\"", 1)
	for _, bad := range []string{"policy: track", "tracking: {on: true}", "masks: [[[0, 0], [1, 0], [1, 1]]]", "only: [part]"} {
		if _, err := parseConfig("o.yaml", []byte(text+"      "+bad+"\n"), nil); err == nil || !strings.Contains(err.Error(), "vision.cameras[0].heartbeat: ") {
			t.Errorf("%s: got %v", bad, err)
		}
	}
	cfg, err := parseConfig("o.yaml", []byte(text), nil)
	if err != nil || cfg.Vision.judge(cfg.Vision.Cameras[0]).Policy != vision.PolicyEveryFrame {
		t.Errorf("%v", err)
	}
}
