package uplink

import (
	"sync/atomic"
	"time"
)

// stepTolerance is how far the wall clock may move by itself before it counts
// as stepped.
const stepTolerance = 2 * time.Second

// Notes of the ageClock.
const (
	clockOffsetKey = "clock/offset" // ns that the age clock is ahead of the wall clock, as two's complement
	clockAtKey     = "clock/at"     // the age clock, Unix ns; at most clockEvery old
	clockEvery     = time.Hour
)

// ageClock is what ages are measured with. It begins as the wall clock, and
// then no step of the wall clock moves it: within a process it follows the
// monotonic clock, and the difference outlives the process. An appliance
// that boots in 1970 and is told the time later does not expire at once what
// it accepted in between. It is safe for concurrent use.
type ageClock struct {
	now    func() time.Time     // the wall clock
	mono   func() time.Duration // nil: the monotonic reading of now
	start  time.Time            // now and mono at the start
	began  time.Duration
	base   time.Time    // the age clock at the start
	offset atomic.Int64 // ns that it is ahead of the wall clock, to within stepTolerance
}

// begin starts the clock from what a former process left. It stood still
// while the appliance was off if the wall clock is behind it now.
func (c *ageClock) begin(o Options, notes map[string]uint64) {
	c.now, c.mono = o.Now, o.mono
	c.start = c.now()
	if c.mono != nil {
		c.began = c.mono()
	}
	c.offset.Store(int64(notes[clockOffsetKey]))
	c.base = c.from(c.start.Round(0))
	if last := time.Unix(0, int64(notes[clockAtKey])); notes[clockAtKey] != 0 && c.base.Before(last) {
		c.base = last
	}
	c.follow()
}

// at is the time on the age clock.
func (c *ageClock) at() time.Time {
	if c.mono != nil {
		return c.base.Add(c.mono() - c.began)
	}
	return c.base.Add(c.now().Sub(c.start))
}

// follow takes note of a step of the wall clock.
func (c *ageClock) follow() {
	offset := c.at().Sub(c.now().Round(0))
	if (offset - time.Duration(c.offset.Load())).Abs() > stepTolerance {
		c.offset.Store(int64(offset))
	}
}

// from is a wall clock's time on the age clock, and wall is the opposite: of
// what was accepted before the clock was set, it is when that really was. The
// zero time stays what it is.
func (c *ageClock) from(wall time.Time) time.Time { return shift(wall, time.Duration(c.offset.Load())) }
func (c *ageClock) wall(age time.Time) time.Time  { return shift(age, -time.Duration(c.offset.Load())) }

// due is from for a time that was computed just now: the wall clock may have
// been stepped a moment before that.
func (c *ageClock) due(wall time.Time) time.Time {
	c.follow()
	return c.from(wall)
}

func shift(t time.Time, by time.Duration) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(by)
}

// entryFrom is an entry with wall clock times on the age clock, and entryWall
// is the opposite.
func (c *ageClock) entryFrom(e Entry) Entry {
	e.Accepted, e.Expiry = c.from(e.Accepted), c.from(e.Expiry)
	return e
}

func (c *ageClock) entryWall(e Entry) Entry {
	e.Accepted, e.Expiry = c.wall(e.Accepted), c.wall(e.Expiry)
	return e
}

// keepClock stores the age clock after a step, and from time to time.
func (q *Queue) keepClock() {
	q.age.follow()
	step := time.Duration(int64(q.Note(clockOffsetKey)) - q.age.offset.Load())
	if step != 0 {
		q.opt.Logger.Warn("the clock was set; ages are measured on", "step_s", step.Seconds())
	}
	stored := time.Unix(0, int64(q.Note(clockAtKey)))
	if step != 0 || q.LastSequence() > 0 && q.age.at().Sub(stored) >= clockEvery {
		q.storeClock()
	}
}

// storeClock notes the age clock.
func (q *Queue) storeClock() {
	for key, value := range map[string]int64{clockOffsetKey: q.age.offset.Load(), clockAtKey: q.age.at().UnixNano()} {
		if err := q.SetNote(Note{key, uint64(value)}); err != nil {
			q.opt.Logger.Error("the queue's clock cannot be stored", "error", err)
		}
	}
}
