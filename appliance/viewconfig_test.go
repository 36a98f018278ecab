package main

import (
	"strings"
	"testing"
	"time"

	"outstation/vision"
)

func TestViewKeys(t *testing.T) {
	cfg, err := parseConfig("o.yaml", []byte(judged+`
      roi: {x: 0.25, y: 0, w: 0.5, h: 1}
      tiles: {columns: 3, rows: 2, overlap: 0.2, whole: true}
      motion: {on: true, threshold: 30, area: 0.01, hold: 4s, every: 7s}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	var o vision.CameraOptions
	cfg.Vision.Cameras[0].applyView(&o)
	if o.Region != (vision.Region{X: 0.25, W: 0.5, H: 1}) || o.Tiles != (vision.Tiles{Columns: 3, Rows: 2, Overlap: 0.2, Whole: true}) ||
		o.Motion != (vision.MotionOptions{On: true, Threshold: 30, Area: 0.01, Hold: 4 * time.Second, Every: 7 * time.Second}) {
		t.Errorf("%+v", o)
	}
}

func TestImpossibleViewKeysAreNamed(t *testing.T) {
	for text, want := range map[string]string{
		"roi: {x: 0.6, w: 0.5, h: 1}":                           "vision.cameras[0].roi: x 0.6, y 0, w 0.5, h 1: expected a rectangle within",
		"roi: {x: 100, y: 0, w: 640, h: 480}":                   "vision.cameras[0].roi: ",
		"roi: {x: 0.1}":                                         "vision.cameras[0].roi: ",
		"tiles: {columns: 10, rows: 10}":                        "vision.cameras[0].tiles: 10 columns and 10 rows",
		"tiles: {columns: 2, overlap: 1}":                       "vision.cameras[0].tiles: overlap 1",
		"motion: {on: true, area: 2}":                           "vision.cameras[0].motion: area 2",
		"motion: {on: true, every: -1s}":                        "vision.cameras[0].motion: ",
		"motion: {on: true, every: 8s}\n      blind_after: 10s": "vision.cameras[0].blind_after: expected at least 16s (1s, three intervals of fps, or twice motion.every), got 10s",
		"motion: {on: true}\n      blind_after: 9s":             "vision.cameras[0].blind_after: expected at least 10s",
		"lossless: true\n      motion: {on: true}":              "vision.cameras[0].motion: a camera with lossless",
	} {
		_, err := parseConfig("o.yaml", []byte(judged+"      "+text+"\n"), nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}
