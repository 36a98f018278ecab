package broker

import (
	"errors"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// TestQoS2PublishIsTakenOnceOverAKill sends one again after each step.
func TestQoS2PublishIsTakenOnceOverAKill(t *testing.T) {
	b := startBroker(t, Options{})
	w, _ := persistent(t, b, "w", 4)
	w.subscribeTo(packets.Subscription{Filter: "x", Qos: 1})
	w.leave(b, "w")
	d, _ := persistent(t, b, "dev", 5)
	again := func(payload string) {
		d.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 2, Dup: true}, TopicName: "x", PacketID: 5, Payload: []byte(payload)})
	}
	d.publish("x", 2, 5, "once")
	d.expectAcks(packets.Pubrec, 5)
	b = afterKill(t, b, Options{})
	d, _ = persistent(t, b, "dev", 5)
	d.expectAcks(packets.Pubrec, 5) // the server repeats it by itself
	again("once")
	d.expectAcks(packets.Pubrec, 5)
	d.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrel}, PacketID: 5})
	d.expectAcks(packets.Pubcomp, 5)
	b = afterKill(t, b, Options{})
	d, _ = persistent(t, b, "dev", 5)
	again("another with the same id")
	d.expectAcks(packets.Pubrec, 5)
	w, _ = persistent(t, b, "w", 4)
	w.expectPayloads("once", "another with the same id")
	w.expectSilence()
}

// TestPubcompWaitsForTheStore: the device may use the packet id again.
func TestPubcompWaitsForTheStore(t *testing.T) {
	disk := newSlow()
	b := startBroker(t, Options{fault: disk.fault})
	defer disk.set(false, nil)
	d, _ := persistent(t, b, "dev", 4)
	d.publish("x", 2, 5, "m")
	d.expectAcks(packets.Pubrec, 5)
	disk.set(true, nil)
	d.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrel}, PacketID: 5})
	d.expectSilence()
	disk.set(false, nil)
	d.expectAcks(packets.Pubcomp, 5)
}

func TestJoinedStoresAreDoneTogether(t *testing.T) {
	if join(nil, nil) != nil {
		t.Error("expected nothing to do")
	}
	var dones []func(error)
	full := errors.New("full")
	refusing := true
	take := func(done func(error)) error { dones = append(dones, done); return nil }
	s := join(take, func(done func(error)) error {
		if refusing {
			return full
		}
		return take(done)
	})
	got := []error{}
	done := func(err error) { got = append(got, err) }
	if err := s(done); !errors.Is(err, full) {
		t.Errorf("got %v, expected the refusal", err)
	}
	dones[0](nil)
	refusing = false
	if err := s(done); err != nil || len(dones) != 2 || len(got) != 0 {
		t.Fatalf("got %v, %d stores and %v, expected the first to be asked once", err, len(dones), got)
	}
	dones[1](full)
	if len(got) != 1 || !errors.Is(got[0], full) {
		t.Errorf("got %v, expected the error once", got)
	}
}
