package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// Bounds of one transaction, below Badger's own unless one group is larger.
const (
	maxBatchOps   = 4096
	maxBatchBytes = 512 << 10
)

// lazily is how long a deletion may wait for others, or for a commit that is
// due anyway. A kill in between means that the message is sent again.
const lazily = 50 * time.Millisecond

var errClosing = fmt.Errorf("%w: the broker is closing", ErrStoreBusy)

// op writes a key, or deletes it if value is nil.
type op struct {
	key, value []byte
	delivery   *delivery // that it stores, or nil
	session    *session  // of the delivery
	seq        uint64    // of the delivery
	cancelled  bool      // it was acknowledged before it was written
}

// bundle is what becomes durable together. done, if there is one, is called
// exactly once, from the committer.
type bundle struct {
	ops  []*op
	done func(error)
	sure bool // it is tried again after an error, for it has no one to tell
	// frees are shared messages that are not referred to any more once the
	// group is durable.
	frees []uint64
}

func (g *bundle) add(o *op) { g.ops = append(g.ops, o) }

// size is its bytes.
func (g *bundle) size() (n int64) {
	for _, o := range g.ops {
		n += int64(len(o.key) + len(o.value))
	}
	return n
}

// submit puts a group in the line. Groups become durable in their order.
func (st *store) submit(g *bundle) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed {
		go st.settle([]*bundle{g}, errClosing) // the caller may hold what settle needs
		return
	}
	st.pending = append(st.pending, g)
	st.pendingBytes += g.size()
	st.kick()
}

// kick wakes the committer; mu is held.
func (st *store) kick() {
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

// write submits a group and waits for it.
func (st *store) write(ops ...*op) error {
	done := make(chan error, 1)
	st.submit(&bundle{ops: ops, done: func(err error) { done <- err }})
	return <-done
}

// forget deletes a delivery with the next commit, or cancels its writing.
func (st *store) forget(session uint64, d *delivery) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if d.op != nil {
		d.op.cancelled, d.op = true, nil
	} else {
		st.gone = append(st.gone, deliveryKey(session, d.seq))
	}
	st.unref(d.number)
	if len(st.gone) >= maxBatchOps/2 {
		st.kick()
	}
}

// leaving are the deliveries of a session, by key, that have ended and are
// still to be deleted: until then they can be read.
func (st *store) leaving(session uint64) map[string]struct{} {
	prefix := key(prefixDelivery, session)
	out := map[string]struct{}{}
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, list := range [][][]byte{st.going, st.gone} {
		for _, k := range list {
			if bytes.HasPrefix(k, prefix) {
				out[string(k)] = struct{}{}
			}
		}
	}
	return out
}

// share gives a message a number that deliveries can refer to; refs is how
// many will. The message is written with g.
func (st *store) share(m *outgoing, refs int, g *bundle) uint64 {
	o := &op{value: appendMessage(nil, m, st.clock)}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.number++
	o.key = key(prefixMessage, st.number)
	st.shared[st.number] = &content{refs, o}
	g.add(o)
	return st.number
}

// unref ends one reference to a shared message; mu is held.
func (st *store) unref(number uint64) {
	c, ok := st.shared[number]
	if !ok {
		return
	}
	if c.refs--; c.refs > 0 {
		return
	}
	delete(st.shared, number)
	if c.op != nil {
		c.op.cancelled = true
	} else {
		st.gone = append(st.gone, key(prefixMessage, number))
	}
}

// unshare ends a reference that is not a delivery's.
func (st *store) unshare(number uint64) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.unref(number)
}

// commitLoop is the only writer. While one transaction syncs, the next one
// gathers: that is the group commit.
func (st *store) commitLoop(ctx context.Context) {
	tick := time.NewTicker(lazily)
	defer tick.Stop()
	for {
		stopping := false
		select {
		case <-st.wake:
		case <-tick.C:
		case <-ctx.Done():
			stopping = true
		}
		for {
			groups, gone := st.take()
			if len(groups)+len(gone) == 0 || !st.commit(groups, gone) {
				break // after an error the next tick tries again
			}
		}
		if stopping {
			st.abandon()
			return
		}
	}
}

// take removes the next batch from what waits.
func (st *store) take() (groups []*bundle, gone [][]byte) {
	st.mu.Lock()
	defer st.mu.Unlock()
	n, ops, size := 0, 0, int64(0)
	for n < len(st.pending) {
		g := st.pending[n]
		if n > 0 && (ops+len(g.ops) > maxBatchOps || size+g.size() > maxBatchBytes) {
			break
		}
		ops, size = ops+len(g.ops), size+g.size()
		for _, o := range g.ops {
			st.taken(o)
		}
		n++
	}
	groups = slices.Clone(st.pending[:n])
	clear(st.pending[:n])
	if st.pending = st.pending[n:]; len(st.pending) == 0 {
		st.pending = nil
	}
	st.pendingBytes -= size
	k := min(len(st.gone), maxBatchOps)
	gone = slices.Clone(st.gone[:k])
	st.gone = slices.Delete(st.gone, 0, k)
	st.going = gone
	return groups, gone
}

// taken notes that o can no longer be cancelled; mu is held.
func (st *store) taken(o *op) {
	if o.delivery != nil && o.delivery.op == o {
		o.delivery.op = nil
	}
	if o.key[0] != prefixMessage || o.value == nil {
		return
	}
	if n, err := numberOf(o.key); err == nil {
		if c, ok := st.shared[n]; ok {
			c.op = nil
		}
	}
}

// commit makes a batch durable and tells those who wait for it.
func (st *store) commit(groups []*bundle, gone [][]byte) bool {
	var ops []*op
	for _, g := range groups {
		for _, o := range g.ops {
			if !o.cancelled {
				ops = append(ops, o)
			}
		}
	}
	err := st.writeBatch(ops, gone)
	st.mu.Lock()
	st.failing, st.going = err, nil
	if err == nil {
		st.deleted += int64(len(gone))
	} else {
		st.gone = append(gone, st.gone...)
		st.again(&groups)
	}
	st.mu.Unlock()
	if err != nil {
		st.log.Error("commit of the broker's sessions failed", "groups", len(groups), "error", err)
	}
	st.settle(groups, err)
	return err == nil
}

// again puts the groups that have no one to tell back in the line, before all
// others; mu is held.
func (st *store) again(groups *[]*bundle) {
	var sure, told []*bundle
	for _, g := range *groups {
		if g.sure {
			st.pendingBytes += g.size()
			sure = append(sure, g)
		} else {
			told = append(told, g)
		}
	}
	st.pending = append(sure, st.pending...)
	*groups = told
}

// settle tells sessions first, then those who wait.
func (st *store) settle(groups []*bundle, err error) {
	type span struct {
		newest uint64
		n      int
	}
	spans := map[*session]span{}
	for _, g := range groups {
		for _, o := range g.ops {
			switch {
			case o.delivery == nil:
			case err != nil:
				o.session.revoke(o.delivery)
			default:
				o.delivery.durable.Store(true)
				was := spans[o.session]
				spans[o.session] = span{max(was.newest, o.seq), was.n + 1}
			}
		}
	}
	for s, sp := range spans {
		s.committed(sp.newest, sp.n)
	}
	for _, g := range groups {
		for _, n := range g.frees {
			if err == nil {
				st.unshare(n)
			}
		}
		if g.done != nil {
			g.done(err)
		}
	}
}

// writeBatch is one transaction, or several where one would be too big.
func (st *store) writeBatch(ops []*op, gone [][]byte) error {
	if len(ops)+len(gone) == 0 {
		return nil
	}
	err := st.transact(ops, gone)
	if !errors.Is(err, badger.ErrTxnTooBig) || len(ops)+len(gone) < 2 {
		return err
	}
	o, d := (len(ops)+1)/2, len(gone)/2
	if err := st.writeBatch(ops[:o], gone[:d]); err != nil {
		return err
	}
	return st.writeBatch(ops[o:], gone[d:])
}

func (st *store) transact(ops []*op, gone [][]byte) error {
	txn := st.db.NewTransaction(true)
	defer txn.Discard()
	for _, k := range gone {
		if err := txn.Delete(k); err != nil {
			return fmt.Errorf("delete: %w", err)
		}
	}
	for _, o := range ops {
		var err error
		if o.value == nil {
			err = txn.Delete(o.key)
		} else {
			err = txn.Set(o.key, o.value)
		}
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	if st.fault != nil {
		if err := st.fault(); err != nil {
			return err
		}
	}
	if err := txn.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// abandon tells what still waits at the end that it was not stored.
func (st *store) abandon() {
	st.mu.Lock()
	left := st.pending
	st.pending, st.closed = nil, true
	err := errors.Join(errClosing, st.failing)
	st.mu.Unlock()
	if len(left) > 0 {
		st.settle(left, err)
	}
}
