package uplink

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff says how long to wait between attempts to reach the centre:
// exponential with full jitter, so that many appliances do not return in step
// (M. Brooker, "Exponential Backoff And Jitter", 2015).
type Backoff struct {
	Floor   time.Duration // least wait, and the first ceiling
	Ceiling time.Duration // most that is ever waited
	Stable  time.Duration // a link that lasted this long starts over
}

// DefaultBackoff suits a site behind a mobile line.
var DefaultBackoff = Backoff{Floor: 500 * time.Millisecond, Ceiling: time.Minute, Stable: 30 * time.Second}

// wait draws the wait after the given number of failures in a row: uniform
// between Floor and min(Ceiling, Floor·2^failures). random is in [0, 1).
func (b Backoff) wait(failures int, random float64) time.Duration {
	top := b.Ceiling
	if failures < 32 && b.Floor<<failures < b.Ceiling {
		top = b.Floor << failures
	}
	return b.Floor + time.Duration(random*float64(max(0, top-b.Floor)))
}

// retry calls attempt until ctx ends, waiting in between. An attempt that
// lasted b.Stable starts the waits over. waiting is told each wait.
func (b Backoff) retry(ctx context.Context, attempt func(context.Context) error, waiting func(time.Duration, error)) {
	failures := 0
	for ctx.Err() == nil {
		began := time.Now()
		err := attempt(ctx)
		if time.Since(began) >= b.Stable {
			failures = 0
		}
		failures++
		if ctx.Err() != nil {
			return
		}
		d := b.wait(failures, rand.Float64())
		waiting(d, err)
		sleep(ctx, d)
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
