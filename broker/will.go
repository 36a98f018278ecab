package broker

import (
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// takeWill takes a device's will from the server, which would publish it past
// the sessions, with a part of its properties.
func takeWill(cl *mqtt.Client, pk packets.Packet) *packets.Packet {
	c := pk.Connect
	if !c.WillFlag {
		return nil
	}
	delay := cl.Properties.Will.WillDelayInterval
	cl.Properties.Will = mqtt.Will{}
	will := &packets.Packet{
		ProtocolVersion: cl.Properties.ProtocolVersion,
		FixedHeader:     packets.FixedHeader{Type: packets.Publish, Qos: c.WillQos, Retain: c.WillRetain},
		TopicName:       c.WillTopic, Payload: c.WillPayload, Properties: c.WillProperties,
	}
	will.Properties.WillDelayInterval = delay
	return will
}

// sendWill publishes the will of a device that is gone, after its delay unless
// the device comes back before.
func (h *hook) sendWill(cl *mqtt.Client, g *gate) {
	will := *g.will
	delay := time.Duration(will.Properties.WillDelayInterval) * time.Second
	will.Properties.WillDelayInterval = 0
	if delay == 0 || !g.session.survives() {
		h.publishWill(cl, will)
		return
	}
	g.session.later(delay, func() { h.publishWill(cl, will) })
}

func (h *hook) publishWill(cl *mqtt.Client, will packets.Packet) {
	if g, ok := cl.Net.Conn.(*gate); ok && !h.mayPublish(g.session.rights.Load(), cl.ID, will.TopicName) {
		return // the right was lost since CONNECT
	}
	atomic.AddInt64(&h.server.Info.MessagesReceived, 1)
	local := h.spread(will, cl.ID)
	h.storeUnasked(join(h.sink(messageOf(cl, will)), local))
}
