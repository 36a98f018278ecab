package broker

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// What a session holds in memory of what is stored: enough to keep its device
// busy while more is read. A device that is away costs nothing.
const (
	aheadMessages = 1000
	aheadBytes    = 1 << 20
	// readRetry is the wait after a read that failed.
	readRetry = time.Second
)

// ledger is the stored half of a session that outlives the process. The
// session's mutex guards it. Every message of QoS 1 and 2 has a sequence
// number and a record. While the device keeps up, its messages are in memory
// too; when it does not, memory ends at tail and the rest is read back.
type ledger struct {
	store  *store
	number uint64 // of the session, in keys
	over   func() // called when a bound is passed
	limit  sessionLimit

	count   int                 // messages owed
	seq     uint64              // of the newest
	sent    uint64              // the newest that was sent
	tail    uint64              // the newest that is in memory, or was
	written uint64              // the newest that is in the store
	coming  int                 // records that wait for the disk
	dropped uint64              // the newest that was dropped: no older one was never sent
	ahead   int64               // bytes in waiting
	loading bool                // a goroutine reads, and goes on with pump
	inbound map[uint16]struct{} // QoS 2 publishes of the device that PUBREL is to follow
	will    *will               // that is in the store, or nil
}

// idOf is the packet id of a delivery. It follows from the sequence number,
// so that a message that is sent again by another process has the same one.
func idOf(seq uint64) uint16 { return uint16((seq-1)%65535) + 1 }

// owe records a message of QoS 1 or 2 in g, and sends it if the device has
// room. number is that of the message if it is a shared one. A nil group
// sends it to a device that is connected, unrecorded: the store takes nothing
// now. It reports whether the session takes the message.
func (s *session) owe(d *delivery, number uint64, g *bundle, now time.Time) bool {
	if !s.rights.Load().Read(d.message.topic) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.stored
	inMemory := s.gate != nil && l.tail == l.seq && len(s.waiting) < aheadMessages && l.ahead < aheadBytes
	if s.ended || d.over || (g == nil && (!inMemory || d.qos == 2)) {
		return false
	}
	d.number, d.bare = number, g == nil
	if d.seq > 0 { // it was sent when the store took nothing
		s.record(d, g)
		return true
	}
	l.seq++
	d.seq = l.seq
	l.add(1, d.size())
	s.bytes += d.size()
	if inMemory {
		l.tail = d.seq
		l.ahead += d.size()
		if s.share(d, now) != nil {
			d.frame = nil // encoding it again fails again, and counts it
		}
		s.waiting = append(s.waiting, d)
	}
	if g != nil {
		s.record(d, g)
	}
	if l.count > l.limit.messages || s.bytes > l.limit.bytes {
		l.over()
	}
	s.pump()
	return true
}

// record adds a delivery to g; mu is held.
func (s *session) record(d *delivery, g *bundle) {
	o := &op{key: deliveryKey(s.stored.number, d.seq), value: encodeDelivery(d, d.number, s.stored.store.clock), delivery: d, session: s, seq: d.seq}
	d.op = o // nobody else knows it yet
	s.stored.coming++
	g.add(o)
}

// add counts what is owed.
func (l *ledger) add(messages int, bytes int64) {
	l.count += messages
	l.store.owed.Add(int64(messages))
	if total := l.store.owedBytes.Add(bytes); bytes > 0 && total > l.store.maxBytes {
		l.over()
	}
}

// blocked reports whether d cannot be sent yet: one of QoS 2 waits until it
// is durable, since its packet id must mean the same to a later process, and
// each waits until its packet id is free; mu is held.
func (s *session) blocked(d *delivery) bool {
	if s.stored == nil || d.id != 0 {
		return false
	}
	_, used := s.ids[idOf(d.seq)]
	return used || (d.qos == 2 && !d.durable.Load())
}

// forget takes an ended delivery out of the store.
func (l *ledger) forget(d *delivery) {
	d.over = true
	l.add(-1, -d.size())
	l.store.forget(l.number, d)
}

// resume begins to deliver on a new connection, once everything that the
// former one settled is in the store; mu is held.
func (s *session) resume(g *gate) {
	s.rest()
	s.gate, s.stored.loading = g, true
	g.drained(s.pumpFrom)
	s.stored.store.submit(&bundle{done: func(error) { go s.load(g) }})
}

// rest keeps nothing in memory; mu is held.
func (s *session) rest() {
	for _, d := range s.ids {
		s.unwind(d)
	}
	for _, d := range s.waiting {
		s.unwind(d)
	}
	l := s.stored
	s.waiting, s.ids, s.sent = nil, map[uint16]*delivery{}, 0
	l.tail, l.ahead, l.loading = 0, 0, false
}

// unwind takes back what the store does not have: whoever published it was
// told so, or will be; mu is held.
func (s *session) unwind(d *delivery) {
	if !d.bare || d.over {
		return
	}
	s.bytes -= d.size()
	s.stored.add(-1, -d.size())
	d.seq, d.id, d.frame = 0, 0, nil
}

// committed goes on with what waited for the disk. The committer calls it
// after each commit that has n messages of the session, up to seq.
func (s *session) committed(seq uint64, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stored.written = max(s.stored.written, seq)
	s.stored.coming -= n
	s.pump()
}

// revoke takes a message back that could not be stored, unless it was sent on
// this connection.
func (s *session) revoke(d *delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stored.coming--
	d.bare = true
	switch {
	case d.over || (d.id != 0 && s.ids[d.id] == d):
		return
	case s.ended:
		s.stored.store.unshare(d.number)
		return
	}
	if i := slices.Index(s.waiting, d); i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
		s.stored.ahead -= d.size()
	}
	s.bytes -= d.size()
	s.stored.forget(d)
}

// noteReceived stores that PUBREC came, which lets the message go, and then
// answers; mu is held.
func (s *session) noteReceived(d *delivery) {
	l := s.stored
	d.counted, d.message, d.frame, d.received = d.size(), nil, nil, true
	o := &op{key: deliveryKey(l.number, d.seq), value: encodeDelivery(d, 0, l.store.clock)}
	l.store.submit(&bundle{ops: []*op{o}, sure: true, done: func(err error) {
		if err == nil {
			s.release(d)
		}
	}})
}

// release sends PUBREL.
func (s *session) release(d *delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	number := d.number
	d.number = 0
	s.stored.store.unshare(number)
	if s.ids[d.id] != d || d.over || s.gate == nil {
		return // another connection sends it from the store
	}
	d.released = true
	s.gate.send(releasePacket(d.id))
}

// refill reads on when little is left in memory; mu is held.
func (s *session) refill() {
	l := s.stored
	if l == nil || s.gate == nil || l.loading || l.tail >= l.written || l.tail >= l.seq || len(s.waiting) > aheadMessages/2 || l.ahead > aheadBytes/2 {
		return
	}
	l.loading = true
	go s.load(s.gate)
}

// load reads what follows tail, for one connection.
func (s *session) load(g *gate) {
	s.mu.Lock()
	if s.gate != g || s.ended {
		s.mu.Unlock()
		return
	}
	l := s.stored
	from, upTo := l.tail, l.written
	leaving := l.store.leaving(l.number)
	s.mu.Unlock()
	list, more, err := l.store.read(l.number, from, aheadMessages, aheadBytes)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gate != g || s.ended {
		return
	}
	if errors.Is(err, errClosing) {
		return // and reads nothing any more
	}
	l.loading = false
	if err != nil {
		l.store.readFailed(err)
		l.loading = true
		time.AfterFunc(readRetry, func() { s.load(g) })
		return
	}
	for _, r := range list {
		_, ended := leaving[string(deliveryKey(l.number, r.seq))]
		s.take(r, ended)
	}
	if !more {
		l.tail = max(l.tail, upTo)
	}
	if !more && l.coming == 0 && l.written == upTo {
		l.tail = l.seq // the rest never came to the store
	}
	s.pump()
}

// take puts a record in the line, unless its delivery has ended; mu is held.
func (s *session) take(r record, ended bool) {
	l := s.stored
	l.tail = max(l.tail, r.seq)
	if ended || (r.seq > l.sent && r.seq <= l.dropped) || (r.message == nil && !r.received) { // the last: it cannot be read
		return
	}
	d := &delivery{
		message: r.message, qos: r.qos, retain: r.retain, subscriptions: r.subscriptions, received: r.received,
		seq: r.seq, number: r.number, counted: r.bytes,
	}
	d.durable.Store(true)
	if id := idOf(r.seq); r.seq <= l.sent && s.ids[id] == nil { // else an older one has the id, and so this was not sent
		d.id = id
		s.ids[id] = d
	}
	l.ahead += d.size()
	s.waiting = append(s.waiting, d)
}

// drop gives up the oldest messages that were never sent, of those in list,
// as long as over says so.
func (s *session) drop(list []record, over func(messages int, bytes int64) bool) (done bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.stored
	for _, r := range list {
		if s.ended || !over(l.count, s.bytes) {
			return true
		}
		l.dropped = max(l.dropped, r.seq)
		if r.seq <= l.sent {
			continue
		}
		d := &delivery{seq: r.seq, number: r.number, counted: r.bytes}
		if i := slices.IndexFunc(s.waiting, func(d *delivery) bool { return d.seq == r.seq }); i >= 0 {
			d = s.waiting[i]
			l.ahead -= d.size()
			s.waiting = slices.Delete(s.waiting, i, i+1)
		}
		s.bytes -= d.size()
		l.forget(d)
		s.dropped++
		s.stats.trimmed.Add(1)
	}
	return !over(l.count, s.bytes)
}

// read returns up to n records of a session after seq, with at most size
// bytes but for the last, and whether there may be more. It returns errClosing
// once the store is closed.
func (st *store) read(session, seq uint64, n int, size int64) (list []record, more bool, err error) {
	st.reading.RLock()
	defer st.reading.RUnlock()
	if st.shut {
		return nil, false, errClosing
	}
	prefix := key(prefixDelivery, session)
	err = st.db.View(func(txn *badger.Txn) error {
		opt := badger.DefaultIteratorOptions
		opt.Prefix, opt.PrefetchSize = prefix, min(n, 16)
		it := txn.NewIterator(opt)
		defer it.Close()
		for it.Seek(deliveryKey(session, seq+1)); it.ValidForPrefix(prefix); it.Next() {
			if len(list) >= n || size <= 0 {
				more = true
				return nil
			}
			r, err := st.readRecord(txn, it.Item())
			if err != nil {
				return err
			}
			size -= r.bytes
			list = append(list, r)
		}
		return nil
	})
	if err == nil {
		st.mu.Lock()
		st.unread = nil
		st.mu.Unlock()
	}
	return list, more, err
}

// readRecord reads a delivery with its message. One that cannot be decoded is
// counted and comes back without.
func (st *store) readRecord(txn *badger.Txn, item *badger.Item) (r record, err error) {
	k := item.Key()
	seq, err := numberOf(k[8:])
	if err != nil {
		return r, err
	}
	err = item.Value(func(value []byte) error {
		r, err = decodeDelivery(value, st.clock, true)
		return err
	})
	if err == nil && r.number > 0 {
		r.message, err = st.readShared(txn, r.number)
	}
	r.seq = seq
	if errors.Is(err, errRecord) || errors.Is(err, badger.ErrKeyNotFound) {
		st.damaged.Add(1)
		st.log.Error("a stored message cannot be read and is left out", "seq", seq, "error", err)
		r.message, r.received, err = nil, false, nil
	}
	if err != nil {
		return r, fmt.Errorf("read delivery %d: %w", seq, err)
	}
	return r, nil
}

func (st *store) readShared(txn *badger.Txn, number uint64) (m *outgoing, err error) {
	item, err := txn.Get(key(prefixMessage, number))
	if err != nil {
		return nil, err
	}
	err = item.Value(func(value []byte) error {
		m, err = decodeMessage(value, st.clock)
		return err
	})
	return m, err
}
