//go:build !novision

package onnx

import (
	"errors"
	"fmt"
	"math"
	"time"

	ort "github.com/yalue/onnxruntime_go"

	"outstation/vision"
)

const (
	// maxMeasured is the largest batch that is tried where none is configured
	// and there are as many cameras.
	maxMeasured = 8

	// measureFor bounds all measurements of a model together, and measureOne
	// those of one size, the time to make its session left out.
	measureFor = 2 * time.Second
	measureOne = 200 * time.Millisecond

	// worthwhile is how much of the best rate a smaller batch must reach to be
	// chosen: waiting for a larger one costs time too.
	worthwhile = 0.95
)

// sizes are the batches up to most that have a session of their own: powers of
// two, and most itself. What lies between is filled up.
func sizes(most int) (all []int) {
	for n := 1; n < most; n *= 2 {
		all = append(all, n)
	}
	return append(all, most)
}

// most is the largest batch that there are cameras for.
func (o Options) most(batch int) int {
	if o.Cameras > 0 {
		return min(batch, o.Cameras)
	}
	return batch
}

// connectTo makes the sessions on one provider: for the graph's own batch where
// it has one, else for those up to MaxBatch, or as many as measuring says.
func (d *Detector) connectTo(o Options, provider string, outDims ort.Shape) error {
	if err := usable(o.Library, provider); err != nil {
		return err
	}
	fixed := d.shape.batch
	if fixed > 0 && o.MaxBatch > 0 && o.MaxBatch != fixed {
		return fmt.Errorf("max_batch %d: the graph's batch is fixed at %d; leave max_batch out, or export the model with a dynamic batch", o.MaxBatch, fixed)
	}
	d.info.Rates = nil
	want := sizes(o.most(max(1, o.MaxBatch)))
	switch {
	case fixed > 0:
		want = []int{fixed}
	case o.MaxBatch == 0 && provider != ProviderTensorRT: // which builds an engine for each size
		most, err := d.measure(o, provider, outDims)
		if err != nil {
			return err
		}
		want = sizes(most)
	}
	bound, err := bind(o, provider, d.shape, outDims, want)
	if err != nil {
		return err
	}
	d.bound, d.info.Nodes, d.info.MaxBatch = bound, bound.nodes, bound.pictures
	return nil
}

// measure finds out how large batches should be, and notes the rates. It is an
// error when not even one picture can be run; a larger batch that cannot be is
// noted, and none larger is tried.
func (d *Detector) measure(o Options, provider string, outDims ort.Shape) (int, error) {
	began := time.Now()
	for _, n := range sizes(o.most(maxMeasured)) {
		rate, err := d.rate(o, provider, outDims, n)
		if err != nil && n == 1 {
			return 0, err
		}
		if err != nil {
			d.info.Rates = append(d.info.Rates, vision.BatchRate{Batch: n, Error: err.Error()})
			break
		}
		d.info.Rates = append(d.info.Rates, vision.BatchRate{Batch: n, PerSecond: rate})
		// The next size takes two runs of twice as many pictures at least.
		next := time.Duration(4 * float64(n) / rate * float64(time.Second))
		if time.Since(began)+next > measureFor {
			break
		}
	}
	return smallest(d.info.Rates), nil
}

// smallest is the smallest batch that is nearly as fast as the best.
func smallest(rates []vision.BatchRate) int {
	best := 0.0
	for _, r := range rates {
		best = max(best, r.PerSecond)
	}
	for _, r := range rates {
		if r.PerSecond >= worthwhile*best {
			return r.Batch
		}
	}
	return 1
}

// rate measures pictures a second with batches of one size, in a session that
// it closes again. The fastest run counts: others were held up by whatever
// else this device does.
func (d *Detector) rate(o Options, provider string, outDims ort.Shape, n int) (_ float64, err error) {
	b, err := bind(o, provider, d.shape, outDims, []int{n})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	began, best := time.Now(), time.Duration(math.MaxInt64)
	for runs := 0; runs < 2 || time.Since(began) < measureOne; runs++ {
		start := time.Now()
		if err := b.run(n); err != nil {
			return 0, err
		}
		best = min(best, max(time.Since(start), time.Microsecond))
	}
	return float64(n) / best.Seconds(), nil
}
