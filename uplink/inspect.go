package uplink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// StreamInfo describes one FIFO of the queue.
type StreamInfo struct {
	Route    string    `json:"route"`
	Lane     int       `json:"lane"`
	Class    string    `json:"class"` // strict, live or backlog
	Records  int64     `json:"records"`
	Bytes    int64     `json:"bytes"`
	OldestAt time.Time `json:"oldest_at,omitzero"`
}

var classNames = map[byte]string{classStrict: "strict", classLive: "live", classBacklog: "backlog"}

// Streams lists the FIFOs that hold something, the highest lane first.
func (q *Queue) Streams() ([]StreamInfo, error) {
	var out []StreamInfo
	for _, s := range q.byLane() {
		q.mu.Lock()
		m := s.mark
		q.mu.Unlock()
		if m.queued.Records == 0 {
			continue
		}
		info := StreamInfo{Route: s.route, Lane: int(s.id.lane), Class: classNames[s.id.class], Records: m.queued.Records, Bytes: m.queued.Bytes}
		entries, _, err := q.scan(s, m.watermark, 1)
		if err != nil {
			return nil, err
		}
		if len(entries) > 0 {
			info.OldestAt = q.age.wall(entries[0].Accepted)
		}
		out = append(out, info)
	}
	return out, nil
}

// Peek returns the n oldest records of a route, or of all where route is
// empty, after a sequence number, without taking them.
func (q *Queue) Peek(route string, after uint64, n int) ([]Entry, error) {
	var out []Entry
	for _, s := range q.byLane() {
		if route != "" && s.route != route {
			continue
		}
		q.mu.Lock()
		pos := max(after, s.watermark)
		q.mu.Unlock()
		for more := true; more; {
			entries, m, err := q.scan(s, pos, n)
			if err != nil {
				return nil, err
			}
			for _, e := range entries {
				out = append(out, q.age.entryWall(e))
			}
			if more = m && len(entries) < n; more {
				pos = entries[len(entries)-1].Seq
				n -= len(entries)
			}
		}
	}
	slices.SortFunc(out, func(a, b Entry) int { return int(int64(a.Seq) - int64(b.Seq)) })
	return out[:min(n, len(out))], nil
}

// Purge removes what is queued on a route, or on all where route is empty,
// the oldest first, up to the first of each stream that was accepted at or
// after the given time, unless that is zero. What the link has in flight is
// not removed, nor what is accepted meanwhile. When the error is nil, the
// removal is synced.
func (q *Queue) Purge(ctx context.Context, route string, before time.Time) (Tally, error) {
	q.mu.Lock()
	salvaging, until := q.salvaging, q.seq
	q.mu.Unlock()
	if salvaging {
		return Tally{}, fmt.Errorf("%w: a quarantined store is being salvaged; purge when that has ended", ErrBusy)
	}
	var gone Tally
	for _, s := range q.byLane() {
		if route != "" && s.route != route {
			continue
		}
		for more := true; more; {
			t, m, err := q.purgeSome(s, until, before)
			more, gone = m, gone.plus(t)
			if err = errors.Join(err, ctx.Err()); err == nil {
				err = q.awaitLeaves(ctx) // what waits for its commit takes memory
			}
			if err != nil {
				return gone, err
			}
		}
	}
	return gone, nil
}

// purgeSome removes as much of a stream as one transaction takes, and reports
// whether there is more.
func (q *Queue) purgeSome(s *stream, until uint64, before time.Time) (gone Tally, more bool, err error) {
	q.reading.Lock()
	defer q.reading.Unlock()
	for range maxBatchSettled {
		ok, err := q.head(s)
		if err != nil || !ok || s.ahead[0].Seq > until || (!before.IsZero() && !s.ahead[0].Accepted.Before(q.age.from(before))) {
			return gone, false, err
		}
		e := q.issue(s)
		q.Settle(e, Purged)
		gone.add(e.bytes())
	}
	return gone, true, nil
}

// awaitLeaves waits until every settlement so far is stored.
func (q *Queue) awaitLeaves(ctx context.Context) error {
	q.mu.Lock()
	until := q.leaves
	q.mu.Unlock()
	for {
		q.mu.Lock()
		stored, room, failing := q.leavesStored, q.room, q.failing
		q.mu.Unlock()
		switch {
		case stored >= until:
			return nil
		case failing != nil:
			return fmt.Errorf("not stored yet: %w", failing)
		}
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// CheckReport says what a queue's store holds, and what is wrong with it.
type CheckReport struct {
	Queued      Tally    `json:"queued"`
	DeadLetters Tally    `json:"dead_letters"`
	SetAside    int64    `json:"set_aside"` // records that could not be read and are kept
	Quarantines []string `json:"quarantines"`
	Problems    []string `json:"problems"`
}

// Check reads the whole store as it is at one moment: every record and dead
// letter, and whether the streams and the ledger say the same. A store with
// problems still works; what they say is lost or miscounted.
func (q *Queue) Check(ctx context.Context) (CheckReport, error) {
	end, err := q.use()
	if err != nil {
		return CheckReport{}, err
	}
	defer end()
	c := checker{ctx: ctx, counted: map[streamID]Tally{}, byRoute: map[string]Tally{}, dead: map[string]Tally{}, routes: map[uint16]string{}, marks: map[streamID]mark{}}
	err = q.db.View(c.read)
	if err == nil {
		c.compare()
		if err := q.db.VerifyChecksum(); err != nil {
			c.problem("a table of the store is damaged: %v", err)
		}
		c.out.Quarantines, err = quarantines(q.opt.Dir)
	}
	return c.out, err
}

// checker gathers what a store holds.
type checker struct {
	ctx     context.Context
	out     CheckReport
	routes  map[uint16]string
	marks   map[streamID]mark
	ledger  Ledger
	counted map[streamID]Tally
	byRoute map[string]Tally
	dead    map[string]Tally
}

// maxProblems bounds a report.
const maxProblems = 100

func (c *checker) problem(format string, args ...any) {
	if len(c.out.Problems) < maxProblems {
		c.out.Problems = append(c.out.Problems, fmt.Sprintf(format, args...))
	}
}

func (c *checker) read(txn *badger.Txn) error {
	state := &Queue{routes: map[string]uint16{}, ledger: Ledger{}}
	if err := state.restoreLedger(txn); err != nil {
		c.problem("%v", err)
	}
	c.ledger = state.ledger
	for _, part := range []struct {
		prefix byte
		read   func(key string, b []byte) error
	}{
		{prefixRoute, c.route}, {prefixStream, c.mark}, {prefixRecord, c.record}, {prefixDead, c.deadLetter},
		{prefixAside, func(string, []byte) error { c.out.SetAside++; return nil }},
	} {
		if err := each(txn, part.prefix, part.read); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) route(name string, b []byte) error {
	n, err := decodeUint(b)
	if err != nil {
		c.problem("route %q: %v", name, err)
	}
	c.routes[uint16(n)] = name
	return nil
}

func (c *checker) mark(key string, b []byte) error {
	id, err := parseStreamID([]byte(key))
	if err == nil {
		c.marks[id], err = decodeMark(b)
	}
	if err != nil {
		c.problem("stream %x: %v", key, err)
	}
	return nil
}

func (c *checker) record(key string, b []byte) error {
	if len(key) != streamKeyBytes+8 {
		c.problem("record key %x: got %d bytes, expected %d", key, len(key), streamKeyBytes+8)
		return nil
	}
	id, err := parseStreamID([]byte(key[:streamKeyBytes]))
	if err != nil {
		return err
	}
	e := Entry{Seq: seqOf([]byte(string(prefixRecord) + key))}
	if err := decodeRecord(&e, b); err != nil {
		c.problem("route %s: %v", c.routes[id.route], err)
		e.Payload = b
	}
	if m := c.marks[id]; e.Seq <= m.watermark || e.Seq > m.newest {
		c.problem("route %s: seq %d lies outside its stream, which has %d to %d", c.routes[id.route], e.Seq, m.watermark+1, m.newest)
	}
	t := c.counted[id]
	t.add(e.bytes())
	c.counted[id] = t
	c.out.Queued.add(e.bytes())
	return c.ctx.Err()
}

func (c *checker) deadLetter(key string, b []byte) error {
	d, err := decodeDead(b)
	if err == nil {
		_, err = d.Message()
	}
	if err != nil {
		c.problem("dead letter %x: %v", key, err)
	}
	t := c.dead[d.Route]
	t.add(d.Size)
	c.dead[d.Route] = t
	c.out.DeadLetters.add(d.Size)
	return c.ctx.Err()
}

// compare holds the streams and the ledger against what was counted.
func (c *checker) compare() {
	for id, m := range c.marks {
		name := c.routes[id.route]
		if strings.TrimSpace(name) == "" {
			c.problem("stream %x: its route %d has no name", id.append(nil), id.route)
		}
		if got := c.counted[id]; got != m.queued {
			c.problem("route %s, lane %d, %s: the stream says %+v, the store has %+v", name, id.lane, classNames[id.class], m.queued, got)
		}
		c.byRoute[name] = c.byRoute[name].plus(c.counted[id])
	}
	for id, t := range c.counted {
		if _, ok := c.marks[id]; !ok {
			c.problem("stream %x has %+v and no state", id.append(nil), t)
		}
	}
	for name, a := range c.ledger {
		if !a.Balanced() {
			c.problem("route %s: the ledger does not balance: %+v", name, a)
		}
		if a.Queued != c.byRoute[name] || a.Dead != c.dead[name] {
			c.problem("route %s: the ledger says queued %+v and dead %+v, the store has %+v and %+v", name, a.Queued, a.Dead, c.byRoute[name], c.dead[name])
		}
	}
}
