//go:build !novision

package onnx

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	ort "github.com/yalue/onnxruntime_go"

	"outstation/vision/head"
	"outstation/vision/modelfile"
)

// shape is a model as it is run: what its graph says, and what was settled
// about the rest.
type shape struct {
	inputs  []head.Port
	outputs []head.Port // those that are run, in the decoder's order
	image   int         // which input is the picture
	planar  bool        // its channels are planes (NCHW); else interleaved (NHWC)
	batch   int         // images of a run, where the graph fixes it; else 0
	width   int         // pixels
	height  int         // pixels
	form    head.Form
	prep    head.Preparation
}

// file is a model, in a file or in memory.
type file struct {
	path string
	data []byte // nil for what is in a file
}

// graph reads the inputs and outputs, and the exporter's metadata. Nothing is
// optimised for it.
func (f file) graph() (g head.Graph, props map[string]string, err error) {
	options, err := ort.NewSessionOptions()
	if err != nil {
		return g, nil, err
	}
	defer func() { err = errors.Join(err, options.Destroy()) }()
	if err := options.SetGraphOptimizationLevel(ort.GraphOptimizationLevelDisableAll); err != nil {
		return g, nil, err
	}
	inputs, outputs, err := f.info(options)
	if err != nil {
		return g, nil, fmt.Errorf("not a model that ONNX Runtime reads: %w", err)
	}
	g = head.Graph{Inputs: ports(inputs), Outputs: ports(outputs)}
	props, err = f.metadata(options)
	return g, props, err
}

func (f file) info(options *ort.SessionOptions) ([]ort.InputOutputInfo, []ort.InputOutputInfo, error) {
	if f.data != nil {
		return ort.GetInputOutputInfoWithONNXData(f.data)
	}
	return ort.GetInputOutputInfoWithOptions(f.path, options)
}

func (f file) metadata(options *ort.SessionOptions) (props map[string]string, err error) {
	var m *ort.ModelMetadata
	if f.data != nil {
		m, err = ort.GetModelMetadataWithONNXData(f.data)
	} else {
		m, err = ort.GetModelMetadataWithOptions(f.path, options)
	}
	if err != nil {
		return nil, fmt.Errorf("the graph's metadata: %w", err)
	}
	defer func() { err = errors.Join(err, m.Destroy()) }()
	keys, err := m.GetCustomMetadataMapKeys()
	if err != nil {
		return nil, fmt.Errorf("the graph's metadata: %w", err)
	}
	props = make(map[string]string, len(keys))
	for _, key := range keys {
		if props[key], _, err = m.LookupCustomMetadataMap(key); err != nil {
			return nil, fmt.Errorf("the graph's metadata: %q: %w", key, err)
		}
	}
	return props, nil
}

// types are those that tensors are made of here.
var types = map[ort.TensorElementDataType]head.Type{
	ort.TensorElementDataTypeFloat:   head.Float32,
	ort.TensorElementDataTypeFloat16: head.Float16,
	ort.TensorElementDataTypeUint8:   head.Uint8,
	ort.TensorElementDataTypeInt32:   head.Int32,
	ort.TensorElementDataTypeInt64:   head.Int64,
}

func ports(infos []ort.InputOutputInfo) []head.Port {
	var out []head.Port
	for _, info := range infos {
		p := head.Port{Name: info.Name, Type: types[info.DataType]}
		if p.Type == "" {
			p.Type = head.Type(info.DataType.String())
		}
		for _, d := range info.Dimensions {
			p.Dims = append(p.Dims, int(max(d, -1)))
		}
		out = append(out, p)
	}
	return out
}

// inspect finds the picture among the inputs, and its size. Where the graph
// leaves that open, the model file says it, or the metadata.
func inspect(g head.Graph, f modelfile.File, m modelfile.Metadata) (shape, error) {
	s := shape{inputs: g.Inputs, outputs: g.Outputs, image: -1}
	for i, p := range g.Inputs {
		switch {
		case p.Name == head.SizesInput && p.Type == head.Int64 && len(p.Dims) == 2 && p.Dims[1] == 2:
		case len(p.Dims) == 4 && s.image < 0:
			s.image = i
		default:
			return s, fmt.Errorf("input %v: want one picture, and beside it at most %s int64 1×2", p, head.SizesInput)
		}
	}
	if s.image < 0 {
		return s, fmt.Errorf("inputs %v: want a picture, 1×3×height×width or 1×height×width×3", g.Inputs)
	}
	p := g.Inputs[s.image]
	planar, interleaved := p.Dims[1] == 3, p.Dims[3] == 3
	if planar == interleaved || (p.Type != head.Float32 && p.Type != head.Float16 && p.Type != head.Uint8) {
		return s, fmt.Errorf("input %v: want float32, float16 or uint8, of 1×3×height×width or 1×height×width×3", p)
	}
	rows, columns := p.Dims[1], p.Dims[2]
	if planar {
		rows, columns = p.Dims[2], p.Dims[3]
	}
	s.planar, s.batch = planar, max(p.Dims[0], 0)
	var err error
	if s.width, s.height, err = inputSize(columns, rows, f, m); err != nil {
		return s, fmt.Errorf("input %v: %w", p, err)
	}
	return s, nil
}

// inputSize reconciles what the graph says of its input with what others say.
func inputSize(columns, rows int, f modelfile.File, m modelfile.Metadata) (w, h int, err error) {
	w, h = columns, rows
	if w < 0 {
		w = cmp.Or(f.Width, m.Width)
	}
	if h < 0 {
		h = cmp.Or(f.Height, m.Height)
	}
	if w <= 0 || h <= 0 {
		return 0, 0, errors.New("its size is open; say it as input: {width: …, height: …} in model.yaml")
	}
	if f.Width > 0 && (w != f.Width || h != f.Height) {
		return 0, 0, fmt.Errorf("the graph wants %d×%d pixels, model.yaml says %d×%d", w, h, f.Width, f.Height)
	}
	return w, h, nil
}

// leftOpen reports whether a dimension besides the batch is not known before a run.
func leftOpen(p head.Port) bool {
	for i, d := range p.Dims {
		if i > 0 && d < 0 {
			return true
		}
	}
	return false
}

// session makes a session of bound tensors. An output that is nil is allocated
// by each run.
func (f file) session(s shape, ins, outs []ort.Value, options *ort.SessionOptions) (session, error) {
	inputs, outputs := names(s.inputs), names(s.outputs)
	own := make([]bool, len(outs))
	for i, out := range outs {
		own[i] = out == nil
	}
	if slices.Contains(own, true) {
		dynamic, err := f.dynamic(inputs, outputs, options)
		if err != nil {
			return nil, err
		}
		return &varying{dynamic, ins, outs, own}, nil
	}
	if f.data != nil {
		return ort.NewAdvancedSessionWithONNXData(f.data, inputs, outputs, ins, outs, options)
	}
	return ort.NewAdvancedSession(f.path, inputs, outputs, ins, outs, options)
}

func (f file) dynamic(inputs, outputs []string, options *ort.SessionOptions) (*ort.DynamicAdvancedSession, error) {
	if f.data != nil {
		return ort.NewDynamicAdvancedSessionWithONNXData(f.data, inputs, outputs, options)
	}
	return ort.NewDynamicAdvancedSession(f.path, inputs, outputs, options)
}

func names(ports []head.Port) (out []string) {
	for _, p := range ports {
		out = append(out, p.Name)
	}
	return out
}
