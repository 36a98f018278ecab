package uplink

import (
	"fmt"
	"time"
)

// Overflow says what happens at a route's bound.
type Overflow string

// What happens at a bound.
const (
	DropOldest Overflow = "drop-oldest" // the oldest records are evicted
	Reject     Overflow = "reject"      // the producer is refused
)

// Order says what may overtake what on a route.
type Order string

// Orders of a route. By-lane is for messages that carry their own order, such
// as events: what is accepted while the link is up goes out before what an
// outage left. Retained messages are always strict.
const (
	Strict Order = "strict"
	ByLane Order = "by-lane"
)

// Policy bounds what a route may keep. Zero values mean no bound.
type Policy struct {
	MaxAge     time.Duration
	MaxBytes   int64 // as Tally counts them
	MaxRecords int64
	Overflow   Overflow // empty means DropOldest
	Order      Order    // empty means Strict
	// KeepLast keeps only the newest message of each topic while the link is
	// down.
	KeepLast bool
}

// check returns an error that says what is impossible.
func (p Policy) check() error {
	switch {
	case p.MaxAge < 0 || p.MaxBytes < 0 || p.MaxRecords < 0:
		return fmt.Errorf("bounds: got max_age %v, max_bytes %d, max_records %d, expected none below 0", p.MaxAge, p.MaxBytes, p.MaxRecords)
	case p.Overflow != "" && p.Overflow != DropOldest && p.Overflow != Reject:
		return fmt.Errorf("overflow: got %q, expected %s or %s", p.Overflow, DropOldest, Reject)
	case p.Order != "" && p.Order != Strict && p.Order != ByLane:
		return fmt.Errorf("order: got %q, expected %s or %s", p.Order, Strict, ByLane)
	}
	return nil
}

// expiry is when a message that is accepted at now stops being worth sending,
// or the zero time.
func (p Policy) expiry(now, own time.Time) time.Time {
	if p.MaxAge <= 0 {
		return own
	}
	if t := now.Add(p.MaxAge); own.IsZero() || t.Before(own) {
		return t
	}
	return own
}

// SetPolicies replaces the bounds of all routes, by name; routes that are not
// named have none. They hold from the next message, eviction and expiry on;
// what is queued stays queued.
func (q *Queue) SetPolicies(p map[string]Policy) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.policies = p
	signal(q.wakeKeeper)
}

// SetOnline tells the queue whether the link is up; see Order and KeepLast.
func (q *Queue) SetOnline(up bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.online = up
}
