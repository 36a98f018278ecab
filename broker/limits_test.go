package broker

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// expectLimited checks how often devices went beyond a limit.
func expectLimited(t *testing.T, b *Broker, name string, want int64) {
	t.Helper()
	if got := b.Stats().Limited[name]; got != want {
		t.Errorf("limit %s: got %d, expected %d", name, got, want)
	}
}

// expectEndWith reads until the connection ends; an MQTT 5 device is told the
// reason before.
func (d *device) expectEndWith(reason byte) {
	d.t.Helper()
	told := false
	for {
		pk, err := d.readFor(10 * time.Second)
		if err != nil {
			break
		}
		if pk.FixedHeader.Type == packets.Disconnect {
			told = true
			if got := pk.ReasonCode; got != reason {
				d.t.Errorf("got DISCONNECT with reason %#x, expected %#x", got, reason)
			}
		}
	}
	if told != (d.v >= 5) {
		d.t.Errorf("MQTT %d: DISCONNECT came: %v", d.v, told)
	}
}

func TestConnackAnnouncesTheLimits(t *testing.T) {
	b := startBroker(t, Options{Limits: Limits{MaxPacketBytes: 4096, MaxInflight: 7}})
	_, ack := connectWith(t, b, 5, packets.ConnectParams{ClientIdentifier: "dev", Clean: true}, packets.Properties{})
	if p := ack.Properties; p.MaximumPacketSize != 4096 || p.ReceiveMaximum != 7 || p.TopicAliasMaximum != maxAliases {
		t.Errorf("got packet size %d, receive maximum %d, topic aliases %d", p.MaximumPacketSize, p.ReceiveMaximum, p.TopicAliasMaximum)
	}
}

func TestPacketSize(t *testing.T) {
	const most = 4096
	b := startBroker(t, Options{Limits: Limits{MaxPacketBytes: most}})
	for i, version := range []byte{4, 5} {
		d := connect(t, b, "dev", version, true)
		overhead := 1 + 2 + 2 + 1 + 2 // header, length, topic, packet id
		if version == 5 {
			overhead++ // no properties
		}
		d.publish("x", 1, 1, strings.Repeat("p", most-overhead))
		d.expectAcks(packets.Puback, 1)
		d.publish("x", 1, 2, strings.Repeat("p", most-overhead+1))
		d.expectEndWith(packets.ErrPacketTooLarge.Code)
		expectLimited(t, b, "packet_size", int64(i+1))
	}
	before := dial(t, b) // whoever is not known yet may not promise much
	if _, err := before.conn.Write([]byte{packets.Connect << 4, 0xff, 0xff, 0x3f}); err != nil {
		t.Fatal(err)
	}
	before.expectEnd()
}

func TestFirstPacketIsSmall(t *testing.T) {
	b := startBroker(t, Options{})
	d := dial(t, b)
	if _, err := d.conn.Write([]byte{packets.Connect << 4, 0x80, 0x80, 0x08}); err != nil { // 128 KiB
		t.Fatal(err)
	}
	d.expectEnd()
	expectLimited(t, b, "packet_size", 1)
}

func TestConnections(t *testing.T) {
	b := startBroker(t, Options{Limits: Limits{MaxConnections: 2}})
	first := connect(t, b, "a", 4, true)
	connect(t, b, "b", 4, true)
	for version, want := range map[byte]byte{4: packets.Err3ServerUnavailable.Code, 5: packets.ErrQuotaExceeded.Code} {
		_, ack := connectWith(t, b, version, packets.ConnectParams{ClientIdentifier: "c", Clean: true}, packets.Properties{})
		if ack.ReasonCode != want {
			t.Errorf("MQTT %d: got %#x, expected %#x", version, ack.ReasonCode, want)
		}
	}
	expectLimited(t, b, "connections", 2)
	connect(t, b, "b", 5, true) // takes its own place
	first.conn.Close()
	eventually(t, "a free place", func() bool { return len(b.Clients()) == 1 })
	connect(t, b, "c", 4, true)
}

func TestConnectRate(t *testing.T) {
	r := newConnectRates(10)
	now := time.Unix(1000, 0)
	for i := range 10 {
		if wait, ok := r.take("10.0.0.1:1", now); wait != 0 || !ok {
			t.Fatalf("connection %d waits %v, ok %v", i, wait, ok)
		}
	}
	waiting := 0
	for ; ; waiting++ {
		wait, ok := r.take("10.0.0.1:2", now)
		if !ok {
			break
		}
		if want := time.Duration(waiting+1) * 100 * time.Millisecond; wait != want {
			t.Fatalf("connection %d waits %v, expected %v", waiting, wait, want)
		}
	}
	if waiting != 50 {
		t.Errorf("%d wait, expected 50", waiting)
	}
	if wait, ok := r.take("10.0.0.2:1", now); wait != 0 || !ok {
		t.Errorf("another address waits %v, ok %v", wait, ok)
	}
	if wait, ok := r.take("10.0.0.1:3", now.Add(time.Minute)); wait != 0 || !ok {
		t.Errorf("a minute later: wait %v, ok %v", wait, ok)
	}
	if len(r.from) != 1 {
		t.Errorf("%d addresses are remembered, expected 1", len(r.from))
	}
	if networkOf("[2001:db8:1:2:3::4]:5") != networkOf("[2001:db8:1:2:9::9]:6") {
		t.Error("two addresses of one IPv6 network count by themselves")
	}
}

func TestConnectRateIsTold(t *testing.T) {
	b := startBroker(t, Options{Limits: Limits{ConnectsPerS: 0.1}})
	connect(t, b, "a", 4, true)
	for version, want := range map[byte]byte{4: packets.Err3ServerUnavailable.Code, 5: packets.ErrConnectionRateExceeded.Code} {
		_, ack := connectWith(t, b, version, packets.ConnectParams{ClientIdentifier: "b", Clean: true}, packets.Properties{})
		if ack.ReasonCode != want {
			t.Errorf("MQTT %d: got %#x, expected %#x", version, ack.ReasonCode, want)
		}
	}
	expectLimited(t, b, "connect_rate", 2)
}

// TestPublishRateHoldsTheDeviceBack has a device that sends at once what it
// may send in a second and a half: nothing is lost, and it takes that long.
func TestPublishRateHoldsTheDeviceBack(t *testing.T) {
	b := startBroker(t, Options{Limits: Limits{PublishesPerS: 20}})
	watcher := connect(t, b, "watcher", 4, true)
	watcher.subscribe("x")
	d := connect(t, b, "dev", 5, true)
	start := time.Now()
	const n = 30
	for i := range n {
		d.publish("x", 1, uint16(i+1), fmt.Sprint(i))
	}
	for i := range n {
		d.expectAcks(packets.Puback, uint16(i+1))
		watcher.expectPayloads(fmt.Sprint(i))
	}
	if took := time.Since(start); took < 450*time.Millisecond {
		t.Errorf("%d publishes at 20 a second took %v", n, took)
	}
	if b.Stats().Limited["publish_rate"] == 0 {
		t.Error("nothing was counted")
	}
}

func TestTopicsAreShort(t *testing.T) {
	b := startBroker(t, Options{Limits: Limits{MaxTopicLevels: 3, MaxTopicBytes: 10}})
	watcher := connect(t, b, "watcher", 4, true)
	watcher.subscribe("#")
	bad := []string{"a/b/c/d", "a2345678901"}
	five := connect(t, b, "five", 5, true)
	for i, topic := range bad {
		five.publish(topic, 0, 0, "x")
		for qos, kind := range map[byte]byte{1: packets.Puback, 2: packets.Pubrec} {
			five.publish(topic, qos, uint16(i+1), "x")
			if pk := five.expect(kind); pk.ReasonCode != packets.ErrTopicNameInvalid.Code {
				t.Errorf("%s at QoS %d: got reason %#x", topic, qos, pk.ReasonCode)
			}
		}
		old := connect(t, b, "old", 4, true)
		old.publish(topic, 0, 0, "x")
		old.expectSilence()
		old.publish(topic, 1, 1, "x")
		old.expectEnd()
	}
	five.publish("a/b/c", 1, 9, "good")
	five.expectAcks(packets.Puback, 9)
	five.publish("a234567890", 1, 9, "good too")
	five.expectAcks(packets.Puback, 9)
	watcher.expectPayloads("good", "good too")
	expectLimited(t, b, "topic", 10)

	for version, want := range map[byte]byte{4: packets.Err3NotAuthorized.Code, 5: packets.ErrTopicNameInvalid.Code} {
		_, ack := connectWith(t, b, version, packets.ConnectParams{
			ClientIdentifier: "dying", Clean: true, WillFlag: true, WillTopic: "a/b/c/d", WillPayload: []byte("x"),
		}, packets.Properties{})
		if ack.ReasonCode != want {
			t.Errorf("will, MQTT %d: got %#x, expected %#x", version, ack.ReasonCode, want)
		}
	}
}

// reasons subscribes and returns the reason codes.
func (d *device) reasons(filters ...string) []byte {
	d.t.Helper()
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 7}
	for _, f := range filters {
		pk.Filters = append(pk.Filters, packets.Subscription{Filter: f})
	}
	d.send(pk)
	return d.expect(packets.Suback).ReasonCodes
}

func TestSubscriptionsAreCounted(t *testing.T) {
	b := startBroker(t, Options{Limits: Limits{MaxSubscriptions: 3, MaxTopicLevels: 3}})
	for version, want := range map[byte][2]byte{4: {0x80, 0x80}, 5: {0x97, 0x8f}} {
		d := connect(t, b, fmt.Sprint("dev", version), version, true)
		quota, invalid := want[0], want[1]
		for _, step := range []struct {
			filters []string
			want    []byte
		}{
			{[]string{"a", "b", "a/b/c/#"}, []byte{0, 0, invalid}},
			{[]string{"a", "c", "d"}, []byte{0, 0, quota}},
			{[]string{"b", "e"}, []byte{0, quota}},
		} {
			if got := d.reasons(step.filters...); string(got) != string(step.want) {
				t.Errorf("MQTT %d, %v: got % x, expected % x", version, step.filters, got, step.want)
			}
		}
		if err := b.Publish("c", []byte("hello"), 0, false); err != nil {
			t.Fatal(err)
		}
		d.expectPayloads("hello")
	}
	expectLimited(t, b, "subscriptions", 4)
	expectLimited(t, b, "topic", 2)
	if got := b.Stats().Subscriptions; got != 6 {
		t.Errorf("%d subscriptions, expected 6", got)
	}
}

func TestInflightOfQoS2(t *testing.T) {
	b := startBroker(t, Options{Limits: Limits{MaxInflight: 3}})
	for _, version := range []byte{4, 5} {
		d := connect(t, b, "dev", version, true)
		for id := range uint16(3) {
			d.publish("x", 2, id+1, "x")
			d.expectAcks(packets.Pubrec, id+1)
		}
		d.publish("x", 2, 4, "x")
		d.expectEndWith(packets.ErrReceiveMaximum.Code)
	}
	eventually(t, "the counts", func() bool { return b.Stats().Limited["in_flight"] == 2 })
}

// TestFramer cuts a stream of packets at every place.
func TestFramer(t *testing.T) {
	stream := []byte{packets.Pingreq << 4, 0, packets.Publish << 4, 4, 0, 1, 'x', 'y', packets.Publish<<4 | 2, 0x81, 0x00, 9, packets.Pingreq << 4, 0}
	large := append(append([]byte{}, stream...), packets.Publish<<4, 0xff, 0x7f)
	for cut := range len(large) {
		f := framer{}
		good, publishes, ok := f.feed(large[:cut], 1000)
		if cut > len(stream) {
			good = min(good, len(stream)) // the header may be counted before the length is known
		}
		more, morePublishes, okay := f.feed(large[cut:], 1000)
		if !ok || okay {
			t.Fatalf("cut at %d: ok %v and %v, expected the last packet to be too large", cut, ok, okay)
		}
		if got := good + more; got != len(stream) || publishes+morePublishes != 2 {
			t.Errorf("cut at %d: got %d bytes and %d publishes, expected %d and 2", cut, got, publishes+morePublishes, len(stream))
		}
	}
	garbage := framer{}
	if good, _, ok := garbage.feed([]byte{0x30, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2}, 1000); !ok || good != 8 {
		t.Error("what is not MQTT is the server's to judge")
	}
}

func TestClientIDsAreShort(t *testing.T) {
	b := startInMemory(t, Options{})
	for version, want := range map[byte]byte{4: packets.Err3ClientIdentifierNotValid.Code, 5: packets.ErrClientIdentifierNotValid.Code} {
		_, ack := connectWith(t, b, version, packets.ConnectParams{ClientIdentifier: strings.Repeat("x", maxClientID+1), Clean: true}, packets.Properties{})
		if ack.ReasonCode != want {
			t.Errorf("MQTT %d: got %#x, expected %#x", version, ack.ReasonCode, want)
		}
	}
	connect(t, b, strings.Repeat("x", maxClientID), 4, true)
	expectLimited(t, b, "client_id", 2)
}

// TestSessionsAreCounted fills the broker with sessions of devices that are
// away.
func TestSessionsAreCounted(t *testing.T) {
	b := startInMemory(t, Options{Limits: Limits{MaxConnections: 2}})
	a := b.hook.sessions
	connect(t, b, "known", 4, false).leave(b, "known")
	a.mu.Lock()
	for i := range maxSessions + 1 {
		a.add(fmt.Sprint("away-", i), true).keep = true
		a.byID[fmt.Sprint("away-", i)].expiry = never
	}
	a.mu.Unlock()
	_, ack := connectWith(t, b, 5, packets.ConnectParams{ClientIdentifier: "new"}, packets.Properties{SessionExpiryInterval: 9, SessionExpiryIntervalFlag: true})
	if ack.ReasonCode != packets.ErrQuotaExceeded.Code {
		t.Errorf("got %#x, expected a refusal", ack.ReasonCode)
	}
	connect(t, b, "known", 4, false)
	connect(t, b, "new", 4, true)
	expectLimited(t, b, "sessions", 1)
}
