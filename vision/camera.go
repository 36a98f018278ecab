package vision

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
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

	outcome chan outcome  // lossless: one for each frame the worker took
	exited  chan struct{} // closed when run returns

	view      view
	stage     stage
	gate      *gate // the reader's; nil without
	judge     *judge
	collected []Event // lossless: of the last frame; the worker's until it is an outcome

	// Only the reader uses these.
	throttle throttle
	seq      uint64

	mu    sync.Mutex
	facts facts
	state CameraState
	told  CameraState // the last one that OnState saw
	stats CameraStats
	rate  rate
}

// outcome is what became of a lossless camera's frame.
type outcome struct{ events []Event }

func newCamera(o CameraOptions, p *Pipeline) *camera {
	if o.StallAfter == 0 {
		o.StallAfter = DefaultStallAfter
	}
	c := &camera{
		opts:     o,
		backoff:  p.opts.Backoff,
		limits:   limits{stall: o.StallAfter},
		log:      p.opts.Logger.With("camera", o.ID),
		emitter:  &p.emitter,
		changed:  p.changed,
		outcome:  make(chan outcome, 1),
		exited:   make(chan struct{}),
		throttle: newThrottle(o.FPS),
		state:    CameraState{Camera: o.ID, State: Offline, Reason: ReasonStarting},
	}
	c.view = view{region: o.Region, tiles: o.Tiles}
	if o.Motion.On {
		c.gate = newGate(o.Motion)
	}
	c.judge = newJudge(o.Judge, o.StallAfter, p.run, func() uint64 { return p.tracks.Add(1) })
	if o.Model != "" {
		c.limits.inspect = max(o.StallAfter, 3*c.throttle.interval)
		if c.gate != nil {
			c.limits.inspect = max(c.limits.inspect, 3*c.gate.opts.Every)
		}
	}
	c.stats = CameraStats{ID: o.ID, Kind: o.Kind, Model: o.Model}
	return c
}

// run reads the camera until ctx ends or its source does.
func (c *camera) run(ctx context.Context) {
	defer close(c.exited)
	for attempt := 0; ; attempt++ {
		frames, err := c.connection(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, io.EOF):
			c.enter(phaseEnded)
			return
		case frames > 0:
			attempt = 0
		}
		c.lost(err, frames > 0)
		c.log.Warn("camera lost", "error", err, "frames", frames, "attempt", attempt)
		if sleep(ctx, c.backoff(attempt)) != nil {
			return
		}
		c.update(func() { c.stats.Reconnects++ })
	}
}

// connection opens a source, reads it until it fails, and closes it.
func (c *camera) connection(ctx context.Context) (frames int, err error) {
	src := c.opts.NewSource()
	defer func() { err = errors.Join(err, src.Close()) }()
	c.enter(phaseOpening)
	if err := src.Open(ctx); err != nil {
		return 0, err
	}
	grab, _ := src.(Grabber)
	for ; ctx.Err() == nil; frames++ {
		c.enter(phaseReading)
		frame, keep, err := c.read(src, grab, frames == 0)
		if err != nil {
			return frames, err
		}
		if keep && c.moves(frame) {
			c.submit(ctx, frame)
		}
	}
	return frames, ctx.Err()
}

// read takes the next frame off the source. keep is false when it was counted
// and closed because it is not to be inspected. The first frame of a
// connection is always retrieved: it tells the resolution.
func (c *camera) read(src Source, grab Grabber, first bool) (f Frame, keep bool, err error) {
	if grab == nil {
		f, err = src.Read()
		if err != nil {
			return f, false, err
		}
		keep = c.arrived(f.Arrived)
	} else {
		at, err := grab.Grab()
		if err != nil {
			return f, false, err
		}
		if keep = c.arrived(at); !keep && !first {
			return f, false, nil
		}
		if f, err = grab.Retrieve(); err != nil {
			c.uncounted(keep)
			return f, false, err
		}
		f.Arrived = at
	}
	f.Camera, f.Seq = c.opts.ID, c.seq
	c.update(func() { c.stats.Width, c.stats.Height = f.Width, f.Height })
	if !keep {
		f.Image.Close()
	}
	return f, keep, nil
}

// arrived counts a frame and reports whether it is to be inspected.
func (c *camera) arrived(at time.Time) (keep bool) {
	c.seq++
	keep = c.worker != nil && c.throttle.allow(at)
	c.update(func() {
		c.stats.Frames++
		c.stats.LastFrame = at
		c.rate.add(at)
		if c.facts.lastFrame.IsZero() {
			c.facts.inspected = at
		}
		c.facts.lastFrame, c.facts.err = at, nil
		if c.worker != nil && !keep {
			c.stats.Throttled++
		}
	})
	return keep
}

// moves reports whether a frame passes the motion gate. One that does not is
// counted and closed.
func (c *camera) moves(f Frame) bool {
	if c.gate == nil || c.gate.pass(f) {
		return true
	}
	f.Image.Close()
	c.update(func() { c.stats.Masked++ })
	return false
}

// uncounted accounts for a grabbed frame whose pixels could not be retrieved.
func (c *camera) uncounted(wanted bool) {
	if wanted {
		c.update(func() { c.stats.Dropped++ })
	}
}

// submit hands a frame to the worker. For a lossless camera it returns when
// the frame is inspected and its event queued.
func (c *camera) submit(ctx context.Context, f Frame) {
	if ctx.Err() != nil {
		f.Image.Close()
		c.update(func() { c.stats.Dropped++ })
		return
	}
	if c.opts.Lossless {
		c.enter(phaseHeld)
	}
	if n := c.slot.put(f); n > 0 {
		c.update(func() { c.stats.Dropped += uint64(n) })
	}
	c.worker.signal()
	if !c.opts.Lossless {
		return
	}
	select {
	case o := <-c.outcome:
		for _, e := range o.events {
			c.emitter.wait(ctx, emission{e, c})
		}
	case <-ctx.Done():
	}
}

// inspected is called by the worker when it is done with one of the frames.
// It never blocks.
func (c *camera) inspected(e Event, detectErr error) {
	c.update(func() {
		c.facts.inspected, c.facts.detectErr = time.Now(), detectErr
		if detectErr != nil {
			c.stats.DetectorErrors++
		} else {
			c.stats.Inspected++
		}
	})
	if !c.opts.Lossless {
		if detectErr == nil {
			c.judge.look(e, c.keep)
		}
		return
	}
	c.collected = c.collected[:0]
	if detectErr == nil {
		c.judge.look(e, c.collect)
	}
	c.outcome <- outcome{c.collected} // has room: one frame is in flight
}

// keep queues an event if there is room. The end of a track that finds none
// is not counted as dropped: the judge tries it again.
func (c *camera) keep(e Event) bool {
	if e.TrackEvent == TrackEnd {
		return c.emitter.try(emission{e, c})
	}
	return c.emitter.offer(emission{e, c})
}

// collect leaves an event to the reader of a lossless camera.
func (c *camera) collect(e Event) bool {
	c.collected = append(c.collected, e)
	return true
}

// modelState is called by the worker after it tried to load the model.
func (c *camera) modelState(err error) {
	c.update(func() { c.facts.modelErr, c.facts.inspected = err, time.Now() })
}

// enter notes what the reader does now.
func (c *camera) enter(ph phase) {
	c.update(func() {
		if c.facts.phase == phaseStopped || (c.facts.phase == ph && ph == phaseReading) {
			return
		}
		if ph == phaseOpening {
			c.facts.lastFrame = time.Time{}
		}
		c.facts.phase, c.facts.since = ph, time.Now()
	})
}

// lost notes why a connection ended.
func (c *camera) lost(err error, hadFrames bool) {
	c.update(func() {
		if c.facts.phase != phaseStopped {
			c.facts.phase, c.facts.since = phaseBackoff, time.Now()
		}
		c.facts.err, c.facts.lost = err, hadFrames
		c.facts.lastFrame = time.Time{}
	})
}

// finish accounts for what a stopped reader and worker left between them.
func (c *camera) finish() {
	dropped := c.slot.close()
	c.update(func() { c.stats.Dropped += uint64(dropped) })
	select {
	case o := <-c.outcome:
		for _, e := range o.events {
			c.emitter.offer(emission{e, c})
		}
	default:
	}
	c.judge.close(c.keep)
	c.enter(phaseStopped)
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
	changed := c.derive(time.Now())
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
	s.FPS = c.rate.fps(now)
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
