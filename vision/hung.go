package vision

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// When a detector is given up.
const (
	// DefaultHungAfter is the least time that a call into a model may take.
	DefaultHungAfter = time.Minute

	// hungTimes the slowest call so far is also allowed, up to as many times
	// HungAfter, which is what the first call of a detector has.
	hungTimes = 5

	// reopenErrors in a row, over at least reopenAfter, and the detector is
	// closed and opened anew.
	reopenErrors = 10
	reopenAfter  = 30 * time.Second
)

// ErrHung is wrapped by the error of Stats.Hung.
var ErrHung = errors.New("a model does not answer")

// Hung returns an error that wraps ErrHung when a call into a detector or a
// classifier does not return: a call into C cannot be ended, so only a new
// process helps.
func (s Stats) Hung() error {
	var names []string
	for _, m := range s.Models {
		if m.Hung {
			names = append(names, fmt.Sprintf("the detector of model %q since %s", m.Name, m.RunningSince.UTC().Format(time.RFC3339)))
		}
	}
	for _, c := range s.Classifiers {
		if c.Hung {
			names = append(names, fmt.Sprintf("classifier %q since %s", c.Name, c.RunningSince.UTC().Format(time.RFC3339)))
		}
	}
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrHung, strings.Join(names, ", "))
}

// calls watches the calls into one model, one at a time. It is safe for
// concurrent use.
type calls struct {
	after time.Duration // see Options.HungAfter

	mu      sync.Mutex
	since   time.Time     // of the call that is under way; zero when none is
	slowest time.Duration // of those that have ended; 0 before the first
}

func (c *calls) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since = time.Now()
}

func (c *calls) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slowest = max(c.slowest, time.Since(c.since), 1)
	c.since = time.Time{}
}

// forget is called when another model is called from now on.
func (c *calls) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slowest = 0
}

// look returns since when a call is under way, and whether that is too long.
func (c *calls) look() (since time.Time, hung bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	most := hungTimes * c.after
	limit := most
	if c.slowest > 0 {
		limit = min(most, max(c.after, hungTimes*c.slowest))
	}
	return c.since, !c.since.IsZero() && time.Since(c.since) >= limit
}

// failures are the inspections of a detector that failed, none having
// succeeded between them.
type failures struct {
	n       int
	since   time.Time
	last    error
	reopens int // of a detector, with no success since
}

// failed notes an inspection that failed. What a camera's pictures are to
// blame for is not the detector's.
func (f *failures) failed(err error) {
	if errors.Is(err, ErrCrop) {
		return
	}
	if f.n == 0 {
		f.since = time.Now()
	}
	f.n++
	f.last = err
}

// enough reports whether the detector should be opened anew.
func (f *failures) enough() bool {
	return f.n >= reopenErrors && time.Since(f.since) >= reopenAfter
}

// reopen closes the detector and opens another with back-off. w.detector is nil
// afterwards when ctx ended first. The old one is closed before, as both may
// not fit into memory.
func (w *worker) reopen(ctx context.Context) {
	f := &w.failures
	err := fmt.Errorf("model %q: closed, to be opened anew: %d inspections in a row failed, the last: %w", w.opts.Name, f.n, f.last)
	w.log.Error("a detector that only fails is closed and opened anew", "failed_in_a_row", f.n, "reopened_before", f.reopens, "error", f.last)
	w.upgrade.cancel()
	w.calls.begin()
	w.shut(w.detector)
	w.calls.end()
	w.detector = nil
	w.closed()
	w.loaded(nil, err)
	attempt := f.reopens
	*f = failures{reopens: attempt + 1}
	d := w.await(ctx, w.backoff(attempt))
	if d == nil {
		d = w.open(ctx)
	}
	if d != nil {
		w.install(ctx, d)
	}
}

// closed notes that there is no detector for now.
func (w *worker) closed() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stats.Ready, w.stats.Upgrade = false, UpgradeStats{}
	w.stats.Reopened++
}
