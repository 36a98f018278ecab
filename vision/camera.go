package vision

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// camera is one configured camera: its reader's goroutine and its account.
type camera struct {
	opts    CameraOptions
	backoff func(int) time.Duration
	limits  limits
	log     *slog.Logger
	slot    slot
	worker  *worker // nil without a model
	emitter *emitter
	changed chan<- struct{} // wakes the notifier

	film    film
	outcome chan outcome  // lossless: one for each frame the worker took
	exited  chan struct{} // closed when run returns
	clock   func() string
	stuck   *atomic.Int64 // calls that are stuck now, of all cameras

	view      view
	judge     *judge
	collected []emission  // lossless: of the last frame; the worker's until it is an outcome
	telling   atomic.Bool // lossless: events of the last frame are not all in the buffer

	mu       sync.Mutex
	throttle throttle
	seq      uint64
	facts    facts
	state    CameraState
	told     CameraState // the last one that OnState saw
	stats    CameraStats
	rate     rate
	looks    rate      // inspections that succeeded
	behind   int       // abandoned readers that have not ended
	heard    time.Time // arrival of the last frame of any connection, at first the start; or when one was expected again
	account  account
	marked   CameraStats // counts at the last inspection
}

// outcome is what became of a lossless camera's frame.
type outcome struct{ emissions []emission }

func newCamera(o CameraOptions, p *Pipeline) *camera {
	if o.StallAfter == 0 {
		o.StallAfter = DefaultStallAfter
	}
	c := &camera{
		opts:     o,
		backoff:  p.opts.Backoff,
		limits:   limits{stall: o.StallAfter, stuckHere: p.opts.MaxStuckPerCamera, stuckInAll: p.opts.MaxStuck},
		log:      p.opts.Logger.With("camera", o.ID),
		emitter:  &p.emitter,
		changed:  p.changed,
		outcome:  make(chan outcome, 1),
		exited:   make(chan struct{}),
		clock:    p.opts.ClockState,
		stuck:    &p.stuck,
		throttle: newThrottle(o.FPS),
		state:    CameraState{Camera: o.ID, State: Offline, Reason: ReasonStarting},
	}
	c.view = view{region: o.Region, tiles: o.Tiles}
	c.film.opts = o.Snapshot
	if o.Model != "" {
		c.limits.inspect = max(o.StallAfter, 3*c.throttle.interval)
		if o.Motion.On {
			c.limits.inspect = max(c.limits.inspect, 3*o.Motion.withDefaults().Every)
		}
		c.account = account{camera: o.ID, after: o.BlindLimit(), until: o.Account.Until, coverage: o.Account.Coverage.clone()}
	}
	c.judge = newJudge(o.Judge, max(o.StallAfter, c.limits.inspect), p.run, func() uint64 { return p.tracks.Add(1) })
	c.stats = CameraStats{ID: o.ID, Kind: o.Kind, Model: o.Model}
	if o.Model != "" {
		c.stats.Priority = cmp.Or(o.Priority, DefaultPriority)
	}
	return c
}

// begin starts the camera's clocks; run follows.
func (c *camera) begin(now time.Time) {
	c.update(func() {
		c.facts.since, c.state.Since, c.heard = now, now, now
		c.account.begin(now)
	})
}

// run keeps the camera connected until ctx ends or its source does.
func (c *camera) run(ctx context.Context) {
	defer close(c.exited)
	var said news
	for attempt := 0; ; attempt++ {
		r := c.connect(ctx)
		err := c.supervise(ctx, r)
		frames := c.framesOf(r)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, io.EOF):
			c.update(func() {
				c.phase(phaseEnded)
				c.account.end(time.Now())
			})
			return
		case frames > 0:
			attempt, said = 0, news{}
		}
		c.lost(err, frames > 0)
		c.log.Log(ctx, said.level(err, slog.LevelWarn), "camera lost", "error", err, "frames", frames, "attempt", attempt)
		if sleep(ctx, c.backoff(attempt)) != nil {
			return
		}
		c.update(func() { c.stats.Reconnects++ })
	}
}

// leftBehind is how many abandoned readers still wait for their call.
func (c *camera) leftBehind() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.behind
}

func (c *camera) framesOf(r *reader) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return r.frames
}

// uncounted accounts for a frame that was to be inspected and could not be
// handed on.
func (c *camera) uncounted(wanted bool) {
	if wanted {
		c.update(func() { c.stats.Dropped++ })
	}
}

// masked accounts for a frame that was kept from the model because nothing
// moved in it.
func (c *camera) masked() {
	c.update(func() { c.stats.Masked++ })
}

// heardAt notes that a frame came. The caller holds c.mu.
func (c *camera) heardAt(now time.Time) {
	c.stats.Stalled += c.stalledFor(now)
	c.heard = now
	if c.facts.lastFrame.IsZero() {
		c.facts.inspected = now
	}
	c.facts.lastFrame, c.facts.err, c.facts.stalled = now, nil, false
}

// stalledFor is how long no frame has come, if that is a stall and frames are
// still expected. The caller holds c.mu.
func (c *camera) stalledFor(now time.Time) time.Duration {
	d := now.Sub(c.heard)
	if c.heard.IsZero() || d < c.limits.stall || c.facts.phase == phaseEnded || c.facts.phase == phaseStopped || c.facts.phase == phaseHeld {
		return 0
	}
	return d
}

// inspected is called by the worker when it is done with one of the frames,
// whose image it takes. It never blocks.
func (c *camera) inspected(e Event, img Image, detectErr error) {
	c.film.insert(img, e.CapturedAt)
	defer c.film.eject()
	c.update(func() {
		c.facts.inspected, c.facts.detectErr = time.Now(), detectErr
		if detectErr != nil {
			c.stats.DetectorErrors++
		} else {
			c.stats.Inspected++
			c.looks.add(c.facts.inspected)
			c.account.inspected(e.CapturedAt, c.facts.inspected, c.blindReason)
			c.marked = c.stats
		}
	})
	if !c.opts.Lossless {
		if detectErr == nil {
			c.judge.look(e, img, c.keep)
		}
		return
	}
	c.telling.Store(true)
	c.collected = c.collected[:0]
	if detectErr == nil {
		c.judge.look(e, img, c.collect)
	}
	c.outcome <- outcome{c.collected} // has room: one frame is in flight
}

// queue carries the events of a lossless camera's frame to the buffer and waits
// for room until ctx ends; it leaves the others to finish.
func (c *camera) queue(ctx context.Context, o outcome) bool {
	for i, m := range o.emissions {
		if !c.emitter.wait(ctx, m) {
			c.outcome <- outcome{o.emissions[i:]} // has room: no frame is in flight
			return false
		}
	}
	c.telling.Store(false)
	return true
}

// expire ends the tracks of a camera that was not inspected for long, but not
// before what a lossless one has to say of them is in the buffer.
func (c *camera) expire(now time.Time) {
	if !c.telling.Load() {
		c.judge.expire(now, c.keep)
	}
}

// keep queues an event if there is room. The best and the end of a track that
// find none are not counted as dropped: the judge tries them again.
func (c *camera) keep(e Event) bool {
	if e.TrackEvent == TrackBest || e.TrackEvent == TrackEnd {
		return c.emitter.try(emission{event: e, camera: c})
	}
	return c.emitter.offer(c.emission(e))
}

// collect leaves an event to the reader of a lossless camera.
func (c *camera) collect(e Event) bool {
	c.collected = append(c.collected, c.emission(e))
	return true
}

// emission is an event with its picture, if it is to have one.
func (c *camera) emission(e Event) emission {
	m := emission{event: e, camera: c}
	if e.Picture {
		m.picture = c.photograph(&e)
	}
	return m
}

// modelState is called by the worker after it tried to load the model.
func (c *camera) modelState(err error) {
	c.update(func() { c.facts.modelErr, c.facts.inspected = err, time.Now() })
}

// phase notes what the reader does now. The caller holds c.mu.
func (c *camera) phase(ph phase) {
	if c.facts.phase == phaseStopped || (c.facts.phase == ph && ph == phaseReading) {
		return
	}
	if ph == phaseOpening {
		c.facts.lastFrame = time.Time{}
	}
	if c.facts.phase == phaseHeld { // meanwhile no frame was expected
		c.heard = time.Now()
	}
	c.facts.phase, c.facts.since = ph, time.Now()
}

// lost notes why a connection ended.
func (c *camera) lost(err error, hadFrames bool) {
	c.update(func() {
		if c.facts.phase != phaseStopped {
			c.facts.phase, c.facts.since = phaseBackoff, time.Now()
		}
		c.facts.err, c.facts.lost = err, hadFrames
		c.facts.lastFrame, c.facts.stalled = time.Time{}, errors.Is(err, errAbandoned)
	})
}

// finish accounts for what a stopped reader and worker left between them, and
// ends the tracks. Their events wait for room until late ends.
func (c *camera) finish(late context.Context) {
	dropped := c.slot.close()
	c.update(func() { c.stats.Dropped += uint64(dropped) })
	var last []emission
	select {
	case o := <-c.outcome:
		last = slices.Clone(o.emissions)
	default:
	}
	c.judge.close(func(e Event) bool {
		last = append(last, c.emission(e))
		return true
	})
	for _, m := range last {
		if !c.emitter.wait(late, m) {
			c.emitter.offer(m)
		}
	}
	c.update(func() {
		c.stats.Stalled += c.stalledFor(time.Now())
		c.phase(phaseStopped)
		c.account.stop()
	})
}

// countEvent counts an event as queued or as dropped.
func (c *camera) countEvent(queued bool) {
	c.update(func() {
		if queued {
			c.stats.Events++
		} else {
			c.stats.EventsDropped++
		}
	})
}

// uncountEvent turns a queued event into a dropped one.
func (c *camera) uncountEvent() {
	c.update(func() { c.stats.Events--; c.stats.EventsDropped++ })
}

// update changes the camera's account under its lock and derives its state anew.
func (c *camera) update(change func()) {
	c.mu.Lock()
	change()
	now := time.Now()
	changed := c.derive(now)
	c.account.look(now, c.blindReason)
	changed = changed || len(c.account.untold) > 0
	c.mu.Unlock()
	if changed {
		select {
		case c.changed <- struct{}{}:
		default:
		}
	}
}

// derive brings c.state up to date. The caller holds c.mu.
func (c *camera) derive(now time.Time) (changed bool) {
	state, reason, err := c.facts.derive(now, c.limits)
	changed = state != c.state.State || reason != c.state.Reason
	if changed {
		c.state.Since = now
	}
	c.state.State, c.state.Reason, c.state.Detail = state, reason, ""
	if err != nil {
		c.state.Detail = err.Error()
	}
	return changed
}

// untold returns the state if OnState has not seen it.
func (c *camera) untold() (CameraState, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fresh := c.told.State != c.state.State || c.told.Reason != c.state.Reason
	c.told = c.state
	return c.state, fresh
}

func (c *camera) snapshot(now time.Time) CameraStats {
	filtered, tracks, refused, lost := c.judge.stats() // not under c.mu: the judge calls back
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.State, s.Reason, s.Detail, s.Since = c.state.State, c.state.Reason, c.state.Detail, c.state.Since
	s.FPS, s.InspectedFPS = c.rate.fps(now), c.looks.fps(now)
	s.Stalled += c.stalledFor(now)
	c.account.stats(&s, now)
	s.Filtered, s.Tracks, s.TracksRefused, s.EndsLost = filtered, tracks, refused, lost
	return s
}

// sleep waits for d or until ctx ends.
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
