package vision

import (
	"sync/atomic"
	"time"
)

// throttle limits how often frames are inspected. Due times advance by whole
// intervals, so that 25 frames a second throttled to 10 give 10 and not 8.3.
type throttle struct {
	interval time.Duration // 0 allows everything
	due      time.Time
	shed     atomic.Int64 // a longer interval that spares the device, in ns; 0 for none
}

func newThrottle(fps float64) throttle {
	if fps <= 0 {
		return throttle{}
	}
	return throttle{interval: time.Duration(float64(time.Second) / fps)}
}

// allow reports whether a frame that arrived at t may be inspected. A quarter
// of an interval is forgiven, so that a camera whose own rate is the target
// does not lose frames to jitter.
func (t *throttle) allow(at time.Time) bool {
	interval := max(t.interval, time.Duration(t.shed.Load()))
	if interval == 0 {
		return true
	}
	if t.due.Sub(at) > interval+interval/4 { // it has become shorter
		t.due = at
	}
	if at.Add(interval / 4).Before(t.due) {
		return false
	}
	t.due = t.due.Add(interval)
	if t.due.Before(at) {
		t.due = at.Add(interval)
	}
	return true
}
