package uplink

import (
	"context"
	"time"
)

// keepEvery is how often the keeper looks for what expired.
const keepEvery = time.Second

// keep evicts at the bounds and expires by age until ctx ends.
func (q *Queue) keep(ctx context.Context) {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-q.wakeKeeper:
		}
		q.keepClock()
		for _, s := range q.byLane() {
			q.expire(s)
			if err := q.reconcile(s); err != nil {
				q.opt.Logger.Error("queue cannot be reconciled", "error", err)
			}
		}
		q.evict()
		q.boundDead()
		q.look()
	}
}

// expire drops what is too old from the head of a stream. What expires behind
// a head that does not is dropped when it is its turn to be sent.
func (q *Queue) expire(s *stream) {
	q.reading.Lock()
	defer q.reading.Unlock()
	now := q.age.at()
	for {
		ok, err := q.head(s)
		if err != nil {
			q.opt.Logger.Error("queue cannot be read", "route", s.route, "error", err)
			return
		}
		if !ok || !q.headExpired(s, now) {
			return
		}
		q.Settle(q.issue(s), Expired)
	}
}

// headExpired reports whether the head of a stream is too old, by its own
// expiry or by its route's bound as it is now; reading is held.
func (q *Queue) headExpired(s *stream, now time.Time) bool {
	e := s.ahead[0]
	q.mu.Lock()
	limit := q.policies[s.route].expiry(e.Accepted, e.Expiry)
	q.mu.Unlock()
	return !limit.IsZero() && now.After(limit)
}

// evict makes room at the bounds of the routes and of the whole. No lane gives
// way while a lower one has records, also such as wait for their commit or came
// during the eviction; whoever needs the room asks again. While a salvage holds
// streams nothing is evicted: what is to go first is in them.
func (q *Queue) evict() {
	q.mu.Lock()
	held := q.salvaging
	q.mu.Unlock()
	if held {
		return
	}
	for _, s := range q.byLane() {
		q.mu.Lock()
		p, load := q.policies[s.route], q.load[s.route]
		q.mu.Unlock()
		if p.Overflow == Reject {
			continue
		}
		q.evictFrom(s, excess(load, p.MaxBytes, p.MaxRecords))
	}
	q.mu.Lock()
	left := excess(q.total, q.opt.MaxBytes, q.opt.MaxRecords)
	q.mu.Unlock()
	streams := q.byLane()
	for i := len(streams) - 1; i >= 0 && left != (Tally{}); i-- { // the lowest lane first
		q.mu.Lock()
		reject := q.policies[streams[i].route].Overflow == Reject
		waiting := streams[i].waiting > 0
		q.mu.Unlock()
		if reject {
			continue
		}
		if left = q.evictFrom(streams[i], left); waiting {
			return
		}
	}
}

// spare is the part of a bound that eviction frees beyond it, so that it is
// not needed for every message: one in spareShare.
const spareShare = 32

// excess is what has to go for a tally to be a little below its bounds: more
// bytes or records than the result are left.
func excess(t Tally, maxBytes, maxRecords int64) Tally {
	var out Tally
	if maxBytes > 0 && t.Bytes > maxBytes-maxBytes/spareShare {
		out.Bytes = t.Bytes - (maxBytes - maxBytes/spareShare)
	}
	if maxRecords > 0 && t.Records > maxRecords-max(1, maxRecords/spareShare) {
		out.Records = t.Records - (maxRecords - max(1, maxRecords/spareShare))
	}
	return out
}

// evictFrom drops the oldest records of a stream, until as many bytes and
// records are gone as over says or the stream has no more to give. It returns
// what is left of over.
func (q *Queue) evictFrom(s *stream, over Tally) Tally {
	q.reading.Lock()
	defer q.reading.Unlock()
	for over.Bytes > 0 || over.Records > 0 {
		ok, err := q.head(s)
		if err != nil {
			q.opt.Logger.Error("queue cannot be read", "route", s.route, "error", err)
			return over
		}
		if !ok {
			return over
		}
		e := q.issue(s)
		over = Tally{max(0, over.Records-1), max(0, over.Bytes-e.bytes())}
		q.Settle(e, Evicted)
	}
	return over
}

// evictable reports whether any queued record may be evicted; mu is held.
func (q *Queue) evictable() bool {
	for _, s := range q.order {
		if s.queued.Records > 0 && q.policies[s.route].Overflow != Reject {
			return true
		}
	}
	return len(q.pending) > 0
}

// coalesce notes that e, which is durable now, is the newest of its topic. The
// older one gives way unless it was handed out or the link is up; mu is held.
func (q *Queue) coalesce(e Entry) {
	old, ok := e.stream.replace(e, !q.online)
	if ok {
		q.leave(settlement{e.stream, old.seq, old.size, Coalesced, 0, nil, nil})
	}
}
