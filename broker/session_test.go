package broker

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// connectWith connects with more than connect knows.
func connectWith(t testing.TB, b *Broker, version byte, p packets.ConnectParams, props packets.Properties) (*device, packets.Packet) {
	t.Helper()
	d := dial(t, b)
	d.v = version
	p.ProtocolName, p.Keepalive = []byte("MQTT"), 60
	d.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}, Connect: p, Properties: props})
	return d, d.expect(packets.Connack)
}

func (d *device) subscribeTo(subs ...packets.Subscription) {
	d.t.Helper()
	d.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 7, Filters: subs})
	d.expect(packets.Suback)
}

// subscribeAs subscribes with a subscription identifier.
func (d *device) subscribeAs(identifier int, s packets.Subscription) {
	d.t.Helper()
	d.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 7, Filters: packets.Subscriptions{s},
		Properties: packets.Properties{SubscriptionIdentifier: []int{identifier}},
	})
	d.expect(packets.Suback)
}

func (d *device) puback(id uint16) {
	d.t.Helper()
	d.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: id})
}

// expectPayloads reads publishes and acknowledges them.
func (d *device) expectPayloads(want ...string) {
	d.t.Helper()
	for _, w := range want {
		pk := d.expect(packets.Publish)
		if string(pk.Payload) != w {
			d.t.Fatalf("got %q, expected %q", pk.Payload, w)
		}
		if pk.FixedHeader.Qos == 1 {
			d.puback(pk.PacketID)
		}
	}
}

// TestEqualPacketIDsLoseNothing publishes with the packet ids of what is in
// flight in the other direction, and reconnects.
func TestEqualPacketIDsLoseNothing(t *testing.T) {
	for _, version := range []byte{4, 5} {
		b := startBroker(t, Options{})
		keep := packets.Properties{SessionExpiryInterval: 100, SessionExpiryIntervalFlag: true}
		d, _ := connectWith(t, b, version, packets.ConnectParams{ClientIdentifier: "both"}, keep)
		d.subscribeTo(packets.Subscription{Filter: "in", Qos: 1})
		const n = 20
		for i := range n {
			if err := b.Publish("in", fmt.Appendf(nil, "m%d", i), 1, false); err != nil {
				t.Fatal(err)
			}
		}
		ids := map[uint16]bool{}
		for range n {
			ids[d.expect(packets.Publish).PacketID] = true
		}
		for id := range ids {
			d.publish("out", 1, id, "x")
			d.expectAcks(packets.Puback, id)
		}
		d.conn.Close()
		d, ack := connectWith(t, b, version, packets.ConnectParams{ClientIdentifier: "both"}, keep)
		if !ack.SessionPresent {
			t.Error("the session is gone")
		}
		for i := range n {
			pk := d.expect(packets.Publish)
			if want := fmt.Sprintf("m%d", i); string(pk.Payload) != want || !pk.FixedHeader.Dup || !ids[pk.PacketID] {
				t.Fatalf("MQTT %d: got %q with id %d, dup %v, expected %s again", version, pk.Payload, pk.PacketID, pk.FixedHeader.Dup, want)
			}
			d.puback(pk.PacketID)
		}
		eventually(t, "an empty session", func() bool { m, _ := b.hook.sessions.get("both").owed(); return m == 0 })
	}
}

// TestReceiveMaximumIsKeptAndEverythingArrives has a device that takes three
// at a time.
func TestReceiveMaximumIsKeptAndEverythingArrives(t *testing.T) {
	b := startBroker(t, Options{})
	d, _ := connectWith(t, b, 5, packets.ConnectParams{ClientIdentifier: "small", Clean: true}, packets.Properties{ReceiveMaximum: 3})
	d.subscribeTo(packets.Subscription{Filter: "in", Qos: 1})
	const n = 12_100
	for i := range n {
		if err := b.Publish("in", fmt.Appendf(nil, "m%d", i), 1, false); err != nil {
			t.Fatal(err)
		}
	}
	var held []uint16
	for i := range n {
		pk := d.expect(packets.Publish)
		if want := fmt.Sprintf("m%d", i); string(pk.Payload) != want {
			t.Fatalf("got %q, expected %q", pk.Payload, want)
		}
		if held = append(held, pk.PacketID); len(held) < 3 {
			continue
		}
		if i == 2 {
			d.expectSilence() // a fourth would be against the rules
		}
		d.puback(held[0])
		held = held[1:]
	}
}

func TestMoreThanTheWindowArrivesInOrder(t *testing.T) {
	b := startBroker(t, Options{})
	d := connect(t, b, "sub", 4, true)
	d.subscribeTo(packets.Subscription{Filter: "in", Qos: 1})
	const n = 20_000
	for i := range n {
		if err := b.Publish("in", fmt.Appendf(nil, "m%d", i), 1, false); err != nil {
			t.Fatal(err)
		}
	}
	var ids []uint16
	for i := range n {
		pk := d.expect(packets.Publish)
		if want := fmt.Sprintf("m%d", i); string(pk.Payload) != want {
			t.Fatalf("got %q, expected %q", pk.Payload, want)
		}
		if ids = append(ids, pk.PacketID); len(ids) == DefaultLimits.MaxInflight { // nothing is acknowledged before
			for _, id := range ids {
				d.puback(id)
			}
			ids = nil
		}
	}
}

func TestOfflineSessionKeepsOrderAndQoS(t *testing.T) {
	for _, start := range []func(testing.TB, Options) *Broker{startBroker, startInMemory} {
		offlineSessionKeepsOrderAndQoS(t, start(t, Options{}))
	}
}

func offlineSessionKeepsOrderAndQoS(t *testing.T, b *Broker) {
	d := connect(t, b, "sub", 4, false)
	d.subscribeTo(packets.Subscription{Filter: "in", Qos: 2})
	d.conn.Close()
	eventually(t, "the device is gone", func() bool { return b.Stats().Clients == 0 })
	for i, qos := range []byte{0, 1, 2, 1} {
		if err := b.Publish("in", fmt.Appendf(nil, "m%d", i), qos, false); err != nil {
			t.Fatal(err)
		}
	}
	d = connect(t, b, "sub", 4, false)
	for i, qos := range []byte{1, 2, 1} {
		pk := d.expect(packets.Publish)
		if want := fmt.Sprintf("m%d", i+1); string(pk.Payload) != want || pk.FixedHeader.Qos != qos || pk.FixedHeader.Dup {
			t.Fatalf("got %q at QoS %d, expected %s at %d", pk.Payload, pk.FixedHeader.Qos, want, qos)
		}
	}
}

// TestQoS2IsDeliveredOnceOverConnections stops after each step of the flow.
func TestQoS2IsDeliveredOnceOverConnections(t *testing.T) {
	for _, start := range []func(testing.TB, Options) *Broker{startBroker, startInMemory} {
		qos2IsDeliveredOnceOverConnections(t, start(t, Options{}))
	}
}

func qos2IsDeliveredOnceOverConnections(t *testing.T, b *Broker) {
	d := connect(t, b, "sub", 4, false)
	d.subscribeTo(packets.Subscription{Filter: "in", Qos: 2})
	if err := b.Publish("in", []byte("x"), 2, false); err != nil {
		t.Fatal(err)
	}
	first := d.expect(packets.Publish)
	d.conn.Close()
	d = connect(t, b, "sub", 4, false)
	again := d.expect(packets.Publish)
	if again.PacketID != first.PacketID || !again.FixedHeader.Dup {
		t.Errorf("got id %d, dup %v, expected %d again", again.PacketID, again.FixedHeader.Dup, first.PacketID)
	}
	d.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrec}, PacketID: first.PacketID})
	d.expect(packets.Pubrel)
	d.conn.Close()
	d = connect(t, b, "sub", 4, false)
	if pk := d.expect(packets.Pubrel); pk.PacketID != first.PacketID {
		t.Errorf("got PUBREL %d, expected %d", pk.PacketID, first.PacketID)
	}
	d.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubcomp}, PacketID: first.PacketID})
	eventually(t, "the end of the flow", func() bool { m, _ := b.hook.sessions.get("sub").owed(); return m == 0 })
	d.conn.Close()
	d = connect(t, b, "sub", 4, false)
	d.expectSilence()
}

func TestCleanStartForgetsTheSession(t *testing.T) {
	b := startBroker(t, Options{})
	d := connect(t, b, "sub", 4, false)
	d.subscribeTo(packets.Subscription{Filter: "in", Qos: 1})
	d.conn.Close()
	eventually(t, "the device is gone", func() bool { return b.Stats().Clients == 0 })
	if err := b.Publish("in", []byte("x"), 1, false); err != nil {
		t.Fatal(err)
	}
	d = connect(t, b, "sub", 4, true)
	d.expectSilence()
}

func TestRetainedMessagesFollowTheSuback(t *testing.T) {
	b := startBroker(t, Options{})
	for i := range 3 {
		if err := b.Publish(fmt.Sprintf("r/%d", i), []byte("x"), 1, true); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Publish("r/1", nil, 1, true); err != nil { // removes it
		t.Fatal(err)
	}
	d := connect(t, b, "sub", 5, true)
	d.subscribeAs(9, packets.Subscription{Filter: "r/#", Qos: 1})
	got := map[string]bool{}
	for range 2 {
		pk := d.expect(packets.Publish)
		if got[pk.TopicName] = true; !pk.FixedHeader.Retain || len(pk.Properties.SubscriptionIdentifier) != 1 || pk.Properties.SubscriptionIdentifier[0] != 9 {
			t.Errorf("got %+v", pk)
		}
		d.puback(pk.PacketID)
	}
	if !got["r/0"] || !got["r/2"] {
		t.Errorf("got %v", got)
	}
	d.subscribeTo(packets.Subscription{Filter: "r/#", Qos: 1, RetainHandling: 1}) // not new
	d.expectSilence()
	d = connect(t, b, "other", 5, true)
	d.subscribeTo(packets.Subscription{Filter: "r/#", Qos: 1, RetainHandling: 2})
	d.expectSilence()
}

func TestSubscriptionOptions(t *testing.T) {
	b := startBroker(t, Options{})
	d := connect(t, b, "sub", 5, true)
	d.subscribeTo(
		packets.Subscription{Filter: "nl", Qos: 1, NoLocal: true},
		packets.Subscription{Filter: "rap", Qos: 1, RetainAsPublished: true})
	d.subscribeAs(3, packets.Subscription{Filter: "a/+", Qos: 0})
	d.subscribeAs(4, packets.Subscription{Filter: "a/b", Qos: 1})
	d.publish("nl", 0, 0, "x")
	if err := b.Publish("rap", []byte("kept"), 1, true); err != nil {
		t.Fatal(err)
	}
	if pk := d.expect(packets.Publish); pk.TopicName != "rap" || !pk.FixedHeader.Retain {
		t.Errorf("got %q, retain %v, expected rap as it was published", pk.TopicName, pk.FixedHeader.Retain)
	}
	if err := b.Publish("a/b", []byte("x"), 1, true); err != nil {
		t.Fatal(err)
	}
	if pk := d.expect(packets.Publish); pk.FixedHeader.Qos != 1 || pk.FixedHeader.Retain || fmt.Sprint(pk.Properties.SubscriptionIdentifier) != "[3 4]" {
		t.Errorf("got %+v, expected one at QoS 1 with both identifiers", pk)
	}
}

func TestDelayedWillIsForThoseWhoStayAway(t *testing.T) {
	b := startBroker(t, Options{})
	watcher := connect(t, b, "watcher", 5, true)
	watcher.subscribeTo(packets.Subscription{Filter: "will/#", Qos: 1})
	open := func(id string) *device {
		d, _ := connectWith(t, b, 5, packets.ConnectParams{
			ClientIdentifier: id, WillFlag: true, WillTopic: "will/" + id, WillPayload: []byte("gone"), WillQos: 1,
			WillProperties: packets.Properties{WillDelayInterval: 1, User: []packets.UserProperty{{Key: "k", Val: "v"}}},
		}, packets.Properties{SessionExpiryInterval: 100, SessionExpiryIntervalFlag: true})
		return d
	}
	open("back").conn.Close()
	eventually(t, "a will that waits", func() bool {
		s := b.hook.sessions.get("back")
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.will != nil
	})
	back := open("back")
	open("away").conn.Close()
	pk := watcher.expect(packets.Publish)
	if pk.TopicName != "will/away" || len(pk.Properties.User) != 1 {
		t.Errorf("got %q with %+v, expected will/away with its property", pk.TopicName, pk.Properties.User)
	}
	watcher.puback(pk.PacketID)
	back.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
	watcher.expectSilence()
}

func TestMessageExpiryIsCountedDown(t *testing.T) {
	b := startBroker(t, Options{})
	keep := packets.Properties{SessionExpiryInterval: 100, SessionExpiryIntervalFlag: true}
	d, _ := connectWith(t, b, 5, packets.ConnectParams{ClientIdentifier: "sub"}, keep)
	d.subscribeTo(packets.Subscription{Filter: "in", Qos: 1})
	d.conn.Close()
	eventually(t, "the device is gone", func() bool { return b.Stats().Clients == 0 })
	p := connect(t, b, "pub", 5, true)
	for i, expiry := range []uint32{1, 1000} {
		p.send(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, TopicName: "in", PacketID: uint16(i + 1), Payload: fmt.Appendf(nil, "m%d", i),
			Properties: packets.Properties{MessageExpiryInterval: expiry},
		})
		p.expectAcks(packets.Puback, uint16(i+1))
	}
	until := time.Now().Add(1100 * time.Millisecond)
	eventually(t, "the expiry of the first", func() bool { return time.Now().After(until) })
	d, _ = connectWith(t, b, 5, packets.ConnectParams{ClientIdentifier: "sub"}, keep)
	pk := d.expect(packets.Publish)
	if left := pk.Properties.MessageExpiryInterval; string(pk.Payload) != "m1" || left < 900 || left >= 1000 {
		t.Errorf("got %q with %d s left, expected m1 with a little less than 1000", pk.Payload, left)
	}
}

func TestSessionIsBounded(t *testing.T) {
	s := &session{limit: sessionLimit{messages: 10, bytes: 1 << 20}, stats: &counters{}, ids: map[uint16]*delivery{}}
	s.open(nil, 4, packets.Properties{}, never)
	for i := range 25 {
		s.deliver(&delivery{message: &outgoing{topic: "t", payload: fmt.Appendf(nil, "m%d", i), qos: 1}, qos: 1}, time.Now())
	}
	if n, size := s.owed(); n != 10 || size != 10*s.waiting[0].message.size() || string(s.waiting[0].message.payload) != "m15" || s.stats.trimmed.Load() != 15 {
		t.Errorf("got %d messages of %d bytes from %q, %d dropped, expected the newest ten", n, size, s.waiting[0].message.payload, s.stats.trimmed.Load())
	}
	s.limit.bytes = 3 * s.waiting[0].message.size()
	s.deliver(&delivery{message: &outgoing{topic: "t", payload: []byte("m99"), qos: 1}, qos: 1}, time.Now())
	if n, _ := s.owed(); n != 3 {
		t.Errorf("got %d messages, expected 3", n)
	}
}

func TestDuplicateQoS2PublishIsNoError(t *testing.T) {
	b := startBroker(t, Options{})
	w := connect(t, b, "w", 4, true)
	w.subscribe("x")
	d := connect(t, b, "dev", 5, true)
	d.publish("x", 2, 5, "once")
	d.expectAcks(packets.Pubrec, 5)
	d.publish("x", 2, 5, "once")
	if pk := d.expect(packets.Pubrec); pk.ReasonCode != 0 {
		t.Errorf("got reason %#x, expected success", pk.ReasonCode)
	}
	w.expectPayloads("once")
	w.expectSilence()
}

// TestTakenOver311DeviceIsToldNothing: MQTT 3.1.1 has no DISCONNECT from the
// server.
func TestTakenOver311DeviceIsToldNothing(t *testing.T) {
	b := startBroker(t, Options{})
	first := connect(t, b, "dev", 4, true)
	connect(t, b, "dev", 4, true)
	if pk, err := first.readFor(10 * time.Second); err == nil {
		t.Errorf("got packet type %d, expected the end of the connection", pk.FixedHeader.Type)
	}
}

func TestFramesAreTheServersOwn(t *testing.T) {
	now := time.Now()
	m := &outgoing{topic: "a/b", payload: bytes.Repeat([]byte("x"), 200), qos: 2, props: packets.Properties{ContentType: "c"}}
	for _, version := range []byte{4, 5} {
		for _, qos := range []byte{0, 1, 2} {
			f, err := m.shared(version, qos, false, nil, now)
			if err != nil {
				t.Fatal(err)
			}
			pk := packets.Packet{ProtocolVersion: version}
			b := f.appendTo([]byte("before"), 0x1234, qos > 0)[6:]
			if err := pk.FixedHeader.Decode(b[0]); err != nil {
				t.Fatal(err)
			}
			if err := pk.PublishDecode(b[3:]); err != nil {
				t.Fatal(err)
			}
			if pk.TopicName != "a/b" || len(pk.Payload) != 200 || pk.FixedHeader.Qos != qos || pk.FixedHeader.Dup != (qos > 0) ||
				(qos > 0 && pk.PacketID != 0x1234) || (version == 5) != (pk.Properties.ContentType == "c") {
				t.Errorf("MQTT %d, QoS %d: got %+v", version, qos, pk)
			}
		}
	}
}
