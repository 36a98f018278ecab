//go:build !novision

package onnx

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	ort "github.com/yalue/onnxruntime_go"

	"outstation/vision"
	"outstation/vision/head"
)

// Detector is a model in ONNX Runtime sessions. It implements
// vision.BatchDetector: one goroutine at a time, Info for any; and
// vision.Upgrader where a TensorRT engine has to be built.
type Detector struct {
	info  vision.DetectorInfo
	shape shape
	head  head.Decoder
	bound *binding
	later *Options // of the detector that Upgrade makes; nil when there is none
	anew  bool     // it makes an engine anew

	slots   []slot          // of the frames of a batch
	results []vision.Result // what DetectBatch returns
	one     [1]vision.Frame // the batch of Detect
}

// slot is one frame of a batch.
type slot struct {
	at    int // its place in the memory, -1 when it is not there
	place head.Placement
	found []vision.Detection
}

var (
	_ vision.BatchDetector = (*Detector)(nil)
	_ vision.Upgrader      = (*Detector)(nil)
)

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
	d, err := maker{Options.awaitsEngine, build}.make(o)
	if err != nil {
		return nil, fmt.Errorf("onnx: model %q %s: %w", o.ModelName, o.where(), err)
	}
	return d, nil
}

// build finds out what the graph wants and makes a session for it.
func build(o Options) (*Detector, error) {
	var m model
	err := keepSignals(func() (err error) { m, err = settle(o); return err })
	if err != nil {
		return nil, err
	}
	d := &Detector{
		info: vision.DetectorInfo{
			Model: o.ModelName, InputWidth: m.shape.width, InputHeight: m.shape.height, Head: string(m.shape.form), Settings: m.notes, Classes: m.classes,
			ModelSHA256: o.SHA256, Runtime: "onnxruntime " + ort.GetVersion(),
			Confidence: m.counts.Confidence, ClassConfidence: m.counts.ClassConfidence,
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
		err := d.connectTo(o, provider)
		if err == nil {
			d.info.Provider = provider
			d.slots, d.results = make([]slot, d.info.MaxBatch), make([]vision.Result, d.info.MaxBatch)
			return nil
		}
		d.info.Refused = append(d.info.Refused, vision.Refusal{Provider: provider, Reason: err.Error(), Installed: installed(o.Library, provider) == nil})
		errs = append(errs, fmt.Errorf("provider %s: %w", provider, err))
	}
	return fmt.Errorf("%w: %w", vision.ErrNoProvider, errors.Join(errs...))
}

// Detect is DetectBatch for one frame.
func (d *Detector) Detect(f vision.Frame) ([]vision.Detection, vision.Timing, error) {
	d.one[0] = f
	results, t, err := d.DetectBatch(d.one[:])
	d.one[0] = vision.Frame{}
	if err != nil {
		return nil, t, err
	}
	return results[0].Detections, t, results[0].Err
}

// DetectBatch letterboxes the frames into the input, runs the model and
// decodes its output for each. A frame whose pixels cannot be had is left out
// of the run.
func (d *Detector) DetectBatch(frames []vision.Frame) ([]vision.Result, vision.Timing, error) {
	var t vision.Timing
	if len(frames) < 1 || len(frames) > len(d.slots) {
		return nil, t, fmt.Errorf("onnx: model %q: a batch of %d frames: want 1 to %d", d.info.Model, len(frames), len(d.slots))
	}
	began := time.Now()
	n := d.prepare(frames)
	prepared := time.Now()
	t.Preprocess = prepared.Sub(began)
	if n > 0 {
		if err := d.bound.run(n); err != nil {
			return nil, t, fmt.Errorf("onnx: model %q: %w", d.info.Model, err)
		}
	}
	ran := time.Now()
	t.Run = ran.Sub(prepared)
	for i := range frames {
		d.decode(i)
	}
	t.Postprocess = time.Since(ran)
	return d.results[:len(frames)], t, nil
}

// prepare writes the frames into the input, one after the other, and returns
// how many are there.
func (d *Detector) prepare(frames []vision.Frame) (n int) {
	for i, f := range frames {
		s := &d.slots[i]
		s.place, d.results[i].Err = d.bound.prepare(n, f)
		s.at = n
		if d.results[i].Err != nil {
			s.at = -1
			continue
		}
		n++
	}
	return n
}

// decode makes the result of the ith frame.
func (d *Detector) decode(i int) {
	s, r := &d.slots[i], &d.results[i]
	s.found = s.found[:0]
	if s.at >= 0 {
		var found []vision.Detection
		found, r.Err = d.head.Decode(d.bound.outputs(s.at), s.place)
		s.found = append(s.found, found...) // the head's memory is for one picture
	}
	r.Detections = s.found
}

// Info names the model, its input and its provider.
func (d *Detector) Info() vision.DetectorInfo { return d.info }

// Close frees the session and its tensors.
func (d *Detector) Close() error { return d.bound.close() }
