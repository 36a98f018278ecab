package uplink

import (
	"sync/atomic"
	"testing"
	"time"
)

// steppedClock is a wall clock that can be stepped, and a monotonic clock
// that cannot.
type steppedClock struct{ wall, elapsed atomic.Int64 }

func newSteppedClock(wall time.Time) *steppedClock {
	c := &steppedClock{}
	c.wall.Store(wall.UnixNano())
	return c
}

func (c *steppedClock) now() time.Time       { return time.Unix(0, c.wall.Load()) }
func (c *steppedClock) mono() time.Duration  { return time.Duration(c.elapsed.Load()) }
func (c *steppedClock) pass(d time.Duration) { c.elapsed.Add(int64(d)); c.wall.Add(int64(d)) }
func (c *steppedClock) set(wall time.Time)   { c.wall.Store(wall.UnixNano()) }
func (c *steppedClock) options(dir string) Options {
	return Options{Dir: dir, Now: c.now, mono: c.mono, Policies: map[string]Policy{"r5": {MaxAge: time.Hour}}}
}

var (
	unset = time.Date(1970, 1, 1, 0, 2, 0, 0, time.UTC)
	today = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
)

// noticed waits until the queue has seen that its clock was set.
func noticed(t *testing.T, q *Queue, before uint64) {
	t.Helper()
	eventually(t, "the step to be noted", func() bool { return q.Note(clockOffsetKey) != before })
}

func depth(q *Queue) int64 { return q.Depth().Records }

func expectAge(t *testing.T, q *Queue, c *steppedClock, expected time.Duration) {
	t.Helper()
	if got := c.now().Sub(q.Stats().OldestAt); (got - expected).Abs() > stepTolerance {
		t.Errorf("the oldest record is %v old, expected %v", got, expected)
	}
}

// TestStepsOfTheClockDoNotChangeAges steps it by hours in both directions.
func TestStepsOfTheClockDoNotChangeAges(t *testing.T) {
	t.Parallel()
	for name, step := range map[string]time.Duration{"forward": 6 * time.Hour, "backward": -6 * time.Hour, "1970": unset.Sub(today)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newSteppedClock(today)
			q := openTestQueue(t, c.options(t.TempDir()))
			own := testMessage(6, 0)
			own.Expiry = c.now().Add(30 * time.Minute)
			store(t, q, testMessage(5, 0))
			store(t, q, own)
			c.pass(time.Minute)
			c.set(c.now().Add(step))
			noticed(t, q, 0)
			c.pass(28 * time.Minute)
			expectAge(t, q, c, 29*time.Minute)
			late := testMessage(6, 1)
			late.Expiry = c.now().Add(10 * time.Minute) // by the clock as it is now
			store(t, q, late)
			if got := depth(q); got != 3 {
				t.Fatalf("%d of 3 are left after 29 minutes", got)
			}
			c.pass(2 * time.Minute)
			eventually(t, "the message's own expiry", func() bool { return depth(q) == 2 })
			c.pass(9 * time.Minute)
			eventually(t, "the other's", func() bool { return depth(q) == 1 })
			c.pass(21 * time.Minute)
			eventually(t, "the route's bound", func() bool { return depth(q) == 0 })
		})
	}
}

// TestClockThatIsSetAfterTheStart accepts messages in 1970, as an appliance
// without a battery does, and starts again when the clock is right.
func TestClockThatIsSetAfterTheStart(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), newSteppedClock(unset)
	q := openTestQueue(t, c.options(dir))
	store(t, q, testMessage(5, 0))
	c.pass(10 * time.Minute)
	c.set(today)
	noticed(t, q, 0)
	expectAge(t, q, c, 10*time.Minute)
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	c.pass(10 * time.Minute) // off
	c.elapsed.Store(0)
	q = openTestQueue(t, c.options(dir))
	expectAge(t, q, c, 20*time.Minute)
	store(t, q, testMessage(5, 1))
	c.pass(39 * time.Minute)
	if got := depth(q); got != 2 {
		t.Fatalf("%d of 2 are left", got)
	}
	c.pass(2 * time.Minute)
	eventually(t, "the first to expire", func() bool { return depth(q) == 1 })
	expectList(t, payloads(t, q, 1), "m1")
}

// TestStartBeforeTheClockIsSet has records of a former life, and a clock that
// is back in 1970 for a while. The time without a clock does not count.
func TestStartBeforeTheClockIsSet(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), newSteppedClock(today)
	q := openTestQueue(t, c.options(dir))
	store(t, q, testMessage(5, 0))
	c.pass(10 * time.Minute)
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	c.set(unset)
	q = openTestQueue(t, c.options(dir))
	expectAge(t, q, c, 10*time.Minute)
	store(t, q, testMessage(5, 1))
	before := q.Note(clockOffsetKey)
	c.pass(10 * time.Minute)
	c.set(today.Add(24 * time.Hour))
	noticed(t, q, before)
	expectAge(t, q, c, 20*time.Minute)
	c.pass(39 * time.Minute)
	if got := depth(q); got != 2 {
		t.Fatalf("%d of 2 are left", got)
	}
	c.pass(2 * time.Minute)
	eventually(t, "the first to expire", func() bool { return depth(q) == 1 })
	c.pass(10 * time.Minute)
	eventually(t, "the second to expire", func() bool { return depth(q) == 0 })
}

// TestTimeOffCounts is the usual restart.
func TestTimeOffCounts(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), newSteppedClock(today)
	q := openTestQueue(t, c.options(dir))
	store(t, q, testMessage(5, 0))
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	c.pass(2 * time.Hour)
	q = openTestQueue(t, c.options(dir))
	eventually(t, "expiry", func() bool { return depth(q) == 0 })
}

// TestFiguresSurviveAStep looks at what is computed from the wall clock for
// people.
func TestFiguresSurviveAStep(t *testing.T) {
	t.Parallel()
	c := canary{topic: "canary"}
	c.next()
	c.received(c.topic, canaryPayload(unset)) // one from before the clock was set
	if proven, _, trip := c.state(); !proven || trip != 0 {
		t.Errorf("proven %v, a round trip of %v", proven, trip)
	}
	c.received(c.topic, c.next())
	if _, _, trip := c.state(); trip <= 0 || trip > time.Minute {
		t.Errorf("a round trip of %v", trip)
	}
	var r rate
	for range 100 {
		r.add(today)
	}
	for _, step := range []time.Duration{6 * time.Hour, -6 * time.Hour} {
		if got := r.perSecond(today.Add(step)); got != 0 {
			t.Errorf("stepped by %v: %v a second", step, got)
		}
		r.add(today.Add(step))
		if got := r.perSecond(today.Add(step + time.Second)); got < 0 || got > 1 {
			t.Errorf("stepped by %v: %v a second", step, got)
		}
	}
}
