package uplink

import (
	"math"
	"sync"
	"time"
)

const (
	// backlogAfter is how long a record waits before the queue is called a
	// backlog; below it, what is queued is on its way.
	backlogAfter = 10 * time.Second
	// pacePoints is how many looks the rates behind the estimate go back, and
	// paceEvery the least time between two: a minute or so.
	pacePoints = 60
	paceEvery  = 900 * time.Millisecond
)

// Clearing estimates when a backlog has been delivered.
type Clearing struct {
	// Shrinks says that more is delivered than accepted, so that In means
	// something. It holds where there is no backlog.
	Shrinks bool
	In      time.Duration // at the present rates; 0 where there is no backlog
}

// pace remembers what was accepted and delivered in the last minute of the
// present state of the link: what an outage looked like says nothing about
// how fast it is made up for.
type pace struct {
	mu     sync.Mutex
	online bool
	points []pacePoint // oldest first
}

// pacePoint is what the ledger had added up to at one moment.
type pacePoint struct {
	at        time.Time
	accepted  Tally
	delivered Tally
}

// add takes one look, unless the last was a moment ago.
func (p *pace) add(now pacePoint, online bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if online != p.online {
		p.online, p.points = online, nil
	}
	n := len(p.points)
	if n > 0 && now.at.Sub(p.points[n-1].at) < paceEvery {
		return
	}
	if n >= pacePoints {
		p.points = append(p.points[:0], p.points[1:]...)
	}
	p.points = append(p.points, now)
}

// clearing is the estimate for what is queued: by records or by bytes,
// whichever takes longer, since a line can be short of either.
func (p *pace) clearing(queued Tally, oldest time.Duration) Clearing {
	if queued.Records == 0 || oldest < backlogAfter {
		return Clearing{Shrinks: true}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.points) < 2 {
		return Clearing{}
	}
	first, last := p.points[0], p.points[len(p.points)-1]
	span := last.at.Sub(first.at)
	in := func(queued, delivered, accepted int64) time.Duration {
		if delivered <= accepted {
			return math.MaxInt64
		}
		seconds := float64(queued) * span.Seconds() / float64(delivered-accepted)
		return time.Duration(min(seconds, math.MaxInt32) * float64(time.Second))
	}
	records := in(queued.Records, last.delivered.Records-first.delivered.Records, last.accepted.Records-first.accepted.Records)
	bytes := in(queued.Bytes, last.delivered.Bytes-first.delivered.Bytes, last.accepted.Bytes-first.accepted.Bytes)
	if longer := max(records, bytes); longer < math.MaxInt64 {
		return Clearing{Shrinks: true, In: longer}
	}
	return Clearing{}
}

// look adds what the ledger says now to the pace.
func (q *Queue) look() {
	now := pacePoint{at: time.Now()} // and not the queue's clock, which may be set
	q.mu.Lock()
	for _, a := range q.ledger {
		now.accepted = now.accepted.plus(a.Accepted)
		now.delivered = now.delivered.plus(a.Delivered)
	}
	online := q.online
	q.mu.Unlock()
	q.pace.add(now, online)
}
