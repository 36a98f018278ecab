package broker

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// Bounds of what is retained.
const (
	maxRetained      = 100_000
	maxRetainedBytes = 64 << 20
)

// retained bounds the retained messages, which the server's index holds, and
// knows where they are in the store. Topics of the server's own, below $SYS,
// do not pass here.
type retained struct {
	server  *mqtt.Server
	store   *store // or nil
	limit   sessionLimit
	refused atomic.Int64

	mu      sync.Mutex
	byTopic map[string]*kept
	bytes   int64
}

// kept is the retained message of a topic.
type kept struct {
	message *outgoing
	number  uint64 // of its record, or 0
}

// check says why a message cannot be retained, or nil.
func (r *retained) check(m *outgoing) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(m.payload) == 0 {
		return nil
	}
	count, bytes := len(r.byTopic)+1, r.bytes+m.size()
	if old := r.byTopic[m.topic]; old != nil {
		count, bytes = count-1, bytes-old.message.size()
	}
	if count <= r.limit.messages && bytes <= r.limit.bytes {
		return nil
	}
	r.refused.Add(1)
	return fmt.Errorf("%w: %d messages with %d bytes are retained", ErrStoreFull, len(r.byTopic), r.bytes)
}

// set makes m the retained message of its topic, or removes that if m has no
// payload, in memory. It returns the number of the record of what was removed.
// The sessions' order is held.
func (r *retained) set(m *outgoing) (removed uint64) {
	r.server.Topics.RetainMessage(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: m.qos, Retain: true}, TopicName: m.topic, Payload: m.payload,
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	number := uint64(0)
	if old := r.byTopic[m.topic]; old != nil {
		r.bytes -= old.message.size()
		number = old.number
		delete(r.byTopic, m.topic)
	}
	if len(m.payload) > 0 {
		r.byTopic[m.topic] = &kept{m, number}
		r.bytes += m.size()
		number = 0
	}
	return number
}

// record adds the change that set made to g, unless a later one replaced it.
// number is that of the message. The sessions' order is held.
func (r *retained) record(m *outgoing, number uint64, g *bundle) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.byTopic[m.topic]
	switch {
	case k == nil && len(m.payload) == 0:
		g.add(&op{key: retainedKey(m.topic)})
	case k == nil || k.message != m:
		r.store.unshare(number)
	default:
		g.frees = append(g.frees, k.number)
		k.number = number
		g.add(&op{key: retainedKey(m.topic), value: binary.BigEndian.AppendUint64(nil, number)})
	}
}

// restore takes a message that a former process retained.
func (r *retained) restore(m *outgoing, number uint64) {
	r.set(m)
	r.byTopic[m.topic].number = number
}

// matching lists what a filter matches. The server's index leaves out the
// level above a # (section 4.7.1.2 of both specifications), and knows of the
// topics that a wildcard at the beginning does not match (section 4.7.2) only
// $SYS.
func (r *retained) matching(filter string) []packets.Packet {
	list := r.server.Topics.Messages(filter)
	if above, ok := strings.CutSuffix(filter, "/#"); ok {
		list = append(list, r.server.Topics.Messages(above)...)
	}
	if !strings.HasPrefix(filter, "+") && !strings.HasPrefix(filter, "#") {
		return list
	}
	return slices.DeleteFunc(list, func(pk packets.Packet) bool { return strings.HasPrefix(pk.TopicName, "$") })
}

// get returns the retained message of a topic, or nil if it has expired.
func (r *retained) get(topic string, now time.Time) *outgoing {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.byTopic[topic]
	if k == nil || k.message.expired(now) {
		return nil
	}
	return k.message.alone()
}

// expired lists what is to be removed.
func (r *retained) expired(now time.Time) (out []*outgoing) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range r.byTopic {
		if k.message.expired(now) {
			out = append(out, k.message)
		}
	}
	return out
}

// count is how many there are, and their bytes.
func (r *retained) count() (int, int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.byTopic), r.bytes
}
