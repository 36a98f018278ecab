package broker

import (
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

func TestRetainedMessagesSurviveAKill(t *testing.T) {
	b := startBroker(t, Options{})
	pub := connect(t, b, "pub", 5, true)
	retain := func(topic, payload string, expiry uint32) {
		t.Helper()
		pub.send(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1, Retain: true}, TopicName: topic, PacketID: 9, Payload: []byte(payload),
			Properties: packets.Properties{ContentType: "text", User: []packets.UserProperty{{Key: "k", Val: "v"}}, MessageExpiryInterval: expiry},
		})
		pub.expectAcks(packets.Puback, 9)
	}
	retain("r/kept", "old", 0)
	retain("r/kept", "new", 500)
	retain("r/gone", "x", 0)
	retain("r/gone", "", 0)
	retain("r/short", "x", 1)
	if b.Stats().Retained != 2 {
		t.Errorf("got %d retained messages, expected 2", b.Stats().Retained)
	}
	b = afterKill(t, b, Options{})
	if b.Stats().Retained != 2 {
		t.Errorf("got %d retained messages after the kill, expected 2", b.Stats().Retained)
	}
	eventually(t, "the end of the short one", func() bool { return b.Stats().Retained == 1 })
	eventually(t, "its end in the store", func() bool { return keys(t, b, prefixRetained) == 1 && keys(t, b, prefixMessage) == 1 })
	sub := connect(t, b, "sub", 5, true)
	sub.subscribeTo(packets.Subscription{Filter: "r/#", Qos: 1})
	pk := sub.expect(packets.Publish)
	left := pk.Properties.MessageExpiryInterval
	if string(pk.Payload) != "new" || !pk.FixedHeader.Retain || pk.Properties.ContentType != "text" || len(pk.Properties.User) != 1 || left > 499 || left < 400 {
		t.Errorf("got %q, retain %v, %d s left, properties %+v", pk.Payload, pk.FixedHeader.Retain, left, pk.Properties)
	}
	sub.puback(pk.PacketID)
	sub.expectSilence()
}

func TestRetainedMessagesAreBounded(t *testing.T) {
	b := startBroker(t, Options{RefusalWait: 50 * time.Millisecond})
	b.hook.sessions.retain.limit = sessionLimit{messages: 2, bytes: 2000}
	pub := connect(t, b, "pub", 5, true)
	for i, c := range []struct {
		topic string
		size  int
		ok    bool
	}{{"a", 10, true}, {"b", 10, true}, {"c", 10, false}, {"a", 20, true}, {"a", 2000, false}, {"b", 0, true}, {"c", 10, true}} {
		pub.send(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1, Retain: true}, TopicName: c.topic, PacketID: 9, Payload: make([]byte, c.size),
		})
		if pk := pub.expect(packets.Puback); (pk.ReasonCode < 0x80) != c.ok {
			t.Errorf("%d: %s with %d bytes: got reason %#x", i, c.topic, c.size, pk.ReasonCode)
		}
	}
	if s := b.Stats(); s.Retained != 2 || s.Sessions.RetainedRefused != 2 {
		t.Errorf("got %d retained and %d refused, expected 2 and 2", s.Retained, s.Sessions.RetainedRefused)
	}
}

// TestRetainedMessagesOfAFilter: what a new subscription gets is what it
// would have got when it was published.
func TestRetainedMessagesOfAFilter(t *testing.T) {
	b := startBroker(t, Options{})
	topics := []string{"a", "a/b", "a/b/c", "ab", "/", "/a", "b/b", "$own", "$own/b"}
	pub := connect(t, b, "pub", 5, true)
	for _, topic := range topics {
		pub.send(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1, Retain: true}, TopicName: topic, PacketID: 9, Payload: []byte("x"),
		})
		pub.expectAcks(packets.Puback, 9)
	}
	for _, c := range []struct {
		filter string
		want   []string
	}{
		{"a/#", []string{"a", "a/b", "a/b/c"}},
		{"a/b/#", []string{"a/b", "a/b/c"}},
		{"a/b/c/#", []string{"a/b/c"}},
		{"a/+/#", []string{"a/b", "a/b/c"}},
		{"+/#", []string{"/", "/a", "a", "a/b", "a/b/c", "ab", "b/b"}},
		{"+/+/#", []string{"/", "/a", "a/b", "a/b/c", "b/b"}},
		{"#", []string{"/", "/a", "a", "a/b", "a/b/c", "ab", "b/b"}},
		{"/#", []string{"/", "/a"}},
		{"+", []string{"a", "ab"}},
		{"+/b", []string{"a/b", "b/b"}},
		{"a", []string{"a"}},
		{"c/#", nil},
		{"$own/#", []string{"$own", "$own/b"}},
		{"$own/+", []string{"$own/b"}},
		{"$own", []string{"$own"}},
		{"$share/g/a/#", nil}, // MQTT 5, section 4.8.2
	} {
		d := connect(t, b, "sub", 5, true)
		d.subscribeTo(packets.Subscription{Filter: c.filter, Qos: 1})
		var got []string
		for range c.want {
			pk := d.expect(packets.Publish)
			if got = append(got, pk.TopicName); !pk.FixedHeader.Retain {
				t.Errorf("%s: %s came without the retain flag", c.filter, pk.TopicName)
			}
			d.puback(pk.PacketID)
		}
		d.expectSilence()
		if slices.Sort(got); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, expected %q", c.filter, got, c.want)
		}
		d.conn.Close()
	}
}

// TestServersOwnTopicsNeedTheirName: # brings nothing below $SYS.
func TestServersOwnTopicsNeedTheirName(t *testing.T) {
	b := startBroker(t, Options{})
	d := connect(t, b, "sub", 5, true)
	d.subscribeTo(packets.Subscription{Filter: "#"}, packets.Subscription{Filter: "+/#"}, packets.Subscription{Filter: "+/broker/version"})
	d.expectSilence()
	d.subscribe("$SYS/broker/version/#")
	if pk := d.expect(packets.Publish); pk.TopicName != "$SYS/broker/version" {
		t.Errorf("got %s, expected $SYS/broker/version", pk.TopicName)
	}
}

// TestWhatAKillLeavesIsSwept has keys without what they belong to, as a kill
// leaves them.
func TestWhatAKillLeavesIsSwept(t *testing.T) {
	b := startBroker(t, Options{})
	for _, id := range []string{"ended", "stays"} {
		subscribedAndAway(t, b, id, "x")
	}
	pub := connect(t, b, "pub", 4, true)
	pub.say("x", "shared by two")
	if err := b.Publish("kept", []byte("m"), 1, true); err != nil {
		t.Fatal(err)
	}
	st := b.hook.sessions.store
	if err := st.write(); err != nil { // so the store has all of it
		t.Fatal(err)
	}
	stays, ended := b.hook.sessions.get("stays").stored, b.hook.sessions.get("ended").stored
	if err := st.write(
		&op{key: key(prefixSession, ended.number)},
		&op{key: deliveryKey(stays.number, 1)},
		&op{key: key(prefixMessage, b.hook.sessions.retain.byTopic["kept"].number)},
		&op{key: key(prefixMessage, 99), value: appendMessage(nil, &outgoing{topic: "nobody's"}, st.clock)},
	); err != nil {
		t.Fatal(err)
	}
	b = afterKill(t, b, Options{})
	eventually(t, "one session with its subscription, and nothing else", func() bool {
		return keys(t, b, prefixSession) == 1 && keys(t, b, prefixSubscription) == 1 && allKeys(t, b) == 2
	})
}

// TestWhatIsNeverRetained is delivered and replicated without the flag, a will too.
func TestWhatIsNeverRetained(t *testing.T) {
	k := &disk{}
	var mu sync.Mutex
	flags := map[string]bool{}
	b := startBroker(t, Options{
		NeverRetained: func(topic string) bool { return topic == "r/event" },
		Sink: func(m Message) Store {
			mu.Lock()
			defer mu.Unlock()
			flags[m.Topic+string(m.Payload)] = m.Retain
			return k.sink(m)
		},
	})
	sub := connect(t, b, "sub", 5, true)
	sub.subscribeTo(packets.Subscription{Filter: "r/+", Qos: 1, RetainAsPublished: true})
	sub.expectSilence() // what is retained is looked up after the SUBACK
	d, _ := connectWith(t, b, 5, packets.ConnectParams{
		ClientIdentifier: "d", Clean: true, WillFlag: true, WillRetain: true, WillTopic: "r/event", WillPayload: []byte("3"),
	}, packets.Properties{})
	for i, topic := range []string{"r/event", "r/state"} {
		d.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Retain: true}, TopicName: topic, Payload: []byte{'1' + byte(i)}})
	}
	for i, want := range []struct {
		payload string
		retain  bool
	}{{"1", false}, {"2", true}, {"3", false}} {
		if pk := sub.expect(packets.Publish); string(pk.Payload) != want.payload || pk.FixedHeader.Retain != want.retain {
			t.Errorf("got %q, retain %v, expected %q, %v", pk.Payload, pk.FixedHeader.Retain, want.payload, want.retain)
		}
		if i == 1 {
			d.conn.Close()
		}
	}
	late := connect(t, b, "late", 5, true)
	late.subscribe("r/+")
	late.expectPayloads("2")
	late.expectSilence()
	eventually(t, "the will at the sink", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return maps.Equal(flags, map[string]bool{"r/event1": false, "r/state2": true, "r/event3": false})
	})
}
