//go:build !novision

package onnx

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	ort "github.com/yalue/onnxruntime_go"

	"outstation/vision"
)

// shape is what a model's graph says about its input and output.
type shape struct {
	input, output string
	width, height int // pixels
}

// inspect reads the names and sizes from the graph and checks that it is a
// YOLOX detector for the configured classes. A size that the graph leaves
// open is the configured one.
func inspect(o Options) (shape, error) {
	inputs, outputs, err := ort.GetInputOutputInfo(o.ModelPath)
	if err != nil {
		return shape{}, fmt.Errorf("not a model that ONNX Runtime reads: %w", err)
	}
	if len(inputs) != 1 || len(outputs) != 1 {
		return shape{}, fmt.Errorf("%d inputs and %d outputs, want one of each (YOLOX)", len(inputs), len(outputs))
	}
	in, out := inputs[0], outputs[0]
	s := shape{input: in.Name, output: out.Name}
	if in.DataType != ort.TensorElementDataTypeFloat || out.DataType != ort.TensorElementDataTypeFloat {
		return s, fmt.Errorf("input of type %v and output of type %v, want float32", in.DataType, out.DataType)
	}
	dims := in.Dimensions
	if len(dims) != 4 || !fits(dims[0], 1) || dims[1] != 3 {
		return s, fmt.Errorf("input %v, want 1×3×height×width", dims)
	}
	s.height, s.width = size(dims[2], o.InputSize), size(dims[3], o.InputSize)
	return s, checkOutput(out.Dimensions, s, o.Classes)
}

// checkOutput compares the output's shape with what a YOLOX head for these
// classes has.
func checkOutput(dims ort.Shape, s shape, classes []string) error {
	decoder, err := vision.NewYOLOX(vision.YOLOXOptions{Width: s.width, Height: s.height, Classes: classes})
	if err != nil {
		return err
	}
	rows, columns := int64(decoder.Rows()), int64(decoder.Columns())
	if len(dims) != 3 || !fits(dims[0], 1) || !fits(dims[1], rows) || !fits(dims[2], columns) {
		return fmt.Errorf("output %v, want 1×%d×%d (YOLOX with %d classes and input %d×%d)", dims, rows, columns, len(classes), s.width, s.height)
	}
	return nil
}

// fits reports whether a dimension is want or left open (negative).
func fits(dim, want int64) bool { return dim == want || dim < 0 }

func size(dim int64, open int) int {
	if dim < 0 {
		return open
	}
	return int(dim)
}

// open makes a session on one provider and runs it once.
func open(o Options, provider string, s shape, in, out ort.Value) (_ *ort.AdvancedSession, err error) {
	options, err := ort.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, options.Destroy()) }()
	if err := configure(options, o, provider); err != nil {
		return nil, err
	}
	session, err := ort.NewAdvancedSession(o.ModelPath, []string{s.input}, []string{s.output}, []ort.Value{in}, []ort.Value{out}, options)
	if err != nil {
		return nil, err
	}
	if err := session.Run(); err != nil {
		return nil, errors.Join(fmt.Errorf("warm-up: %w", err), session.Destroy())
	}
	return session, nil
}

// configure sets threads and provider. Spinning is off: waiting threads would
// otherwise burn four times the CPU time of the model itself between frames.
func configure(options *ort.SessionOptions, o Options, provider string) error {
	err := errors.Join(
		options.SetIntraOpNumThreads(o.Threads),
		options.SetInterOpNumThreads(1),
		options.AddSessionConfigEntry("session.intra_op.allow_spinning", "0"),
		options.SetGraphOptimizationLevel(ort.GraphOptimizationLevelEnableAll),
	)
	if err != nil {
		return err
	}
	if provider == ProviderCPU {
		return nil // the CPU is part of every session
	}
	if err := beside(o.Library, provider); err != nil {
		return err
	}
	if provider == ProviderCUDA {
		return useCUDA(options)
	}
	return useTensorRT(options)
}

// beside reports which of a GPU provider's libraries is missing. ONNX Runtime
// loads them from its own directory, and otherwise says only that it failed.
func beside(library, provider string) error {
	for _, name := range []string{"shared", provider} {
		path := filepath.Join(filepath.Dir(library), "libonnxruntime_providers_"+name+".so")
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("this ONNX Runtime has no provider %s: %w", provider, err)
		}
	}
	return nil
}

func useTensorRT(options *ort.SessionOptions) (err error) {
	p, err := ort.NewTensorRTProviderOptions()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Destroy()) }()
	return options.AppendExecutionProviderTensorRT(p)
}

func useCUDA(options *ort.SessionOptions) (err error) {
	p, err := ort.NewCUDAProviderOptions()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Destroy()) }()
	return options.AppendExecutionProviderCUDA(p)
}
