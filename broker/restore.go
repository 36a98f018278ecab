package broker

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/mochi-mqtt/server/v2/packets"
)

// restored is what a former process left.
type restored struct {
	sessions      map[uint64]*found
	retained      map[string]uint64 // topic -> message
	refs          map[uint64]int    // shared message -> keys that refer to it
	messages      map[uint64]*outgoing
	wills         map[uint64]*will // session -> what was not published
	orphans       map[uint64]bool  // sessions that have keys but no record
	orphanMessage [][]byte
}

// found is one session of it.
type found struct {
	sessionRecord
	subscriptions []packets.Subscription
	inbound       []uint16
	count         int
	bytes         int64
	newest        uint64
}

// read fills r from the store and sets the store's clock and numbers.
func (r *restored) read(st *store) error {
	*r = restored{
		sessions: map[uint64]*found{}, retained: map[string]uint64{}, refs: map[uint64]int{},
		messages: map[uint64]*outgoing{}, orphans: map[uint64]bool{}, wills: map[uint64]*will{},
	}
	now := time.Now()
	st.clock = resume(0, 0, now)
	err := st.db.View(func(txn *badger.Txn) error {
		if err := st.readClock(txn, now); err != nil {
			return err
		}
		for _, step := range []struct {
			prefix byte
			take   func(st *store, key, value []byte) error
		}{
			{prefixSession, r.session}, {prefixSubscription, r.subscription}, {prefixWill, r.will}, {prefixInbound, r.publish},
			{prefixDelivery, r.delivery}, {prefixRetained, r.topic}, {prefixMessage, r.message},
		} {
			if err := each(txn, step.prefix, func(k, v []byte) error { return step.take(st, k, v) }); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the broker's sessions: %w", err)
	}
	return nil
}

func (st *store) readClock(txn *badger.Txn, now time.Time) error {
	item, err := txn.Get([]byte{prefixClock})
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return item.Value(func(b []byte) error {
		if len(b) != 16 {
			return fmt.Errorf("%w: clock of %d bytes, expected 16", errRecord, len(b))
		}
		st.clock = resume(int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[8:])), now)
		return nil
	})
}

// each hands every key below a prefix and its value to f.
func each(txn *badger.Txn, prefix byte, f func(key, value []byte) error) error {
	return eachBelow(txn, []byte{prefix}, f)
}

func eachBelow(txn *badger.Txn, prefix []byte, f func(key, value []byte) error) error {
	opt := badger.DefaultIteratorOptions
	opt.Prefix, opt.PrefetchValues = prefix, false // a message may have a MiB
	it := txn.NewIterator(opt)
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		k := it.Item().Key()
		if err := it.Item().Value(func(b []byte) error { return f(k, b) }); err != nil {
			return err
		}
	}
	return nil
}

func (r *restored) session(st *store, k, v []byte) error {
	n, err := numberOf(k)
	if err != nil {
		return err
	}
	f := &found{}
	if err := json.Unmarshal(v, &f.sessionRecord); err != nil {
		return fmt.Errorf("%w: session %d: %w", errRecord, n, err)
	}
	st.session = max(st.session, n)
	r.sessions[n] = f
	return nil
}

// of is the session of a key, or nil if it has ended.
func (r *restored) of(st *store, k []byte) (*found, error) {
	n, err := numberOf(k)
	if err != nil {
		return nil, err
	}
	f := r.sessions[n]
	if f == nil {
		st.session = max(st.session, n)
		r.orphans[n] = true
	}
	return f, nil
}

func (r *restored) subscription(st *store, k, v []byte) error {
	f, err := r.of(st, k)
	if f == nil {
		return err
	}
	var sub packets.Subscription
	if err := json.Unmarshal(v, &sub); err != nil {
		return fmt.Errorf("%w: subscription of %q: %w", errRecord, f.ID, err)
	}
	f.subscriptions = append(f.subscriptions, sub)
	return nil
}

func (r *restored) publish(st *store, k, _ []byte) error {
	f, err := r.of(st, k)
	if f == nil {
		return err
	}
	if len(k) != 11 {
		return fmt.Errorf("%w: key of %d bytes, expected 11", errRecord, len(k))
	}
	f.inbound = append(f.inbound, binary.BigEndian.Uint16(k[9:]))
	return nil
}

func (r *restored) delivery(st *store, k, v []byte) error {
	f, err := r.of(st, k)
	if err != nil {
		return err
	}
	seq, err := numberOf(k[8:])
	if err != nil {
		return err
	}
	d, err := decodeDelivery(v, st.clock, false)
	if err != nil { // it stays where it is, and is left out again when it is read
		st.damaged.Add(1)
		st.log.Error("a stored message cannot be read", "seq", seq, "error", err)
		return nil
	}
	if d.number > 0 {
		r.refs[d.number]++
	}
	if f != nil {
		f.count, f.bytes, f.newest = f.count+1, f.bytes+d.bytes, max(f.newest, seq)
	}
	return nil
}

func (r *restored) topic(_ *store, k, v []byte) error {
	if len(v) != 8 {
		return fmt.Errorf("%w: retained message of %q: got %d bytes, expected 8", errRecord, k[1:], len(v))
	}
	n := binary.BigEndian.Uint64(v)
	r.retained[string(k[1:])] = n
	r.refs[n]++
	r.messages[n] = nil
	return nil
}

func (r *restored) message(st *store, k, v []byte) (err error) {
	n, err := numberOf(k)
	if err != nil {
		return err
	}
	st.number = max(st.number, n)
	if r.refs[n] == 0 {
		r.orphanMessage = append(r.orphanMessage, append([]byte(nil), k...))
		return nil
	}
	if _, ok := r.messages[n]; !ok {
		return nil
	}
	if r.messages[n], err = decodeMessage(v, st.clock); err != nil {
		st.damaged.Add(1)
		st.log.Error("a retained message cannot be read and is left out", "error", err)
		r.messages[n] = &outgoing{} // of no topic
	}
	return nil
}

// adopt makes what a former process left the state of this one.
func (a *sessions) adopt(st *store, r *restored) {
	a.store, a.retain.store = st, st
	st.mu.Lock()
	for n, refs := range r.refs {
		st.shared[n] = &content{refs: refs}
	}
	st.gone = append(st.gone, r.orphanMessage...)
	st.mu.Unlock()
	for n := range r.orphans {
		st.condemn(n)
	}
	for topic, n := range r.retained {
		m := r.messages[n]
		switch {
		case m == nil: // a kill while it was removed
			st.submit(&bundle{ops: []*op{{key: retainedKey(topic)}}, sure: true})
		case m.topic == topic:
			a.retain.restore(m, n)
		}
	}
	for n, f := range r.sessions {
		a.adoptSession(st, n, f)
	}
}

// adoptSession takes one session. One that was connected was left just now,
// and everything that it is owed may have been sent.
func (a *sessions) adoptSession(st *store, number uint64, f *found) {
	if f.Expiry == 0 || a.byID[f.ID] != nil {
		st.condemn(number)
		return
	}
	away := st.clock.time(f.Away)
	if f.Connected {
		away, f.Sent = st.clock.started, f.newest
	}
	s := &session{
		id: f.ID, limit: a.limit, stats: a.stats, ids: map[uint16]*delivery{}, version: f.Version,
		keep: true, expiry: f.Expiry, away: away, bytes: f.bytes, who: identity{user: f.Owner, kind: f.OwnerKind},
		stored: &ledger{
			store: st, number: number, over: a.kick, limit: a.limit, count: f.count,
			seq: max(f.newest, f.Sent), sent: f.Sent, written: f.newest, inbound: map[uint16]struct{}{},
		},
	}
	st.owed.Add(int64(f.count))
	st.owedBytes.Add(f.bytes)
	a.byID[f.ID] = s
	cl := a.server.NewClient(nil, "", f.ID, false)
	p := &cl.Properties
	p.Username, p.ProtocolVersion, p.Clean = []byte(f.Owner), f.Version, false
	p.Props.SessionExpiryInterval = f.Expiry
	for _, sub := range f.subscriptions {
		a.server.Topics.Subscribe(f.ID, sub)
		a.index.subscribe(s, sub)
		cl.State.Subscriptions.Add(sub.Filter, sub)
		a.server.Info.Subscriptions++
	}
	for _, id := range f.inbound {
		s.stored.inbound[id] = struct{}{}
		cl.State.Inflight.Set(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrec}, PacketID: id})
	}
	cl.Stop(packets.ErrServerShuttingDown)
	a.server.Clients.Add(cl)
}
