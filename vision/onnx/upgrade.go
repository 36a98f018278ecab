//go:build !novision

package onnx

import (
	"context"
	"fmt"

	"outstation/vision"
)

// buildBefore makes a detector on the providers after TensorRT when that comes
// first and could be used, but its engine has to be built: a matter of minutes
// in which this one serves. It returns nil when there is nothing to wait for.
func buildBefore(o Options) *Detector {
	if len(o.Providers) < 2 || o.Providers[0] != ProviderTensorRT || usable(o.Library, ProviderTensorRT) != nil {
		return nil
	}
	if o.EngineDir != "" {
		cache, err := o.engines(o.most(max(1, o.MaxBatch)))
		if err != nil || cache.built() {
			return nil // what is wrong shows when it is opened
		}
	}
	return serveMeanwhile(o)
}

// serveMeanwhile makes a detector on all providers but the first, which its
// Upgrade is for.
func serveMeanwhile(o Options) *Detector {
	later := o
	o.Providers, later.Providers = o.Providers[1:], o.Providers[:1]
	d, err := build(o)
	if err != nil {
		return nil // opening all of them in order says why
	}
	d.later = &later
	return d
}

// Pending says what Upgrade makes.
func (d *Detector) Pending() string {
	if d.later == nil {
		return ""
	}
	return fmt.Sprintf("the engine for %s (3 to 10 minutes as a rule)", d.later.Providers[0])
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
