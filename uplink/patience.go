package uplink

import (
	"context"
	"errors"
	"time"
)

// maxPatience is how often the acknowledgement time-out is doubled.
const maxPatience = 3

// patience lengthens the acknowledgement time-out for a centre that is late:
// with a fixed one nothing would ever be acknowledged. The link's Serve owns
// it.
type patience struct{ doubled int }

func (p *patience) timeout(base time.Duration) time.Duration { return base << p.doubled }

// extra is what is waited beyond base.
func (p *patience) extra(base time.Duration) time.Duration { return p.timeout(base) - base }

func (p *patience) longer() { p.doubled = min(p.doubled+1, maxPatience) }

// judge draws what a connection that ended with err says about the centre and
// about the messages that were in flight. One that was silent from the start
// says nothing about them.
func (l *Link) judge(f *flights, err error) {
	if f.acked > 0 && f.slowest < l.tuning().AckTimeout {
		l.patience.doubled = 0
	}
	switch stalled := errors.Is(err, errStalled); {
	case f.acked == 0 && (stalled || errors.Is(err, errLate)):
		l.patience.longer()
	case !stalled && !intended(err):
		l.suspects.died(f.inFlight)
	}
}

// ackTimeout is how late a PUBACK may be now.
func (l *Link) ackTimeout() time.Duration { return l.patience.timeout(l.tuning().AckTimeout) }

// intended reports whether we ended the connection ourselves, in order.
func intended(err error) bool {
	return errors.Is(err, errPaused) || errors.Is(err, errTuned) || errors.Is(err, errRenew) || errors.Is(err, context.Canceled)
}

// late takes note of a time-out, and returns it.
func (l *Link) late(err error) error {
	if errors.Is(err, errLate) {
		l.patience.longer()
	}
	return err
}
