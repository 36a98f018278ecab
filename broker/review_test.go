package broker

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"outstation/broker/access"
)

// TestTheLastMessageIsTheRetainedOne subscribes while the retained message is
// replaced.
func TestTheLastMessageIsTheRetainedOne(t *testing.T) {
	b := startInMemory(t, Options{})
	sub := connect(t, b, "sub", 4, true)
	subscribe := encoded(t, 4, packets.Packet{FixedHeader: header(packets.Subscribe), PacketID: 7, Filters: packets.Subscriptions{{Filter: "r"}}})
	unsubscribe := encoded(t, 4, packets.Packet{FixedHeader: header(packets.Unsubscribe), PacketID: 8, Filters: packets.Subscriptions{{Filter: "r"}}})
	for i := range 2000 {
		published := make(chan error)
		go func() { published <- b.Publish("r", []byte(fmt.Sprint(i)), 0, true) }()
		if _, err := sub.conn.Write(subscribe); err != nil {
			t.Fatal(err)
		}
		if err := <-published; err != nil {
			t.Fatal(err)
		}
		if _, err := sub.conn.Write(unsubscribe); err != nil {
			t.Fatal(err)
		}
		last := ""
		for pk := sub.read(); pk.FixedHeader.Type != packets.Unsuback; pk = sub.read() {
			if pk.FixedHeader.Type == packets.Publish {
				last = string(pk.Payload)
			}
		}
		if last != fmt.Sprint(i) {
			t.Fatalf("round %d: the last message was %q", i, last)
		}
	}
}

// TestPropertiesCount fills a session with what is in no payload.
func TestPropertiesCount(t *testing.T) {
	const n, size = 20, 10_000
	b := startBroker(t, Options{Sessions: Sessions{MaxBytes: 5 * size}})
	d, _ := persistent(t, b, "d", 5)
	d.subscribeTo(packets.Subscription{Filter: "x", Qos: 1})
	d.leave(b, "d")
	pub := connect(t, b, "pub", 5, true)
	for range n {
		pub.send(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, TopicName: "x", PacketID: 1,
			Properties: packets.Properties{User: []packets.UserProperty{{Key: "k", Val: strings.Repeat("v", size)}}},
		})
		pub.expectAcks(packets.Puback, 1)
	}
	eventually(t, "the bound", func() bool {
		s := b.Stats().Sessions
		return s.Dropped > n-5 && s.OwedBytes <= 5*size && s.OwedBytes > 3*size
	})
	left := b.Stats().Sessions.Owed
	d, _ = persistent(t, b, "d", 5)
	for range left {
		d.puback(d.expect(packets.Publish).PacketID)
	}
	expectOwed(t, b, 0)
}

// TestAnswersThatWaitAreBounded repeats a publish of QoS 2 that is still being
// stored: each time the server has an answer.
func TestAnswersThatWaitAreBounded(t *testing.T) {
	k := &disk{}
	b := startBroker(t, Options{Sink: k.sink, Limits: Limits{MaxInflight: 8}})
	d := connect(t, b, "d", 5, true)
	d.publish("r/a", 2, 1, "x")
	k.await(t, 0)
	for range 50 {
		d.publish("r/a", 2, 1, "x")
	}
	eventually(t, "answers that wait", func() bool { return b.Stats().HeldAcks >= 8 })
	if _, err := d.conn.Write([]byte{packets.Pingreq << 4, 0}); err != nil {
		t.Fatal(err)
	}
	if pk, err := d.readFor(200 * time.Millisecond); err == nil {
		t.Fatalf("got packet type %d, expected that the device is not read", pk.FixedHeader.Type)
	}
	k.finish(t, 0, nil)
	for range 51 {
		d.expectAcks(packets.Pubrec, 1)
	}
	d.expect(packets.Pingresp)
}

// TestLongKeepAlives are beyond what the server counts to.
func TestLongKeepAlives(t *testing.T) {
	b := startInMemory(t, Options{})
	for _, seconds := range []uint16{43_691, 65_535} { // one and a half times the first are 65,536
		d := dial(t, b)
		d.send(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Connect},
			Connect:     packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: "d", Clean: true, Keepalive: seconds},
		})
		d.expect(packets.Connack)
		d.roundTrip()
		cl, _ := b.server.Clients.Get("d")
		g, ok := cl.Net.Conn.(*gate)
		if want := time.Duration(seconds) * 1500 * time.Millisecond; !ok || g.silence != want {
			t.Errorf("keep-alive %d: the connection may be silent for %v, expected %v", seconds, g.silence, want)
		}
	}
}

// TestPublishesOnTheServersOwnTopicsAreAnswered has them refused.
func TestPublishesOnTheServersOwnTopicsAreAnswered(t *testing.T) {
	b := startInMemory(t, Options{})
	d := connect(t, b, "d", 5, true)
	for qos, kind := range map[byte]byte{1: packets.Puback, 2: packets.Pubrec} {
		d.publish("$SYS/x", qos, 3, "x")
		if ack := d.expect(kind); ack.ReasonCode != packets.ErrNotAuthorized.Code || ack.PacketID != 3 {
			t.Errorf("QoS %d: got %+v, expected not authorized", qos, ack)
		}
	}
	d.publish("$SYS/x", 0, 0, "x")
	d.roundTrip()
	d = connect(t, b, "old", 4, true)
	d.publish("$SYS/x", 1, 3, "x")
	d.expectEnd()
	if n := b.Stats().Denied; n != 4 {
		t.Errorf("got %d denied, expected 4", n)
	}
}

// TestReasonsFitTheDevicesPackets has a device that takes small ones.
func TestReasonsFitTheDevicesPackets(t *testing.T) {
	k := &disk{}
	b := startBroker(t, Options{Sink: k.sink, Reserved: []string{"vision/"}, RefusalWait: 20 * time.Millisecond})
	for version, most := range map[string]uint32{"small": 20, "large": 200} {
		d, _ := connectWith(t, b, 5, packets.ConnectParams{ClientIdentifier: version, Clean: true}, packets.Properties{MaximumPacketSize: most})
		d.publish("vision/x", 1, 1, "x")
		if ack := d.expect(packets.Puback); ack.ReasonCode != packets.ErrNotAuthorized.Code || (ack.Properties.ReasonString == "") != (most == 20) {
			t.Errorf("%s: got %+v", version, ack)
		}
		k.refuse(fmt.Errorf("no room on the disk of this appliance"))
		d.publish("r/a", 1, 2, "x")
		if ack := d.expect(packets.Puback); ack.ReasonCode != packets.ErrQuotaExceeded.Code || (ack.Properties.ReasonString == "") != (most == 20) {
			t.Errorf("%s: got %+v", version, ack)
		}
	}
}

// TestQoS0IsNotInFlight publishes with as much in flight as is allowed.
func TestQoS0IsNotInFlight(t *testing.T) {
	b := startInMemory(t, Options{Limits: Limits{MaxInflight: 2}})
	d, ack := connectWith(t, b, 5, packets.ConnectParams{ClientIdentifier: "d", Clean: true}, packets.Properties{})
	if ack.Properties.ReceiveMaximum != 2 {
		t.Errorf("got Receive Maximum %d, expected 2", ack.Properties.ReceiveMaximum)
	}
	for id := range uint16(2) {
		d.publish("x", 2, id+1, "x")
		d.expectAcks(packets.Pubrec, id+1)
	}
	d.publish("x", 0, 0, "x")
	d.publish("x", 2, 2, "x") // again, which is none more
	d.expectAcks(packets.Pubrec, 2)
	d.publish("x", 2, 3, "x")
	d.expectEndWith(packets.ErrReceiveMaximum.Code)
}

// TestWillsOfSessionsThatEnd has a DISCONNECT that is none, and a clean start
// while a will waits.
func TestWillsOfSessionsThatEnd(t *testing.T) {
	b := startInMemory(t, Options{})
	watcher := connect(t, b, "watcher", 5, true)
	watcher.subscribeTo(packets.Subscription{Filter: "will/#", Qos: 0})
	open := func(id string, delay, expiry uint32, clean bool) *device {
		d, _ := connectWith(t, b, 5, packets.ConnectParams{
			ClientIdentifier: id, Clean: clean, WillFlag: true, WillTopic: "will/" + id, WillPayload: []byte("gone"),
			WillProperties: packets.Properties{WillDelayInterval: delay},
		}, packets.Properties{SessionExpiryInterval: expiry, SessionExpiryIntervalFlag: expiry > 0})
		return d
	}
	if _, err := open("wrong", 0, 0, true).conn.Write([]byte{packets.Disconnect << 4, 7, 0, 5, packets.PropSessionExpiryInterval, 0, 0, 0, 9}); err != nil {
		t.Fatal(err)
	}
	if pk := watcher.expect(packets.Publish); pk.TopicName != "will/wrong" {
		t.Errorf("got %q, expected the will of a connection that ended with an error", pk.TopicName)
	}
	open("anew", 100, 100, false).leave(b, "anew")
	open("anew", 100, 100, true)
	if pk := watcher.expect(packets.Publish); pk.TopicName != "will/anew" || !bytes.Equal(pk.Payload, []byte("gone")) {
		t.Errorf("got %q, expected the will of the session that ended", pk.TopicName)
	}
}

// TestWhatIsRememberedOfLoginsIsBounded is of logins that were right, of those
// that wait, and of addresses that connect.
func TestWhatIsRememberedOfLoginsIsBounded(t *testing.T) {
	p := newPasswords()
	var hash access.Hash
	for i := range maxVerified + 10 {
		p.remember(fmt.Sprint(i), hash, nil)
	}
	if n := len(p.verified); n != maxVerified || !p.known(fmt.Sprint(maxVerified+9), hash, nil) {
		t.Errorf("got %d logins, expected %d and the newest among them", n, maxVerified)
	}
	for i := range 10 {
		if err := p.inTurn(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), nil, func() {}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(p.queues); n != 0 || p.waiting != 0 {
		t.Errorf("got %d queues and %d that wait, expected none", n, p.waiting)
	}
	r, now := newConnectRates(10), time.Now()
	for i := range maxBuckets + 10 {
		r.take(fmt.Sprintf("10.0.%d.%d:1", i/250, i%250), now)
	}
	if n := len(r.from); n != maxBuckets {
		t.Errorf("got %d addresses, expected %d", n, maxBuckets)
	}
	r.take("10.0.0.1:1", now.Add(time.Minute))
	if n := len(r.from); n != 1 {
		t.Errorf("got %d addresses a minute later, expected 1", n)
	}
}

// TestADeviceThatIsBackKeepsItsSession comes back between the keeper's look and
// its deed.
func TestADeviceThatIsBackKeepsItsSession(t *testing.T) {
	b := startInMemory(t, Options{})
	connect(t, b, "d", 4, false)
	s := b.hook.sessions.get("d")
	b.hook.sessions.expire(s)
	if b.hook.sessions.get("d") != s || s.over() {
		t.Error("the session of a device that is connected has expired")
	}
}

// TestARefusedSubscriptionIsNone has one that the disk does not take.
func TestARefusedSubscriptionIsNone(t *testing.T) {
	for version, want := range map[byte]byte{4: packets.ErrUnspecifiedError.Code, 5: packets.ErrQuotaExceeded.Code} {
		disk := newSlow()
		b := startBroker(t, Options{fault: disk.fault})
		d, _ := persistent(t, b, "d", version)
		disk.set(false, fmt.Errorf("the disk fails"))
		if got := d.reasons("x"); len(got) != 1 || got[0] != want {
			t.Errorf("MQTT %d: got reasons %v, expected %#x", version, got, want)
		}
		disk.set(false, nil)
		if err := b.Publish("x", []byte("m"), 0, false); err != nil {
			t.Fatal(err)
		}
		d.expectSilence()
		if n := b.Stats().Subscriptions; n != 0 {
			t.Errorf("MQTT %d: got %d subscriptions, expected none", version, n)
		}
	}
}

// TestAReloadReachesWhoIsConnecting comes between a login and the session.
func TestAReloadReachesWhoIsConnecting(t *testing.T) {
	b := startInMemory(t, Options{Users: usersOf(t, "u:pw")})
	d := logIn(t, b, 5, "d", "u", "pw")
	cl, _ := b.server.Clients.Get("d")
	b.hook.policy.Store(&policy{users: usersOf(t, "other:pw")})
	b.hook.OnSessionEstablished(cl, packets.Packet{})
	d.expectEndWith(packets.ErrNotAuthorized.Code)
}
