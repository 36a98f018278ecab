package uplink

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dgraph-io/badger/v4"
)

// Want says which records a reader asks for. Those up to Boundary are
// history: what an outage left.
type Want struct {
	Max      int   // records
	MaxBytes int64 // that are not passed by more than one record; 0 means no bound
	Boundary uint64
	History  int // of them history, after everything else
	// Lowest is how many bytes of the lowest lane may come, passed by no more
	// than one record; 0 means no bound, and less than 0 none at all.
	Lowest int64
	// Wake makes Next return without records; the reader has changed its mind.
	Wake <-chan struct{}
}

// Next waits for records and hands out up to w.Max of them: first those after
// the boundary, then history, each from the highest lane first and in the
// order of acceptance within a lane. After that the caller owes a Settle for
// each, and what it never settles is handed out again after the next Open.
// One caller at a time.
func (q *Queue) Next(ctx context.Context, w Want) ([]Entry, error) {
	for {
		entries, err := q.take(w)
		if err != nil || len(entries) > 0 {
			return entries, err
		}
		select {
		case <-q.ready:
		case <-w.Wake:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (q *Queue) take(w Want) ([]Entry, error) {
	q.reading.Lock()
	defer q.reading.Unlock()
	now := q.age.at()
	var out []Entry
	var size int64
	if q.isFailing() { // what is delivered now could not be written down
		return nil, nil
	}
	for len(out) < w.Max && (w.MaxBytes == 0 || size < w.MaxBytes) {
		s, history, err := q.pick(w)
		if err != nil {
			return out, err
		}
		if s == nil {
			break
		}
		e := q.issue(s)
		if e.expired(now) {
			q.Settle(e, Expired)
			continue
		}
		if s.id.lane == MinLane && w.Lowest > 0 {
			if w.Lowest -= e.bytes(); w.Lowest == 0 {
				w.Lowest = -1
			}
		}
		if history {
			w.History--
		}
		e.history = history
		size += e.bytes()
		out = append(out, e)
	}
	return out, nil
}

// isFailing reports whether the last commit failed.
func (q *Queue) isFailing() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.failing != nil
}

// pick returns the stream whose head is next, or nil, and whether that is
// history; reading is held.
func (q *Queue) pick(w Want) (*stream, bool, error) {
	var history *stream
	var best *stream
	for _, s := range q.byLane() {
		if (best != nil && s.id.lane < best.id.lane) || (s.id.lane == MinLane && w.Lowest < 0) {
			break
		}
		ok, err := q.head(s)
		if err != nil {
			return nil, false, err
		}
		if ok {
			if ok, err = q.inTurn(s); err != nil {
				return nil, false, err
			}
		}
		switch {
		case !ok:
		case s.id.class == classBacklog || s.ahead[0].Seq <= w.Boundary:
			if history == nil || (s.id.lane == history.id.lane && s.ahead[0].Seq < history.ahead[0].Seq) {
				history = s
			}
		case best == nil || s.ahead[0].Seq < best.ahead[0].Seq:
			best = s
		}
	}
	if best == nil && w.History > 0 {
		return history, true, nil
	}
	return best, false, nil
}

// byLane returns the streams, highest lane first.
func (q *Queue) byLane() []*stream {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.order[:len(q.order):len(q.order)]
}

// head makes sure that s.ahead has the stream's oldest record, and reports
// whether there is one; reading is held.
func (q *Queue) head(s *stream) (bool, error) {
	for {
		q.mu.Lock()
		if q.salvaging && s.id.class != classLive {
			q.mu.Unlock()
			return false, nil
		}
		found := s.refill()
		pos, last := s.pos, s.last
		q.mu.Unlock()
		if found || pos >= last {
			return found, nil
		}
		entries, more, err := q.scan(s, pos, aheadLen)
		if err != nil {
			return false, err
		}
		q.mu.Lock()
		s.read(entries)
		if !more {
			s.skipTo(last)
		}
		q.mu.Unlock()
		q.setAside(s)
	}
}

// issue hands out the head of a stream; reading is held.
func (q *Queue) issue(s *stream) Entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	return s.issue()
}

// setAside quarantines the entries in ahead that could not be decoded. They
// are kept in the store, and the ledger says so.
func (q *Queue) setAside(s *stream) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s.ahead = slices.DeleteFunc(s.ahead, func(e Entry) bool {
		if e.Topic != "" {
			return false
		}
		q.opt.Logger.Error("a queued record cannot be read and is set aside", "route", s.route, "seq", e.Seq)
		q.leave(settlement{s, e.Seq, e.bytes(), Quarantined, 0, nil, e.Payload})
		return true
	})
}

// scan reads up to n records of a stream after pos, and reports whether there
// may be more. One that cannot be decoded comes back without a topic.
func (q *Queue) scan(s *stream, pos uint64, n int) (entries []Entry, more bool, err error) {
	prefix := recordPrefix(s.id)
	var size int64
	err = q.db.View(func(txn *badger.Txn) error {
		opt := badger.DefaultIteratorOptions
		opt.Prefix, opt.PrefetchSize = prefix, min(n, 16)
		it := txn.NewIterator(opt)
		defer it.Close()
		for it.Seek(recordKey(s.id, pos+1)); it.ValidForPrefix(prefix); it.Next() {
			if len(entries) >= n || size >= aheadBytes {
				more = true
				return nil
			}
			e := Entry{Seq: seqOf(it.Item().Key()), Message: Message{Route: s.route, Lane: int(s.id.lane)}, stream: s}
			value, err := it.Item().ValueCopy(nil)
			if err != nil {
				return fmt.Errorf("read route %s seq %d: %w", s.route, e.Seq, err)
			}
			if decodeRecord(&e, value) != nil {
				e.Topic, e.Payload = "", value // as good a size as any: the ledger's equation holds
			}
			size += e.bytes()
			entries = append(entries, e)
		}
		return nil
	})
	return entries, more, err
}

// Settle says how an entry that Next handed out left the queue. It returns at
// once; the outcome is stored a moment later, and a kill before that means
// that the entry is handed out again.
func (q *Queue) Settle(e Entry, o Outcome) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.leave(settlement{e.stream, e.Seq, e.bytes(), o, e.stream.settle(e.Seq), nil, nil})
}

// leave queues a settlement for the next commit; mu is held.
func (q *Queue) leave(s settlement) {
	q.settled = append(q.settled, s)
	q.leaves++
	q.account(s.stream.route, -s.size, -1)
	if len(q.settled) >= maxBatchSettled/2 {
		signal(q.wake)
	}
}

// restore reads the state that a former process left.
func (q *Queue) restore(db *badger.DB) error {
	q.db = db
	q.streams, q.order, q.seq = map[streamID]*stream{}, nil, 0
	q.routes, q.load, q.total = map[string]uint16{}, map[string]Tally{}, Tally{}
	q.ledger, q.notes, q.dead = Ledger{}, map[string]uint64{}, map[uint64]DeadLetter{}
	err := db.View(func(txn *badger.Txn) error {
		return errors.Join(q.restoreStreams(txn), q.restoreLedger(txn), q.restoreNotes(txn), q.restoreDead(txn))
	})
	if err == nil {
		err = q.restoreLatest()
	}
	if err != nil {
		return fmt.Errorf("read queue state: %w", err)
	}
	return nil
}

// restoreStreams reads the routes and the streams.
func (q *Queue) restoreStreams(txn *badger.Txn) error {
	names := map[uint16]string{}
	if err := each(txn, prefixRoute, func(name string, b []byte) error {
		n, err := decodeUint(b)
		q.routes[name], names[uint16(n)] = uint16(n), name
		return err
	}); err != nil {
		return err
	}
	return each(txn, prefixStream, func(key string, b []byte) error {
		id, err := parseStreamID([]byte(key))
		if err != nil {
			return err
		}
		s := q.streamByID(id, names[id.route])
		if s.mark, err = decodeMark(b); err != nil {
			return err
		}
		s.pos, s.last, s.tailFrom = s.watermark, s.newest, s.newest
		q.seq = max(q.seq, s.last)
		q.account(s.route, s.queued.Bytes, s.queued.Records)
		return nil
	})
}

// restoreLatest finds the newest message of each topic on routes that keep
// only those.
func (q *Queue) restoreLatest() error {
	for _, s := range q.order {
		if !q.policies[s.route].KeepLast {
			continue
		}
		for pos, more := s.watermark, true; more; {
			entries, m, err := q.scan(s, pos, aheadLen)
			if err != nil {
				return err
			}
			for _, e := range entries {
				s.replace(e, false)
				pos = e.Seq
			}
			more = m
		}
	}
	return nil
}

func (q *Queue) restoreLedger(txn *badger.Txn) error {
	return each(txn, prefixLedger, func(route string, b []byte) (err error) {
		q.ledger[route], err = decodeAccount(route, b)
		return err
	})
}

func (q *Queue) restoreNotes(txn *badger.Txn) error {
	err := each(txn, prefixNote, func(key string, b []byte) (err error) {
		q.notes[key], err = decodeUint(b)
		return err
	})
	q.seq = max(q.seq, q.notes[baseKey])
	return err
}

// each hands every key below a prefix, without it, and its value to f.
func each(txn *badger.Txn, prefix byte, f func(key string, value []byte) error) error {
	return eachBelow(txn, []byte{prefix}, func(key, value []byte) error { return f(string(key[1:]), value) })
}

// eachBelow hands every key below a prefix and its value to f.
func eachBelow(txn *badger.Txn, prefix []byte, f func(key, value []byte) error) error {
	opt := badger.DefaultIteratorOptions
	opt.Prefix, opt.PrefetchValues = prefix, false // a record may have a MiB
	it := txn.NewIterator(opt)
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		key := it.Item().Key()
		if err := it.Item().Value(func(b []byte) error { return f(key, b) }); err != nil {
			return err
		}
	}
	return nil
}
