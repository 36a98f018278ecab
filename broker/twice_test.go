package broker

import (
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// narrow is a device that takes one message at a time.
func narrow(t *testing.T, b *Broker, id string) *device {
	t.Helper()
	d, _ := connectWith(t, b, 5, packets.ConnectParams{ClientIdentifier: id}, packets.Properties{
		SessionExpiryInterval: 1000, SessionExpiryIntervalFlag: true, ReceiveMaximum: 1,
	})
	return d
}

// subscribedAndAway leaves a session that is owed what comes on topic.
func subscribedAndAway(t *testing.T, b *Broker, id, topic string) {
	t.Helper()
	d, _ := persistent(t, b, id, 5)
	d.subscribeTo(packets.Subscription{Filter: topic, Qos: 1})
	d.leave(b, id)
}

func numbers(from, to int) (out []string) {
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprint(i))
	}
	return out
}

func expectOwed(t *testing.T, b *Broker, want int64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d messages owed", want), func() bool {
		s := b.Stats().Sessions
		return s.Owed == want && (want > 0 || s.OwedBytes == 0)
	})
}

// TestWhatWasDroppedIsNotReadBack drops messages of a connected device that
// are in the store alone, while their deletion is still to be committed. The
// messages are shared with a device that is away.
func TestWhatWasDroppedIsNotReadBack(t *testing.T) {
	const n, left = 1500, 100
	disk := newSlow()
	b := startBroker(t, Options{fault: disk.fault})
	defer disk.set(false, nil)
	subscribedAndAway(t, b, "away", "x")
	d := narrow(t, b, "d")
	d.subscribeTo(packets.Subscription{Filter: "x", Qos: 1})
	connect(t, b, "pub", 4, true).sayAll("x", n, func(i int) string { return fmt.Sprint(i) })
	first := d.expect(packets.Publish)
	disk.set(true, nil)
	b.hook.sessions.trimTo(b.hook.sessions.get("d"), sessionLimit{messages: left + 1, bytes: math.MaxInt64})
	d.puback(first.PacketID)
	d.expectPayloads(numbers(n-left, n)...)
	disk.set(false, nil)
	expectOwed(t, b, n)
	away, _ := persistent(t, b, "away", 5)
	away.expectPayloads(numbers(0, n)...)
	expectOwed(t, b, 0)
}

// TestWhatWasAcknowledgedIsNotReadBack reconnects while the disk fails, so
// that what was acknowledged is still in the store.
func TestWhatWasAcknowledgedIsNotReadBack(t *testing.T) {
	const n = 10
	disk := newSlow()
	b := startBroker(t, Options{fault: disk.fault})
	defer disk.set(false, nil)
	subscribedAndAway(t, b, "away", "x")
	d := narrow(t, b, "d")
	d.subscribeTo(packets.Subscription{Filter: "x", Qos: 1})
	connect(t, b, "pub", 4, true).sayAll("x", n, func(i int) string { return fmt.Sprint(i) })
	disk.set(false, errors.New("the disk fails"))
	d.expectPayloads(numbers(0, n/2)...)
	d.expect(packets.Publish) // so the acknowledgements have been taken
	d = narrow(t, b, "d")
	d.expectPayloads(numbers(n/2, n)...)
	disk.set(false, nil)
	expectOwed(t, b, n)
	away, _ := persistent(t, b, "away", 5)
	away.expectPayloads(numbers(0, n)...)
	expectOwed(t, b, 0)
}

// TestWhatASessionWasOwedIsReleasedOnce sweeps a session whose acknowledged
// messages are still in the store.
func TestWhatASessionWasOwedIsReleasedOnce(t *testing.T) {
	const n = 10
	disk := newSlow()
	b := startBroker(t, Options{fault: disk.fault})
	defer disk.set(false, nil)
	subscribedAndAway(t, b, "away", "x")
	d, _ := persistent(t, b, "d", 5)
	d.subscribeTo(packets.Subscription{Filter: "x", Qos: 1})
	connect(t, b, "pub", 4, true).sayAll("x", n, func(i int) string { return fmt.Sprint(i) })
	disk.set(true, nil)
	d.expectPayloads(numbers(0, n)...)
	s := b.hook.sessions.get("d")
	eventually(t, "all acknowledged", func() bool { owed, _ := s.owed(); return owed == 0 })
	st := b.hook.sessions.store
	waits := func(what string, some func() bool) {
		eventually(t, what, func() bool {
			st.mu.Lock()
			defer st.mu.Unlock()
			return some()
		})
	}
	waits("a commit is held", func() bool { return len(st.going) > 0 })
	swept := make(chan error)
	go func() { swept <- st.sweepPrefix(t.Context(), key(prefixDelivery, s.stored.number)) }()
	waits("the sweep is next", func() bool { return len(st.pending) > 0 })
	disk.set(false, nil)
	if err := <-swept; err != nil {
		t.Fatal(err)
	}
	away, _ := persistent(t, b, "away", 5)
	away.expectPayloads(numbers(0, n)...)
	expectOwed(t, b, 0)
}

// TestWhatWasRefusedIsNotOwed reconnects between the sending of a message and
// the failure of its commit.
func TestWhatWasRefusedIsNotOwed(t *testing.T) {
	disk := newSlow()
	b := startBroker(t, Options{fault: disk.fault})
	defer disk.set(false, nil)
	d, _ := persistent(t, b, "d", 5)
	d.subscribeTo(packets.Subscription{Filter: "x", Qos: 1})
	pub := connect(t, b, "pub", 5, true)
	disk.set(true, nil)
	pub.publish("x", 1, 1, "m")
	d.expect(packets.Publish)
	persistent(t, b, "d", 5)
	disk.set(false, errors.New("the disk fails"))
	if ack := pub.expect(packets.Puback); ack.ReasonCode != packets.ErrQuotaExceeded.Code {
		t.Errorf("got reason %#x, expected a refusal", ack.ReasonCode)
	}
	disk.set(false, nil)
	expectOwed(t, b, 0)
}

// TestAnIDInUseIsNotThatOfAnotherMessage reads back two messages that share a
// packet id, after a kill of a process that may have sent both.
func TestAnIDInUseIsNotThatOfAnotherMessage(t *testing.T) {
	s := &session{ids: map[uint16]*delivery{}, stored: &ledger{sent: 70_000}}
	for _, seq := range []uint64{1, 1 + 65_535} {
		s.take(record{seq: seq, qos: 1, message: &outgoing{topic: "x"}}, false)
	}
	older, newer := s.waiting[0], s.waiting[1]
	if s.ids[1] != older || older.id != 1 || newer.id != 0 {
		t.Errorf("got ids %d and %d, expected 1 for the older and none for the newer", older.id, newer.id)
	}
	if !s.blocked(newer) {
		t.Error("the newer could be sent while its id is in use")
	}
}

// TestPubrelFollowsPubrecOverConnections reconnects before it is durable that
// PUBREC came.
func TestPubrelFollowsPubrecOverConnections(t *testing.T) {
	disk := newSlow()
	b := startBroker(t, Options{fault: disk.fault})
	defer disk.set(false, nil)
	d, _ := persistent(t, b, "d", 5)
	d.subscribeTo(packets.Subscription{Filter: "x", Qos: 2})
	connect(t, b, "pub", 4, true).publish("x", 2, 1, "m")
	id := d.expect(packets.Publish).PacketID
	disk.set(true, nil)
	d.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrec}, PacketID: id})
	s := b.hook.sessions.get("d")
	eventually(t, "PUBREC", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.ids[id] != nil && s.ids[id].received
	})
	d, _ = persistent(t, b, "d", 5)
	d.expectSilence()
	disk.set(false, nil)
	if pk := d.expect(packets.Pubrel); pk.PacketID != id {
		t.Errorf("got id %d, expected %d", pk.PacketID, id)
	}
	d.finish(id)
	expectOwed(t, b, 0)
}
