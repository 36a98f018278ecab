package broker

import (
	"bytes"
	"encoding/binary"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// outgoing is one message on its way to local subscribers, who share it.
type outgoing struct {
	topic   string
	payload []byte
	qos     byte // that it was published with
	retain  bool
	props   packets.Properties // of MQTT 5, without those of one hop
	expiry  time.Time          // zero means never

	// frames are encoded once for all subscribers of a kind. Only the
	// goroutine that hands the message out makes them.
	frames [2][2][2]*frame
}

func outgoingOf(pk packets.Packet, now time.Time) *outgoing {
	m := &outgoing{
		topic: pk.TopicName, payload: pk.Payload, qos: pk.FixedHeader.Qos, retain: pk.FixedHeader.Retain,
		props: pk.Properties, expiry: expiryOf(pk.Properties, now),
	}
	m.props.TopicAlias, m.props.TopicAliasFlag, m.props.SubscriptionIdentifier = 0, false, nil
	return m
}

// alone is the message for a goroutine of its own.
func (m *outgoing) alone() *outgoing {
	return &outgoing{topic: m.topic, payload: m.payload, qos: m.qos, retain: m.retain, props: m.props, expiry: m.expiry}
}

// size is what a message takes in memory, roughly.
func (m *outgoing) size() int64 {
	p := &m.props
	n := len(m.topic) + len(m.payload) + len(p.ContentType) + len(p.ResponseTopic) + len(p.CorrelationData)
	for _, u := range p.User {
		n += len(u.Key) + len(u.Val) + userOverhead
	}
	return int64(n) + entryOverhead
}

// entryOverhead is what a waiting message takes beside its bytes.
const entryOverhead = 256

// userOverhead is what a user property takes beside its bytes.
const userOverhead = 32

func (m *outgoing) expired(now time.Time) bool { return !m.expiry.IsZero() && now.After(m.expiry) }

// frame is an encoded PUBLISH whose packet id is still to be filled in.
type frame struct {
	bytes []byte
	idAt  int // place of the packet id, or 0 at QoS 0
}

// encode draws a PUBLISH (section 3.3 of both specifications).
func (m *outgoing) encode(version, qos byte, retain bool, subscriptions []int, a alias, now time.Time) (*frame, error) {
	topic := m.topic
	if a.known {
		topic = ""
	}
	pk := packets.Packet{
		ProtocolVersion: version,
		FixedHeader:     packets.FixedHeader{Type: packets.Publish, Qos: qos, Retain: retain},
		TopicName:       topic, Payload: m.payload, PacketID: 1,
		Mods: packets.Mods{AllowResponseInfo: true},
	}
	if version >= 5 {
		pk.Properties = m.props
		pk.Properties.SubscriptionIdentifier = subscriptions
		pk.Properties.TopicAlias, pk.Properties.TopicAliasFlag = a.number, a.number > 0
		if !m.expiry.IsZero() {
			pk.Properties.MessageExpiryInterval = uint32(max(1, m.expiry.Sub(now)/time.Second))
		}
	}
	var b bytes.Buffer
	b.Grow(len(m.topic) + len(m.payload) + 16)
	if err := pk.PublishEncode(&b); err != nil {
		return nil, err
	}
	f := &frame{bytes: b.Bytes()}
	if qos > 0 {
		_, width := binary.Uvarint(f.bytes[1:])
		f.idAt = 1 + width + 2 + len(topic)
	}
	return f, nil
}

// shared returns a frame that is the same for every subscriber of a kind, or
// nil where each needs its own.
func (m *outgoing) shared(version, qos byte, retain bool, subscriptions []int, now time.Time) (*frame, error) {
	if len(subscriptions) > 0 || (version >= 5 && !m.expiry.IsZero()) {
		return nil, nil
	}
	at := &m.frames[bit(version >= 5)][bit(retain)][bit(qos > 0)]
	if qos == 2 || *at == nil { // one of QoS 2 differs in its first byte
		f, err := m.encode(version, qos, retain, nil, alias{}, now)
		if err != nil || qos == 2 {
			return f, err
		}
		*at = f
	}
	return *at, nil
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// appendTo appends the packet with its id, as a duplicate if dup is set.
func (f *frame) appendTo(b []byte, id uint16, dup bool) []byte {
	start := len(b)
	b = append(b, f.bytes...)
	if f.idAt > 0 {
		binary.BigEndian.PutUint16(b[start+f.idAt:], id)
		if dup {
			b[start] |= 1 << 3
		}
	}
	return b
}
