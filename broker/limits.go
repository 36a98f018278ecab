package broker

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// Limits are what one device, or all of them, may ask of the broker. A zero
// value means the default, except for PublishesPerS.
type Limits struct {
	MaxPacketBytes int // of a packet with its header; 1 KiB to MaxPacketBytes
	MaxConnections int // devices at a time
	// ConnectsPerS is how many connections a second one address may make, and
	// as many at once. More wait for connectPatience, then they are refused.
	ConnectsPerS float64
	// PublishesPerS is how many messages a second one device may send, and as
	// many at once. What it sends beyond is read later. 0 is no limit.
	PublishesPerS float64
	// MaxInflight bounds the unacknowledged messages of QoS 1 and 2 of one
	// device, in each direction.
	MaxInflight      int
	MaxTopicLevels   int // of topics and filters
	MaxTopicBytes    int
	MaxSubscriptions int // of one device
}

// DefaultLimits are those of a site whose devices are honest: none meets them.
var DefaultLimits = Limits{
	MaxPacketBytes: MaxPacketBytes, MaxConnections: 1000, ConnectsPerS: 100,
	MaxInflight: 1024, MaxTopicLevels: 32, MaxTopicBytes: 1024, MaxSubscriptions: 1000,
}

const (
	// maxSessions is how many sessions may wait for their devices, beside those
	// of MaxConnections devices: one that makes up a client id each time leaves
	// a session behind each time.
	maxSessions = 10_000
	// maxClientID bounds a client id, in bytes.
	maxClientID = 1024
)

// ErrLimits says that limits make no sense; the text names the field.
var ErrLimits = errors.New("limits")

// withDefaults fills in what is not set.
func (l Limits) withDefaults() Limits {
	d := DefaultLimits
	for _, v := range []struct {
		got       *int
		otherwise int
	}{
		{&l.MaxPacketBytes, d.MaxPacketBytes}, {&l.MaxConnections, d.MaxConnections}, {&l.MaxInflight, d.MaxInflight},
		{&l.MaxTopicLevels, d.MaxTopicLevels}, {&l.MaxTopicBytes, d.MaxTopicBytes}, {&l.MaxSubscriptions, d.MaxSubscriptions},
	} {
		if *v.got == 0 {
			*v.got = v.otherwise
		}
	}
	if l.ConnectsPerS == 0 {
		l.ConnectsPerS = d.ConnectsPerS
	}
	return l
}

// limit is what a device has gone beyond.
type limit int

const (
	packetSize limit = iota
	connections
	connectRate
	publishRate
	inFlight
	topicSize
	subscriptions
	banned
	sessionCount
	clientID
	numLimits
)

var limitNames = [numLimits]string{
	"packet_size", "connections", "connect_rate", "publish_rate", "in_flight", "topic", "subscriptions", "banned",
	"sessions", "client_id",
}

// limitCounters count how often devices went beyond each limit.
type limitCounters struct {
	count  [numLimits]atomic.Int64
	warned [numLimits]rarely
}

// counts are those by name.
func (c *limitCounters) counts() map[string]int64 {
	out := map[string]int64{}
	for i, name := range limitNames {
		out[name] = c.count[i].Load()
	}
	return out
}

// over counts that a device went beyond a limit. MQTT 3.1.1 has few words to
// tell the device, so the log says it, once in a while for each limit.
func (h *hook) over(l limit, client, detail string) {
	n := h.stats.limits.count[l].Add(1)
	if h.stats.limits.warned[l].due(time.Now()) {
		h.opt.Logger.Warn("a device went beyond a limit", "limit", limitNames[l], "client", fmt.Sprintf("%.60q", client), "detail", detail, "total", n)
	}
}

// fits reports whether a topic or a filter is short and shallow enough.
func (l Limits) fits(topic string) bool {
	return len(topic) <= l.MaxTopicBytes && strings.Count(topic, "/") < l.MaxTopicLevels
}

func (h *hook) topicFits(client, topic string) bool {
	l := h.opt.Limits
	if l.fits(topic) {
		return true
	}
	h.over(topicSize, client, fmt.Sprintf("%d bytes and %d levels, expected at most %d and %d: %.60q",
		len(topic), strings.Count(topic, "/")+1, l.MaxTopicBytes, l.MaxTopicLevels, topic))
	return false
}

// announce adds what applies to a CONNACK of MQTT 5 (section 3.2.2.3).
func (l Limits) announce(p *packets.Properties) {
	p.MaximumPacketSize = uint32(l.MaxPacketBytes)
	p.TopicAliasMaximum = maxAliases
	p.ReceiveMaximum = uint16(l.MaxInflight)
}
