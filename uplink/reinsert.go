package uplink

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/dgraph-io/badger/v4"
)

// errBound says that a record that was accepted before finds no room: for
// such a one nothing is evicted.
var errBound = fmt.Errorf("%w: at its bound", ErrFull)

// reinsert queues a record that was accepted before: by a quarantined store
// (recovered), or on another appliance. It keeps its age. While a salvage
// holds the streams it takes its old place, and later the last one. reinsert
// waits while the disk does not keep up; done is called as by Enqueue.
func (q *Queue) reinsert(ctx context.Context, e Entry, recovered bool, done func(error)) error {
	for {
		room := q.Room()
		err := q.tryReinsert(e, recovered, done)
		if !errors.Is(err, ErrBusy) {
			return err
		}
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (q *Queue) tryReinsert(e Entry, recovered bool, done func(error)) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.accepting(e.Message); err != nil {
		return err
	}
	p := q.policies[e.Route]
	if over(q.load[e.Route], p.MaxBytes, p.MaxRecords, e.bytes()) || over(q.total, q.opt.MaxBytes, q.opt.MaxRecords, e.bytes()) {
		return errBound
	}
	if e.stream == nil {
		e.stream = q.streamOf(e.Message, false)
	}
	if !recovered || !q.salvaging || e.Seq <= e.stream.pos {
		q.seq++
		e.Seq = q.seq
	}
	q.push(pending{entry: e, done: done, recovered: recovered})
	return nil
}

// keepDead stores a dead letter that died before: in a quarantined store
// (recovered), or on another appliance. When it returns nil, that is synced.
func (q *Queue) keepDead(d DeadLetter, recovered bool, n Note) error {
	q.committing.Lock()
	defer q.committing.Unlock()
	q.mu.Lock()
	if _, taken := q.dead[d.ID]; taken || !recovered {
		q.seq++
		d.ID = q.seq
	}
	l := Ledger{d.Route: q.ledger[d.Route]}
	q.mu.Unlock()
	if recovered {
		l.recover(d.Route, d.Size, Dead)
	} else {
		l.accept(d.Route, d.Size)
		l.settle(d.Route, d.Size, Dead)
	}
	b, err := d.encode()
	if err != nil {
		return err
	}
	if err := q.writeLedger(l, n, func(txn *badger.Txn) error { return txn.Set(deadKey(d.ID), b) }); err != nil {
		return fmt.Errorf("keep dead letter %d: %w", d.ID, err)
	}
	d.record = nil
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dead[d.ID] = d
	return nil
}

// correct adds the difference between two ledgers to this one. When it
// returns nil, that is synced.
func (q *Queue) correct(was, now Ledger, n Note) error {
	q.committing.Lock()
	defer q.committing.Unlock()
	l := Ledger{}
	q.mu.Lock()
	for route, a := range now {
		l[route] = q.ledger[route].plus(a).minus(was[route])
	}
	q.mu.Unlock()
	if err := q.writeLedger(l, n, nil); err != nil {
		return fmt.Errorf("correct the ledger: %w", err)
	}
	return nil
}

// writeLedger stores accounts and a note, and whatever else more says, in one
// transaction; committing is held.
func (q *Queue) writeLedger(l Ledger, n Note, more func(*badger.Txn) error) error {
	ch := change{ledger: l, notes: map[string]uint64{}}
	if n.Key != "" {
		ch.notes[n.Key] = n.Value
	}
	if err := q.db.Update(func(txn *badger.Txn) error {
		if more != nil {
			if err := more(txn); err != nil {
				return err
			}
		}
		return ch.write(txn)
	}); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	maps.Copy(q.ledger, ch.ledger)
	maps.Copy(q.notes, ch.notes)
	return nil
}
