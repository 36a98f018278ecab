//go:build !novision

package onnx

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"

	ort "github.com/yalue/onnxruntime_go"

	"outstation/vision"
)

// letterboxPad is the grey that YOLOX was trained with around its pictures.
const letterboxPad = 114

// Detector is a model in an ONNX Runtime session. It implements
// vision.Detector: one goroutine at a time, Info for any.
type Detector struct {
	info    vision.DetectorInfo
	head    vision.Head
	pixels  []byte    // letterboxed frame, BGR HWC; of a uint8 model the memory of the input tensor
	input   []float32 // BGR CHW, the memory of a float model's input tensor; else nil
	output  []float32 // the memory of the output tensor
	pinner  runtime.Pinner
	tensors []ort.Value
	session *ort.AdvancedSession
}

var _ vision.Detector = (*Detector)(nil)

// Opener returns New with these options in the form that vision.ModelOptions
// takes.
func Opener(o Options) vision.OpenDetector {
	return func(ctx context.Context) (vision.Detector, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		d, err := New(o)
		if err != nil {
			return nil, err // not d: a nil *Detector would be a Detector that is not nil
		}
		return d, nil
	}
}

// New loads the library (once per process) and the model, and runs it once on
// an empty picture so that the first frame does not pay for its set-up.
func New(o Options) (*Detector, error) {
	o, err := o.check()
	if err != nil {
		return nil, err
	}
	if err := load(o.Library); err != nil {
		return nil, err
	}
	if _, err := os.Stat(o.ModelPath); o.Model == nil && err != nil {
		return nil, fmt.Errorf("onnx: model %q: %w; copy the model there or correct its path (vision.models)", o.ModelName, err)
	}
	shape, err := inspect(o)
	if err != nil {
		return nil, fmt.Errorf("onnx: model %q %s: %w", o.ModelName, o.where(), err)
	}
	d, err := build(o, shape)
	if err != nil {
		return nil, fmt.Errorf("onnx: model %q %s: %w", o.ModelName, o.where(), err)
	}
	return d, nil
}

// build makes tensors and session for a model of known shape.
func build(o Options, s shape) (*Detector, error) {
	head, outDims, err := s.head(o)
	if err != nil {
		return nil, err
	}
	d := &Detector{
		info:   vision.DetectorInfo{Model: o.ModelName, InputWidth: s.width, InputHeight: s.height},
		head:   head,
		pixels: make([]byte, 3*s.width*s.height),
		output: make([]float32, head.Values()),
	}
	if err := d.connect(o, s, outDims); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// tensor wraps memory that ONNX Runtime will keep a pointer to: it is pinned
// for the life of the detector.
func tensor[T ort.TensorData](d *Detector, memory []T, dims ort.Shape) (ort.Value, error) {
	d.pinner.Pin(&memory[0])
	t, err := ort.NewTensor(dims, memory)
	if err != nil {
		return nil, fmt.Errorf("tensor %v: %w", dims, err)
	}
	d.tensors = append(d.tensors, t)
	return t, nil
}

// inputTensor is the pixels themselves, or their floats.
func (d *Detector) inputTensor(s shape) (ort.Value, error) {
	h, w := int64(s.height), int64(s.width)
	if s.bytes {
		return tensor(d, d.pixels, ort.NewShape(1, h, w, 3))
	}
	d.input = make([]float32, len(d.pixels))
	return tensor(d, d.input, ort.NewShape(1, 3, h, w))
}

// connect makes the session with the first provider that works, and notes why
// those before it did not.
func (d *Detector) connect(o Options, s shape, outDims ort.Shape) error {
	in, err := d.inputTensor(s)
	if err != nil {
		return err
	}
	out, err := tensor(d, d.output, outDims)
	if err != nil {
		return err
	}
	var errs []error
	for _, provider := range slices.Compact(slices.Clone(o.Providers)) {
		session, err := open(o, provider, s, in, out)
		if err == nil {
			d.session, d.info.Provider = session, provider
			return nil
		}
		d.info.Refused = append(d.info.Refused, vision.Refusal{Provider: provider, Reason: err.Error()})
		errs = append(errs, fmt.Errorf("provider %s: %w", provider, err))
	}
	return fmt.Errorf("no configured provider works: %w", errors.Join(errs...))
}

// Detect letterboxes the frame into the input tensor, runs the model and
// decodes its output.
func (d *Detector) Detect(f vision.Frame) ([]vision.Detection, vision.Timing, error) {
	var t vision.Timing
	began := time.Now()
	scale, err := f.Image.Letterbox(d.pixels, d.info.InputWidth, d.info.InputHeight, letterboxPad)
	if err != nil {
		return nil, t, fmt.Errorf("onnx: preprocessing: %w", err)
	}
	if d.input != nil {
		vision.HWCToCHW(d.input, d.pixels)
	}
	prepared := time.Now()
	t.Preprocess = prepared.Sub(began)
	if err := d.session.Run(); err != nil {
		return nil, t, fmt.Errorf("onnx: model %q: %w", d.info.Model, err)
	}
	ran := time.Now()
	t.Run = ran.Sub(prepared)
	found, err := d.head.Decode(d.output, scale, f.Width, f.Height)
	t.Postprocess = time.Since(ran)
	return found, t, err
}

// Info names the model, its input and its provider.
func (d *Detector) Info() vision.DetectorInfo { return d.info }

// Close frees the session before the tensors that it uses. The environment
// stays: ONNX Runtime does not support loading twice.
func (d *Detector) Close() error {
	var errs []error
	if d.session != nil {
		errs = append(errs, d.session.Destroy())
		d.session = nil
	}
	for _, t := range d.tensors {
		errs = append(errs, t.Destroy())
	}
	d.tensors = nil
	d.pinner.Unpin()
	return errors.Join(errs...)
}
