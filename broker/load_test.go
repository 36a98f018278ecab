package broker

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// TestFanOutIsStoredOnce has many sessions that are owed the same.
func TestFanOutIsStoredOnce(t *testing.T) {
	const sessions, n = 100, 20
	b := startBroker(t, Options{})
	for i := range sessions {
		id := fmt.Sprintf("d%d", i)
		d, _ := persistent(t, b, id, 4+byte(i%2))
		d.subscribeTo(packets.Subscription{Filter: "x", Qos: 1 + byte(i%2)})
		d.leave(b, id)
	}
	pub := connect(t, b, "pub", 4, true)
	for i := range n {
		pub.say("x", fmt.Sprintf("m%d", i))
	}
	if m, d := keys(t, b, prefixMessage), keys(t, b, prefixDelivery); m != n || d != n*sessions {
		t.Errorf("got %d messages and %d deliveries, expected %d and %d", m, d, n, n*sessions)
	}
	b = afterKill(t, b, Options{})
	for i := range sessions {
		d, _ := persistent(t, b, fmt.Sprintf("d%d", i), 4+byte(i%2))
		for j := range n {
			d.expectPayloads(fmt.Sprintf("m%d", j))
		}
	}
	eventually(t, "nothing in the store", func() bool { return keys(t, b, prefixDelivery, prefixMessage) == 0 })
}

// TestLongQueueIsReadBackInOrder also bounds what is in memory.
func TestLongQueueIsReadBackInOrder(t *testing.T) {
	const n = 100_000
	b := startBroker(t, Options{Unsynced: true}) // the page cache survives a kill
	d, _ := persistent(t, b, "d", 5)
	d.subscribeTo(packets.Subscription{Filter: "x", Qos: 1})
	d.leave(b, "d")
	pub := connect(t, b, "pub", 4, true)
	pub.sayAll("x", n, func(i int) string { return fmt.Sprintf("m%d", i) })
	b = afterKill(t, b, Options{})
	if s := b.Stats().Sessions; s.Owed != n {
		t.Fatalf("got %d owed, expected %d", s.Owed, n)
	}
	d, _ = persistent(t, b, "d", 5)
	s := b.hook.sessions.get("d")
	for i := range n {
		d.expectPayloads(fmt.Sprintf("m%d", i))
		if i%10_000 == 0 {
			s.mu.Lock()
			waiting := len(s.waiting)
			s.mu.Unlock()
			if waiting > 2*aheadMessages {
				t.Errorf("%d messages are in memory, expected at most %d", waiting, 2*aheadMessages)
			}
		}
	}
	d.expectSilence()
}

// TestTakeoversLoseNothing connects again and again under load.
func TestTakeoversLoseNothing(t *testing.T) {
	const n = 3000
	b := startBroker(t, Options{})
	d, _ := persistent(t, b, "d", 4)
	d.subscribeTo(packets.Subscription{Filter: "x", Qos: 1})
	pub := connect(t, b, "pub", 4, true)
	var publishing sync.WaitGroup
	publishing.Go(func() {
		for i := range n / 100 {
			pub.sayAll("x", 100, func(j int) string { return fmt.Sprint(i*100 + j) })
		}
	})
	next := 0
	for took := 0; next < n; took++ {
		pk, err := d.readFor(10 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		var got int
		if _, err := fmt.Sscan(string(pk.Payload), &got); err != nil || got > next {
			t.Fatalf("got %q, expected %d or again an earlier one", pk.Payload, next)
		}
		next = max(next, got+1)
		if took%3 > 0 {
			d.puback(pk.PacketID)
		}
		if took%97 == 96 {
			d, _ = persistent(t, b, "d", 4)
		}
	}
	publishing.Wait()
}

func TestLargestMessageIsStored(t *testing.T) {
	b := startBroker(t, Options{})
	for _, id := range []string{"a", "b"} {
		d, _ := persistent(t, b, id, 4)
		d.subscribeTo(packets.Subscription{Filter: "x", Qos: 1})
		d.leave(b, id)
	}
	payload := bytes.Repeat([]byte("x"), MaxPacketBytes-20)
	pub := connect(t, b, "pub", 4, true)
	pub.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1, Retain: true}, TopicName: "x", PacketID: 1, Payload: payload})
	pub.expectAcks(packets.Puback, 1)
	b = afterKill(t, b, Options{})
	for _, id := range []string{"a", "b"} {
		d, _ := persistent(t, b, id, 4)
		if pk := d.expect(packets.Publish); !bytes.Equal(pk.Payload, payload) {
			t.Errorf("got %d bytes, expected %d", len(pk.Payload), len(payload))
		}
	}
	if b.Stats().Retained != 1 {
		t.Error("it is not retained")
	}
}
