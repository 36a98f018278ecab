package broker

import (
	"strings"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// spread retains a message and hands it to local subscribers. What it returns
// tells when that outlives the process; nil means that nothing has to.
func (h *hook) spread(pk packets.Packet, origin string) Store {
	return h.sessions.publish(outgoingOf(pk, time.Now()), origin)
}

// sink asks the sink about a message; nil means that it stays local.
func (h *hook) sink(m Message) Store {
	if h.opt.Sink == nil {
		return nil
	}
	return h.opt.Sink(m)
}

// OnSessionEstablish runs before the CONNACK.
func (h *hook) OnSessionEstablish(cl *mqtt.Client, pk packets.Packet) {
	h.reloading.RLock()
	defer h.reloading.RUnlock()
	if g, ok := cl.Net.Conn.(*gate); ok {
		g.session = h.sessions.open(g, cl, pk.Connect.Clean)
		g.session.rights.Store(h.policy.Load().acl.Of(g.who.user, cl.ID))
		p := &cl.Properties.Props
		if cl.Properties.ProtocolVersion >= 5 {
			granted := h.sessions.expiryOf(cl)
			g.shortened = granted < p.SessionExpiryInterval
			p.SessionExpiryInterval = granted
		}
		p.SessionExpiryIntervalFlag = false // the server's own expiry goes by the system's clock
	}
}

// OnSessionEstablished runs after the CONNACK.
func (h *hook) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) {
	h.reloading.RLock()
	defer h.reloading.RUnlock()
	g, ok := cl.Net.Conn.(*gate)
	if !ok {
		return
	}
	if !h.policy.Load().welcome(g.who) { // a reload came between
		_ = h.server.DisconnectClient(cl, packets.ErrNotAuthorized) // it returns the reason that it was given
		return
	}
	for _, sub := range cl.State.Subscriptions.GetAll() { // the server may have kept those of a session that we did not
		h.sessions.subscribe(g.session, sub)
	}
	h.sessions.mute(g.session)
	h.inherited(cl, g.session)
	g.session.attach(g)
}

// endConnection lets a session go on without a connection, or end.
func (h *hook) endConnection(cl *mqtt.Client, g *gate) {
	if g.session == nil {
		return
	}
	if cl.Properties.ProtocolVersion >= 5 { // DISCONNECT may have changed it
		g.session.expires(g, h.sessions.expiryOf(cl))
	}
	g.session.detach(g)
	h.sessions.note(g.session)
	switch {
	case g.will == nil:
	case g.leaving:
		g.session.forgetWill(g.will)
	default:
		h.sendWill(g.will, g.session)
	}
	if !g.session.survives() {
		h.sessions.drop(g.session)
	}
}

// OnClientExpired ends the session of a device that was away for too long.
func (h *hook) OnClientExpired(cl *mqtt.Client) {
	if s := h.sessions.get(cl.ID); s != nil {
		h.sessions.drop(s)
	}
}

// OnPacketRead takes the acknowledgements of what the sessions sent. The
// server is given one that says nothing to it in their place.
func (h *hook) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	g, ok := cl.Net.Conn.(*gate)
	if !ok || g.session == nil {
		return pk, nil
	}
	switch pk.FixedHeader.Type {
	case packets.Publish:
		h.slow(cl, g)
		if reason := unpublishable(pk.TopicName); reason != nil { // the server would not answer it
			h.denied(cl.ID, pk.TopicName, reason.Error())
			_ = h.rejectPublish(cl, pk, reason) // it has told the device
			return nothing(pk), nil
		}
	case packets.Puback, packets.Pubrec, packets.Pubcomp:
		g.session.acknowledged(pk.FixedHeader.Type, pk.PacketID, pk.ReasonCode)
		return nothing(pk), nil
	case packets.Pubrel:
		h.pubrel(g, pk.PacketID)
	case packets.Disconnect:
		p := &cl.Properties.Props
		wrong := pk.Properties.SessionExpiryIntervalFlag && p.SessionExpiryInterval == 0 && pk.Properties.SessionExpiryInterval > 0
		g.leaving = !wrong && pk.ReasonCode != packets.CodeDisconnectWillMessage.Code
		if pk.Properties.SessionExpiryIntervalFlag && !wrong {
			p.SessionExpiryInterval = pk.Properties.SessionExpiryInterval
			pk.Properties.SessionExpiryIntervalFlag = false // as in OnSessionEstablish
		}
	}
	return pk, nil
}

// nothing is a packet that says nothing to the server, in the place of pk.
func nothing(pk packets.Packet) packets.Packet {
	return packets.Packet{ProtocolVersion: pk.ProtocolVersion, FixedHeader: packets.FixedHeader{Type: packets.Puback}}
}

// ofServer reports whether the server keeps a topic for itself.
func ofServer(topic string) bool {
	return len(topic) >= len(mqtt.SysPrefix) && strings.EqualFold(topic[:len(mqtt.SysPrefix)], mqtt.SysPrefix)
}

// unpublishable says why no device may publish on a topic, whatever the rules
// say: it is a packets.Code, or nil.
func unpublishable(topic string) error {
	first, _, _ := strings.Cut(topic, "/")
	switch {
	case ofServer(topic):
		return packets.ErrNotAuthorized
	case strings.EqualFold(first, mqtt.SharePrefix): // nobody could subscribe to it
		return packets.ErrTopicNameInvalid
	}
	return nil
}

// OnPacketEncode mends what the server says. A QoS 2 publish that is sent
// again is no error (MQTT 5, section 4.3.3), and a CONNACK of 3.1.1 has no
// reason above 5 (section 3.2.2.3): what is left is an empty client id, which
// is 2. A reason string is left out where it makes the packet larger than the
// device takes (MQTT 5, section 3.4.2.2.2).
func (h *hook) OnPacketEncode(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	if most := cl.Properties.Props.MaximumPacketSize; most > 0 && len(pk.Properties.ReasonString)+besideReason > int(most) {
		pk.Properties.ReasonString = ""
	}
	switch {
	case pk.FixedHeader.Type == packets.Pubrec && pk.ReasonCode == packets.ErrPacketIdentifierInUse.Code:
		pk.ReasonCode, pk.Properties.ReasonString = packets.CodeSuccess.Code, ""
	case pk.FixedHeader.Type == packets.Connack && cl.Properties.ProtocolVersion < 5 && pk.ReasonCode >= packets.ErrUnspecifiedError.Code:
		pk.ReasonCode = packets.Err3ClientIdentifierNotValid.Code
	case pk.FixedHeader.Type == packets.Connack && cl.Properties.ProtocolVersion >= 5 && pk.ReasonCode < packets.ErrUnspecifiedError.Code:
		h.opt.Limits.announce(&pk.Properties)
		if g, ok := cl.Net.Conn.(*gate); ok && g.shortened {
			pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = cl.Properties.Props.SessionExpiryInterval, true
		}
	}
	return pk
}

// OnSubscribe keeps the server from sending retained messages: they go
// through the session.
func (h *hook) OnSubscribe(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	g, ok := cl.Net.Conn.(*gate)
	if !ok {
		return pk
	}
	g.limited = h.limitFilters(cl, pk)
	g.asked = g.asked[:0]
	for i := range pk.Filters {
		f := &pk.Filters[i]
		_, existed := cl.State.Subscriptions.Get(f.Filter)
		if f.RetainHandling == 0 || (f.RetainHandling == 1 && !existed) {
			g.asked = append(g.asked, *f)
		} else {
			g.asked = append(g.asked, packets.Subscription{})
		}
		f.RetainHandling = 2
	}
	return pk
}

// OnSubscribed stores and notes what was granted, before the SUBACK, and forgets
// what was refused.
func (h *hook) OnSubscribed(cl *mqtt.Client, pk packets.Packet, reasons []byte) {
	g, ok := cl.Net.Conn.(*gate)
	if !ok {
		return
	}
	refuseFilters(cl.Properties.ProtocolVersion, g.limited, reasons)
	h.storeSubscriptions(cl, g.session, pk.Filters, reasons)
	h.noteSubscriptions(cl, g, pk.Filters)
	for i := range g.asked {
		if i >= len(reasons) || reasons[i] >= packets.ErrUnspecifiedError.Code || mqtt.IsSharedFilter(g.asked[i].Filter) {
			g.asked[i].Filter = ""
		}
	}
}

// OnUnsubscribed notes it, before the UNSUBACK. The server also calls it for
// a session that ends, and when it has refused to unsubscribe.
func (h *hook) OnUnsubscribed(cl *mqtt.Client, pk packets.Packet) {
	g, ok := cl.Net.Conn.(*gate)
	if !ok || g.session == nil {
		return
	}
	h.noteSubscriptions(cl, g, pk.Filters)
	if g.session.muted.Load() != nil {
		h.sessions.mute(g.session)
	}
	if pk.PacketID != 0 { // else the session ends
		h.storeUnsubscribed(cl, g, pk.Filters)
	}
}

// noteSubscriptions makes our index what the server says of some filters of
// a device.
func (h *hook) noteSubscriptions(cl *mqtt.Client, g *gate, filters packets.Subscriptions) {
	for _, f := range filters {
		if sub, ok := cl.State.Subscriptions.Get(f.Filter); ok {
			h.sessions.subscribe(g.session, sub)
		} else {
			h.sessions.index.unsubscribe(g.session, f.Filter)
		}
	}
}

// OnPacketProcessed does not read on while a device has too many
// acknowledgements to wait for, whatever they say, and sends the retained
// messages of a subscription, after its SUBACK.
func (h *hook) OnPacketProcessed(cl *mqtt.Client, pk packets.Packet, err error) {
	g, ok := cl.Net.Conn.(*gate)
	if !ok || err != nil {
		return
	}
	switch pk.FixedHeader.Type {
	case packets.Publish:
		g.await(time.Duration(1<<62), h.stop, func() bool { return len(g.held) < g.maxHeld || g.closed })
	case packets.Subscribe:
		h.sendRetained(g)
	}
}

func (h *hook) sendRetained(g *gate) {
	until := time.Now().Add(h.opt.RefusalWait)
	wait := func() bool { return time.Now().Before(until) && !g.gone() && !h.pause(retryEvery) }
	for _, sub := range g.asked {
		if sub.Filter != "" {
			h.sessions.retained(g.session, sub, wait)
		}
	}
	g.asked = nil
}
