package broker

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// Keys of the store; README.md draws them.
const (
	prefixSession      = 'c' // c session        -> sessionRecord, JSON
	prefixSubscription = 's' // s session filter -> packets.Subscription, JSON
	prefixWill         = 'w' // w session        -> willRecord, JSON; it is not published yet
	prefixInbound      = 'i' // i session id     -> nothing: a QoS 2 publish that came in, before its PUBREL
	prefixDelivery     = 'd' // d session seq    -> delivery
	prefixMessage      = 'm' // m number         -> message that more than one key refers to
	prefixRetained     = 'r' // r topic          -> number of the message
	prefixClock        = 't' // t                -> the broker's time and the system's
)

// prefixes are those of all keys.
var prefixes = []byte{prefixSession, prefixSubscription, prefixWill, prefixInbound, prefixDelivery, prefixMessage, prefixRetained, prefixClock}

// errRecord says that a stored value cannot be read.
var errRecord = errors.New("stored record cannot be read")

// sessionRecord is what is stored of a session beside its subscriptions and
// what it is owed.
type sessionRecord struct {
	ID        string    `json:"id"`
	Owner     string    `json:"owner,omitempty"`
	OwnerKind loginKind `json:"owner_kind,omitempty"`
	Version   byte      `json:"version"`
	Expiry    uint32    `json:"expiry"`         // seconds; see never
	Connected bool      `json:"connected"`      // so that everything owed may have been sent
	Sent      uint64    `json:"sent,omitempty"` // the last delivery that was sent, if not connected
	Away      int64     `json:"away,omitempty"` // the broker's time of the disconnect
}

// never is a session expiry that does not come (MQTT 5, section 3.1.2.11.2).
const never = 1<<32 - 1

func key(prefix byte, session uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{prefix}, session)
}

func subscriptionKey(session uint64, filter string) []byte {
	return append(key(prefixSubscription, session), filter...)
}

func inboundKey(session uint64, id uint16) []byte {
	return binary.BigEndian.AppendUint16(key(prefixInbound, session), id)
}

func deliveryKey(session, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(key(prefixDelivery, session), seq)
}

func retainedKey(topic string) []byte { return append([]byte{prefixRetained}, topic...) }

// numberOf is the session or message in a key.
func numberOf(key []byte) (uint64, error) {
	if len(key) < 9 {
		return 0, fmt.Errorf("%w: key of %d bytes, expected at least 9", errRecord, len(key))
	}
	return binary.BigEndian.Uint64(key[1:]), nil
}

// Bits of a stored delivery.
const (
	bitsQoS     = 3
	bitRetain   = 1 << 2
	bitReceived = 1 << 3 // PUBREC came; there is no message any more
	bitShared   = 1 << 4 // the message is below prefixMessage
)

// record is a delivery as it is in the store.
type record struct {
	seq           uint64
	qos           byte
	retain        bool
	received      bool
	subscriptions []int
	message       *outgoing
	number        uint64 // of a shared message, or 0
	bytes         int64  // that it counts for
}

// encodeDelivery draws a delivery; number is that of its shared message, or 0
// if the message is part of it.
func encodeDelivery(d *delivery, number uint64, c clock) []byte {
	first := d.qos | byte(bit(d.retain))*bitRetain
	switch {
	case d.received:
		first |= bitReceived
	case number > 0:
		first |= bitShared
	}
	b := binary.AppendUvarint([]byte{first}, uint64(d.size()))
	b = binary.AppendUvarint(b, uint64(len(d.subscriptions)))
	for _, id := range d.subscriptions {
		b = binary.AppendUvarint(b, uint64(id))
	}
	switch {
	case d.received:
		return b
	case number > 0:
		return binary.AppendUvarint(b, number)
	}
	return appendMessage(b, d.message, c)
}

// decodeDelivery reads a delivery, but not a shared message.
func decodeDelivery(value []byte, c clock, whole bool) (s record, err error) {
	r := reader{b: value}
	first := r.byte()
	s.qos, s.retain, s.received = first&bitsQoS, first&bitRetain != 0, first&bitReceived != 0
	s.bytes = int64(r.uint())
	for n := r.uint(); n > 0 && r.err == nil; n-- {
		s.subscriptions = append(s.subscriptions, int(r.uint()))
	}
	switch {
	case s.received:
	case first&bitShared != 0:
		s.number = r.uint()
	case whole && r.err == nil:
		s.message, r.err = decodeMessage(r.b, c)
	}
	return s, r.err
}

// appendMessage draws a message.
func appendMessage(b []byte, m *outgoing, c clock) []byte {
	b = append(b, m.qos|byte(bit(m.retain))*bitRetain)
	b = binary.AppendUvarint(b, uint64(c.deadline(m.expiry)))
	b = appendBytes(b, []byte(m.topic))
	b = appendBytes(b, encodeProperties(m.props))
	return append(b, m.payload...)
}

func appendBytes(b, s []byte) []byte { return append(binary.AppendUvarint(b, uint64(len(s))), s...) }

func decodeMessage(value []byte, c clock) (*outgoing, error) {
	r := reader{b: value}
	first := r.byte()
	m := &outgoing{qos: first & bitsQoS, retain: first&bitRetain != 0, expiry: c.time(int64(r.uint()))}
	m.topic = string(r.bytes())
	props := r.bytes()
	m.payload = bytes.Clone(r.b)
	if r.err != nil || len(props) == 0 {
		return m, r.err
	}
	if _, err := m.props.Decode(packets.Publish, bytes.NewBuffer(appendBytes(nil, props))); err != nil {
		return nil, fmt.Errorf("%w: properties: %w", errRecord, err)
	}
	return m, nil
}

// reader takes a record apart.
type reader struct {
	b   []byte
	err error
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.err = fmt.Errorf("%w: cut short", errRecord)
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.err = fmt.Errorf("%w: cut short", errRecord)
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) bytes() []byte {
	n := r.uint()
	if n > uint64(len(r.b)) {
		r.err = fmt.Errorf("%w: got %d bytes, expected %d", errRecord, len(r.b), n)
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func encodeJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil { // cannot happen with the types of this file
		return nil
	}
	return b
}

// clock is the broker's own time: it goes on while the broker runs, whatever
// is done to the system's clock, and counts the time between two runs by it.
type clock struct {
	base    int64     // nanoseconds at started
	started time.Time // with its monotonic reading
}

// plausible is a time that a clock which was ever set cannot be before.
var plausible = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()

// resume goes on from what a former run stored: the broker's time and the
// system's at one moment. A clock that went back, or was not set at either
// end, counts as no time.
func resume(base, then int64, now time.Time) clock {
	if off := now.UnixNano() - then; then >= plausible && off > 0 {
		base += off
	}
	return clock{max(base, 1), now}
}

func (c clock) now() int64 { return c.base + int64(time.Since(c.started)) }

// deadline is a time in the broker's; 0 stands for the zero time.
func (c clock) deadline(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(1, c.base+int64(t.Sub(c.started)))
}

// time is the reverse of deadline.
func (c clock) time(deadline int64) time.Time {
	if deadline == 0 {
		return time.Time{}
	}
	return c.started.Add(time.Duration(deadline - c.base))
}

func (c clock) encode(now time.Time) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(c.now()))
	return binary.BigEndian.AppendUint64(b, uint64(now.UnixNano()))
}
