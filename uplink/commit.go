package uplink

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"
	"golang.org/x/sys/unix"
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
			batch, settled := q.takeBatch()
			if len(batch)+len(settled) == 0 || q.write(batch, settled) != nil {
				break // after an error the next tick tries again
			}
		}
		if stopping {
			q.abandon()
			return
		}
	}
}

// takeBatch removes the next batch from what waits.
func (q *Queue) takeBatch() ([]pending, []settlement) {
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
	q.writing = n+s > 0
	if q.writing {
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
	q.committing.Lock()
	began := time.Now()
	ch, err := q.commit(batch, settled)
	if errors.Is(err, badger.ErrTxnTooBig) && len(batch)+len(settled) > 1 {
		q.committing.Unlock()
		b, s := (len(batch)+1)/2, len(settled)/2
		if err := q.write(batch[:b], settled[:s]); err != nil {
			q.giveUp(batch[b:], settled[s:], err) // the watermark of later ones covers earlier ones
			return err
		}
		return q.write(batch[b:], settled[s:])
	}
	if err != nil {
		err = q.breakOn(err)
		q.committing.Unlock()
		if !errors.Is(err, ErrBroken) && !q.isFailing() { // which is told once, and tried again and again
			q.opt.Logger.Error("queue commit failed", "records", len(batch), "settled", len(settled), "error", err)
		}
		q.giveUp(batch, settled, err)
		return err
	}
	q.timings.Add(time.Since(began))
	q.apply(ch, settled)
	q.committing.Unlock()
	tell(batch, nil)
	signal(q.ready)
	return nil
}

// ErrBroken says that the disk failed under the store. What it holds is known
// only when it is opened anew: after a failed sync the system takes pages for
// written that are not, so that a later sync that succeeds proves nothing.
var ErrBroken = errors.New("the disk failed under the queue; it needs a restart")

func (q *Queue) isBroken() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.broken
}

// breakOn makes the failure of a disk final.
func (q *Queue) breakOn(err error) error {
	if !errors.Is(err, unix.EIO) && !errors.Is(err, unix.EROFS) {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.broken == nil {
		q.broken = fmt.Errorf("%w: %w", ErrBroken, err)
		q.opt.Logger.Error("queue", "error", q.broken)
	}
	return q.broken
}

// tell gives producers their answer.
func tell(batch []pending, err error) {
	for _, p := range batch {
		if p.done != nil {
			p.done(err)
		}
	}
}

// giveUp tells producers that their messages were not stored, and keeps the
// settlements for the next commit.
func (q *Queue) giveUp(batch []pending, settled []settlement, err error) {
	q.mu.Lock()
	q.failing = err
	batch = append(slices.Clip(batch), q.breakChains(batch, err)...)
	for _, p := range batch {
		q.account(p.entry.Route, -p.entry.bytes(), -1)
		p.entry.stream.waiting--
		if p.dead != nil {
			q.dead[p.dead.ID] = *p.dead
		}
	}
	q.settled = append(slices.Clone(settled), q.settled...)
	q.mu.Unlock()
	tell(batch, err)
}

// abandon tells what still waits at the end that it was not stored.
func (q *Queue) abandon() {
	q.mu.Lock()
	left, err := q.pending, q.failing
	q.pending = nil
	q.mu.Unlock()
	if len(left) > 0 {
		q.giveUp(left, nil, fmt.Errorf("%w: %w", ErrClosed, err))
	}
}

// change is the state that follows a transaction.
type change struct {
	ledger  Ledger // of the routes that it touches
	streams map[*stream]mark
	routes  map[string]uint16
	notes   map[string]uint64
	added   []Entry
}

// commit writes records, deletions, watermarks, notes and the ledger in one
// transaction and returns, synced, the state that follows it.
func (q *Queue) commit(batch []pending, settled []settlement) (change, error) {
	if err := q.isBroken(); err != nil {
		return change{}, err
	}
	if err := q.roomToWrite(); err != nil {
		return change{}, err
	}
	ch := q.plan(batch, settled)
	txn := q.db.NewTransaction(true)
	defer txn.Discard()
	for _, e := range ch.added {
		if err := txn.Set(recordKey(e.stream.id, e.Seq), encodeRecord(e)); err != nil {
			return ch, fmt.Errorf("write record: %w", err)
		}
	}
	for _, s := range settled {
		key := recordKey(s.stream.id, s.seq)
		if err := txn.Delete(key); err != nil {
			return ch, fmt.Errorf("delete record: %w", err)
		}
		if s.damaged == nil {
			continue
		}
		if err := txn.Set(asideKey(key), s.damaged); err != nil {
			return ch, fmt.Errorf("set a damaged record aside: %w", err)
		}
	}
	if err := moveDead(txn, batch, settled); err != nil {
		return ch, err
	}
	if err := ch.write(txn); err != nil {
		return ch, err
	}
	if q.opt.fault != nil {
		if err := q.opt.fault(); err != nil {
			return ch, err
		}
	}
	if err := txn.Commit(); err != nil {
		return ch, fmt.Errorf("commit: %w", err)
	}
	return ch, nil
}

// moveDead writes the dead letters of a transaction, and deletes those that
// it revives.
func moveDead(txn *badger.Txn, batch []pending, settled []settlement) error {
	for _, p := range batch {
		if p.dead == nil {
			continue
		}
		if err := txn.Delete(deadKey(p.dead.ID)); err != nil {
			return fmt.Errorf("delete dead letter: %w", err)
		}
	}
	for _, s := range settled {
		if s.dead == nil {
			continue
		}
		b, err := s.dead.encode()
		if err == nil {
			err = txn.Set(deadKey(s.dead.ID), b)
		}
		if err != nil {
			return fmt.Errorf("write dead letter: %w", err)
		}
	}
	return nil
}

// plan computes what a transaction changes besides the records.
func (q *Queue) plan(batch []pending, settled []settlement) change {
	q.mu.Lock()
	defer q.mu.Unlock()
	ch := change{
		ledger: Ledger{}, streams: map[*stream]mark{}, routes: map[string]uint16{}, notes: map[string]uint64{},
		added: make([]Entry, len(batch)),
	}
	touch := func(s *stream) mark {
		if _, ok := ch.ledger[s.route]; !ok {
			ch.ledger[s.route] = q.ledger[s.route]
			ch.routes[s.route] = s.id.route
		}
		if m, ok := ch.streams[s]; ok {
			return m
		}
		return s.mark
	}
	for i, p := range batch {
		s, size := p.entry.stream, p.entry.bytes()
		m := touch(s)
		m.queued.add(size)
		m.newest = max(m.newest, p.entry.Seq)
		ch.streams[s] = m
		switch {
		case p.chain != nil && p.chain.recovered:
			ch.ledger.recover(s.route, size, queued)
		case p.dead != nil:
			ch.ledger.revive(s.route, size)
		default:
			ch.ledger.accept(s.route, size)
		}
		ch.added[i] = p.entry
		if n := p.entry.Note; n.Key != "" {
			ch.notes[n.Key] = n.Value
		}
	}
	for _, l := range settled {
		m := touch(l.stream)
		m.queued.sub(l.size)
		m.watermark = max(m.watermark, l.watermark)
		ch.streams[l.stream] = m
		ch.ledger.settle(l.stream.route, l.size, l.outcome)
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
	for s, m := range ch.streams {
		if err := set(streamKey(s.id), m.encode(), nil); err != nil {
			return err
		}
	}
	for route, n := range ch.routes {
		if err := set(routeKey(route), encodeUint(uint64(n)), nil); err != nil {
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
func (q *Queue) apply(ch change, settled []settlement) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.failing = nil
	if len(settled) > 0 {
		q.openRoom()
	}
	for _, s := range settled {
		if s.dead != nil {
			q.dead[s.dead.ID] = *s.dead
			q.deaths[s.dead.Route]++
		}
	}
	maps.Copy(q.ledger, ch.ledger)
	maps.Copy(q.notes, ch.notes)
	for s, m := range ch.streams {
		s.mark = m
	}
	q.leavesStored += uint64(len(settled))
	for _, e := range ch.added {
		e.stream.waiting--
		if e.Seq < e.stream.last { // salvaged, in its old place; the reader is before it
			e.stream.inserted()
			continue
		}
		e.stream.committed(e)
		if q.policies[e.Route].KeepLast {
			q.coalesce(e)
		}
	}
}
