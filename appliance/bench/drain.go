//go:build !novision

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"outstation/appliance/internal/load"
	"outstation/uplink/mosquittotest"
	"outstation/web"
)

// drainLine is how fast a backlog reaches a centre that came back, counted
// from the moment when it listens, so the wait for the next attempt to
// connect is in it.
type drainLine struct {
	Bench     string  `json:"bench"`
	Records   int     `json:"records"`
	Payload   int     `json:"payload"`
	Runs      int     `json:"runs"`
	DrainedPS float64 `json:"drained_per_s"`
	QueuedPS  float64 `json:"queued_per_s"` // first publish to last PUBACK, the centre away
}

func benchDrain(ctx context.Context, o options, emit func(any) error) error {
	var drained, queued []float64
	for range o.runs {
		err := withCentre(o, func(dir string, centre *mosquittotest.Server) error {
			d, q, err := drainRun(ctx, o, dir, centre)
			drained, queued = append(drained, d), append(queued, q)
			return err
		})
		if err != nil {
			return err
		}
	}
	return emit(drainLine{"drain", o.drain, uplinkPayload, o.runs, load.Median(drained), load.Median(queued)})
}

func drainRun(ctx context.Context, o options, dir string, centre *mosquittotest.Server) (drainedPS, queuedPS float64, err error) {
	// The session keeps what arrives before the consumer is back.
	consumer := load.Consumer{Address: centre.Address(), ID: "drain-consumer"}
	if err := errors.Join(consumer.Subscribe(ctx), centre.Stop()); err != nil {
		return 0, 0, err
	}
	a, err := load.NewAppliance(o.binary, filepath.Join(dir, "edge"), centre.Address())
	if err != nil {
		return 0, 0, err
	}
	if err := a.Start(); err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, a.Stop()) }()
	if err := a.Ready(ctx); err != nil {
		return 0, 0, err
	}
	n := o.drain
	began, acked, err := publish(ctx, a, n, 1, 256)
	if err != nil {
		return 0, 0, err
	}
	queued := func(s web.Snapshot) bool { return s.Queue.Records >= uint64(n) }
	if _, err := a.Until(ctx, queued); err != nil {
		return 0, 0, fmt.Errorf("%d queued records: %w", n, err)
	}
	if err := centre.Start(); err != nil {
		return 0, 0, err
	}
	listening := time.Now()
	peer, err := load.Dial(ctx, centre.Address(), consumer.ID, false)
	if err != nil {
		return 0, 0, err
	}
	defer peer.Close()
	last, err := load.Collect(peer, n, silence)
	return float64(n) / last.Sub(listening).Seconds(), float64(n) / acked.Sub(began).Seconds(), err
}
