package vision

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrStuck says that calls into sources never returned and that no further
// connection is opened: only another process can look through these cameras
// again. See Options.MaxStuck.
var ErrStuck = errors.New("reads of cameras never returned")

// errAbandoned ends a reader whose camera does not wait for it any more.
var errAbandoned = errors.New("the connection was abandoned")

// reader is one goroutine with one Source, from Open to Close. The source
// belongs to that goroutine alone: whoever gives up waiting for a call must not
// close the source under it.
type reader struct {
	camera *camera
	cancel context.CancelFunc
	gate   *gate         // nil without; a connection begins a background of its own
	done   chan struct{} // closed when the goroutine returns
	err    error         // why the connection ended; to be read once done is closed

	// Guarded by camera.mu.
	frames    int           // that were counted
	waits     bool          // the source is a Waiter
	start     time.Duration // the source's StartLimit
	given     bool          // given up for its silence: its context has ended
	stuck     bool          // its call did not return for that
	abandoned bool          // the camera goes on without it
	ended     bool          // its source is closed
}

// connect starts a reader.
func (c *camera) connect(ctx context.Context) *reader {
	r := &reader{camera: c, done: make(chan struct{})}
	if c.opts.Motion.On {
		r.gate = newGate(c.opts.Motion)
	}
	ctx, r.cancel = context.WithCancel(ctx)
	go r.run(ctx)
	return r
}

// run opens a source, reads it until it fails, and closes it. It also does so
// when the camera has abandoned it, however late that is.
func (r *reader) run(ctx context.Context) {
	defer close(r.done)
	defer r.cancel()
	src := r.camera.opts.NewSource()
	r.camera.update(func() {
		_, r.waits = src.(Waiter)
		if s, slow := src.(Starter); slow {
			r.start = s.StartLimit()
		}
	})
	err := r.read(ctx, src)
	r.err = errors.Join(err, src.Close())
	r.camera.update(func() {
		r.returned()
		r.ended = true
		if r.abandoned {
			r.camera.behind--
		}
	})
}

// read carries frames from src to the worker.
func (r *reader) read(ctx context.Context, src Source) error {
	if !r.enter(phaseOpening) {
		return errAbandoned
	}
	if err := src.Open(ctx); err != nil {
		return err
	}
	grab, _ := src.(Grabber)
	for first := true; ctx.Err() == nil; first = false {
		if !r.enter(phaseReading) {
			return errAbandoned
		}
		frame, keep, err := r.next(src, grab, first)
		if err != nil {
			return err
		}
		if keep && r.moves(frame) {
			r.submit(ctx, frame)
		}
	}
	return ctx.Err()
}

// moves reports whether a frame passes the motion gate. One that does not is
// counted and closed.
func (r *reader) moves(f Frame) bool {
	if r.gate == nil || r.gate.pass(f) {
		return true
	}
	f.Image.Close()
	r.camera.masked()
	return false
}

// next takes the next frame off the source. keep is false when it was counted
// and closed because it is not to be inspected. The first frame of a
// connection is always retrieved: it tells the resolution.
func (r *reader) next(src Source, grab Grabber, first bool) (f Frame, keep bool, err error) {
	c := r.camera
	if grab == nil {
		if f, err = src.Read(); err != nil {
			return f, false, err
		}
		if f.Seq, keep, err = r.arrived(f.Arrived); err != nil {
			f.Image.Close()
			return f, false, err
		}
	} else {
		at, err := grab.Grab()
		if err != nil {
			return f, false, err
		}
		seq, wanted, err := r.arrived(at)
		if err != nil || (!wanted && !first) {
			return f, false, err
		}
		if f, err = grab.Retrieve(); err != nil {
			c.uncounted(wanted)
			return f, false, err
		}
		f.Arrived, f.Seq, keep = at, seq, wanted
	}
	f.Camera, f.Clock = c.opts.ID, c.clock()
	c.update(func() { c.stats.Width, c.stats.Height = f.Width, f.Height })
	if !keep {
		f.Image.Close()
	}
	return f, keep, nil
}

// arrived counts a frame and reports whether it is to be inspected. A frame of
// an abandoned reader is not the camera's: it gets no number and no count.
func (r *reader) arrived(at time.Time) (seq uint64, keep bool, err error) {
	c := r.camera
	c.update(func() {
		r.returned()
		if r.abandoned {
			err = errAbandoned
			return
		}
		r.frames++
		c.seq++
		seq = c.seq
		keep = c.worker != nil && c.throttle.allow(at)
		c.heardAt(time.Now())
		c.stats.Frames++
		c.stats.LastFrame = at
		c.rate.add(at)
		if c.worker != nil && !keep {
			c.stats.Throttled++
		}
	})
	return seq, keep, err
}

// submit hands a frame to the worker. For a lossless camera it returns when
// the frame is inspected and its event queued.
func (r *reader) submit(ctx context.Context, f Frame) {
	c := r.camera
	if ctx.Err() != nil || (c.opts.Lossless && !r.enter(phaseHeld)) {
		f.Image.Close()
		c.uncounted(true)
		return
	}
	c.update(func() {
		if r.abandoned { // in Retrieve: a newer reader's frame may wait already
			f.Image.Close()
			c.stats.Dropped++
			return
		}
		c.stats.Dropped += uint64(c.slot.put(f))
	})
	c.worker.signal()
	if !c.opts.Lossless {
		return
	}
	select {
	case o := <-c.outcome:
		c.queue(ctx, o)
	case <-ctx.Done():
	}
}

// enter notes what the reader does now. It reports false for one that was
// abandoned.
func (r *reader) enter(ph phase) (current bool) {
	c := r.camera
	c.update(func() {
		r.returned()
		if current = !r.abandoned; current {
			c.phase(ph)
		}
	})
	return current
}

// returned notes that no call is stuck now. The caller holds camera.mu.
func (r *reader) returned() {
	if !r.stuck {
		return
	}
	r.stuck = false
	r.camera.stats.StuckReaders--
	r.camera.stuck.Add(-1)
	if !r.abandoned {
		r.camera.facts.pinned = nil
	}
}

// supervise waits until the reader ends, or abandons it because it is silent.
// After ctx ended it only waits: Serve bounds that.
func (c *camera) supervise(ctx context.Context, r *reader) error {
	tick := time.NewTicker(c.limits.tick())
	defer tick.Stop()
	for {
		select {
		case <-r.done:
			return c.ended(r)
		case <-ctx.Done():
			<-r.done
			return r.err
		case <-tick.C:
			if err := c.abandon(r); err != nil {
				return err
			}
		}
	}
}

// patience is how long a reader may be silent. The caller holds c.mu.
func (c *camera) patience(r *reader) time.Duration {
	if r.frames == 0 {
		return max(c.limits.stall, r.start)
	}
	return c.limits.stall
}

// ended is why a reader ended that was not abandoned.
func (c *camera) ended(r *reader) (err error) {
	c.update(func() {
		if !r.given {
			return
		}
		c.stats.Abandoned++
		err = c.silent(r)
	})
	switch {
	case err == nil:
		return r.err
	case errors.Is(r.err, context.Canceled):
		return err
	}
	return fmt.Errorf("%w: %w", err, r.err)
}

// silent is the error of a reader that was given up. The caller holds c.mu.
func (c *camera) silent(r *reader) error {
	return fmt.Errorf("no frame and no end of the call for %v: %w", c.patience(r), errAbandoned)
}

// abandon gives a silent reader up in two looks. The first ends its context: a
// source that obeys it is closed by the second, and was never stuck. Of one that
// is not, the second says so and goes on without it, unless too many are stuck:
// then the camera keeps this one, since each further one would cost a thread and
// a connection of the camera for ever.
func (c *camera) abandon(r *reader) (err error) {
	c.update(func() {
		if r.ended || r.waits || c.facts.silence(time.Now()) < c.patience(r) {
			return
		}
		if !r.given {
			r.given = true
			r.cancel()
			return
		}
		if !r.stuck {
			r.stuck = true
			c.stats.StuckReaders++
			c.stuck.Add(1)
		}
		if c.facts.pinned = c.full(); c.facts.pinned != nil {
			return
		}
		r.abandoned = true
		c.stats.Abandoned++
		c.behind++
		err = c.silent(r)
	})
	return err
}

// full says why no further reader may be opened, or nothing. The caller holds
// c.mu.
func (c *camera) full() error {
	if n := c.stats.StuckReaders; n >= c.limits.stuckHere {
		return fmt.Errorf("%d calls, the most for one camera: %w", n, ErrStuck)
	}
	if n := c.stuck.Load(); n >= int64(c.limits.stuckInAll) {
		return fmt.Errorf("%d calls, the most for all cameras: %w", n, ErrStuck)
	}
	return nil
}
