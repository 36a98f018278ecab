package uplink

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/dgraph-io/badger/v4"
)

// errBound says that a record that was accepted before finds no room: for
// such a one nothing is evicted.
var errBound = fmt.Errorf("%w: at its bound", ErrFull)

// chain is a sequence of records and dead letters that were accepted before:
// by a quarantined store (recovered), or on another appliance. The note of
// each says that all before it are stored, so when one fails, all behind it
// do.
type chain struct {
	queue     *Queue
	recovered bool
	waiting   sync.WaitGroup // records that are neither stored nor failed
	failed    error          // guarded by queue.mu
}

// wait returns when every record so far is stored, or else the first failure.
func (c *chain) wait() error {
	c.waiting.Wait()
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	return c.failed
}

// add queues a record that was accepted before. It keeps its age. While a
// salvage holds the streams it takes its old place, and later the last one.
// add waits while the disk does not keep up, and not until the record is
// stored: see wait.
func (c *chain) add(ctx context.Context, e Entry) error {
	for {
		room := c.queue.Room()
		err := c.try(e)
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

func (c *chain) try(e Entry) error {
	q := c.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if c.failed != nil {
		return c.failed
	}
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
	if !c.recovered || !q.salvaging || e.Seq <= e.stream.pos {
		q.seq++
		e.Seq = q.seq
	}
	c.waiting.Add(1)
	q.push(pending{entry: e, done: func(error) { c.waiting.Done() }, chain: c})
	return nil
}

// breakChains fails what waits behind a record of a batch that failed, and
// returns it; mu is held.
func (q *Queue) breakChains(batch []pending, err error) (behind []pending) {
	for _, p := range batch {
		if p.chain != nil && p.chain.failed == nil {
			p.chain.failed = err
		}
	}
	q.pending = slices.DeleteFunc(q.pending, func(p pending) bool {
		if p.chain == nil || p.chain.failed == nil {
			return false
		}
		q.pendingBytes -= p.entry.bytes()
		behind = append(behind, p)
		return true
	})
	return behind
}

// keepDead stores a dead letter after all records before it. When it returns
// nil, that is synced.
func (c *chain) keepDead(d DeadLetter, n Note) error {
	if err := c.wait(); err != nil {
		return err
	}
	q := c.queue
	q.committing.Lock()
	defer q.committing.Unlock()
	q.mu.Lock()
	if err := q.accepting(Message{}); err != nil && !errors.Is(err, ErrBusy) { // it waits for no commit
		q.mu.Unlock()
		return err
	}
	if !c.recovered {
		q.seq++
		d.ID = q.seq
	}
	l := Ledger{d.Route: q.ledger[d.Route]}
	q.mu.Unlock()
	if c.recovered {
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
	if err := q.update(func(txn *badger.Txn) error {
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
