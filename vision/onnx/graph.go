//go:build !novision

package onnx

import (
	"fmt"

	ort "github.com/yalue/onnxruntime_go"

	"outstation/vision"
)

// shape is what a model's graph says about its input and output.
type shape struct {
	input, output string
	width, height int  // pixels
	batch         int  // pictures in a run, where the graph fixes it; else 0
	bytes         bool // the input is uint8, height×width×3; else float32, 3×height×width
	outDims       ort.Shape
}

// file is a model, in a file or in memory.
type file struct {
	path string
	data []byte // nil for what is in a file
}

func (f file) info() ([]ort.InputOutputInfo, []ort.InputOutputInfo, error) {
	if f.data != nil {
		return ort.GetInputOutputInfoWithONNXData(f.data)
	}
	return ort.GetInputOutputInfo(f.path)
}

func (f file) session(s shape, in, out ort.Value, options *ort.SessionOptions) (*ort.AdvancedSession, error) {
	inputs, outputs, ins, outs := []string{s.input}, []string{s.output}, []ort.Value{in}, []ort.Value{out}
	if f.data != nil {
		return ort.NewAdvancedSessionWithONNXData(f.data, inputs, outputs, ins, outs, options)
	}
	return ort.NewAdvancedSession(f.path, inputs, outputs, ins, outs, options)
}

// inspect reads the names and sizes from the graph. A size that the graph
// leaves open is the configured one.
func inspect(o Options) (shape, error) {
	inputs, outputs, err := o.file().info()
	if err != nil {
		return shape{}, fmt.Errorf("not a model that ONNX Runtime reads: %w", err)
	}
	if len(inputs) != 1 || len(outputs) != 1 {
		return shape{}, fmt.Errorf("%d inputs and %d outputs, want one of each", len(inputs), len(outputs))
	}
	in, out := inputs[0], outputs[0]
	s := shape{input: in.Name, output: out.Name, outDims: out.Dimensions}
	if out.DataType != ort.TensorElementDataTypeFloat {
		return s, fmt.Errorf("output of type %v, want float32", out.DataType)
	}
	dims := in.Dimensions
	switch {
	case in.DataType == ort.TensorElementDataTypeFloat && len(dims) == 4 && dims[1] == 3:
		s.height, s.width = size(dims[2], o.InputSize), size(dims[3], o.InputSize)
	case in.DataType == ort.TensorElementDataTypeUint8 && len(dims) == 4 && dims[3] == 3:
		s.height, s.width, s.bytes = size(dims[1], o.InputSize), size(dims[2], o.InputSize), true
	default:
		return s, fmt.Errorf("input %v of type %v, want float32 batch×3×height×width or uint8 batch×height×width×3", dims, in.DataType)
	}
	s.batch = max(0, int(dims[0]))
	if len(out.Dimensions) > 0 && s.batch == 0 { // some exports leave only the input open
		s.batch = max(0, int(out.Dimensions[0]))
	}
	return s, nil
}

// head finds out from the output's shape how to decode it, and returns that
// shape for one picture, with nothing left open.
func (s shape) head(o Options) (vision.Head, ort.Shape, error) {
	opts := vision.HeadOptions{Width: s.width, Height: s.height, Classes: o.Classes, Confidence: o.Confidence, IoU: o.IoU}
	yolox, err := vision.NewYOLOX(opts)
	if err != nil {
		return nil, nil, err
	}
	rows, columns := int64(yolox.Rows()), int64(yolox.Columns())
	dims := s.outDims
	switch {
	case len(dims) == 3 && fits(dims[0], int64(s.batch)) && fits(dims[1], rows) && fits(dims[2], columns):
		return yolox, ort.NewShape(1, rows, columns), nil
	case len(dims) == 3 && fits(dims[0], int64(s.batch)) && dims[1] == columns-1 && dims[2] > 0:
		head, err := vision.NewYOLOv8(opts, int(dims[2]))
		return head, ort.NewShape(1, dims[1], dims[2]), err
	}
	return nil, nil, fmt.Errorf("output %v, want batch×%d×%d (YOLOX) or batch×%d×cells (YOLOv8), as %d classes and input %d×%d ask for",
		dims, rows, columns, columns-1, len(o.Classes), s.width, s.height)
}

// fits reports whether a dimension is want or left open (negative).
func fits(dim, want int64) bool { return dim == want || dim < 0 }

func size(dim int64, open int) int {
	if dim < 0 {
		return open
	}
	return int(dim)
}
