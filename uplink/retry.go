package uplink

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// DefaultRetryAttempts is how often a run retries a letter that dies again.
const DefaultRetryAttempts = 3

// DefaultRetrySchedule is when dead letters are retried.
const DefaultRetrySchedule = "0 2 * * *"

const (
	// retryTick is how often the clock and the link are looked at: a timer
	// would not notice that the clock was set.
	retryTick = 5 * time.Second
	// retryGap is the time in which a retried letter may arrive or die.
	retryGap = 5 * time.Minute
	// retryMemory is how far ahead of the clock the last run may lie before
	// it is doubted: less is a clock that was set back, and the run of that
	// day is not repeated.
	retryMemory = 24 * time.Hour
)

// Notes that the queue keeps.
const (
	noteRetryFrom    = "retry/from" // after which the next run comes, as Unix seconds of the clock on the wall
	noteRetryAt      = "retry/at"   // when the last run began, in the same way
	noteRetryRetried = "retry/retried"
	noteRetryLeft    = "retry/left"
)

// RetrierOptions of a Retrier.
type RetrierOptions struct {
	Up     func() bool      // whether the centre can be reached
	Now    func() time.Time // in the location that the schedule means; nil means time.Now
	Logger *slog.Logger
}

// Retrier queues the dead letters again by the clock. A run that is due waits
// for the link, and runs once however many times were missed: while the
// appliance was off, the link down, or because the clock was set forward. A
// clock that is set back by less than a day repeats nothing. A letter that
// dies again in a run is retried after some minutes, as often as Tune says,
// and then rests until the next run. Its methods may be called from any
// goroutine.
type Retrier struct {
	opt   RetrierOptions
	queue *Queue

	tick    time.Duration
	rest    func(context.Context) // lets a retried letter arrive or die
	doubted time.Time             // since when the last run lies too far ahead; Serve's

	mu       sync.Mutex
	schedule Schedule
	attempts int
	running  bool
	runErr   error // of the last run
	clockErr error // why it is not known when the next one comes
}

// RetryStats is a snapshot of a Retrier.
type RetryStats struct {
	NextAt  time.Time // in the past while a run waits for the link; zero means never
	LastAt  time.Time // when the last run began, over restarts; zero means that there was none
	Running bool
	Retried int   // letters that the last run queued again at first
	Left    int   // that were dead when it ended
	Err     error // why the last run could not do all of its work, or nil
}

// NewRetrier makes one that never runs, see Tune; it does no I/O.
func NewRetrier(q *Queue, opt RetrierOptions) *Retrier {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Logger == nil {
		opt.Logger = slog.Default()
	}
	return &Retrier{opt: opt, queue: q, tick: retryTick, rest: func(ctx context.Context) { sleep(ctx, retryGap) }}
}

// Tune says when to run, and how often a run retries a letter. It holds at
// once, for a run that is under way too.
func (r *Retrier) Tune(s Schedule, attempts int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.schedule, r.attempts = s, attempts
}

// Stats returns a snapshot.
func (r *Retrier) Stats() RetryStats {
	r.mu.Lock()
	s := RetryStats{Running: r.running, Err: errors.Join(r.clockErr, r.runErr)}
	schedule := r.schedule
	r.mu.Unlock()
	loc := r.opt.Now().Location()
	if next := schedule.next(r.from()); !next.IsZero() {
		s.NextAt = unwall(next, loc)
	}
	s.Retried, s.Left = int(r.queue.Note(noteRetryRetried)), int(r.queue.Note(noteRetryLeft))
	if at := r.queue.Note(noteRetryAt); at != 0 {
		s.LastAt = unwall(time.Unix(int64(at), 0).UTC(), loc)
	}
	return s
}

// from is the time on the wall after which the next run comes.
func (r *Retrier) from() time.Time {
	if at := r.queue.Note(noteRetryFrom); at != 0 {
		return time.Unix(int64(at), 0).UTC()
	}
	return wall(r.opt.Now())
}

// Serve runs until ctx ends.
func (r *Retrier) Serve(ctx context.Context) {
	for ctx.Err() == nil {
		if err := r.serveOnce(ctx); err != nil && ctx.Err() == nil {
			r.opt.Logger.Error("dead letters cannot be retried", "error", err)
		}
		sleep(ctx, r.tick)
	}
}

func (r *Retrier) serveOnce(ctx context.Context) error {
	due, err := r.due()
	r.set(func() { r.clockErr = err })
	if !due || !r.opt.Up() {
		return err
	}
	r.set(func() { r.running = true })
	err = r.run(ctx)
	r.set(func() { r.running, r.runErr = false, err })
	return err
}

func (r *Retrier) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

// due reports whether the time of a run has come since the last one.
func (r *Retrier) due() (bool, error) {
	now, from := wall(r.opt.Now()), r.from()
	if r.queue.Note(noteRetryFrom) == 0 {
		return false, r.note(noteRetryFrom, now.Unix())
	}
	if from.Sub(now) > retryMemory {
		// Either clock may be the wrong one; one that is not set yet is soon.
		if r.doubted.IsZero() {
			r.doubted = time.Now()
		}
		if time.Since(r.doubted) < retryMemory {
			return false, nil
		}
		return false, r.note(noteRetryFrom, now.Unix())
	}
	r.doubted = time.Time{}
	r.mu.Lock()
	next := r.schedule.next(from)
	r.mu.Unlock()
	return !next.IsZero() && !next.After(now), nil
}

func (r *Retrier) note(key string, value int64) error {
	return r.queue.SetNote(Note{Key: key, Value: uint64(max(1, value))}) // 0 is no note
}

// errSuperseded ends a run at the time of the next one.
var errSuperseded = errors.New("the link was down until the next run was due")

// run retries the dead letters, and again those that died again. What is
// noted first is that it ran, so that a run that is cut short is not repeated.
func (r *Retrier) run(ctx context.Context) error {
	now := wall(r.opt.Now()).Unix()
	if err := errors.Join(r.note(noteRetryFrom, now), r.note(noteRetryAt, now)); err != nil {
		return err
	}
	retried, err := 0, error(nil)
	for attempt := 0; attempt < r.most() && err == nil; attempt++ {
		if err = r.awaitUp(ctx); err != nil {
			break
		}
		n := 0
		n, err = r.retryAll(ctx)
		if attempt == 0 {
			retried = n
		}
		if n == 0 {
			break
		}
		r.rest(ctx)
	}
	left := len(r.queue.DeadLetters())
	r.opt.Logger.Info("dead letters were retried", "retried", retried, "left", left)
	return errors.Join(err, r.count(noteRetryRetried, retried), r.count(noteRetryLeft, left))
}

// count notes a number of letters.
func (r *Retrier) count(key string, n int) error {
	return r.queue.SetNote(Note{Key: key, Value: uint64(n)})
}

// most is how often a run retries a letter now.
func (r *Retrier) most() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.schedule == (Schedule{}) {
		return 0
	}
	return r.attempts
}

// awaitUp waits for the link, until the next run is due.
func (r *Retrier) awaitUp(ctx context.Context) error {
	for !r.opt.Up() {
		if due, err := r.due(); due || err != nil {
			return errors.Join(errSuperseded, err)
		}
		sleep(ctx, r.tick)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return ctx.Err()
}

// retryAll queues every letter that is dead now again, and returns how many.
func (r *Retrier) retryAll(ctx context.Context) (n int, err error) {
	for _, d := range r.queue.DeadLetters() {
		if ctx.Err() != nil {
			return n, ctx.Err()
		}
		switch err := r.queue.Retry(d.ID); {
		case err == nil:
			n++
		case errors.Is(err, ErrNoDeadLetter): // somebody dropped or retried it meanwhile
		default:
			return n, err
		}
	}
	return n, nil
}
