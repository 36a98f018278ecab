package acceptance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"outstation/uplink"
	"outstation/web"
)

const (
	sampleEvery  = time.Second
	lookEvery    = 100 * time.Millisecond // where something is waited for
	restartAfter = time.Second            // of a killed process, as a supervisor does
	retryKill    = 250 * time.Millisecond // while the process has no picture yet
	linkPatience = time.Minute            // for the first connection
	sweepTimeout = 3 * time.Second
	route        = "detection" // of the ledger
)

// run is one run. All of it belongs to the goroutine that calls Run, but for
// the account.
type run struct {
	o       Options
	account *account
	line    *line
	heat    thermometer

	child   *child // nil while there is none
	looking *life  // its own
	lives   []*life
	drain   life // without cameras
	samples []Sample
	faults  []Fault
	ledger  web.RouteLedger

	start, end  time.Time // of the faults' time; the cameras stop at the end
	drained     time.Duration
	interrupted bool
	wrong       []string // that the verdict has to name
	notes       []string
}

// Run makes one run. An error means that it could not begin; from then on there
// is a report. When ctx ends, the run ends in order within 10 s, and the
// report says that it was interrupted. Nothing that was started is left running.
func Run(ctx context.Context, o Options) (_ *Report, err error) {
	o = o.withDefaults()
	r := &run{o: o, heat: thermometer{dir: thermalZones}}
	if err := Check(o.Length, o.Outages, o.Kills); err != nil {
		return nil, err
	}
	if r.account, err = newAccount(o.Device, o.Since, o.Cameras); err != nil {
		return nil, err
	}
	if r.line, err = openLine(); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.line.Close()) }()
	tap := &uplink.Tap{Centre: o.Centre, ClientID: o.reader(), Topics: o.topics(), Take: r.take, Backoff: o.Backoff, Logger: o.Logger}
	if err := tap.Open(ctx); err != nil {
		return nil, explain(err, o)
	}
	defer r.sweep()
	reading, stop := context.WithCancel(context.WithoutCancel(ctx))
	var done sync.WaitGroup
	done.Go(func() { tap.Serve(reading) })
	defer done.Wait()
	defer stop()
	defer r.endChild()
	if err := r.begin(ctx); err != nil {
		return nil, err
	}
	r.conduct(ctx)
	r.finish(ctx)
	return r.report(), nil
}

// explain says what to grant where the centre refuses the reader.
func explain(err error, o Options) error {
	if !errors.Is(err, uplink.ErrTapRefused) {
		return fmt.Errorf("%w: %w", ErrNoCentre, err)
	}
	return fmt.Errorf("%w: to compare, the user %q (client id %s) has to be granted to subscribe to %v", err, o.Centre.Username, o.reader(), o.topics())
}

func (r *run) take(m uplink.Tapped) {
	if r.o.Hide == nil || !r.o.Hide(m) {
		r.account.take(m, time.Now())
	}
}

// sweep removes what the run leaves at the centre.
func (r *run) sweep() {
	ctx, cancel := context.WithTimeout(context.Background(), sweepTimeout)
	defer cancel()
	clients, retained := r.o.traces()
	if err := r.o.Centre.Sweep(ctx, clients, retained); err != nil {
		r.o.Say("the centre keeps what the run left there: %v", err)
	}
}

func (r *run) endChild() {
	if r.child != nil {
		r.child.kill()
	}
}

// live starts the appliance with its cameras.
func (r *run) live() (err error) {
	if r.child, err = startChild(r.o, r.o.Config, r.line.environ()); err == nil {
		r.looking = &life{first: map[string]int64{}}
		r.lives = append(r.lives, r.looking)
	}
	return err
}

// begin waits until the chain works once.
func (r *run) begin(ctx context.Context) error {
	r.o.Say("starting the appliance; waiting for the first event at the centre")
	if err := r.live(); err != nil {
		return err
	}
	began := time.Now()
	r.start = began
	var acknowledged time.Time
	for r.account.events() == 0 || !r.looking.sees(r.account.cameras) {
		if ctx.Err() != nil {
			return nil // the report says so
		}
		s, _ := r.poll(ctx)
		if r.ledger.Delivered.Records > 0 && acknowledged.IsZero() {
			acknowledged = time.Now()
		}
		if err := r.hopeless(s, time.Since(began), acknowledged); err != nil {
			return err
		}
		sleep(ctx, lookEvery)
	}
	if r.line.Used() == 0 {
		return fmt.Errorf("%w: the appliance reached %v without the proxy of its environment; give another address of the centre, not ws:// on this machine", ErrUncuttable, r.o.Centre.Brokers)
	}
	r.start, r.samples = time.Now(), nil
	return nil
}

// hopeless says why there is no reason to wait any longer for the first event.
func (r *run) hopeless(s web.Snapshot, waited time.Duration, acknowledged time.Time) error {
	switch {
	case r.child.ended():
		return fmt.Errorf("%w: %s", ErrEnded, r.child.said())
	case waited > linkPatience && s.Uplink.State != "" && s.Uplink.State != web.UplinkConnected:
		return fmt.Errorf("%w within %v: %s", ErrNoCentre, linkPatience, s.Uplink.Reason)
	case r.account.events() == 0 && !acknowledged.IsZero() && time.Since(acknowledged) > r.o.Silence:
		return fmt.Errorf("%w within %v: does its ACL let the user %q publish and subscribe to %v?", ErrNotArrived, r.o.Silence, r.o.Centre.Username, r.o.topics())
	case waited > r.o.FirstEvent:
		return fmt.Errorf("%w within %v: health says: %s", ErrNoEvent, r.o.FirstEvent, s.Health.FirstCause)
	}
	return nil
}

// at is how long the run has lasted, in seconds.
func (r *run) at() float64 { return seconds(time.Since(r.start)) }

// poll looks at the appliance and takes a sample.
func (r *run) poll(ctx context.Context) (web.Snapshot, bool) {
	r.heat.read()
	sample := Sample{AtS: r.at()}
	defer func() { r.samples = append(r.samples, sample) }()
	if r.child == nil {
		return web.Snapshot{}, false
	}
	s, err := r.child.status(ctx)
	if err != nil {
		return s, false
	}
	sample.Alive, sample.Queued, sample.Connected = true, s.Queue.Records, s.Uplink.State == web.UplinkConnected
	if i := slices.IndexFunc(s.Ledger, func(l web.RouteLedger) bool { return l.Route == route }); i >= 0 {
		r.ledger = s.Ledger[i]
	}
	r.looking.look(s, r.account.cameras)
	r.recovered(sample)
	return s, true
}

// recovered notes that a fault is over.
func (r *run) recovered(s Sample) {
	for i := range r.faults {
		f := &r.faults[i]
		if f.RecoveredS > 0 || f.ToS == 0 {
			continue
		}
		if (f.Kind == Outage && s.Connected) || (f.Kind == Kill && (r.looking.sees(r.account.cameras) || r.looking == &r.drain)) {
			f.RecoveredS = s.AtS
		}
	}
}

// finish stops the cameras and waits until the centre has everything.
func (r *run) finish(ctx context.Context) {
	r.line.Mend()
	r.end = time.Now()
	if r.child != nil {
		r.poll(context.WithoutCancel(ctx))
		r.looking.ended = r.end
	}
	timeout := stopTimeout
	if r.interrupted {
		timeout = interruptedStop
	}
	r.o.Say("stopping the cameras")
	r.stopChild(timeout)
	if r.interrupted {
		return
	}
	r.o.Say("waiting until the centre has what was accepted")
	if err := r.empty(ctx); err != nil {
		r.wrong = append(r.wrong, err.Error())
	}
	r.drained = time.Since(r.end)
	r.stopChild(stopTimeout)
}

func (r *run) stopChild(timeout time.Duration) {
	if r.child == nil {
		return
	}
	if err := r.child.stop(timeout); err != nil {
		r.notes = append(r.notes, err.Error())
	}
	r.child = nil
}

// empty runs the appliance without cameras until everything that was accepted
// is at the centre.
func (r *run) empty(ctx context.Context) (err error) {
	if r.child, err = startChild(r.o, r.o.Drain, r.line.environ()); err != nil {
		return err
	}
	r.looking = &r.drain
	began := time.Now()
	var emptied time.Time
	for {
		_, ok := r.poll(ctx)
		waited := time.Since(began)
		switch {
		case ctx.Err() != nil:
			r.interrupted = true
			return nil
		case r.child.ended():
			return fmt.Errorf("%w: %s", ErrEnded, r.child.said())
		case ok && r.ledger.Queued.Records == 0 && emptied.IsZero():
			emptied = time.Now()
		case ok && r.ledger.Queued.Records == 0 && uint64(r.account.events()) >= r.ledger.Accepted.Records:
			return nil
		case !emptied.IsZero() && time.Since(emptied) > r.o.Silence:
			return nil // what has not come by now is lost
		case waited > r.o.Arrival:
			return fmt.Errorf("the queue is not empty after %v", r.o.Arrival)
		}
		sleep(ctx, lookEvery)
	}
}

func seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
