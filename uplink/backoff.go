package uplink

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// Backoff says how long to wait between attempts to reach the centre:
// exponential with full jitter, so that many appliances do not return in step
// (M. Brooker, "Exponential Backoff And Jitter", 2015).
type Backoff struct {
	Floor   time.Duration // least wait
	Ceiling time.Duration // most that is ever waited
	Stable  time.Duration // a link that lasted this long starts over
	// Spread is the least range that waits are drawn from, up to the ceiling.
	// A fleet that loses its centre for a moment returns over this time, and
	// not all at once.
	Spread time.Duration
}

// DefaultBackoff suits a site behind a mobile line, and a thousand of them
// behind one centre; README.md has figures.
var DefaultBackoff = Backoff{Floor: 500 * time.Millisecond, Ceiling: time.Minute, Stable: 30 * time.Second, Spread: 10 * time.Second}

// wait draws the wait after the given number of failures in a row: uniform
// between Floor and min(Ceiling, max(Spread, Floor·2^failures)). random is in
// [0, 1).
func (b Backoff) wait(failures int, random float64) time.Duration {
	top := b.Ceiling
	if failures < 32 {
		top = min(b.Ceiling, max(b.Spread, b.Floor<<failures))
	}
	return b.Floor + time.Duration(random*float64(max(0, top-b.Floor)))
}

// tries counts the failures in a row of one connection.
type tries struct {
	backoff  Backoff
	failures int
}

// failed draws the wait after an attempt that lasted so long. random is in
// [0, 1).
func (t *tries) failed(lasted time.Duration, random float64) time.Duration {
	if lasted >= t.backoff.Stable {
		t.failures = 0
	}
	t.failures++
	return t.backoff.wait(t.failures, random)
}

// retry calls attempt until ctx ends, waiting in between. An attempt that
// lasted Stable starts the waits over, unless it never connected. One that was
// paused by hand is followed by the next without a wait, and so is one whose
// connection was tuned: the channel that comes with the back-off is closed,
// which also ends a wait. One that is made anew waits Floor. waiting is told
// each wait.
func retry(ctx context.Context, current func() (Backoff, <-chan struct{}), attempt func(context.Context) error, waiting func(time.Duration, error)) {
	var t tries
	for ctx.Err() == nil {
		began := time.Now()
		_, changed := current()
		err := attempt(ctx)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errPaused) || closed(changed) {
			t.failures = 0
			continue
		}
		lasted := time.Since(began)
		if errors.Is(err, ErrCentre) {
			lasted = 0 // it only took long to fail
		}
		t.backoff, _ = current()
		d := t.failed(lasted, rand.Float64())
		if errors.Is(err, errRenew) {
			d = t.backoff.Floor // the centre is well, and looks at it are not in step
		}
		waiting(d, err)
		_ = unlessTuned(ctx, changed, func(ctx context.Context) error { // why it ends is looked at above
			sleep(ctx, d)
			return nil
		})
	}
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// closed reports whether c is closed; nothing is ever sent on it.
func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
