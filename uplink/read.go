package uplink

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dgraph-io/badger/v4"
)

// Next waits for records and hands out up to n of them, those of the highest
// lane first and each once: after that the caller owes a Settle for each, and
// what it never settles is handed out again after the next Open. One caller
// at a time.
func (q *Queue) Next(ctx context.Context, n int) ([]Entry, error) {
	for {
		entries, err := q.next(n)
		if err != nil || len(entries) > 0 {
			return entries, err
		}
		select {
		case <-q.ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (q *Queue) next(n int) ([]Entry, error) {
	for i := MaxLane; i >= MinLane; i-- {
		q.mu.Lock()
		l := &q.lanes[i]
		pos, last := l.pos, l.last
		entries := l.fromTail(n)
		l.issue(entries)
		q.mu.Unlock()
		if len(entries) > 0 {
			return entries, nil
		}
		if pos == last {
			continue
		}
		found, err := q.scan(i, pos, n)
		if err != nil {
			return nil, err
		}
		q.mu.Lock()
		l.issue(found)
		if len(found) < n {
			l.pos = max(l.pos, last)
		}
		q.mu.Unlock()
		if entries = q.setAside(found); len(entries) > 0 {
			return entries, nil
		}
	}
	return nil, nil
}

// setAside quarantines the entries that could not be decoded, and returns the
// others.
func (q *Queue) setAside(found []Entry) []Entry {
	return slices.DeleteFunc(found, func(e Entry) bool {
		if e.Route != "" {
			return false
		}
		q.opt.Logger.Error("a queued record cannot be read and is set aside", "lane", e.Lane, "seq", e.Seq)
		q.Settle(e, Quarantined)
		return true
	})
}

// scan reads up to n records of a lane after pos. One that cannot be decoded
// comes back without a route.
func (q *Queue) scan(laneNo int, pos uint64, n int) ([]Entry, error) {
	var entries []Entry
	prefix := []byte{prefixRecord, byte(laneNo)}
	err := q.db.View(func(txn *badger.Txn) error {
		opt := badger.DefaultIteratorOptions
		opt.Prefix, opt.PrefetchSize = prefix, n
		it := txn.NewIterator(opt)
		defer it.Close()
		for it.Seek(recordKey(laneNo, pos+1)); it.ValidForPrefix(prefix) && len(entries) < n; it.Next() {
			seq := seqOf(it.Item().Key())
			value, err := it.Item().ValueCopy(nil)
			if err != nil {
				return fmt.Errorf("read lane %d seq %d: %w", laneNo, seq, err)
			}
			e, err := decodeRecord(laneNo, seq, value)
			if err != nil {
				e = Entry{Seq: seq, Message: Message{Lane: laneNo}}
			}
			entries = append(entries, e)
		}
		return nil
	})
	return entries, err
}

// Settle says how an entry that Next handed out left the queue. It returns at
// once; the outcome is stored a moment later, and a kill before that means
// that the entry is handed out again.
func (q *Queue) Settle(e Entry, o Outcome) {
	q.mu.Lock()
	q.settled = append(q.settled, settlement{e, o, q.lanes[e.Lane].settle(e.Seq)})
	full := len(q.settled) >= maxBatchSettled/2
	q.mu.Unlock()
	if full {
		signal(q.wake)
	}
}

// restoreSettled keeps deliveries whose commit failed for the next one.
func (q *Queue) restoreSettled(s []settlement) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.settled = append(s, q.settled...)
}

// restore reads the state that a former process left.
func (q *Queue) restore() error {
	err := q.db.View(func(txn *badger.Txn) error {
		return errors.Join(q.restoreLanes(txn), q.restoreLedger(txn), q.restoreNotes(txn))
	})
	if err != nil {
		return fmt.Errorf("read queue state: %w", err)
	}
	signal(q.ready)
	return nil
}

func (q *Queue) restoreLanes(txn *badger.Txn) error {
	for i := MinLane; i <= MaxLane; i++ {
		l := &q.lanes[i]
		if err := get(txn, laneKey(i), func(b []byte) (err error) {
			l.laneMark, err = decodeLaneMark(b)
			return err
		}); err != nil {
			return err
		}
		l.pos, l.last = l.watermark, max(l.watermark, lastSeq(txn, i))
		l.tailFrom = l.last
		q.seq = max(q.seq, l.last)
	}
	return nil
}

// lastSeq is the newest stored sequence number of a lane, or 0.
func lastSeq(txn *badger.Txn, laneNo int) uint64 {
	opt := badger.DefaultIteratorOptions
	opt.Reverse, opt.PrefetchValues, opt.Prefix = true, false, []byte{prefixRecord, byte(laneNo)}
	it := txn.NewIterator(opt)
	defer it.Close()
	it.Seek(recordKey(laneNo, ^uint64(0)))
	if !it.Valid() {
		return 0
	}
	return seqOf(it.Item().Key())
}

func (q *Queue) restoreLedger(txn *badger.Txn) error {
	return each(txn, prefixLedger, func(route string, b []byte) (err error) {
		q.ledger[route], err = decodeAccount(route, b)
		return err
	})
}

func (q *Queue) restoreNotes(txn *badger.Txn) error {
	return each(txn, prefixNote, func(key string, b []byte) (err error) {
		q.notes[key], err = decodeUint(b)
		return err
	})
}

// get hands the value of a key to f; a key that is not there is no error.
func get(txn *badger.Txn, key []byte, f func([]byte) error) error {
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %q: %w", key, err)
	}
	return item.Value(f)
}

// each hands every key below a prefix, without it, and its value to f.
func each(txn *badger.Txn, prefix byte, f func(key string, value []byte) error) error {
	opt := badger.DefaultIteratorOptions
	opt.Prefix = []byte{prefix}
	it := txn.NewIterator(opt)
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		key := string(it.Item().Key()[1:])
		if err := it.Item().Value(func(b []byte) error { return f(key, b) }); err != nil {
			return err
		}
	}
	return nil
}
