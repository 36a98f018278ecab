//go:build !novision

package onnx

import (
	"context"
	"fmt"

	"outstation/vision"
)

// awaitsEngine reports whether TensorRT comes first and could be used, but its
// engine has to be built: a matter of minutes. What is wrong otherwise shows
// when the detector is made.
func (o Options) awaitsEngine() bool {
	if o.Providers[0] != ProviderTensorRT || usable(o.Library, ProviderTensorRT) != nil {
		return false
	}
	lacks, err := o.lacksEngine()
	return err == nil && lacks
}

// maker makes detectors. Its parts are those of a machine with TensorRT.
type maker struct {
	awaits func(Options) bool
	build  func(Options) (*Detector, error)
}

// make makes a detector. While an engine has to be built, one on the providers
// after TensorRT serves, where there are any; also when the engine of an earlier
// start was refused and set aside.
func (m maker) make(o Options) (*Detector, error) {
	awaited := m.awaits(o)
	if awaited && len(o.Providers) > 1 {
		if d := m.serveMeanwhile(o); d != nil {
			return d, nil
		}
	}
	d, err := m.build(o)
	if awaited || !m.awaits(o) {
		return d, err
	}
	if err != nil {
		return m.build(o) // there is nothing else that could serve
	}
	if len(d.info.Refused) == 0 {
		return d, nil // its engine serves, and was removed from the cache meanwhile
	}
	d.info.Settings = append(d.info.Settings, "tensorrt: "+d.info.Refused[0].Reason)
	d.info.Refused = d.info.Refused[1:]
	d.later, d.anew = o.first(), true
	return d, nil
}

// first is on the first provider alone.
func (o Options) first() *Options {
	o.Providers = o.Providers[:1]
	return &o
}

// serveMeanwhile makes a detector on all providers but the first, which its
// Upgrade is for. It returns nil where there is none.
func (m maker) serveMeanwhile(o Options) *Detector {
	later := o.first()
	o.Providers = o.Providers[1:]
	d, err := m.build(o)
	if err != nil {
		return nil // opening all of them in order says why
	}
	d.later = later
	return d
}

// Pending says what Upgrade makes.
func (d *Detector) Pending() string {
	if d.later == nil {
		return ""
	}
	anew := ""
	if d.anew {
		anew = " anew, since the one of an earlier start was refused and is set aside"
	}
	return fmt.Sprintf("the engine for %s%s (3 to 10 minutes as a rule)", d.later.Providers[0], anew)
}

// Upgrade builds the engine and returns a detector that runs on it. The build
// itself cannot be interrupted: ctx is looked at before it and after it.
func (d *Detector) Upgrade(ctx context.Context) (vision.Detector, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	better, err := build(*d.later)
	if err != nil {
		return nil, fmt.Errorf("onnx: model %q %s: %w", d.later.ModelName, d.later.where(), err)
	}
	return better, nil
}
