package broker

import (
	"context"
	"fmt"

	"github.com/dgraph-io/badger/v4"
)

// condemn ends a session in the store: its record at once, what belongs to it
// in the background. A kill in between leaves keys without a session, which
// the next process condemns.
func (st *store) condemn(session uint64) {
	st.submit(&bundle{ops: []*op{{key: key(prefixSession, session)}}, sure: true, done: func(error) {
		st.mu.Lock()
		defer st.mu.Unlock()
		st.condemned = append(st.condemned, session)
	}})
}

// sweep deletes what belongs to condemned sessions.
func (st *store) sweep(ctx context.Context) {
	for {
		st.mu.Lock()
		if len(st.condemned) == 0 {
			st.mu.Unlock()
			return
		}
		session := st.condemned[0]
		st.mu.Unlock()
		for _, prefix := range []byte{prefixSubscription, prefixInbound, prefixDelivery} {
			if err := st.sweepPrefix(ctx, key(prefix, session)); err != nil {
				st.readFailed(fmt.Errorf("sweep session %d: %w", session, err))
				return // the next tick tries again
			}
		}
		st.mu.Lock()
		st.condemned = st.condemned[1:]
		st.mu.Unlock()
	}
}

// sweepPrefix deletes every key below a prefix, some at a time.
func (st *store) sweepPrefix(ctx context.Context, prefix []byte) error {
	session, err := numberOf(prefix)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		var ops []*op
		var numbers []uint64
		leaving := st.leaving(session)
		err := st.db.View(func(txn *badger.Txn) error {
			opt := badger.DefaultIteratorOptions
			opt.Prefix, opt.PrefetchValues = prefix, false
			it := txn.NewIterator(opt)
			defer it.Close()
			for it.Rewind(); it.Valid() && len(ops) < maxBatchOps; it.Next() {
				ops = append(ops, &op{key: it.Item().KeyCopy(nil)})
				if _, ended := leaving[string(it.Item().Key())]; ended || prefix[0] != prefixDelivery {
					continue
				}
				if err := it.Item().Value(func(v []byte) error {
					if d, err := decodeDelivery(v, st.clock, false); err == nil && d.number > 0 {
						numbers = append(numbers, d.number)
					}
					return nil
				}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || len(ops) == 0 {
			return err
		}
		if err := st.write(ops...); err != nil {
			return err
		}
		for _, n := range numbers {
			st.unshare(n)
		}
		st.mu.Lock()
		st.deleted += int64(len(ops))
		st.mu.Unlock()
	}
	return ctx.Err()
}

// nextSession is a number that no session had.
func (st *store) nextSession() uint64 {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.session++
	return st.session
}
