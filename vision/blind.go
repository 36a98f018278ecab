package vision

import (
	"slices"
	"time"
)

// BlindReason is why a camera was not inspected, as blind.v1 names it.
type BlindReason string

// The reasons of an Interval, as they were when it opened.
const (
	BlindStalled   BlindReason = "stalled"   // no frames came
	BlindDropped   BlindReason = "dropped"   // frames came; the detector failed, was not loaded, or had no time for them
	BlindThrottled BlindReason = "throttled" // frames came and were shed
	BlindMasked    BlindReason = "masked"    // frames came and the motion gate kept them from the detector, as nothing moved
	BlindOff       BlindReason = "off"       // the pipeline was not running
)

// BlindReasons are all of them.
var BlindReasons = []BlindReason{BlindStalled, BlindDropped, BlindThrottled, BlindMasked, BlindOff}

// DefaultBlindAfter is BlindAfter where it is not set, unless LeastBlindAfter is
// longer.
const DefaultBlindAfter = 10 * time.Second

// Interval is a time in which a camera was not inspected for longer than
// BlindAfter. A camera has at most one that is open.
type Interval struct {
	Camera string
	From   time.Time // arrival of the last inspected frame, or where the account began
	To     time.Time // arrival of the next one; zero while the interval is open; never before From
	Reason BlindReason
}

// Account is what a camera's account of inspection is to be continued with
// after the process: see CameraOptions.Account and Pipeline.Accounts.
type Account struct {
	// Until is the arrival of the last inspected frame. What is not inspected
	// is blind from here. Zero begins an account when Serve starts; Accounts
	// returns zero for a camera without an account.
	Until    time.Time
	Coverage Coverage
}

// maxUntold bounds the intervals of one camera that wait for OnBlind. Beyond it
// the account stands still: its next interval is longer, and none is lost.
const maxUntold = 128

// account follows when one camera was inspected. It is a pure state machine;
// the camera's lock guards it.
//
// Two inspected frames that arrived no more than after apart cover the time
// between them; any other time since Until is in an interval. So an interval
// ends where the covered time begins, to the nanosecond.
type account struct {
	camera string
	after  time.Duration // 0: there is no account
	active bool          // begun, and not ended
	until  time.Time     // arrival of the last inspected frame, or the beginning
	seen   time.Time     // end of that inspection
	open   bool
	now    Interval // the open one
	untold []Interval

	coverage Coverage
	totals   map[BlindReason]time.Duration // of closed intervals
}

// begin starts the account, or continues the one that it was made with.
func (a *account) begin(now time.Time) {
	if a.after == 0 {
		return
	}
	a.active = true
	if a.until.IsZero() {
		a.until = now
	}
	a.seen, a.totals = a.until, map[BlindReason]time.Duration{}
	a.coverage.begin(now)
}

// inspected notes that a frame that arrived at at was inspected by now.
func (a *account) inspected(at, now time.Time, reason func() BlindReason) {
	if !a.active || at.Before(a.until) {
		return
	}
	switch gap := at.Sub(a.until); {
	case !a.open && gap <= a.after:
		a.coverage.add(at, gap)
	case a.full():
		return
	default:
		a.begins(reason) // where no look came between two frames
		a.ends(at)
	}
	a.until, a.seen = at, now
}

// look opens an interval if it is time.
func (a *account) look(now time.Time, reason func() BlindReason) {
	if a.active && !a.open && now.Sub(a.seen) > a.after && !a.full() {
		a.begins(reason)
	}
}

// stop ends the account of a camera that will be inspected again by another
// process: whatever comes before that is blind.
func (a *account) stop() {
	if a.active {
		a.begins(func() BlindReason { return BlindOff })
	}
	a.active = false
}

// end closes the account of a source that is over.
func (a *account) end(now time.Time) {
	if a.active && a.open {
		a.ends(now)
	}
	a.active, a.until = false, time.Time{}
}

func (a *account) full() bool { return len(a.untold) >= maxUntold }

func (a *account) begins(reason func() BlindReason) {
	if a.open {
		return
	}
	a.open, a.now = true, Interval{Camera: a.camera, From: a.until, Reason: reason()}
	a.untold = append(a.untold, a.now)
}

func (a *account) ends(at time.Time) {
	lasted := max(0, at.Sub(a.now.From)) // of the monotonic clock, where both have it
	a.now.To = at
	if at.Round(0).Before(a.now.From.Round(0)) { // the wall clock was set back
		a.now.To = a.now.From.Add(lasted)
	}
	a.totals[a.now.Reason] += lasted
	a.untold = append(a.untold, a.now)
	a.open = false
}

// account returns what is to be kept. While an interval was not told, the time
// before it is all that is certain.
func (a *account) account() Account {
	kept := Account{Until: a.until, Coverage: a.coverage.clone()}
	if len(a.untold) > 0 {
		kept.Until = a.untold[0].From
	}
	return kept
}

// stats fills in what a snapshot shows.
func (a *account) stats(s *CameraStats, now time.Time) {
	if a.after == 0 {
		return
	}
	s.Watched, s.BlindAfter = true, a.after
	s.BlindFor = make(map[BlindReason]time.Duration, len(BlindReasons))
	for _, r := range BlindReasons {
		s.BlindFor[r] = a.totals[r]
	}
	if a.open {
		s.BlindSince, s.BlindReason = a.now.From, a.now.Reason
		s.BlindFor[a.now.Reason] += max(0, now.Sub(a.now.From))
	}
	latest := time.Duration(0)
	if a.active && !a.open {
		latest = min(max(0, now.Sub(a.until)), a.after)
	}
	s.CoveredHour, s.CoveredDay = a.coverage.Shares(now, latest)
	s.WatchedSince = a.coverage.since
}

// blindReason derives from the counts since the last inspection why there is
// none. The caller holds c.mu.
func (c *camera) blindReason() BlindReason {
	now := time.Now()
	if c.facts.phase == phaseHeld {
		return BlindDropped // it waits for the detector
	}
	if c.stats.Frames == c.marked.Frames || 2*now.Sub(c.heard) >= now.Sub(c.account.seen) {
		return BlindStalled // for most of the time there was nothing
	}
	lost := c.stats.Dropped + c.stats.DetectorErrors - c.marked.Dropped - c.marked.DetectorErrors
	masked := c.stats.Masked - c.marked.Masked
	switch {
	case masked > lost:
		return BlindMasked
	case lost == 0 && c.stats.Throttled > c.marked.Throttled:
		return BlindThrottled
	}
	return BlindDropped
}

// untold returns the camera's next interval for OnBlind.
func (c *camera) untoldInterval() (Interval, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.account.untold) == 0 {
		return Interval{}, false
	}
	return c.account.untold[0], true
}

// toldInterval forgets the interval that OnBlind has returned from, and not
// before: whoever keeps Accounts must not miss it.
func (c *camera) toldInterval() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.account.untold = slices.Delete(c.account.untold, 0, 1)
}

// Accounts returns what to continue the accounts with, by camera, for cameras
// with a model. An interval that ends before an Account's Until has been through
// OnBlind. It is safe for concurrent use and waits for nothing.
func (p *Pipeline) Accounts() map[string]Account {
	all := map[string]Account{}
	for _, c := range p.cameras {
		c.mu.Lock()
		if c.account.after > 0 {
			all[c.opts.ID] = c.account.account()
		}
		c.mu.Unlock()
	}
	return all
}
