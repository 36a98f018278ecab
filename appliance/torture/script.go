package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"outstation/appliance/internal/load"
	"outstation/uplink/mosquittotest"
)

// pace is how much there is of everything.
type pace struct {
	devices, window, size int
	between               time.Duration // two publishes of a device
	load                  span          // from the edge being up to its kill
	early                 float64       // share of kills that do not wait until it is up
	earlyLoad             span          // from such a start to its kill
	cut                   float64       // share of cycles with a cut
	from                  span          // from the edge being up to the cut
	outage                span          // how long the cut lasts
}

// span is a range of times.
type span struct{ min, max time.Duration }

func (s span) draw(rnd *rand.Rand) time.Duration {
	return s.min + time.Duration(rnd.Int64N(int64(s.max-s.min)))
}

var processPace = pace{
	devices: 4, window: 64, size: 256, between: 50 * time.Microsecond,
	load: span{0, 1500 * time.Millisecond}, early: 0.1, earlyLoad: span{0, 300 * time.Millisecond},
	cut: 0.5, from: span{0, 1500 * time.Millisecond}, outage: span{0, 2500 * time.Millisecond},
}

// finalSilence ends the wait for what is missing at the centre: nothing
// arrived for this long although the edge has nothing left to send.
const finalSilence = 10 * time.Second

// result is what the script found of one edge.
type result struct {
	Kills        int `json:"kills"`
	Cuts         int `json:"cuts"`
	Sent         int `json:"sent"`
	Acknowledged int `json:"acknowledged"`
	Arrived      int `json:"arrived"` // different messages at the centre
	Lost         int `json:"lost"`    // acknowledged, and not at the centre
	Duplicates   int `json:"duplicates"`
	// Accepted, LedgerErrors and Quarantines are of the appliance alone.
	Accepted     *int64 `json:"accepted,omitempty"`
	LedgerErrors *int   `json:"ledger_errors,omitempty"`
	Quarantines  int    `json:"quarantines"`
}

func (r *result) exact() bool {
	return r.Lost == 0 && r.LedgerErrors != nil && *r.LedgerErrors == 0 && r.Quarantines == 0
}

// script drives one edge.
type script struct {
	name     string
	pace     pace
	rnd      *rand.Rand
	centre   *mosquittotest.Server
	line     *load.Proxy
	edge     edge
	devices  []*load.Device
	consumer *load.Consumer
	outage   chan error // how the outage that runs, or the last one, ended
	result   result
}

// torture kills an edge under load, cycles times, and counts what is lost.
// The seed decides the schedule.
func torture(ctx context.Context, name string, cycles int, seed uint64, dir string, p pace, open func(dir, centre string) (edge, error)) (r *result, err error) {
	s := &script{name: name, pace: p, rnd: rand.New(rand.NewPCG(seed, 0)), outage: make(chan error, 1)}
	s.outage <- nil
	if err := s.openCentre(ctx, filepath.Join(dir, "centre")); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, <-s.outage, s.line.Close(), s.centre.Stop()) }()
	if s.edge, err = open(filepath.Join(dir, "edge"), s.line.Address()); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.edge.Kill()) }()
	end := s.openLoad(ctx)
	defer end.consumer()
	for i := range cycles {
		if err := s.cycle(ctx); err != nil {
			end.devices()
			return nil, fmt.Errorf("%s, cycle %d: %w", name, i+1, err)
		}
		if n := i + 1; n%max(1, cycles/20) == 0 || n == cycles {
			s.progress(n, cycles)
		}
	}
	end.devices()
	if err := s.finish(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &s.result, nil
}

func (s *script) openCentre(ctx context.Context, dir string) (err error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	if s.centre, err = mosquittotest.New(dir); err != nil {
		return err
	}
	s.centre.Extra = "max_inflight_messages 0\n"
	if err := s.centre.Start(); err != nil {
		return err
	}
	s.consumer = &load.Consumer{Address: s.centre.Address(), ID: "torture-consumer"}
	if err = s.consumer.Subscribe(ctx); err == nil {
		s.line, err = load.NewProxy(s.centre.Address())
	}
	if err != nil {
		return errors.Join(err, s.centre.Stop())
	}
	return nil
}

// ends are what stops the load and joins it. Each may be called again.
type ends struct{ devices, consumer func() }

// openLoad starts the devices and the consumer.
func (s *script) openLoad(ctx context.Context) ends {
	begin := func(run ...func(context.Context)) func() {
		ctx, cancel := context.WithCancel(ctx)
		var done sync.WaitGroup
		for _, f := range run {
			done.Go(func() { f(ctx) })
		}
		return func() {
			cancel()
			done.Wait()
		}
	}
	var publish []func(context.Context)
	for i := range s.pace.devices {
		d := &load.Device{
			Index: uint32(i), Address: s.edge.Address(), Topic: fmt.Sprintf("sensors/device-%d", i),
			Size: s.pace.size, Window: s.pace.window, Pace: s.pace.between,
		}
		s.devices = append(s.devices, d)
		publish = append(publish, d.Run)
	}
	return ends{devices: begin(publish...), consumer: begin(s.consumer.Run)}
}

// cycle starts the edge, cuts the centre or not, and kills the edge.
func (s *script) cycle(ctx context.Context) error {
	early := s.rnd.Float64() < s.pace.early
	cut := s.rnd.Float64() < s.pace.cut
	whole := s.rnd.IntN(2) == 0 // the centre, not the line
	kill, soon := s.pace.load.draw(s.rnd), s.pace.earlyLoad.draw(s.rnd)
	from, lasts := s.pace.from.draw(s.rnd), s.pace.outage.draw(s.rnd)
	if s.result.Kills == 0 {
		early = false // once everything must have worked
	}
	if early {
		kill = soon
	}

	told := s.acked() // before this start, so it must be in the ledger
	if err := s.edge.Start(); err != nil {
		return err
	}
	if !early {
		if err := s.edge.Ready(ctx); err != nil {
			return err
		}
		if err := s.edge.Check(ctx, told, &s.result); err != nil {
			return err
		}
	}
	if cut {
		if err := s.begin(ctx, whole, from, lasts); err != nil {
			return err
		}
	}
	if err := sleep(ctx, kill); err != nil {
		return err
	}
	s.result.Kills++
	return s.edge.Kill()
}

// begin starts an outage when the one before is over. It may outlast the
// cycle, so that the edge also starts without a centre.
func (s *script) begin(ctx context.Context, whole bool, from, lasts time.Duration) error {
	if err := <-s.outage; err != nil {
		s.outage <- nil
		return err
	}
	s.result.Cuts++
	go func() { s.outage <- s.cut(ctx, whole, from, lasts) }()
	return nil
}

// cut takes the centre, or the line to it, away for a while. The centre is
// stopped in order: it keeps what it acknowledged. Everything is back when it
// returns, also when ctx ends.
func (s *script) cut(ctx context.Context, whole bool, from, lasts time.Duration) error {
	away, back := s.line.Cut, s.line.Mend
	if whole {
		away, back = s.centre.Stop, s.centre.Start
	}
	if sleep(ctx, from) != nil {
		return nil
	}
	if err := away(); err != nil {
		return err
	}
	_ = sleep(ctx, lasts) // back, in any case
	return back()
}

func (s *script) acked() int {
	n := 0
	for _, d := range s.devices {
		n += d.Acked()
	}
	return n
}

func (s *script) progress(n, cycles int) {
	t := s.consumer.Tally()
	fmt.Fprintf(os.Stderr, "%s: %d of %d cycles, %d cuts, %d acknowledged, %d at the centre, %d duplicates\n",
		s.name, n, cycles, s.result.Cuts, s.acked(), t.Unique, t.Duplicates)
}

// finish lets the edge send what it has, with everything well, and compares.
func (s *script) finish(ctx context.Context) error {
	err := <-s.outage
	s.outage <- nil
	if err != nil {
		return err
	}
	told := s.acked()
	if err := s.edge.Start(); err != nil {
		return err
	}
	if err := s.edge.Ready(ctx); err != nil {
		return err
	}
	if err := s.edge.Check(ctx, told, &s.result); err != nil {
		return err
	}
	if err := s.edge.Drained(ctx); err != nil {
		return err
	}
	if err := s.awaitSilence(ctx); err != nil {
		return err
	}
	if err := s.edge.Stop(); err != nil {
		return err
	}
	t := s.consumer.Tally()
	s.result.Arrived, s.result.Duplicates, s.result.Acknowledged = t.Unique, t.Duplicates, told
	for _, d := range s.devices {
		s.result.Sent += d.Sent()
		s.result.Lost += len(d.Missing(s.consumer.Seen))
		if err := d.Err(); err != nil {
			return err
		}
	}
	return s.edge.Final(&s.result)
}

// awaitSilence waits until every acknowledged message is at the centre, or
// nothing comes any more; then a little for what was never acknowledged.
func (s *script) awaitSilence(ctx context.Context) error {
	for since := time.Now(); ; {
		missing := 0
		for _, d := range s.devices {
			missing += len(d.Missing(s.consumer.Seen))
		}
		quiet := finalSilence
		if missing == 0 {
			quiet = time.Second
		}
		last := s.consumer.Tally().Last
		if last.Before(since) {
			last = since
		}
		if time.Since(last) > quiet {
			return nil
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// sleep returns after d, or with an error when ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
