package broker

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// hook is where the server asks us. Its methods run on the device's read
// goroutine.
type hook struct {
	mqtt.HookBase
	opt      Options
	server   *mqtt.Server
	stats    *counters
	stop     chan struct{} // closed when the broker closes
	gates    sync.Map      // client id -> *gate that has publishes that are being stored
	clients  sync.Map      // connection -> *mqtt.Client
	sessions *sessions

	presence *presence
	bans     *bans
	connects *connectRates

	entering sync.Mutex
	shut     bool // nobody is let in any more

	policy    atomic.Pointer[policy]
	reloading sync.RWMutex // held while a session is opened or attached, against Reload
	logins    logins

	panicWarned                                       rarely
	warned, loginWarned, invalidWarned, refusedWarned rarelyEach // by client, or by name and address
}

// counters are what the hook and the gates count.
type counters struct {
	held    atomic.Int64 // acknowledgements that wait
	refused atomic.Int64 // QoS 1 and 2 publishes that were never acknowledged
	lost    atomic.Int64 // QoS 0 publishes on a replicated topic that were not stored
	denied  atomic.Int64 // publishes below a reserved prefix
	dropped atomic.Int64 // messages to a subscriber that does not read, or that could not be sent
	expired atomic.Int64 // messages that waited for a subscriber for too long
	panics  atomic.Int64 // connections that ended in a panic of the server
	sent    atomic.Int64 // messages to devices
	written atomic.Int64 // bytes to devices
	limits  limitCounters

	invalid      atomic.Int64 // publishes and wills that Validate refused
	loginsFailed atomic.Int64
	loginsSlowed atomic.Int64 // logins that were not tried, after failures
	loginsBusy   atomic.Int64 // logins that were not tried, as too many waited
	revoked      atomic.Int64 // connections and sessions that a reload ended
	withheld     atomic.Int64 // messages that a subscriber was owed and may not read any more

	trimmed         atomic.Int64 // the oldest messages of sessions, beyond a bound
	sessionsExpired atomic.Int64 // that no device came back to

	acknowledged func(time.Duration) // see Options; may be nil
}

// refusal is a publish that the sink did not take at once.
type refusal struct {
	ack    *ack
	packet packets.Packet
	store  Store
	err    error
}

var _ mqtt.Hook = (*hook)(nil)

// ID names the hook in the server's log.
func (h *hook) ID() string { return "outstation" }

// Provides says which of the methods below the server shall call.
func (h *hook) Provides(b byte) bool {
	switch b {
	case mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnACLCheck, mqtt.OnDisconnect,
		mqtt.OnSessionEstablish, mqtt.OnSessionEstablished, mqtt.OnClientExpired,
		mqtt.OnPacketRead, mqtt.OnPacketEncode, mqtt.OnPacketProcessed, mqtt.OnSubscribe, mqtt.OnSubscribed, mqtt.OnUnsubscribed,
		mqtt.OnPublish, mqtt.OnPublished, mqtt.OnPublishDropped:
		return true
	}
	return false
}

// settleFormer waits until the publishes of the same session that a former
// connection left unsettled are settled: a QoS 2 publish that is sent again
// must not be acknowledged on the strength of one that is still being stored.
func (h *hook) settleFormer(cl *mqtt.Client) error {
	old, ok := h.gates.Load(cl.ID)
	if !ok || cl.Properties.Clean {
		return nil
	}
	g := old.(*gate)
	if !g.await(h.opt.RefusalWait, h.stop, func() bool { return g.storing == 0 }) {
		return fmt.Errorf("client %q: its former connection's publishes are still being stored after %v", cl.ID, h.opt.RefusalWait)
	}
	return nil
}

// OnDisconnect gives up the publish that was waiting for space, and forgets
// the gate unless something is still being stored.
func (h *hook) OnDisconnect(cl *mqtt.Client, _ error, _ bool) {
	g, ok := cl.Net.Conn.(*gate)
	if !ok {
		return
	}
	_ = g.Close() // the server has closed it already, or is about to
	h.endConnection(cl, g)
	if r := g.refused; r != nil {
		g.refused = nil
		h.refuse(cl, g, r.ack, r.packet, r.err)
	}
	h.forgetAnswers(cl, g)
	h.forget(cl.ID, g)
}

// forgetAnswers takes from the server what it could not write any more, for it
// would say it to the next connection: whether a publish was stored, and a
// second PUBCOMP after that for PUBREL.
func (h *hook) forgetAnswers(cl *mqtt.Client, g *gate) {
	for _, pk := range cl.State.Inflight.GetAll(false) {
		if pk.FixedHeader.Type != packets.Pubrec {
			cl.State.Inflight.Delete(pk.PacketID)
		}
	}
	if a := g.current; a != nil && g.failed(a) {
		cl.State.Inflight.Delete(a.id)
	}
}

func (h *hook) forget(id string, g *gate) {
	g.mu.Lock()
	idle := g.closed && g.storing == 0
	g.mu.Unlock()
	if idle {
		h.gates.CompareAndDelete(id, g)
	}
}

// retains reports whether a message is to be retained.
func (h *hook) retains(pk packets.Packet) bool {
	return pk.FixedHeader.Retain && (h.opt.NeverRetained == nil || !h.opt.NeverRetained(pk.TopicName))
}

func messageOf(client string, pk packets.Packet) Message {
	m := Message{
		ClientID: client, Topic: pk.TopicName, Payload: pk.Payload, QoS: pk.FixedHeader.Qos, Retain: pk.FixedHeader.Retain,
	}
	if pk.ProtocolVersion >= 5 {
		m.Expiry, m.Properties = expiryOf(pk.Properties, time.Now()), encodeProperties(pk.Properties)
	}
	return m
}

// storeUnasked stores a message whose loss nobody could be told; it is
// counted. A nil store has nothing to do.
func (h *hook) storeUnasked(store Store) {
	if store == nil {
		return
	}
	lost := func(err error) {
		if err != nil {
			h.stats.lost.Add(1)
		}
	}
	if err := store(lost); err != nil {
		lost(err)
	}
}

// OnPublish retains a device's publish, hands it to local subscribers, and
// offers it to the sink. The server then acknowledges it, into the gate.
func (h *hook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	g, ok := cl.Net.Conn.(*gate)
	if !ok {
		return pk, nil
	}
	if pk.TopicName == "" { // an alias that this connection has not been told (MQTT 5, section 3.3.2.3.4)
		_ = h.server.DisconnectClient(cl, packets.ErrProtocolViolationNoTopic) // it returns the reason that it was given
		return pk, packets.ErrRejectPacket
	}
	if most := h.opt.Limits.MaxInflight; pk.FixedHeader.Qos == 2 && cl.State.Inflight.Len() >= most {
		h.over(inFlight, cl.ID, fmt.Sprintf("more than %d publishes of QoS 2", most))
		_ = h.server.DisconnectClient(cl, packets.ErrReceiveMaximum) // it returns the reason that it was given
		return pk, packets.ErrRejectPacket
	}
	if !h.topicFits(cl.ID, pk.TopicName) {
		return pk, h.rejectPublish(cl, pk, packets.ErrTopicNameInvalid)
	}
	if err := h.judge(cl, g, pk); err != nil {
		return pk, err
	}
	pk.FixedHeader.Retain = h.retains(pk)
	local := h.spread(pk, cl.ID)
	pk.Ignore = true // the server has nothing left to do but to acknowledge
	store := join(h.sink(messageOf(cl.ID, pk)), local)
	if pk.FixedHeader.Qos == 0 {
		h.storeUnasked(store)
		return pk, nil
	}
	if pk.FixedHeader.Qos == 2 && g.session.stored != nil {
		store = g.session.once(pk.PacketID, store)
	}
	a := g.expect(pk.PacketID, store == nil)
	if a == nil { // the connection is gone, and with it the way to acknowledge
		return pk, packets.ErrRejectPacket
	}
	if store == nil {
		return pk, nil
	}
	if !g.known {
		g.known = true
		h.gates.Store(cl.ID, g)
	}
	g.current = a
	if err := store(h.settler(cl, g, a, pk)); err != nil {
		g.refused = &refusal{a, pk, store, err}
	}
	return pk, nil
}

// settler is told when a publish is durable, or that it failed. It does not
// block.
func (h *hook) settler(cl *mqtt.Client, g *gate, a *ack, pk packets.Packet) func(error) {
	return func(err error) {
		if err == nil {
			g.resolve(a, false, nil)
		} else {
			h.refuse(cl, g, a, pk, err)
		}
		h.forget(cl.ID, g)
	}
}

// refuse ends a publish without success: with a reason for MQTT 5, by closing
// the connection for 3.1.1, whose acknowledgements cannot say no. The device
// may send it again, and must be heard then: a QoS 2 packet id is freed.
func (h *hook) refuse(cl *mqtt.Client, g *gate, a *ack, pk packets.Packet, err error) {
	n := h.stats.refused.Add(1)
	if h.refusedWarned.due(cl.ID, time.Now()) {
		h.opt.Logger.Warn("a device's publish was not stored, and so not acknowledged", "client", shown(cl.ID), "topic", shown(pk.TopicName), "error", err, "refused_total", n)
	}
	if pk.FixedHeader.Qos == 2 && cl.State.Inflight.Delete(pk.PacketID) {
		cl.State.Inflight.IncreaseReceiveQuota()
	}
	if cl.Properties.ProtocolVersion < 5 {
		_ = g.Close() // before resolve, so that nothing held behind it leaves
		g.resolve(a, true, nil)
		return
	}
	g.resolve(a, true, refusalPacket(cl, pk, err))
}

// besideReason is more than what a packet with a reason string has beside it,
// in bytes.
const besideReason = 32

// refusalPacket is PUBACK or PUBREC with reason 0x97, quota exceeded (MQTT 5,
// sections 3.4.2.1 and 3.5.2.1).
func refusalPacket(cl *mqtt.Client, pk packets.Packet, err error) []byte {
	p := packets.Packet{
		FixedHeader:     packets.FixedHeader{Type: packets.Puback},
		ProtocolVersion: 5,
		PacketID:        pk.PacketID,
		ReasonCode:      packets.ErrQuotaExceeded.Code,
	}
	props := cl.Properties.Props
	fits := props.MaximumPacketSize == 0 || len(err.Error())+besideReason <= int(props.MaximumPacketSize)
	if fits && (!props.RequestProblemInfoFlag || props.RequestProblemInfo != 0) {
		p.Properties.ReasonString = err.Error()
	}
	var b bytes.Buffer
	encode := p.PubackEncode
	if pk.FixedHeader.Qos == 2 {
		p.FixedHeader.Type = packets.Pubrec
		encode = p.PubrecEncode
	}
	if encode(&b) != nil { // cannot happen with a reason string below 64 KiB
		return []byte{p.FixedHeader.Type << 4, 3, byte(pk.PacketID >> 8), byte(pk.PacketID), p.ReasonCode}
	}
	return b.Bytes()
}

// OnPublished runs after the acknowledgement; here a device may be made to
// wait, and only that device.
func (h *hook) OnPublished(cl *mqtt.Client, pk packets.Packet) {
	g, ok := cl.Net.Conn.(*gate)
	if !ok {
		return
	}
	if r := g.refused; r != nil {
		g.refused = nil
		h.settleRefused(cl, g, r)
	}
	if a := g.current; a != nil && pk.FixedHeader.Qos == 2 && g.failed(a) && cl.State.Inflight.Delete(pk.PacketID) {
		cl.State.Inflight.IncreaseReceiveQuota() // the server set it after the failure came in
	}
	g.current = nil
}

// settleRefused gives a publish the time in which space may come back; later
// publishes of the device wait behind it, so that order is kept. An MQTT 5
// device can be told no, and so waits for less.
func (h *hook) settleRefused(cl *mqtt.Client, g *gate, r *refusal) {
	wait := h.opt.RefusalWait
	if cl.Properties.ProtocolVersion >= 5 {
		wait = min(wait, refusalWait5)
	}
	for deadline := time.Now().Add(wait); time.Now().Before(deadline) && !cl.Closed(); {
		if h.pause(retryEvery) {
			break
		}
		if r.err = r.store(h.settler(cl, g, r.ack, r.packet)); r.err == nil {
			return
		}
	}
	h.refuse(cl, g, r.ack, r.packet, fmt.Errorf("publish not stored: %w", r.err))
}

// pause waits for d; true means that the broker is closing.
func (h *hook) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return false
	case <-h.stop:
		return true
	}
}

// OnPublishDropped counts what a subscriber that does not read has missed.
func (h *hook) OnPublishDropped(*mqtt.Client, packets.Packet) { h.stats.dropped.Add(1) }
