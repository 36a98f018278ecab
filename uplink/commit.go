package uplink

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// Bounds of one transaction, well below Badger's own.
const (
	maxBatchRecords = 1024
	maxBatchBytes   = 512 << 10
	maxBatchSettled = 2048
)

// settleDelay is how long a delivery may wait for others, or for a commit
// that is due anyway, before it is written. A kill in between means that the
// record is sent again.
const settleDelay = 50 * time.Millisecond

// commitLoop is the only writer of the store. While one transaction syncs,
// the next one gathers: that is the group commit.
func (q *Queue) commitLoop(ctx context.Context) {
	timer := time.NewTicker(settleDelay)
	defer timer.Stop()
	for {
		stopping := false
		select {
		case <-q.wake:
		case <-timer.C:
		case <-ctx.Done():
			stopping = true
		}
		for {
			batch, settled := q.take()
			if len(batch)+len(settled) == 0 || q.write(batch, settled) != nil {
				break // after an error the next tick tries again
			}
		}
		if stopping {
			return
		}
	}
}

// take removes the next batch from what waits.
func (q *Queue) take() ([]pending, []settlement) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, size := 0, int64(0)
	for n < len(q.pending) && n < maxBatchRecords && (n == 0 || size+q.pending[n].entry.bytes() <= maxBatchBytes) {
		size += q.pending[n].entry.bytes()
		n++
	}
	batch := slices.Clone(q.pending[:n])
	q.pending = slices.Delete(q.pending, 0, n)
	q.pendingBytes -= size

	s := min(len(q.settled), maxBatchSettled)
	settled := slices.Clone(q.settled[:s])
	q.settled = slices.Delete(q.settled, 0, s)
	if n+s > 0 {
		q.openRoom()
	}
	return batch, settled
}

// openRoom tells those who were refused that there may be room; q.mu is held.
func (q *Queue) openRoom() {
	close(q.room)
	q.room = make(chan struct{})
}

// write commits one batch and tells its producers. A batch that is too big
// for one transaction is halved.
func (q *Queue) write(batch []pending, settled []settlement) error {
	began := time.Now()
	ch, err := q.commit(batch, settled)
	if errors.Is(err, badger.ErrTxnTooBig) && len(batch)+len(settled) > 1 {
		b, s := len(batch)/2, len(settled)/2
		return errors.Join(q.write(batch[:b], settled[:s]), q.write(batch[b:], settled[s:]))
	}
	if err == nil {
		q.timings.add(time.Since(began))
	}
	q.apply(ch, err)
	for _, p := range batch {
		if p.done != nil {
			p.done(err)
		}
	}
	if err != nil {
		q.opt.Logger.Error("queue commit failed", "records", len(batch), "settled", len(settled), "error", err)
		q.restoreSettled(settled)
		return err
	}
	signal(q.ready)
	return nil
}

// change is the state that follows a transaction.
type change struct {
	ledger Ledger // routes that it touches
	lanes  map[int]laneMark
	notes  map[string]uint64
	added  map[int][]Entry
}

// commit writes records, deletions, watermarks, notes and the ledger in one
// transaction and returns, synced, the state that follows it.
func (q *Queue) commit(batch []pending, settled []settlement) (change, error) {
	ch := q.plan(batch, settled)
	txn := q.db.NewTransaction(true)
	defer txn.Discard()
	for _, p := range batch {
		if err := txn.Set(recordKey(p.entry.Lane, p.entry.Seq), encodeRecord(p.entry)); err != nil {
			return ch, fmt.Errorf("write record: %w", err)
		}
	}
	for _, s := range settled {
		if err := txn.Delete(recordKey(s.entry.Lane, s.entry.Seq)); err != nil {
			return ch, fmt.Errorf("delete record: %w", err)
		}
	}
	if err := ch.write(txn); err != nil {
		return ch, err
	}
	if err := txn.Commit(); err != nil {
		return ch, fmt.Errorf("commit: %w", err)
	}
	return ch, nil
}

// plan computes what a transaction changes besides the records.
func (q *Queue) plan(batch []pending, settled []settlement) change {
	q.mu.Lock()
	defer q.mu.Unlock()
	ch := change{ledger: Ledger{}, lanes: map[int]laneMark{}, notes: map[string]uint64{}, added: map[int][]Entry{}}
	touch := func(m Message) laneMark {
		if _, ok := ch.ledger[m.Route]; !ok {
			ch.ledger[m.Route] = q.ledger[m.Route]
		}
		if mark, ok := ch.lanes[m.Lane]; ok {
			return mark
		}
		return q.lanes[m.Lane].laneMark
	}
	for _, p := range batch {
		m := p.entry.Message
		mark := touch(m)
		mark.queued.add(m)
		ch.lanes[m.Lane] = mark
		ch.ledger.accept(m)
		ch.added[m.Lane] = append(ch.added[m.Lane], p.entry)
		if m.Note.Key != "" {
			ch.notes[m.Note.Key] = m.Note.Value
		}
	}
	for _, s := range settled {
		m := s.entry.Message
		mark := touch(m)
		mark.queued.sub(m)
		mark.watermark = max(mark.watermark, s.watermark)
		ch.lanes[m.Lane] = mark
		ch.ledger.settle(m, s.outcome)
	}
	return ch
}

func (ch change) write(txn *badger.Txn) error {
	set := func(key, value []byte, err error) error {
		if err == nil {
			err = txn.Set(key, value)
		}
		if err != nil {
			return fmt.Errorf("write %q: %w", key, err)
		}
		return nil
	}
	for route, a := range ch.ledger {
		b, err := encodeAccount(a)
		if err := set(ledgerKey(route), b, err); err != nil {
			return err
		}
	}
	for n, mark := range ch.lanes {
		if err := set(laneKey(n), mark.encode(), nil); err != nil {
			return err
		}
	}
	for k, v := range ch.notes {
		if err := set(noteKey(k), encodeUint(v), nil); err != nil {
			return err
		}
	}
	return nil
}

// apply makes a committed change visible.
func (q *Queue) apply(ch change, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.failing = err
	if err != nil {
		return
	}
	maps.Copy(q.ledger, ch.ledger)
	maps.Copy(q.notes, ch.notes)
	for n, mark := range ch.lanes {
		q.lanes[n].laneMark = mark
	}
	for n, entries := range ch.added {
		q.lanes[n].committed(entries)
	}
}
