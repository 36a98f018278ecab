package broker

import (
	"fmt"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// TestSessionIsBoundedOnDisk passes the bound of messages while the device is
// away and while it does not acknowledge.
func TestSessionIsBoundedOnDisk(t *testing.T) {
	for _, away := range []bool{true, false} {
		b := startBroker(t, Options{Sessions: Sessions{MaxMessages: 50}})
		d, _ := connectWith(t, b, 5, packets.ConnectParams{ClientIdentifier: "sub"},
			packets.Properties{SessionExpiryInterval: 1000, SessionExpiryIntervalFlag: true, ReceiveMaximum: 5})
		d.subscribeTo(packets.Subscription{Filter: "x", Qos: 1})
		first := 0
		if away {
			d.leave(b, "sub")
		}
		pub := connect(t, b, "pub", 4, true)
		pub.sayAll("x", 400, func(i int) string { return fmt.Sprintf("m%d", i) })
		eventually(t, "the bound", func() bool { return b.Stats().Sessions.Owed <= 50 })
		s := b.Stats().Sessions
		if s.Owed != 50 || s.Dropped != 350 || len(s.Losing) != 1 || s.Losing[0] != (SessionDropped{"sub", 350}) {
			t.Errorf("away %v: got %+v", away, s)
		}
		if away {
			d, _ = persistent(t, b, "sub", 5)
		} else {
			for i := range 5 { // were sent
				d.expectPayloads(fmt.Sprintf("m%d", i))
			}
			first = 5
		}
		for i := 350 + first; i < 400; i++ {
			d.expectPayloads(fmt.Sprintf("m%d", i))
		}
		eventually(t, "nothing in the store", func() bool { return keys(t, b, prefixDelivery) == 0 })
	}
}

// TestAllSessionsAreBounded: the largest pays, not the one that comes last.
func TestAllSessionsAreBounded(t *testing.T) {
	one := (&outgoing{topic: "big", payload: make([]byte, 1000)}).size()
	b := startBroker(t, Options{Sessions: Sessions{MaxTotalBytes: 60 * one}})
	for _, id := range []string{"big", "small"} {
		d, _ := persistent(t, b, id, 4)
		d.subscribeTo(packets.Subscription{Filter: id, Qos: 1})
		d.leave(b, id)
	}
	pub := connect(t, b, "pub", 4, true)
	pub.sayAll("big", 200, func(int) string { return string(make([]byte, 1000)) })
	for i := range 10 {
		pub.say("small", fmt.Sprint(i))
	}
	eventually(t, "the bound", func() bool { return b.Stats().Sessions.OwedBytes <= 60*one })
	if s := b.Stats().Sessions; len(s.Losing) != 1 || s.Losing[0].ClientID != "big" || s.Owed < 60 {
		t.Errorf("got %+v", s)
	}
	d, _ := persistent(t, b, "small", 4)
	for i := range 10 {
		d.expectPayloads(fmt.Sprint(i))
	}
}

func TestSessionExpires(t *testing.T) {
	b := startBroker(t, Options{})
	short := packets.Properties{SessionExpiryInterval: 1, SessionExpiryIntervalFlag: true}
	d, _ := connectWith(t, b, 5, packets.ConnectParams{ClientIdentifier: "short"}, short)
	d.subscribeTo(packets.Subscription{Filter: "x", Qos: 1})
	d.leave(b, "short")
	long, _ := persistent(t, b, "long", 4)
	long.leave(b, "long")
	connect(t, b, "pub", 4, true).say("x", "m")
	after := afterKill(t, b, Options{})
	for _, b := range []*Broker{b, after} {
		eventually(t, "the end of the session", func() bool { return b.Stats().Sessions.Sessions == 1 })
		eventually(t, "its end in the store", func() bool {
			return keys(t, b, prefixSession) == 1 && keys(t, b, prefixSubscription, prefixDelivery, prefixMessage) == 0
		})
		if n := len(b.server.Topics.Subscribers("x").Subscriptions); n != 0 || b.Stats().Sessions.Expired != 1 {
			t.Errorf("got %d subscribers and %d expired sessions, expected 0 and 1", n, b.Stats().Sessions.Expired)
		}
		if _, ack := connectWith(t, b, 5, packets.ConnectParams{ClientIdentifier: "short"}, short); ack.SessionPresent {
			t.Error("the session is still present")
		}
	}
}

// TestTimeOffCounts lets a process have been off for longer than a session, a
// message and a retained message last.
func TestTimeOffCounts(t *testing.T) {
	b := startBroker(t, Options{})
	d, _ := persistent(t, b, "gone", 4+1)
	d.leave(b, "gone")
	d, _ = connectWith(t, b, 5, packets.ConnectParams{ClientIdentifier: "stays"},
		packets.Properties{SessionExpiryInterval: 5000, SessionExpiryIntervalFlag: true})
	d.subscribeTo(packets.Subscription{Filter: "x", Qos: 1})
	d.leave(b, "stays")
	pub := connect(t, b, "pub", 5, true)
	for _, expiry := range []uint32{100, 3000} {
		pub.send(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1, Retain: expiry == 100}, TopicName: "x", PacketID: 1, Payload: fmt.Append(nil, expiry),
			Properties: packets.Properties{MessageExpiryInterval: expiry},
		})
		pub.expectAcks(packets.Puback, 1)
	}
	st := b.hook.sessions.store
	if err := st.write(&op{key: []byte{prefixClock}, value: st.clock.encode(time.Now().Add(-2000 * time.Second))}); err != nil {
		t.Fatal(err)
	}
	b = afterKill(t, b, Options{})
	d, ack := connectWith(t, b, 5, packets.ConnectParams{ClientIdentifier: "stays"},
		packets.Properties{SessionExpiryInterval: 5000, SessionExpiryIntervalFlag: true})
	if !ack.SessionPresent {
		t.Error("a session has expired too early")
	}
	pk := d.expect(packets.Publish)
	if left := pk.Properties.MessageExpiryInterval; string(pk.Payload) != "3000" || left < 900 || left > 1000 {
		t.Errorf("got %q with %d s left, expected 3000 with a little less than 1000", pk.Payload, left)
	}
	eventually(t, "the end of the other session", func() bool { return b.Stats().Sessions.Expired == 1 && b.hook.sessions.get("gone") == nil })
	eventually(t, "the end of the retained message", func() bool { return b.Stats().Retained == 0 })
}

func TestSessionExpiryIsBounded(t *testing.T) {
	b := startBroker(t, Options{Sessions: Sessions{MaxExpiry: time.Hour}})
	_, ack := connectWith(t, b, 5, packets.ConnectParams{ClientIdentifier: "d"},
		packets.Properties{SessionExpiryInterval: never, SessionExpiryIntervalFlag: true})
	if !ack.Properties.SessionExpiryIntervalFlag || ack.Properties.SessionExpiryInterval != 3600 {
		t.Errorf("got an expiry of %d s, expected to be told 3600", ack.Properties.SessionExpiryInterval)
	}
	persistent(t, b, "old", 4)
	if s := b.hook.sessions.get("old"); s.expiry != 3600 {
		t.Errorf("got an expiry of %d s for 3.1.1, expected 3600", s.expiry)
	}
}

// TestClockCountsOnlyTimeThatPassed sets the system's clock between two runs.
func TestClockCountsOnlyTimeThatPassed(t *testing.T) {
	then := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	unset := time.Date(1970, 1, 1, 0, 10, 0, 0, time.UTC)
	for _, c := range []struct {
		name      string
		then, now time.Time
		want      time.Duration
	}{
		{"an hour off", then, then.Add(time.Hour), time.Hour},
		{"set back", then, then.Add(-time.Hour), 0},
		{"not set before", unset, then, 0},
		{"not set now", then, unset, 0},
	} {
		clock := resume(int64(time.Minute), c.then.UnixNano(), c.now)
		if got := time.Duration(clock.base) - time.Minute; got != c.want {
			t.Errorf("%s: got %v, expected %v", c.name, got, c.want)
		}
		at := c.now.Add(7 * time.Second)
		if back := clock.time(clock.deadline(at)); !back.Equal(at) || !clock.time(clock.deadline(time.Time{})).IsZero() {
			t.Errorf("%s: got %v, expected %v", c.name, back, at)
		}
	}
}
