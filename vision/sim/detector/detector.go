// Package detector is the model that was trained on the simulated line, as
// part of the program. It is for demonstration, acceptance and tests, and
// of no use on a real line. See ../train for how it came to be.
package detector

import (
	_ "embed" // the model

	"outstation/vision/head"
	"outstation/vision/modelfile"
	"outstation/vision/sim"
)

// Path is what a configuration calls the model instead of a file's path.
const Path = "builtin:line"

//go:embed line.onnx
var model []byte

// ONNX is the model: uint8 N×384×640×3 in blue, green, red to float32 N×9×3840
// as YOLOv8 lays it out. It must not be changed.
func ONNX() []byte { return model }

//go:embed line.yaml
var text []byte

// YAML is line.yaml, the model file. It must not be changed.
func YAML() []byte { return text }

// Classes are those of the model's outputs, in order.
func Classes() []string { return sim.Classes() }

// File is the model file, the same as line.yaml.
func File() *modelfile.File {
	pad := byte(114)
	return &modelfile.File{
		Head: string(head.YOLOv8), Classes: sim.Classes(), Colour: head.BGR, Letterbox: head.LetterboxTopLeft, Pad: &pad,
	}
}
