package uplink

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

// QueueStats is a snapshot of the queue.
type QueueStats struct {
	Queued       Tally
	Pending      int // records that wait for their commit
	MaxBytes     int64
	OldestAt     time.Time // acceptance of the oldest queued record that is known, or zero
	FreeDisk     uint64    // bytes
	MinFreeDisk  uint64    // bytes
	Refusing     error     // why nothing is accepted now, or nil
	Failing      error     // why the last commit failed, or nil
	Reclaiming   error     // why the last attempt to give disk space back failed, or nil
	Quarantined  string    // where a damaged store was moved at this start, or ""
	DeadLetters  int
	Quarantines  int       // damaged stores that are kept
	Salvaging    bool      // a quarantined store is being salvaged
	Salvaged     []Salvage // that ended since the start
	SalvageError error     // why quarantined stores could not be salvaged, or nil
	TotalsError  error     // why the ledger's copy outside of the store is not written, or nil
	Commits      uint64    // synced transactions since the start
	CommitP50    time.Duration
	CommitP99    time.Duration
	CommitTimes  Histogram         // since the start
	Clearing     Clearing          // of the backlog
	Room         time.Duration     // until a bound of the whole or the disk's floor is met at the growth of the last minute; 0 where it does not grow
	Deaths       map[string]uint64 // by route, since the start: what became a dead letter
	StoreBytes   int64             // Badger's files
	LaneQueued   [MaxLane + 1]Tally
	LaneOldest   [MaxLane + 1]time.Time
	LastSequence uint64
}

// Depth returns what is queued.
func (q *Queue) Depth() Tally {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.queued()
}

// queued sums what is stored; mu is held.
func (q *Queue) queued() Tally {
	var sum Tally
	for _, s := range q.order {
		sum = sum.plus(s.queued)
	}
	return sum
}

// LastSequence is the newest sequence number that was given to a message.
func (q *Queue) LastSequence() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.seq
}

// Ledger returns a copy of every route's account.
func (q *Queue) Ledger() Ledger {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.ledger.clone()
}

// Stats returns a snapshot.
func (q *Queue) Stats() QueueStats {
	lsm, vlog := q.db.Size()
	kept, _ := quarantines(q.opt.Dir) // the pattern is a constant
	q.mu.Lock()
	s := QueueStats{
		Queued: q.queued(), Pending: len(q.pending), MaxBytes: q.opt.MaxBytes,
		FreeDisk: q.freeDisk, MinFreeDisk: q.opt.MinFreeBytes, Refusing: cmp.Or(q.broken, q.lowDisk), Failing: q.failing, Reclaiming: q.reclaimError,
		Quarantined: q.quarantined, Quarantines: len(kept), StoreBytes: lsm + vlog, LastSequence: q.seq,
	}
	s.DeadLetters, s.Deaths = len(q.dead), maps.Clone(q.deaths)
	s.Salvaging, s.Salvaged, s.TotalsError = q.salvaging, slices.Clone(q.salvaged), q.totalsError
	for _, dir := range slices.Sorted(maps.Keys(q.unsalvaged)) {
		s.SalvageError = errors.Join(s.SalvageError, q.unsalvaged[dir])
	}
	for _, st := range q.order {
		s.LaneQueued[st.id.lane] = s.LaneQueued[st.id.lane].plus(st.queued)
	}
	left := q.left(s.Queued)
	q.mu.Unlock()
	s.Room = q.pace.room(left)
	s.LaneOldest = q.oldest()
	for _, at := range s.LaneOldest {
		if !at.IsZero() && (s.OldestAt.IsZero() || at.Before(s.OldestAt)) {
			s.OldestAt = at
		}
	}
	var waited time.Duration
	if !s.OldestAt.IsZero() {
		waited = q.opt.Now().Sub(s.OldestAt)
	}
	s.Clearing = q.pace.clearing(s.Queued, waited)
	s.CommitTimes = q.timings.Histogram()
	s.Commits = s.CommitTimes.Count
	s.CommitP50, s.CommitP99 = q.timings.Recent()
	return s
}

// oldest is the acceptance of the oldest queued record of each lane, or zero.
func (q *Queue) oldest() (at [MaxLane + 1]time.Time) {
	for _, s := range q.byLane() {
		q.mu.Lock()
		queued, from := s.queued, max(s.watermark, s.before)
		settled := !q.salvaging // or older ones may still come in
		q.mu.Unlock()
		if queued.Records == 0 {
			continue
		}
		entries, _, err := q.scan(s, from, 1)
		if err != nil || len(entries) == 0 {
			continue // it has just left
		}
		if settled {
			q.mu.Lock()
			s.before = max(s.before, entries[0].Seq-1)
			q.mu.Unlock()
		}
		if lane := s.id.lane; at[lane].IsZero() || q.age.wall(entries[0].Accepted).Before(at[lane]) {
			at[lane] = q.age.wall(entries[0].Accepted)
		}
	}
	return at
}

// rateSeconds is how many whole seconds a rate looks back.
const rateSeconds = 5

// rate counts events by the second.
type rate struct {
	mu     sync.Mutex
	second [rateSeconds + 1]int64 // Unix time of each bucket
	count  [rateSeconds + 1]int
}

func (r *rate) add(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := now.Unix()
	i := at % int64(len(r.second))
	if r.second[i] != at {
		r.second[i], r.count[i] = at, 0
	}
	r.count[i]++
}

// perSecond is the mean over the last whole seconds before now.
func (r *rate) perSecond(now time.Time) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	sum := 0
	for i, at := range r.second {
		if age := now.Unix() - at; age >= 1 && age <= rateSeconds {
			sum += r.count[i]
		}
	}
	return float64(sum) / rateSeconds
}
