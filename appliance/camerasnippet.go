package main

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"outstation/vision"
	"outstation/vision/capture"
)

// loopAdvice is the key that a recording needs to stand for a camera.
const loopAdvice = "      loop: true # starts again at its end; without it the camera is done there, and degraded from then on\n"

// ends reports whether a source has an end that loop goes beyond.
func ends(r capture.Report) bool {
	switch r.Kind {
	case vision.KindFile:
		return true
	case vision.KindDir:
		u, err := url.Parse(r.Source)
		return err == nil && u.Query().Get("watch") != "1"
	}
	return false
}

// stallAfter is what a camera that was measured needs at least: silence of five
// frames is no stall. Of rtsp:// the time to the first frame does not count.
func stallAfter(r capture.Report) (least time.Duration) {
	if r.MeasuredFPS > 0 {
		least = time.Duration(5 / r.MeasuredFPS * float64(time.Second))
	}
	if r.Kind != vision.KindRTSP {
		least = max(least, 2*time.Duration(r.FirstFrameMS*float64(time.Millisecond)))
	}
	return least
}

// longerStall is the stall_after that a camera needs in place of what it has, or
// empty.
func longerStall(has time.Duration, r capture.Report) string {
	stall := stallAfter(r)
	if stall <= has {
		return ""
	}
	return (stall + time.Second - 1).Truncate(time.Second).String() // rounded down it would still be too short
}

// snippet is a camera for the configuration file. The password is left to the
// one who knows it.
func snippet(cam CameraConfig, r capture.Report) string {
	type entry struct {
		ID         string `yaml:"id"`
		Source     string `yaml:"source"`
		Decoder    string `yaml:"decoder,omitempty"`
		StallAfter string `yaml:"stall_after,omitempty"`
	}
	list := []entry{{ID: "camera-1", Source: r.Source, Decoder: cam.Decoder, StallAfter: longerStall(vision.DefaultStallAfter, r)}}
	text, err := yaml.Marshal(list)
	if err != nil {
		return err.Error() + "\n"
	}
	out := "    " + strings.ReplaceAll(strings.TrimSuffix(string(text), "\n"), "\n", "\n    ") + "\n"
	if ends(r) {
		out += loopAdvice
	}
	if r.Kind == vision.KindSim {
		out += "      # model: line, with {name: line, path: " + builtinLine + "} in vision.models, knows sim://line; without one nothing is inspected\n"
	} else {
		out += "      # model: the name of one in vision.models; without it frames are counted and nothing is inspected\n"
	}
	if r.Source != cam.Source {
		out += "    # Put the password in place of xxxxx. Who may read this file can read it;\n" +
			"    # OUTSTATION_VISION_CAMERAS_0_SOURCE (0 is the camera's place) sets it from outside.\n"
	}
	return out
}

// changes are the keys that a camera of the configuration should have otherwise
// than it has: of what decoder it was probed with, and of what was measured. It
// is empty where the camera can stay as it is.
func changes(has CameraConfig, decoder string, r capture.Report) (out string) {
	if decoder != has.Decoder {
		out += fmt.Sprintf("      decoder: %s # what it was probed with\n", decoder)
	}
	if stall := longerStall(max(has.StallAfter, vision.DefaultStallAfter), r); stall != "" {
		out += fmt.Sprintf("      stall_after: %s # five times what is between two pictures, or twice the time to the first\n", stall)
	}
	if ends(r) && !has.Loop && !has.Lossless {
		out += loopAdvice
	}
	return out
}
