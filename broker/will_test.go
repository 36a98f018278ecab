package broker

import (
	"fmt"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// willing connects a device with a will on will/<id>.
func willing(t testing.TB, b *Broker, id string, delay, expiry uint32) *device {
	t.Helper()
	d, ack := connectWith(t, b, 5, packets.ConnectParams{
		ClientIdentifier: id, WillFlag: true, WillTopic: "will/" + id, WillPayload: []byte("gone"), WillQos: 1, WillRetain: true,
		WillProperties: packets.Properties{
			WillDelayInterval: delay, MessageExpiryInterval: 500, ContentType: "text",
			User: []packets.UserProperty{{Key: "k", Val: "v"}},
		},
	}, packets.Properties{SessionExpiryInterval: expiry, SessionExpiryIntervalFlag: true})
	if ack.ReasonCode != 0 {
		t.Fatalf("got reason %#x", ack.ReasonCode)
	}
	return d
}

// wills subscribes to all of them.
func wills(t testing.TB, b *Broker) *device {
	t.Helper()
	d := connect(t, b, "watcher", 5, true)
	d.subscribeTo(packets.Subscription{Filter: "will/#", Qos: 1})
	return d
}

func (d *device) expectWill(id string) {
	d.t.Helper()
	pk := d.expect(packets.Publish)
	p := pk.Properties
	if pk.TopicName != "will/"+id || string(pk.Payload) != "gone" || p.ContentType != "text" || len(p.User) != 1 || p.MessageExpiryInterval < 400 || p.MessageExpiryInterval > 500 {
		d.t.Fatalf("got %q on %s with %+v, expected the will of %s with its properties", pk.Payload, pk.TopicName, p, id)
	}
	d.puback(pk.PacketID)
}

// storedWills waits until the store has as many, and all else is in it too.
func storedWills(t testing.TB, b *Broker, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d wills in the store", n), func() bool { return keys(t, b, prefixWill) == n })
	if err := b.hook.sessions.store.write(); err != nil {
		t.Fatal(err)
	}
}

// toldOf is the next message that a sink was told, or fails the test.
func toldOf(t testing.TB, told <-chan Message) Message {
	t.Helper()
	select {
	case m := <-told:
		return m
	case <-time.After(10 * time.Second):
		t.Fatal("the sink was told nothing within 10 s")
		return Message{}
	}
}

// waits reports whether a will waits for its time.
func waits(b *Broker, id string) bool {
	s := b.hook.sessions.get(id)
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.will != nil
}

// TestWillsSurviveAKill has a device in each state that a kill can find.
func TestWillsSurviveAKill(t *testing.T) {
	b := startBroker(t, Options{})
	willing(t, b, "connected", 0, 1000)
	willing(t, b, "returns", 0, 1000)
	willing(t, b, "changes", 0, 1000)
	willing(t, b, "patient", 600, 1000)
	willing(t, b, "clean", 600, 0)
	willing(t, b, "waiting", 1, 1000).leave(b, "waiting")
	willing(t, b, "left", 0, 1000).send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
	willing(t, b, "said", 0, 1000).conn.Close()
	persistent(t, b, "silent", 5)
	eventually(t, "the end of two wills", func() bool { return b.Stats().Retained == 1 })
	storedWills(t, b, 5)

	b = afterKill(t, b, Options{willGrace: time.Second})
	w := wills(t, b)
	w.expectWill("said") // retained, before the kill
	persistent(t, b, "returns", 5)
	willing(t, b, "changes", 300, 1000)
	got := map[string]bool{}
	for range 2 {
		pk := w.expect(packets.Publish)
		got[pk.TopicName] = true
		w.puback(pk.PacketID)
	}
	if !got["will/connected"] || !got["will/waiting"] {
		t.Errorf("got %v, expected those of connected and waiting", got)
	}
	w.expectSilence()
	if !waits(b, "patient") {
		t.Error("the will with a long delay does not wait")
	}
	storedWills(t, b, 2) // patient's and the new one of changes
}

// TestWillKeepsItsPropertiesOverAKill, and its retain flag, and it is a
// device's message.
func TestWillKeepsItsPropertiesOverAKill(t *testing.T) {
	b := startBroker(t, Options{})
	willing(t, b, "d", 0, 1000)
	storedWills(t, b, 1)
	told := make(chan Message, 1)
	b = afterKill(t, b, Options{willGrace: 300 * time.Millisecond, Sink: func(m Message) Store { told <- m; return nil }})
	w := wills(t, b)
	w.expectWill("d")
	if m := toldOf(t, told); m.ClientID != "d" || m.QoS != 1 || !m.Retain || m.Expiry.IsZero() || len(m.Properties) == 0 {
		t.Errorf("got %+v", m)
	}
	if b.Stats().Retained != 1 {
		t.Error("it was not retained")
	}
	storedWills(t, b, 0)
	b = afterKill(t, b, Options{willGrace: time.Millisecond, Sink: func(m Message) Store { told <- m; return nil }})
	wills(t, b).expectWill("d") // the retained one
	select {
	case m := <-told:
		t.Errorf("got %+v again", m)
	default:
	}
}

// TestWillIsNotForgottenBeforeItIsStored: a kill in between publishes it
// again.
func TestWillIsNotForgottenBeforeItIsStored(t *testing.T) {
	told, stored := make(chan Message, 1), make(chan func(error), 1)
	b := startBroker(t, Options{Sink: func(m Message) Store {
		return func(done func(error)) error { stored <- done; told <- m; return nil }
	}})
	willing(t, b, "d", 0, 1000).conn.Close()
	toldOf(t, told)
	if err := b.hook.sessions.store.write(); err != nil { // what was to be deleted is
		t.Fatal(err)
	}
	storedWills(t, b, 1)
	(<-stored)(nil)
	storedWills(t, b, 0)
}

// TestSessionThatEndsPublishesItsWill, by a clean start, by its expiry, and by
// either before a kill.
func TestSessionThatEndsPublishesItsWill(t *testing.T) {
	b := startBroker(t, Options{})
	w := wills(t, b)
	willing(t, b, "restarts", 600, 1000).conn.Close()
	eventually(t, "a will that waits", func() bool { return waits(b, "restarts") })
	connect(t, b, "restarts", 5, true)
	w.expectWill("restarts")
	willing(t, b, "expires", 600, 1).conn.Close()
	w.expectWill("expires")
	storedWills(t, b, 0)

	willing(t, b, "ends", 600, 1000)
	storedWills(t, b, 1)
	b.hook.sessions.store.condemn(b.hook.sessions.get("ends").stored.number) // and killed before it is published
	storedWills(t, b, 1)
	b = afterKill(t, b, Options{})
	w = wills(t, b)
	got := map[string]bool{}
	for range 3 { // two of them retained before
		pk := w.expect(packets.Publish)
		got[pk.TopicName] = true
		w.puback(pk.PacketID)
	}
	if !got["will/ends"] {
		t.Errorf("got %v, expected will/ends among them", got)
	}
	storedWills(t, b, 0)
}

// TestCleanStopLeavesWillsToTheNextProcess, but for those of sessions that end
// with it.
func TestCleanStopLeavesWillsToTheNextProcess(t *testing.T) {
	told := make(chan Message, 10)
	sink := func(m Message) Store { told <- m; return nil }
	b := startBroker(t, Options{Sink: sink})
	willing(t, b, "connected", 0, 1000)
	willing(t, b, "clean", 0, 0)
	willing(t, b, "waiting", 600, 1000).leave(b, "waiting")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if m := toldOf(t, told); m.ClientID != "clean" || len(told) != 0 {
		t.Errorf("got that of %s and %d more, expected only clean's", m.ClientID, len(told))
	}
	b = startBroker(t, Options{Dir: b.opt.Dir, Sink: sink, willGrace: time.Millisecond})
	if m := toldOf(t, told); m.ClientID != "connected" {
		t.Errorf("got that of %s, expected connected's", m.ClientID)
	}
	if !waits(b, "waiting") {
		t.Error("the will that waited does not wait any more")
	}
}

// TestWillOfALostRightIsForgotten.
func TestWillOfALostRightIsForgotten(t *testing.T) {
	b := startBroker(t, Options{})
	willing(t, b, "d", 0, 1000)
	storedWills(t, b, 1)
	b = afterKill(t, b, Options{willGrace: time.Millisecond, Reserved: []string{"will/"}})
	storedWills(t, b, 0)
	if b.Stats().Denied != 1 || b.Stats().Retained != 0 {
		t.Errorf("got %d denied and %d retained, expected 1 and 0", b.Stats().Denied, b.Stats().Retained)
	}
}

// TestDamagedWillIsLeftOut and the rest is read.
func TestDamagedWillIsLeftOut(t *testing.T) {
	b := startBroker(t, Options{})
	willing(t, b, "d", 0, 1000)
	willing(t, b, "e", 0, 1000)
	storedWills(t, b, 2)
	number := b.hook.sessions.get("d").stored.number
	if err := b.hook.sessions.store.write(&op{key: key(prefixWill, number), value: []byte(`{"message":"AQ=="}`)}); err != nil {
		t.Fatal(err)
	}
	b = afterKill(t, b, Options{willGrace: time.Millisecond})
	if s := b.Stats().Sessions; s.Damaged != 1 || s.Sessions != 2 || s.Quarantined != "" {
		t.Errorf("got %+v, expected 2 sessions and 1 damaged record", s)
	}
	wills(t, b).expectWill("e")
}
