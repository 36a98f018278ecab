package main

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"outstation/vision"
)

// TestTheDemosConfigurationIsShort: people copy it, so it says only what was
// chosen, and it means what the program made.
func TestTheDemosConfigurationIsShort(t *testing.T) {
	dir := t.TempDir()
	c := demoRunCommand{Dir: dir, Video: "media/vtest.avi", Model: "m.onnx", ONNX: "demorun.go", MQTT: "127.0.0.1:0", Web: "127.0.0.1:0"}
	want := c.config(&bytes.Buffer{})
	text, err := sparseYAML(want)
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(string(text), "\n"); lines > 60 || strings.Contains(string(text), "motion") {
		t.Errorf("%d lines:\n%s", lines, text)
	}
	got, err := parseConfig("demo", text, nil)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if a, b := asYAML(t, got), asYAML(t, want); a != b {
		t.Errorf("read back:\n%s\nwant\n%s", a, b)
	}
	if len(got.Vision.Cameras) != 3 || got.Vision.Cameras[2].StallAfter != vision.DefaultStallAfter || reflect.DeepEqual(got, defaultConfig()) {
		t.Errorf("%+v", got.Vision.Cameras)
	}
}

func asYAML(t *testing.T, cfg Config) string {
	t.Helper()
	text, err := yaml.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
