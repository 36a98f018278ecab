package uplink

import (
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"
)

// reconcile finds records that a stream counts as queued and that are not
// there when it has been read to its end: what stood in a damaged part of the
// store. The ledger calls them quarantined, and the bounds forget them.
func (q *Queue) reconcile(s *stream) error {
	q.reading.Lock()
	defer q.reading.Unlock()
	q.committing.Lock() // the ledger has one writer at a time
	defer q.committing.Unlock()
	q.mu.Lock()
	lost, m, a := s.queued, s.mark, q.ledger[s.route]
	drained := lost != (Tally{}) && q.failing == nil && q.idle(s)
	q.mu.Unlock()
	if !drained {
		return nil
	}
	m.queued = Tally{}
	a.Queued, a.Quarantined = a.Queued.minus(lost), a.Quarantined.plus(lost)
	b, err := encodeAccount(a)
	if err != nil {
		return err
	}
	if err := q.update(func(txn *badger.Txn) error {
		return errors.Join(txn.Set(ledgerKey(s.route), b), txn.Set(streamKey(s.id), m.encode()))
	}); err != nil {
		return fmt.Errorf("reconcile route %s: %w", s.route, err)
	}
	q.opt.Logger.Error("queued records are not in the store any more", "route", s.route, "lane", s.id.lane, "records", lost.Records, "bytes", lost.Bytes)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ledger[s.route], s.mark = a, m
	q.account(s.route, -lost.Bytes, -lost.Records)
	return nil
}

// idle reports whether a stream has been read to its end, and nothing of it
// is handed out or on its way into the store or out of it; mu is held.
func (q *Queue) idle(s *stream) bool {
	if q.writing || q.salvaging || s.pos < s.last || len(s.ahead)+len(s.tail)+len(s.issued)+len(s.settled) > 0 {
		return false
	}
	for _, p := range q.pending {
		if p.entry.stream == s {
			return false
		}
	}
	for _, l := range q.settled {
		if l.stream == s {
			return false
		}
	}
	return true
}
