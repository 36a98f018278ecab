package broker

import (
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// DefaultWillGrace is how long devices have to come back after a start before
// wills of the time before are published: while the broker was away nobody
// could be there, and after a power cut all connections were lost.
const DefaultWillGrace = 30 * time.Second

// will is what a device wants said when its connection is lost.
type will struct {
	client string
	user   string // whose rights it needs
	packet packets.Packet
	delay  time.Duration
}

// delayedWill is a will that waits for its time.
type delayedWill struct {
	timer   *time.Timer
	publish func()
}

// takeWill takes a device's will from the server, which would publish it past
// the sessions, with a part of its properties.
func takeWill(cl *mqtt.Client, who identity, pk packets.Packet) *will {
	c := pk.Connect
	if !c.WillFlag {
		return nil
	}
	delay := cl.Properties.Will.WillDelayInterval
	cl.Properties.Will = mqtt.Will{}
	w := &will{client: cl.ID, user: who.user, delay: time.Duration(delay) * time.Second, packet: packets.Packet{
		ProtocolVersion: cl.Properties.ProtocolVersion,
		FixedHeader:     packets.FixedHeader{Type: packets.Publish, Qos: c.WillQos, Retain: c.WillRetain},
		TopicName:       c.WillTopic, Payload: c.WillPayload, Properties: c.WillProperties,
	}}
	w.packet.Properties.WillDelayInterval = 0
	return w
}

// sendWill publishes the will of a device that is gone, after its delay unless
// the device comes back before. Where the broker itself went, the next process
// does it.
func (h *hook) sendWill(w *will, s *session) {
	goesOn := s.survives() && !s.over()
	switch {
	case goesOn && s.stored != nil && h.closing():
	case goesOn && w.delay > 0 && !h.closing():
		s.later(w.delay, func() { h.publishWill(w, s) })
	default:
		h.publishWill(w, s)
	}
}

func (h *hook) closing() bool {
	select {
	case <-h.stop:
		return true
	default:
		return false
	}
}

// publishWill publishes the will of a session, and forgets it once it is
// stored wherever it is to be stored.
func (h *hook) publishWill(w *will, s *session) {
	if !h.mayPublish(h.policy.Load().acl.Of(w.user, w.client), w.client, w.packet.TopicName) {
		s.forgetWill(w) // the right was lost since CONNECT
		return
	}
	packet := w.packet
	packet.FixedHeader.Retain = h.retains(packet)
	atomic.AddInt64(&h.server.Info.MessagesReceived, 1)
	local := h.spread(packet, w.client)
	store := join(h.sink(messageOf(w.client, packet)), local)
	if store == nil {
		s.forgetWill(w)
		return
	}
	h.storeUnasked(func(done func(error)) error {
		return store(func(err error) {
			if err == nil {
				s.forgetWill(w)
			}
			done(err)
		})
	})
}

// willOp stores the will of the session's connection, or deletes that of a
// former one, if the store has another; mu is held.
func (s *session) willOp() []*op {
	l := s.stored
	if l.will == s.said {
		return nil
	}
	l.will = s.said
	o := &op{key: key(prefixWill, l.number)}
	if s.said != nil {
		o.value = encodeWill(s.said, l.store.clock)
	}
	return []*op{o}
}

// forgetWill takes a will out of the store that was published or withdrawn.
func (s *session) forgetWill(w *will) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.said == w {
		s.said = nil
	}
	if l := s.stored; l != nil && l.will == w {
		l.will = nil
		l.store.submit(&bundle{ops: []*op{{key: key(prefixWill, l.number)}}, sure: true})
	}
}

// later publishes a will after a delay, unless the device is back before.
func (s *session) later(delay time.Duration, publish func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.present() {
		s.will = &delayedWill{time.AfterFunc(delay, publish), publish}
	}
}

// hurry publishes a will that waits.
func (s *session) hurry() {
	if w := s.stopWill(); w != nil {
		w.publish()
	}
}

// stopWill ends the wait of a will, and returns it if it was not over.
func (s *session) stopWill() *delayedWill {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.will
	s.will = nil
	if w == nil || !w.timer.Stop() {
		return nil
	}
	return w
}

// hurry publishes the wills that wait, if no later process can.
func (a *sessions) hurry() {
	for _, s := range a.all() {
		if s.stored == nil {
			s.hurry()
		} else {
			s.stopWill()
		}
	}
}

// willRecord is a will as it is in the store. It is complete, since the
// session may have ended before its will was published.
type willRecord struct {
	Client  string `json:"client"`
	User    string `json:"user,omitempty"`
	Version byte   `json:"version"`
	Delay   int64  `json:"delay,omitempty"`  // seconds
	Expiry  uint32 `json:"expiry,omitempty"` // seconds from the publish on
	Message []byte `json:"message"`          // as below prefixMessage
}

func encodeWill(w *will, c clock) []byte {
	pk := w.packet
	m := outgoingOf(pk, time.Now())
	m.expiry = time.Time{}
	return encodeJSON(willRecord{
		Client: w.client, User: w.user, Version: pk.ProtocolVersion, Delay: int64(w.delay / time.Second),
		Expiry: pk.Properties.MessageExpiryInterval, Message: appendMessage(nil, m, c),
	})
}

func decodeWill(value []byte, c clock) (*will, error) {
	var r willRecord
	if err := json.Unmarshal(value, &r); err != nil {
		return nil, fmt.Errorf("%w: will: %w", errRecord, err)
	}
	m, err := decodeMessage(r.Message, c)
	if err != nil {
		return nil, err
	}
	w := &will{client: r.Client, user: r.User, delay: time.Duration(r.Delay) * time.Second, packet: packets.Packet{
		ProtocolVersion: r.Version, FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: m.qos, Retain: m.retain},
		TopicName: m.topic, Payload: m.payload, Properties: m.props,
	}}
	w.packet.Properties.MessageExpiryInterval = r.Expiry
	return w, nil
}

// will takes one that a former process did not publish.
func (r *restored) will(st *store, k, v []byte) error {
	n, err := numberOf(k)
	if err != nil {
		return err
	}
	st.session = max(st.session, n)
	w, err := decodeWill(v, st.clock)
	if err != nil { // it stays where it is
		st.damaged.Add(1)
		st.log.Error("a stored will cannot be read and is left out", "session", n, "error", err)
		return nil
	}
	r.wills[n] = w
	return nil
}

// executeWills lets the wills of a former process wait for their time: their
// delay, from when the device was gone, but not before grace has passed. One
// whose session has ended is published at once.
func (h *hook) executeWills(st *store, r *restored, grace time.Duration) {
	for _, s := range h.sessions.all() {
		w, ok := r.wills[s.stored.number]
		if !ok {
			continue
		}
		delete(r.wills, s.stored.number)
		s.stored.will = w
		s.later(max(time.Until(s.away.Add(w.delay)), grace), func() { h.publishWill(w, s) })
	}
	for n, w := range r.wills {
		h.publishWill(w, &session{id: w.client, stored: &ledger{store: st, number: n, will: w}})
	}
}
