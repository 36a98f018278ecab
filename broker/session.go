package broker

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"outstation/broker/access"
)

// Bounds of a session.
const (
	// pumpBytes is how much may wait for the socket before messages of QoS 1
	// and 2 wait in the session instead.
	pumpBytes = 256 << 10
)

// session is what a subscriber is owed, over its connections. The server's
// own bookkeeping of outbound messages is not used: it loses a message when
// the device publishes with the same packet id, stalls when Receive Maximum
// is reached, and resumes in no order.
type session struct {
	id    string
	limit sessionLimit
	stats *counters

	rights atomic.Pointer[access.Rights]
	muted  atomic.Pointer[muted] // nil: every subscription can bring something

	mu      sync.Mutex
	who     identity // whose it is
	version byte
	gate    *gate // of the connection, or nil
	window  int
	largest uint32 // packet that the device takes; 0 means any
	aliases aliases
	keep    bool // it outlives the connection
	ended   bool

	waiting []*delivery          // in order: sent on a former connection, then never sent
	ids     map[uint16]*delivery // those that have a packet id
	sent    int                  // of them on this connection, unacknowledged
	bytes   int64                // of all of them
	lastID  uint16
	order   uint64
	said    *will        // of the newest connection, until it is published or withdrawn
	will    *delayedWill // of a device that is away, or nil

	expiry  uint32    // seconds that it outlives the connection; see never
	away    time.Time // since the device has been
	fresh   bool      // no connection had it
	opening *gate     // of a connection that attach is still to follow
	dropped int64     // messages
	stored  *ledger   // nil: it lives in memory alone
}

// muted are subscriptions that can bring nothing under the rules of now.
type muted struct {
	count  int
	filter string // of one of them
}

// sessionLimit bounds what one session is owed.
type sessionLimit struct {
	messages int
	bytes    int64
	window   int // in flight; an MQTT 5 device may allow fewer (Receive Maximum)
}

// delivery is a message that one session is owed.
type delivery struct {
	message       *outgoing
	qos           byte
	retain        bool
	subscriptions []int
	share         string // the filter of the shared subscription that it is due to, or empty
	frame         *frame // nil: it is encoded when it is sent

	id       uint16 // 0 until it is sent
	order    uint64 // of the first sending
	received bool   // PUBREC came; PUBREL is owed
	released bool   // PUBREL was sent

	seq     uint64      // in its session, if that is stored
	number  uint64      // of its shared message, or 0
	durable atomic.Bool // it is in the store
	bare    bool        // the store did not take it
	over    bool        // it was acknowledged or dropped
	op      *op         // that will store it; the store's mutex guards it
	counted int64       // bytes, as they were stored
}

// size is what a delivery counts for.
func (d *delivery) size() int64 {
	if d.counted > 0 {
		return d.counted
	}
	return d.message.size()
}

// open prepares the session for a connection, which attach follows.
func (s *session) open(g *gate, version byte, p packets.Properties, expiry uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opening, s.away = g, time.Now()
	s.version, s.largest, s.keep, s.expiry = version, p.MaximumPacketSize, expiry > 0, expiry
	s.aliases = newAliases(p.TopicAliasMaximum)
	if s.will != nil {
		s.will.timer.Stop() // the device is back
		s.will = nil
	}
	s.window = s.limit.window
	if p.ReceiveMaximum > 0 {
		s.window = min(int(p.ReceiveMaximum), s.limit.window)
	}
	for _, d := range s.waiting {
		d.frame = nil // the version may be another
	}
}

// attach begins to deliver: first again what a former connection left
// unacknowledged, in its order.
func (s *session) attach(g *gate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opening = nil
	if s.stored != nil {
		s.resume(g)
		return
	}
	s.unsend() // also of a connection whose end has not come to us yet
	s.gate = g
	g.drained(s.pumpFrom)
	s.pump()
}

// detach ends the delivery to a connection, if it is still that one.
func (s *session) detach(g *gate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gate != g {
		return
	}
	s.gate, s.away = nil, time.Now()
	switch {
	case !s.keep && s.stored != nil:
		s.clear()
	case s.stored != nil:
		s.rest()
	default:
		s.unsend()
	}
}

// expires says how long the session outlives a connection that ends, unless
// there is a new one.
func (s *session) expires(g *gate, expiry uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gate == g && s.opening == nil {
		s.keep, s.expiry = expiry > 0, expiry
	}
}

// begun reports, once, that the session is new.
func (s *session) begun() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh := s.fresh
	s.fresh = false
	return fresh
}

// keeps reports whether the session may outlive its connection.
func (s *session) keeps() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keep
}

// survives reports whether the session outlives its connection.
func (s *session) survives() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keep || s.present()
}

// present reports whether the device is connected, or about to be; mu is
// held.
func (s *session) present() bool { return s.gate != nil || (s.opening != nil && !s.opening.gone()) }

// expired reports whether the device has been away for too long.
func (s *session) expired() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.present() && (!s.keep || (s.expiry != never && time.Since(s.away) >= time.Duration(s.expiry)*time.Second))
}

// unsend puts what is in flight before what waits, in its order; mu is held.
func (s *session) unsend() {
	again := make([]*delivery, 0, len(s.ids)+len(s.waiting))
	for _, d := range s.ids {
		again = append(again, d)
	}
	slices.SortFunc(again, func(a, b *delivery) int { return cmp.Compare(a.order, b.order) })
	for _, d := range s.waiting {
		if d.id == 0 {
			again = append(again, d)
		}
	}
	s.waiting, s.sent = again, 0
}

// end forgets what the session is owed. It reports whether it had not ended
// before, and what is for other members of a shared subscription then.
func (s *session) end() (ended bool, left []*delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false, nil
	}
	if s.stored == nil {
		left = s.unshared()
	}
	s.ended = true
	s.clear()
	return true, left
}

// unshared is what waits due to a shared subscription, or is in flight at QoS
// 1: one of QoS 2 that was sent is for nobody else (MQTT 5, section 4.8.2); mu
// is held.
func (s *session) unshared() (left []*delivery) {
	s.unsend()
	for _, d := range s.waiting {
		if d.share != "" && (d.id == 0 || d.qos == 1) {
			left = append(left, d)
		}
	}
	return left
}

// clear drops everything; mu is held.
func (s *session) clear() {
	if l := s.stored; l != nil {
		l.add(-l.count, -s.bytes)
	}
	s.waiting, s.ids, s.sent, s.bytes = nil, map[uint16]*delivery{}, 0, 0
}

// deliver sends a message or keeps it until it can be sent. It is called by
// the goroutine that hands the message out.
func (s *session) deliver(d *delivery, now time.Time) {
	if !s.rights.Load().Read(d.message.topic) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || (s.gate == nil && (!s.keep || d.qos == 0)) || (s.stored != nil && d.qos > 0) {
		return
	}
	if err := s.share(d, now); err != nil {
		s.stats.dropped.Add(1)
		return
	}
	if d.qos == 0 {
		s.sendQoS0(d)
		return
	}
	s.waiting = append(s.waiting, d)
	s.bytes += d.message.size()
	s.bound()
	s.pump()
}

// share gives d the frame that it has in common with other sessions, if there
// is one; mu is held.
func (s *session) share(d *delivery, now time.Time) (err error) {
	if s.aliases.most == 0 {
		d.frame, err = d.message.shared(s.version, d.qos, d.retain, d.subscriptions, now)
	}
	return err
}

func (s *session) sendQoS0(d *delivery) {
	f, a := s.encode(d)
	if f == nil || !s.gate.offer(f) {
		s.stats.dropped.Add(1)
		return
	}
	s.aliases.learnt(d.message.topic, a)
}

// bound drops the oldest that were never sent beyond the limit; mu is held.
func (s *session) bound() {
	for (len(s.waiting) > s.limit.messages || s.bytes > s.limit.bytes) && len(s.waiting) > 0 {
		i := slices.IndexFunc(s.waiting, func(d *delivery) bool { return d.id == 0 })
		if i < 0 {
			return
		}
		s.bytes -= s.waiting[i].message.size()
		copy(s.waiting[1:], s.waiting[:i]) // few are before it, and many may be behind
		s.waiting[0] = nil
		s.waiting = s.waiting[1:]
		s.dropped++
		s.stats.trimmed.Add(1)
	}
}

// pumpFrom goes on when g's socket has taken everything.
func (s *session) pumpFrom(g *gate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gate == g {
		s.pump()
	}
}

// pump sends as far as the device's window and its socket have room; mu is
// held.
func (s *session) pump() {
	for s.gate != nil && len(s.waiting) > 0 && s.sent < s.window && s.gate.unread() < pumpBytes && !s.blocked(s.waiting[0]) {
		d := s.waiting[0]
		s.waiting[0] = nil
		s.waiting = s.waiting[1:]
		if s.stored != nil {
			s.stored.ahead -= d.size()
		}
		switch {
		case d.received:
			s.gate.send(releasePacket(d.id))
			d.released = true
			s.sent++
		case !s.rights.Load().Read(d.message.topic):
			s.withhold(d)
		case d.id == 0 && d.message.expired(time.Now()):
			s.forget(d)
			s.stats.expired.Add(1)
		default:
			s.send(d)
		}
	}
	s.refill()
}

// send sends a message of QoS 1 or 2; mu is held.
func (s *session) send(d *delivery) {
	f, a := s.encode(d)
	if f == nil { // section 3.1.2.11.4 of MQTT 5: as if it had been sent
		s.forget(d)
		s.stats.dropped.Add(1)
		return
	}
	again := d.id != 0
	if !again {
		s.order++
		d.id, d.order = s.nextID(d), s.order
		s.ids[d.id] = d
	}
	s.gate.publish(f, d.id, again)
	s.aliases.learnt(d.message.topic, a)
	s.sent++
}

// encode returns a message's packet and its topic's alias, or nil if the
// device does not take a packet of its size; mu is held.
func (s *session) encode(d *delivery) (*frame, alias) {
	f, a := d.frame, alias{}
	if f == nil {
		a = s.aliases.of(d.message.topic)
		var err error
		if f, err = d.message.encode(s.version, d.qos, d.retain, d.subscriptions, a, time.Now()); err != nil {
			return nil, a
		}
	}
	if s.largest > 0 && uint32(len(f.bytes)) > s.largest {
		return nil, a
	}
	return f, a
}

// nextID is a packet id that is not in use; the window is far below their
// number.
func (s *session) nextID(d *delivery) uint16 {
	if s.stored != nil {
		s.stored.sent = max(s.stored.sent, d.seq)
		return idOf(d.seq)
	}
	for {
		s.lastID++
		if _, used := s.ids[s.lastID]; !used && s.lastID != 0 {
			return s.lastID
		}
	}
}

// forget ends a delivery; mu is held.
func (s *session) forget(d *delivery) {
	if d.id != 0 {
		delete(s.ids, d.id)
	}
	s.bytes -= d.size()
	if s.stored != nil {
		s.stored.forget(d)
	}
}

// acknowledged takes a PUBACK, PUBREC or PUBCOMP of the device.
func (s *session) acknowledged(kind byte, id uint16, reason byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gate == nil {
		return
	}
	d, ok := s.ids[id]
	switch {
	case kind == packets.Pubrec && (!ok || d.qos != 2):
		s.gate.send(s.unknownRelease(id))
		return
	case !ok || (kind == packets.Puback) != (d.qos == 1):
		return
	case kind == packets.Pubrec && reason < packets.ErrUnspecifiedError.Code:
		s.received(d)
		return
	case d.received && !d.released: // PUBCOMP before PUBREL
		return
	}
	s.forget(d)
	s.sent--
	s.pump()
}

// received takes PUBREC and answers PUBREL, once it is known that the
// message will not be sent again; mu is held.
func (s *session) received(d *delivery) {
	switch {
	case s.stored == nil || d.released:
		d.received, d.released = true, true
		s.gate.send(releasePacket(d.id))
	case !d.received:
		s.noteReceived(d)
	}
}

// releasePacket is a PUBREL.
func releasePacket(id uint16) []byte {
	return []byte{packets.Pubrel<<4 | 2, 2, byte(id >> 8), byte(id)}
}

// unknownRelease is a PUBREL for a PUBREC that nobody waited for.
func (s *session) unknownRelease(id uint16) []byte {
	if s.version < 5 {
		return releasePacket(id)
	}
	return []byte{packets.Pubrel<<4 | 2, 3, byte(id >> 8), byte(id), packets.ErrPacketIdentifierNotFound.Code}
}

// owed is how many messages wait or are in flight, and their bytes.
func (s *session) owed() (messages int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stored != nil {
		return s.stored.count, s.bytes
	}
	return len(s.waiting) + s.sent, s.bytes
}
