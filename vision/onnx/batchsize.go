//go:build !novision

package onnx

import (
	"errors"
	"fmt"
	"time"

	"outstation/vision"
)

const (
	// maxMeasured is the largest batch that is tried where none is configured
	// and there are as many cameras.
	maxMeasured = 8

	// measureFor bounds the measurement of a model, the first run of its
	// smallest batch left out, and rounds how often each size is run.
	measureFor = 2 * time.Second
	rounds     = 12

	// worthwhile is how much of the best rate a smaller batch must reach to be
	// chosen: waiting for a larger one costs time too.
	worthwhile = 0.8
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

// batches are those that have a session where nothing is measured: the graph's
// own where it has one, else those up to MaxBatch.
func (o Options) batches(fixed int) []int {
	if fixed > 0 {
		return []int{fixed}
	}
	return sizes(o.most(max(1, o.MaxBatch)))
}

// connectTo makes the sessions on one provider: for the graph's own batch where
// it has one, else for those up to MaxBatch, or as many as measuring says.
func (d *Detector) connectTo(o Options, provider string) error {
	if err := usable(o.Library, provider); err != nil {
		return err
	}
	fixed := d.shape.batch
	if fixed > 0 && o.MaxBatch > 0 && o.MaxBatch != fixed {
		return fmt.Errorf("max_batch %d: the graph's batch is fixed at %d; leave max_batch out, or export the model with a dynamic batch", o.MaxBatch, fixed)
	}
	d.info.Rates = nil
	var bound *binding
	var err error
	if fixed == 0 && o.MaxBatch == 0 && provider != ProviderTensorRT { // which builds an engine for each size
		bound, err = d.measured(o, provider)
	} else {
		bound, err = bind(o, provider, d.shape, o.batches(fixed))
	}
	if err != nil {
		return err
	}
	d.bound, d.info.MaxBatch = bound, bound.pictures
	d.info.Nodes, d.info.Unproven = bound.proof.nodes, bound.proof.missing
	return nil
}

// measured makes the sessions that measuring says, and notes the rates.
func (d *Detector) measured(o Options, provider string) (*binding, error) {
	all := sizes(o.most(maxMeasured))
	b, err := unbound(d.shape, all[len(all)-1])
	if err != nil {
		return nil, err
	}
	rates, err := b.measure(all, func(n int) error { return b.connect(o, provider, n) })
	if err != nil {
		return nil, errors.Join(err, b.close())
	}
	d.info.Rates = rates
	best := smallest(rates)
	if best == b.pictures {
		return b, nil
	}
	if err := b.close(); err != nil { // it has memory and sessions that nobody needs
		return nil, err
	}
	return bind(o, provider, d.shape, sizes(best))
}

// measure opens the sessions and returns how fast each is, by its fastest
// run: others were held up by whatever else this device does. Sizes take
// turns, so that what holds them up does not meet one alone. It is an error
// when not even one picture can be run; a larger batch that cannot be is
// noted, and none larger is tried.
func (b *binding) measure(all []int, open func(int) error) ([]vision.BatchRate, error) {
	began := time.Now()
	var rates []vision.BatchRate
	for i, n := range all {
		r := vision.BatchRate{Batch: n}
		err := open(n)
		if err == nil {
			err = b.race(&r)
		}
		if err != nil && i == 0 {
			return nil, err
		}
		if err != nil {
			rates = append(rates, vision.BatchRate{Batch: n, Error: err.Error()})
			break
		}
		rates = append(rates, r)
		// The next size takes two runs of twice as many pictures at least.
		next := time.Duration(4 * float64(n) / r.PerSecond * float64(time.Second))
		if time.Since(began)+next > measureFor {
			break
		}
	}
	for range rounds {
		for i := range rates {
			if rates[i].Error != "" || time.Since(began) > measureFor {
				continue
			}
			if err := b.race(&rates[i]); err != nil {
				return nil, err
			}
		}
	}
	return rates, nil
}

// race runs a batch once, and keeps the rate if it is the best so far.
func (b *binding) race(r *vision.BatchRate) error {
	began := time.Now()
	if err := b.run(r.Batch); err != nil {
		return err
	}
	took := max(time.Since(began), time.Microsecond)
	r.PerSecond = max(r.PerSecond, float64(r.Batch)/took.Seconds())
	return nil
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
