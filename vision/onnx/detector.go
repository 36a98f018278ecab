//go:build !novision

package onnx

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"outstation/vision"
	"outstation/vision/head"
)

// Detector is a model in an ONNX Runtime session. It implements
// vision.Detector: one goroutine at a time, Info for any.
type Detector struct {
	info  vision.DetectorInfo
	shape shape
	head  head.Decoder
	bound *binding
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
	d, err := build(o)
	if err != nil {
		return nil, fmt.Errorf("onnx: model %q %s: %w", o.ModelName, o.where(), err)
	}
	return d, nil
}

// build finds out what the graph wants and makes a session for it.
func build(o Options) (*Detector, error) {
	m, err := settle(o)
	if err != nil {
		return nil, err
	}
	d := &Detector{
		info: vision.DetectorInfo{
			Model: o.ModelName, InputWidth: m.shape.width, InputHeight: m.shape.height, Head: string(m.shape.form), Settings: m.notes,
		},
		shape: m.shape,
		head:  m.decoder,
	}
	return d, d.connect(o)
}

// connect makes the session with the first provider that works, and notes why
// those before it did not.
func (d *Detector) connect(o Options) error {
	var errs []error
	for _, provider := range slices.Compact(slices.Clone(o.Providers)) {
		bound, err := bind(o, provider, d.shape)
		if err == nil {
			d.bound, d.info.Provider = bound, provider
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
	at, err := d.bound.prepare(0, f)
	if err != nil {
		return nil, t, err
	}
	prepared := time.Now()
	t.Preprocess = prepared.Sub(began)
	if err := d.bound.run(); err != nil {
		return nil, t, fmt.Errorf("onnx: model %q: %w", d.info.Model, err)
	}
	ran := time.Now()
	t.Run = ran.Sub(prepared)
	found, err := d.head.Decode(d.bound.outputs(0), at)
	t.Postprocess = time.Since(ran)
	return found, t, err
}

// Info names the model, its input and its provider.
func (d *Detector) Info() vision.DetectorInfo { return d.info }

// Close frees the session and its tensors.
func (d *Detector) Close() error { return d.bound.close() }
