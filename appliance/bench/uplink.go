//go:build !novision

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"outstation/appliance/internal/load"
	"outstation/uplink/mosquittotest"
	"outstation/web"
)

const (
	uplinkPayload = 256
	// silence voids a run: nothing arrived for this long.
	silence = 30 * time.Second
)

// shapes of load, each a line.
var shapes = []struct{ publishers, window int }{{1, 256}, {32, 32}}

// uplinkLine compares the appliance with Mosquitto's own bridge, in medians
// of alternating runs, each from the first publish to the last arrival at the
// centre. The appliance syncs before each PUBACK; the bridge never does.
type uplinkLine struct {
	Bench         string  `json:"bench"`
	Payload       int     `json:"payload"`
	QoS           int     `json:"qos"`
	Publishers    int     `json:"publishers"`
	InFlight      int     `json:"inflight"` // of each publisher
	Messages      int     `json:"messages"`
	Runs          int     `json:"runs"`
	DurablePS     float64 `json:"durable_per_s"`
	BridgePS      float64 `json:"bridge_per_s"`
	Ratio         float64 `json:"ratio"`              // of the two
	AckedPS       float64 `json:"acked_per_s"`        // first publish to last PUBACK
	BridgeAckedPS float64 `json:"bridge_acked_per_s"` // the same of the bridge
	FsyncPS       float64 `json:"fsync_per_s"`        // synced transactions
	FsyncP50MS    float64 `json:"fsync_p50_ms"`       // of the same disk, 4 KiB
}

// figures are what several runs gave, a value for each.
type figures struct{ arrived, acked, fsync []float64 }

func benchUplink(ctx context.Context, o options, emit func(any) error) error {
	for _, shape := range shapes {
		var ours, bridge figures
		var disk []time.Duration
		for i := range o.runs {
			d, err := load.FsyncP50(o.dir)
			if err != nil {
				return err
			}
			disk = append(disk, d)
			pair := []func() error{
				func() error { return ours.appliance(ctx, o, shape.publishers, shape.window) },
				func() error { return bridge.bridge(ctx, o, shape.publishers, shape.window) },
			}
			for k := range pair { // who is first alternates too
				if err := pair[(i+k)%2](); err != nil {
					return err
				}
			}
		}
		line := uplinkLine{
			Bench: "uplink", Payload: uplinkPayload, QoS: 1, Publishers: shape.publishers, InFlight: shape.window,
			Messages: o.messages, Runs: o.runs,
			DurablePS: load.Median(ours.arrived), BridgePS: load.Median(bridge.arrived),
			AckedPS: load.Median(ours.acked), BridgeAckedPS: load.Median(bridge.acked),
			FsyncPS: load.Median(ours.fsync), FsyncP50MS: milliseconds(load.Median(disk)),
		}
		line.Ratio = line.DurablePS / line.BridgePS
		if err := emit(line); err != nil {
			return err
		}
	}
	return nil
}

// appliance adds one run of the appliance.
func (f *figures) appliance(ctx context.Context, o options, publishers, window int) error {
	return withCentre(o, func(dir string, centre *mosquittotest.Server) (err error) {
		a, err := load.NewAppliance(o.binary, filepath.Join(dir, "edge"), centre.Address())
		if err != nil {
			return err
		}
		if err := a.Start(); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, a.Stop()) }()
		if _, err := a.Until(ctx, connected); err != nil {
			return err
		}
		before, err := load.Status(ctx, a.Web())
		if err != nil {
			return err
		}
		took, err := f.add(ctx, a, centre, o.messages, publishers, window)
		if err != nil {
			return err
		}
		after, err := load.Status(ctx, a.Web())
		f.fsync = append(f.fsync, float64(after.Queue.Commits-before.Queue.Commits)/took.Seconds())
		return err
	})
}

func connected(s web.Snapshot) bool { return s.Uplink.State == web.UplinkConnected }

// bridge adds one run of Mosquitto's bridge.
func (f *figures) bridge(ctx context.Context, o options, publishers, window int) error {
	return withCentre(o, func(dir string, centre *mosquittotest.Server) (err error) {
		b, err := load.NewBridge(filepath.Join(dir, "edge"), centre.Address())
		if err != nil {
			return err
		}
		if err := b.Start(); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, b.Stop()) }()
		_, err = f.add(ctx, b, centre, o.messages, publishers, window)
		return err
	})
}

// withCentre runs f with a new centre and an empty directory.
func withCentre(o options, f func(dir string, centre *mosquittotest.Server) error) (err error) {
	dir, err := os.MkdirTemp(o.dir, "bench-")
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	centre, err := mosquittotest.New(dir)
	if err != nil {
		return err
	}
	centre.Extra = "max_inflight_messages 0\n"
	if err := centre.Start(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, centre.Stop()) }()
	return f(dir, centre)
}

// add publishes at the edge, collects at the centre and keeps the figures. It
// returns the time from the first publish to the last arrival.
func (f *figures) add(ctx context.Context, e load.Edge, centre *mosquittotest.Server, n, publishers, window int) (time.Duration, error) {
	if err := load.Probe(ctx, e, centre.Address()); err != nil {
		return 0, err
	}
	consumer, err := load.Dial(ctx, centre.Address(), "bench-consumer", true)
	if err != nil {
		return 0, err
	}
	defer consumer.Close()
	if err := consumer.Subscribe(load.Filter, 0); err != nil {
		return 0, err
	}
	n -= n % publishers
	var arrived time.Time
	collected := make(chan error, 1)
	go func() {
		var err error
		arrived, err = load.Collect(consumer, n, silence)
		collected <- err
	}()
	began, acked, err := publish(ctx, e, n, publishers, window)
	if err = errors.Join(err, <-collected); err != nil {
		return 0, err
	}
	f.arrived = append(f.arrived, float64(n)/arrived.Sub(began).Seconds())
	f.acked = append(f.acked, float64(n)/acked.Sub(began).Seconds())
	return arrived.Sub(began), nil
}

// publish sends n messages over as many connections as there are publishers,
// and returns when it began and when the last was acknowledged.
func publish(ctx context.Context, e load.Edge, n, publishers, window int) (began, acked time.Time, err error) {
	peers := make([]*load.Peer, publishers)
	for i := range peers {
		if peers[i], err = load.Dial(ctx, e.Address(), fmt.Sprintf("bench-device-%d", i), true); err != nil {
			return began, acked, err
		}
	}
	errs := make([]error, publishers)
	var done sync.WaitGroup
	began = time.Now()
	for i, p := range peers {
		d := load.Device{Index: uint32(i), Topic: fmt.Sprintf("sensors/bench-%d", i), Size: uplinkPayload, Window: window}
		done.Go(func() { errs[i] = d.Publish(ctx, p, n/publishers) })
	}
	done.Wait()
	return began, time.Now(), errors.Join(errs...)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
