package head

import (
	"fmt"
	"strings"
)

// Type is the type of a tensor's numbers.
type Type string

// The types that inputs and outputs may have. Others are named as the runtime
// names them.
const (
	Float32 Type = "float32"
	Float16 Type = "float16"
	Uint8   Type = "uint8"
	Int32   Type = "int32"
	Int64   Type = "int64"
)

// Port is an input or output of a graph. A dimension that the graph leaves
// open is negative; the first is the batch.
type Port struct {
	Name string
	Type Type
	Dims []int
}

// String is the port as errors write it.
func (p Port) String() string {
	dims := make([]string, len(p.Dims))
	for i, d := range p.Dims {
		dims[i] = "?"
		if d >= 0 {
			dims[i] = fmt.Sprint(d)
		}
	}
	return fmt.Sprintf("%s %s %s", p.Name, p.Type, strings.Join(dims, "×"))
}

// Graph is what a model's graph says about itself.
type Graph struct {
	Inputs, Outputs []Port
}

// SizesInput is the name of the second input of a deployed RT-DETR.
const SizesInput = "orig_target_sizes"

// hasSizes reports whether the graph asks for the size that boxes are for.
func (g Graph) hasSizes() bool {
	for _, p := range g.Inputs {
		if p.Name == SizesInput && p.Type == Int64 && len(p.Dims) == 2 && p.Dims[1] == 2 {
			return true
		}
	}
	return false
}

// is reports whether the port has these dimensions after the batch; a negative
// one stands for any.
func (p Port) is(dims ...int) bool {
	if len(p.Dims) != 1+len(dims) {
		return false
	}
	for i, want := range dims {
		if got := p.Dims[1+i]; got >= 0 && want >= 0 && got != want {
			return false
		}
	}
	return true
}

// named finds the outputs whose names contain these words, one for each.
func named(outputs []Port, words ...string) ([]int, error) {
	at := make([]int, len(words))
	for i, word := range words {
		at[i] = -1
		for j, p := range outputs {
			// TensorFlow's exports also have raw_detection_boxes and the like.
			if !strings.Contains(p.Name, word) || strings.HasPrefix(p.Name, "raw_") {
				continue
			}
			if at[i] >= 0 {
				return nil, fmt.Errorf("outputs %s and %s are both called %q", outputs[at[i]].Name, p.Name, word)
			}
			at[i] = j
		}
		if at[i] < 0 {
			return nil, fmt.Errorf("no output is called %q", word)
		}
	}
	return at, nil
}

// boxesAndScores tells the two outputs of a graph without NMS apart: boxes have
// four columns. Where both have, the one whose name says box.
func boxesAndScores(outputs []Port) (boxesAt, scoresAt int, err error) {
	if len(outputs) != 2 {
		return 0, 0, fmt.Errorf("%d outputs, want boxes and scores", len(outputs))
	}
	first, second := outputs[0].is(-1, 4), outputs[1].is(-1, 4)
	if first && second {
		first, second = strings.Contains(outputs[0].Name, "box"), strings.Contains(outputs[1].Name, "box")
	}
	switch {
	case first && !second:
		return 0, 1, nil
	case second && !first:
		return 1, 0, nil
	}
	return 0, 0, fmt.Errorf("outputs %v and %v: cannot tell which are the boxes", outputs[0], outputs[1])
}
