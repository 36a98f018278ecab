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
	// roomAfter is the least time from which a growth is made an estimate of
	// hours.
	roomAfter = 10 * time.Second
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
	queued    Tally
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

// room is how long left lasts at the growth of what is queued; 0 where it has
// not grown. What is not bounded is left with math.MaxInt64.
func (p *pace) room(left Tally) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.points) == 0 {
		return 0
	}
	first, last := p.points[0], p.points[len(p.points)-1]
	span := last.at.Sub(first.at)
	if span < roomAfter {
		return 0
	}
	seconds := math.Inf(1)
	for _, c := range [2][2]int64{{left.Records, last.queued.Records - first.queued.Records}, {left.Bytes, last.queued.Bytes - first.queued.Bytes}} {
		if c[1] > 0 {
			seconds = min(seconds, float64(max(c[0], 0))*span.Seconds()/float64(c[1]))
		}
	}
	if math.IsInf(seconds, 1) {
		return 0
	}
	return time.Duration(min(seconds, math.MaxInt32) * float64(time.Second))
}

// left is what may still be queued before a bound of the whole or the disk's
// floor is met; mu is held.
func (q *Queue) left(queued Tally) Tally {
	left := Tally{Records: math.MaxInt64, Bytes: q.opt.MaxBytes - queued.Bytes}
	if q.opt.MaxRecords > 0 {
		left.Records = q.opt.MaxRecords - queued.Records
	}
	if q.freeDisk > 0 {
		free := int64(min(q.freeDisk, math.MaxInt64)) - int64(min(q.opt.MinFreeBytes, math.MaxInt64))
		left.Bytes = min(left.Bytes, free)
	}
	return left
}

// look adds what the ledger says now to the pace.
func (q *Queue) look() {
	now := pacePoint{at: time.Now()} // and not the queue's clock, which may be set
	q.mu.Lock()
	for _, a := range q.ledger {
		now.accepted = now.accepted.plus(a.Accepted)
		now.delivered = now.delivered.plus(a.Delivered)
	}
	now.queued = q.queued()
	online := q.online
	q.mu.Unlock()
	q.pace.add(now, online)
}
