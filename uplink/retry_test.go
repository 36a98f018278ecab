package uplink

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// wallClock is a clock that a test sets.
type wallClock struct{ at atomic.Int64 }

func (c *wallClock) set(t time.Time)         { c.at.Store(t.UnixNano()) }
func (c *wallClock) now() time.Time          { return time.Unix(0, c.at.Load()).UTC() }
func (c *wallClock) forward(d time.Duration) { c.at.Add(int64(d)) }

func nightly(t *testing.T) Schedule {
	t.Helper()
	s, err := ParseSchedule(DefaultRetrySchedule)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// testRetrier is one that does not make a test wait, at 12:00 of some day.
func testRetrier(t *testing.T, q *Queue, clock *wallClock, up func() bool) *Retrier {
	t.Helper()
	if clock.at.Load() == 0 {
		clock.set(time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC))
	}
	r := NewRetrier(q, RetrierOptions{Up: up, Now: clock.now, Logger: slog.New(slog.DiscardHandler)})
	r.tick = time.Millisecond
	r.rest = func(ctx context.Context) { // until what was retried is dead or delivered
		for q.Depth().Records > 0 && ctx.Err() == nil {
			sleep(ctx, time.Millisecond)
		}
	}
	r.Tune(nightly(t), DefaultRetryAttempts)
	return r
}

func serveRetrier(t *testing.T, r *Retrier) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { r.Serve(ctx) })
	stop = func() { cancel(); done.Wait() }
	t.Cleanup(stop)
	return stop
}

// killAll lets every message that is queued die, until the test ends.
func killAll(t *testing.T, q *Queue) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		for {
			entries, err := q.Next(ctx, Want{Max: 10, History: 10})
			if err != nil {
				return
			}
			for _, e := range entries {
				q.Kill(e, "test")
			}
		}
	})
	t.Cleanup(func() { cancel(); done.Wait() })
}

// deaths of the only dead letter, or 0 if there is none.
func deaths(q *Queue) int {
	if d := q.DeadLetters(); len(d) == 1 {
		return d[0].Deaths
	}
	return 0
}

func isDue(t *testing.T, r *Retrier) bool {
	t.Helper()
	due, err := r.due()
	if err != nil {
		t.Fatal(err)
	}
	return due
}

// TestALetterThatDiesAgainIsRetriedThreeTimesANight has a letter that always
// dies, through two nights and a restart.
func TestALetterThatDiesAgainIsRetriedThreeTimesANight(t *testing.T) {
	dir, clock := t.TempDir(), &wallClock{}
	q := openTestQueue(t, Options{Dir: dir})
	r := testRetrier(t, q, clock, func() bool { return true })
	stop := serveRetrier(t, r)
	killAll(t, q)
	store(t, q, testMessage(5, 1))
	eventually(t, "the first death", func() bool { return deaths(q) == 1 })
	if s := r.Stats(); !s.NextAt.Equal(time.Date(2026, 3, 11, 2, 0, 0, 0, time.UTC)) || !s.LastAt.IsZero() {
		t.Errorf("next at %v, last at %v", s.NextAt, s.LastAt)
	}
	night := func(want int) {
		t.Helper()
		clock.forward(14 * time.Hour) // 02:00
		at := clock.now()
		eventually(t, "the run", func() bool { s := r.Stats(); return s.LastAt.Equal(at) && !s.Running })
		if got := deaths(q); got != want {
			t.Errorf("deaths: got %d, expected %d", got, want)
		}
		clock.forward(10 * time.Hour)
		if s := r.Stats(); s.Retried != 1 || s.Left != 1 || s.Err != nil || !s.NextAt.After(clock.now()) {
			t.Errorf("%+v", s)
		}
	}
	night(4)
	night(7)
	if a := q.Ledger()["r5"]; !a.Balanced() || a.Dead.Records != 1 || a.Accepted.Records != 1 {
		t.Errorf("ledger %+v", a)
	}
	stop()
	if s := testRetrier(t, q, clock, nil).Stats(); s.Retried != 1 || s.Left != 1 || s.LastAt.Day() != 12 || s.NextAt.Day() != 13 {
		t.Errorf("after a restart: %+v", s)
	}
}

// TestARunWaitsForTheLink lets the time of two runs pass while the link is
// down: there is one when it is up, and an appliance that was off is no
// different.
func TestARunWaitsForTheLink(t *testing.T) {
	dir, clock, up := t.TempDir(), &wallClock{}, atomic.Bool{}
	q := openTestQueue(t, Options{Dir: dir})
	r := testRetrier(t, q, clock, up.Load)
	if isDue(t, r) {
		t.Error("due at its first start")
	}
	killAll(t, q)
	store(t, q, testMessage(5, 1))
	eventually(t, "the first death", func() bool { return deaths(q) == 1 })
	clock.forward(48 * time.Hour)
	for range 3 {
		if err := r.serveOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if s := r.Stats(); deaths(q) != 1 || !s.LastAt.IsZero() || s.NextAt.After(clock.now()) {
		t.Errorf("%d deaths without a link; %+v", deaths(q), s)
	}
	up.Store(true)
	r = testRetrier(t, q, clock, up.Load) // the appliance was started again
	serveRetrier(t, r)
	eventually(t, "the run", func() bool { s := r.Stats(); return !s.LastAt.IsZero() && !s.Running })
	if got := deaths(q); got != 4 || !r.Stats().NextAt.After(clock.now()) {
		t.Errorf("deaths: got %d, expected 4: one run for the two that were missed", got)
	}
}

// TestARunEndsWhenTheNextIsDue loses the link in the middle of a run.
func TestARunEndsWhenTheNextIsDue(t *testing.T) {
	clock, up := &wallClock{}, atomic.Bool{}
	q := openTestQueue(t, Options{})
	up.Store(true)
	r := testRetrier(t, q, clock, up.Load)
	isDue(t, r)
	killAll(t, q)
	store(t, q, testMessage(5, 1))
	eventually(t, "the first death", func() bool { return deaths(q) == 1 })
	r.rest = func(ctx context.Context) { <-ctx.Done() }
	clock.forward(24 * time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.run(ctx) }()
	eventually(t, "the first retry", func() bool { return deaths(q) == 2 })
	cancel()
	<-ended
	up.Store(false)
	waited := make(chan error, 1)
	bounded, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	go func() { waited <- r.awaitUp(bounded) }()
	clock.forward(24 * time.Hour)
	if err := <-waited; !errors.Is(err, errSuperseded) {
		t.Errorf("got %v, expected the next run's time", err)
	}
}

func TestAClockThatIsSetDoesNotRepeatARun(t *testing.T) {
	clock := &wallClock{}
	q := openTestQueue(t, Options{})
	r := testRetrier(t, q, clock, func() bool { return true })
	isDue(t, r)
	ran := func() {
		t.Helper()
		if !isDue(t, r) {
			t.Fatalf("not due at %v", clock.now())
		}
		if err := r.run(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	clock.forward(30 * time.Hour) // over 02:00, to 18:00
	ran()
	for _, hours := range []int{1, 17} {
		clock.forward(-time.Duration(hours) * time.Hour)
		for range hours {
			if isDue(t, r) {
				t.Errorf("due again at %v", clock.now())
			}
			clock.forward(time.Hour)
		}
	}
	clock.forward(8 * time.Hour) // 02:00
	ran()

	good := clock.now()
	clock.set(time.Unix(0, 0)) // a start without a clock
	if isDue(t, r) {
		t.Error("due before the clock is set")
	}
	clock.set(good.Add(time.Hour))
	if isDue(t, r) {
		t.Error("due again after the clock was set")
	}
	clock.set(good.AddDate(-1, 0, 0)) // wrong until now, and right for a day
	isDue(t, r)
	r.doubted = time.Now().Add(-25 * time.Hour)
	isDue(t, r)
	clock.forward(23 * time.Hour)
	if isDue(t, r) {
		t.Error("due before 02:00")
	}
	clock.forward(2 * time.Hour)
	ran()
}

func TestNoScheduleNeverRuns(t *testing.T) {
	clock := &wallClock{}
	q := openTestQueue(t, Options{})
	r := testRetrier(t, q, clock, func() bool { return true })
	r.Tune(Schedule{}, 3)
	isDue(t, r)
	clock.forward(1000 * time.Hour)
	if s := r.Stats(); isDue(t, r) || !s.NextAt.IsZero() {
		t.Errorf("due; %+v", s)
	}
}

// TestARaisedLimitLetsADeadLetterThrough has a message that is too large for
// the centre, until the next run, on a real link.
func TestARaisedLimitLetsADeadLetterThrough(t *testing.T) {
	centre, clock := startMosquitto(t), &wallClock{}
	w := watch(t, centre, "t/#")
	q := openTestQueue(t, Options{})
	at := Centre{Brokers: []string{centre.URL()}}
	l := startLink(t, q, LinkOptions{Centre: at, MaxPacketBytes: 100})
	r := testRetrier(t, q, clock, func() bool { return l.Stats().State == LinkConnected })
	serveRetrier(t, r)
	m := testMessage(5, 1)
	m.Payload = make([]byte, 200)
	store(t, q, m)
	eventually(t, "a dead letter", func() bool { return deaths(q) == 1 })
	clock.forward(14 * time.Hour)
	eventually(t, "three retries", func() bool { s := r.Stats(); return deaths(q) == 4 && !s.LastAt.IsZero() && !s.Running })
	if len(w.payloads()) != 0 {
		t.Error("it arrived nevertheless")
	}
	l.Tune(Tuning{Centre: at, MaxPacketBytes: 1000, Backoff: quickBackoff})
	clock.forward(24 * time.Hour)
	eventually(t, "its arrival", func() bool { return len(w.payloads()) == 1 })
	eventually(t, "the ledger", func() bool {
		a := q.Ledger()["r5"]
		return a.Balanced() && a.Delivered.Records == 1 && a.Dead.Records == 0 && a.Accepted.Records == 1
	})
	eventually(t, "the outcome", func() bool { s := r.Stats(); return s.Retried == 1 && s.Left == 0 && !s.Running })
}
