package broker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/mochi-mqtt/server/v2/packets"
)

// killed is a copy of a store's directory as a kill -9 at this moment would
// leave it.
func killed(t testing.TB, b *Broker) string {
	t.Helper()
	list := func() string {
		manifest, err := os.ReadFile(filepath.Join(b.opt.Dir, "store", "MANIFEST"))
		if err != nil {
			t.Fatal(err)
		}
		files, err := os.ReadDir(filepath.Join(b.opt.Dir, "store"))
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(files, string(manifest))
	}
	var to string
	eventually(t, "a copy of one moment", func() bool {
		to = filepath.Join(t.TempDir(), "broker")
		before := list()
		return os.CopyFS(to, os.DirFS(b.opt.Dir)) == nil && list() == before
	})
	return to
}

// afterKill is the broker that follows a kill -9.
func afterKill(t testing.TB, b *Broker, opt Options) *Broker {
	t.Helper()
	opt.Dir = killed(t, b)
	return startBroker(t, opt)
}

// keys counts the keys of a store that begin with one of prefixes.
func keys(t testing.TB, b *Broker, prefixes ...byte) (n int) {
	t.Helper()
	err := b.hook.sessions.store.db.View(func(txn *badger.Txn) error {
		for _, p := range prefixes {
			if err := each(txn, p, func(_, _ []byte) error { n++; return nil }); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// allKeys are those of sessions and messages.
func allKeys(t testing.TB, b *Broker) int {
	t.Helper()
	return keys(t, b, slices.DeleteFunc(slices.Clone(prefixes), func(p byte) bool { return p == prefixClock })...)
}

func persistent(t testing.TB, b *Broker, id string, version byte) (*device, bool) {
	t.Helper()
	d, ack := connectWith(t, b, version, packets.ConnectParams{ClientIdentifier: id},
		packets.Properties{SessionExpiryInterval: 1000, SessionExpiryIntervalFlag: true})
	return d, ack.SessionPresent
}

// leave ends a connection and waits until the broker has seen it.
func (d *device) leave(b *Broker, id string) {
	d.t.Helper()
	d.conn.Close()
	eventually(d.t, "the end of a connection", func() bool {
		s := b.hook.sessions.get(id)
		s.mu.Lock()
		defer s.mu.Unlock()
		return !s.present()
	})
	if st := b.hook.sessions.store; st != nil {
		if err := st.write(); err != nil { // and the store has it
			d.t.Fatal(err)
		}
	}
}

// say publishes with QoS 1 and waits for the acknowledgement.
func (d *device) say(topic, payload string) {
	d.t.Helper()
	d.publish(topic, 1, 77, payload)
	d.expectAcks(packets.Puback, 77)
}

// sayAll publishes n messages with QoS 1 and then waits for all of them.
func (d *device) sayAll(topic string, n int, payload func(int) string) {
	d.t.Helper()
	const window = 500
	for i := range n {
		d.publish(topic, 1, uint16(i%60_000)+1, payload(i))
		if i >= window {
			d.expect(packets.Puback)
		}
	}
	for range min(n, window) {
		d.expect(packets.Puback)
	}
}

// finish completes QoS 2 after PUBREL.
func (d *device) finish(id uint16) {
	d.t.Helper()
	d.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubcomp}, PacketID: id})
}

// TestSessionSurvivesAKill has messages in every state of delivery.
func TestSessionSurvivesAKill(t *testing.T) {
	for _, version := range []byte{4, 5} {
		b := startBroker(t, Options{})
		d, _ := persistent(t, b, "sub", version)
		d.subscribeTo(packets.Subscription{Filter: "in/#", Qos: 2})
		pub := connect(t, b, "pub", 5, true)
		for i, qos := range []byte{1, 2, 2} {
			pub.publish("in/x", qos, uint16(i+1), fmt.Sprintf("m%d", i))
			pub.read()
		}
		var sent []uint16
		for range 3 {
			sent = append(sent, d.expect(packets.Publish).PacketID)
		}
		d.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrec}, PacketID: sent[1]})
		if pk := d.expect(packets.Pubrel); pk.PacketID != sent[1] {
			t.Fatalf("got PUBREL %d, expected %d", pk.PacketID, sent[1])
		}
		d.leave(b, "sub")
		for i := 3; i < 8; i++ {
			pub.say("in/y", fmt.Sprintf("m%d", i))
		}

		b = afterKill(t, b, Options{})
		d, present := persistent(t, b, "sub", version)
		if !present {
			t.Fatal("the session is gone")
		}
		expect := func(payload string, id uint16) uint16 {
			pk := d.expect(packets.Publish)
			if string(pk.Payload) != payload || pk.FixedHeader.Dup != (id != 0) || (id != 0 && pk.PacketID != id) {
				t.Fatalf("MQTT %d: got %q, id %d, dup %v, expected %s with id %d", version, pk.Payload, pk.PacketID, pk.FixedHeader.Dup, payload, id)
			}
			return pk.PacketID
		}
		d.puback(expect("m0", sent[0]))
		if pk := d.expect(packets.Pubrel); pk.PacketID != sent[1] {
			t.Fatalf("got PUBREL %d, expected %d", pk.PacketID, sent[1])
		}
		d.finish(sent[1])
		expect("m2", sent[2])
		d.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrec}, PacketID: sent[2]})
		var rest []uint16
		for i := 3; i < 8; i++ {
			rest = append(rest, expect(fmt.Sprintf("m%d", i), 0))
		}
		if pk := d.expect(packets.Pubrel); pk.PacketID != sent[2] {
			t.Fatalf("got PUBREL %d, expected %d", pk.PacketID, sent[2])
		}
		d.finish(sent[2])
		for _, id := range rest {
			d.puback(id)
		}
		eventually(t, "nothing owed in the store", func() bool { return keys(t, b, prefixDelivery, prefixMessage) == 0 })
		b = afterKill(t, b, Options{})
		d, _ = persistent(t, b, "sub", version)
		d.expectSilence()
		connect(t, b, "pub", 4, true).say("in/z", "still subscribed")
		d.expectPayloads("still subscribed")
	}
}

// TestKillWhileConnected: what was sent is sent again as such.
func TestKillWhileConnected(t *testing.T) {
	b := startBroker(t, Options{})
	d, _ := persistent(t, b, "d", 4)
	d.subscribeTo(packets.Subscription{Filter: "x", Qos: 2})
	pub := connect(t, b, "pub", 4, true)
	pub.say("x", "m")
	first := d.expect(packets.Publish)
	b = afterKill(t, b, Options{})
	d, _ = persistent(t, b, "d", 4)
	if again := d.expect(packets.Publish); !again.FixedHeader.Dup || again.PacketID != first.PacketID || string(again.Payload) != "m" {
		t.Errorf("got %q, id %d, dup %v, expected m again with id %d", again.Payload, again.PacketID, again.FixedHeader.Dup, first.PacketID)
	}
}

// slow makes commits wait for a word.
type slow struct {
	mu   sync.Mutex
	hold bool
	err  error
	free *sync.Cond
}

func newSlow() *slow {
	s := &slow{}
	s.free = sync.NewCond(&s.mu)
	return s
}

func (s *slow) fault() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.hold {
		s.free.Wait()
	}
	return s.err
}

func (s *slow) set(hold bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hold, s.err = hold, err
	s.free.Broadcast()
}

// TestPubackWaitsForTheStore holds a commit: the subscriber has the message
// of QoS 1 before, the publisher its acknowledgement after it, and a kill
// before the commit leaves nothing that was acknowledged behind.
func TestPubackWaitsForTheStore(t *testing.T) {
	disk := newSlow()
	b := startBroker(t, Options{fault: disk.fault})
	defer disk.set(false, nil)
	sub, _ := persistent(t, b, "sub", 4)
	sub.subscribeTo(packets.Subscription{Filter: "x", Qos: 1}, packets.Subscription{Filter: "twice", Qos: 2})
	away, _ := persistent(t, b, "away", 4)
	away.subscribeTo(packets.Subscription{Filter: "x", Qos: 1})
	away.leave(b, "away")
	pub := connect(t, b, "pub", 4, true)
	disk.set(true, nil)
	pub.publish("x", 1, 1, "m")
	sub.puback(sub.expect(packets.Publish).PacketID)
	pub.expectSilence()
	pub.publish("twice", 2, 2, "n")
	pub.expectSilence()
	sub.expectSilence() // its packet id must be durable first
	disk.set(false, nil)
	pub.expectAcks(packets.Puback, 1)
	pub.expectAcks(packets.Pubrec, 2)
	if pk := sub.expect(packets.Publish); string(pk.Payload) != "n" {
		t.Errorf("got %q, expected n", pk.Payload)
	}
	b = afterKill(t, b, Options{})
	away, _ = persistent(t, b, "away", 4)
	away.expectPayloads("m")
}

func TestSubackWaitsForTheStore(t *testing.T) {
	disk := newSlow()
	b := startBroker(t, Options{fault: disk.fault})
	defer disk.set(false, nil)
	sub, _ := persistent(t, b, "sub", 5)
	clean := connect(t, b, "clean", 5, true)
	ask := func(d *device, filter string) {
		d.send(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 3, Filters: packets.Subscriptions{{Filter: filter, Qos: 1}},
		})
	}
	disk.set(true, nil)
	ask(sub, "x")
	ask(clean, "x")
	clean.expect(packets.Suback) // it is not stored
	if pk, err := sub.readFor(100 * time.Millisecond); err == nil {
		t.Errorf("got packet type %d before the commit", pk.FixedHeader.Type)
	}
	disk.set(false, errors.New("the disk is broken"))
	sub.in.Reset(sub.conn)
	if pk := sub.read(); pk.FixedHeader.Type != packets.Suback {
		t.Fatalf("got packet type %d, expected SUBACK", pk.FixedHeader.Type)
	}
	if n := len(b.server.Topics.Subscribers("x").Subscriptions); n != 1 {
		t.Errorf("got %d subscribers, expected only the clean one", n)
	}
	if b.Stats().Sessions.Failing == nil {
		t.Error("the broken disk is not shown")
	}
	disk.set(false, nil)
	eventually(t, "a commit", func() bool { return b.Stats().Sessions.Failing == nil })
	ask(sub, "y")
	sub.expect(packets.Suback)
	b = afterKill(t, b, Options{})
	sub, _ = persistent(t, b, "sub", 5)
	pub := connect(t, b, "pub", 5, true)
	pub.say("x", "no")
	pub.say("y", "yes")
	sub.expectPayloads("yes")
}

func TestWhatIsNotStoredIsRefused(t *testing.T) {
	disk := newSlow()
	b := startBroker(t, Options{fault: disk.fault, RefusalWait: 100 * time.Millisecond})
	d, _ := persistent(t, b, "sub", 4)
	d.subscribeTo(packets.Subscription{Filter: "x", Qos: 2})
	d.leave(b, "sub")
	pub := connect(t, b, "pub", 5, true)
	disk.set(false, errors.New("the disk is broken"))
	for i, kind := range []byte{packets.Puback, packets.Pubrec} {
		pub.publish("x", byte(i+1), uint16(i+1), "refused")
		pk := pub.expect(kind)
		if pk.ReasonCode != packets.ErrQuotaExceeded.Code || !strings.Contains(pk.Properties.ReasonString, "broken") {
			t.Errorf("got reason %#x %q, expected %#x", pk.ReasonCode, pk.Properties.ReasonString, packets.ErrQuotaExceeded.Code)
		}
	}
	old := connect(t, b, "old", 4, true)
	old.publish("x", 1, 1, "refused")
	if pk, err := old.readFor(10 * time.Second); err == nil {
		t.Errorf("got packet type %d, expected the end of the connection", pk.FixedHeader.Type)
	}
	disk.set(false, nil)
	pub.say("x", "taken")
	if s := b.Stats(); s.Refused != 3 || s.Sessions.Owed != 1 {
		t.Errorf("got %d refused and %d owed, expected 3 and 1", s.Refused, s.Sessions.Owed)
	}
	d, _ = persistent(t, b, "sub", 4)
	d.expectPayloads("taken")
}

// TestFullDiskRefusesButDelivers: devices that are there must not wait.
func TestFullDiskRefusesButDelivers(t *testing.T) {
	b := startBroker(t, Options{MinFreeBytes: 1 << 62, RefusalWait: 100 * time.Millisecond})
	eventually(t, "the floor", func() bool { return b.Stats().Sessions.Refusing != nil })
	there, _ := persistent(t, b, "there", 4)
	there.subscribeTo(packets.Subscription{Filter: "x", Qos: 1})
	away, _ := persistent(t, b, "away", 4)
	away.subscribeTo(packets.Subscription{Filter: "x", Qos: 1})
	away.leave(b, "away")
	pub := connect(t, b, "pub", 5, true)
	pub.publish("x", 1, 1, "m")
	there.expectPayloads("m")
	if pk := pub.expect(packets.Puback); pk.ReasonCode != packets.ErrQuotaExceeded.Code || pk.Properties.ReasonString == "" {
		t.Errorf("got reason %#x %q, expected %#x with words", pk.ReasonCode, pk.Properties.ReasonString, packets.ErrQuotaExceeded.Code)
	}
	there.expectSilence() // once
	if s := b.Stats().Sessions; s.Owed != 0 {
		t.Errorf("got %d owed, expected none", s.Owed)
	}
	b.hook.sessions.store.floor.Store(0)
	eventually(t, "room", func() bool { return b.Stats().Sessions.Refusing == nil })
	pub.say("x", "n")
	there.expectPayloads("n")
	away, _ = persistent(t, b, "away", 4)
	away.expectPayloads("n")
}

// TestRoomThatComesBackIsUsed: what was delivered meanwhile is not delivered
// twice.
func TestRoomThatComesBackIsUsed(t *testing.T) {
	b := startBroker(t, Options{MinFreeBytes: 1 << 62})
	eventually(t, "the floor", func() bool { return b.Stats().Sessions.Refusing != nil })
	there, _ := persistent(t, b, "there", 4)
	there.subscribeTo(packets.Subscription{Filter: "x", Qos: 1})
	away, _ := persistent(t, b, "away", 4)
	away.subscribeTo(packets.Subscription{Filter: "x", Qos: 1})
	away.leave(b, "away")
	pub := connect(t, b, "pub", 4, true)
	pub.publish("x", 1, 1, "m")
	there.expectPayloads("m")
	there.expectSilence() // its acknowledgement has been read
	b.hook.sessions.store.floor.Store(0)
	pub.expectAcks(packets.Puback, 1)
	there.expectSilence()
	away, _ = persistent(t, b, "away", 4)
	away.expectPayloads("m")
	eventually(t, "nothing owed", func() bool { return b.Stats().Sessions.Owed == 0 && keys(t, b, prefixDelivery) == 0 })
}

func TestCleanDevicesCostTheStoreNothing(t *testing.T) {
	b := startBroker(t, Options{})
	sub := connect(t, b, "sub", 4, true)
	sub.subscribeTo(packets.Subscription{Filter: "x", Qos: 2})
	connect(t, b, "pub", 5, true).say("x", "m")
	sub.expectPayloads("m")
	if n := allKeys(t, b); n != 0 {
		t.Errorf("got %d keys, expected none", n)
	}
	d, _ := persistent(t, b, "d", 4)
	d.subscribeTo(packets.Subscription{Filter: "x", Qos: 1})
	d.leave(b, "d")
	connect(t, b, "pub", 4, true).say("x", "n")
	if n := allKeys(t, b); n != 3 {
		t.Errorf("got %d keys, expected a session, a subscription and a message", n)
	}
	persistent(t, b, "d", 4)
	connect(t, b, "d", 4, true).expectSilence() // it takes over
	eventually(t, "an empty store", func() bool { return allKeys(t, b) == 0 })
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = startBroker(t, Options{Dir: b.opt.Dir})
	if n := allKeys(t, b); n != 0 {
		t.Errorf("got %d keys after a restart, expected none", n)
	}
}

func TestUnsubscribedStaysSo(t *testing.T) {
	b := startBroker(t, Options{})
	d, _ := persistent(t, b, "d", 4)
	d.subscribeTo(packets.Subscription{Filter: "x", Qos: 1}, packets.Subscription{Filter: "y", Qos: 1})
	d.conn.Write([]byte{packets.Unsubscribe<<4 | 2, 5, 0, 3, 0, 1, 'x'})
	d.expect(packets.Unsuback)
	b = afterKill(t, b, Options{})
	d, _ = persistent(t, b, "d", 4)
	pub := connect(t, b, "pub", 4, true)
	pub.say("x", "no")
	pub.say("y", "yes")
	d.expectPayloads("yes")
}

func TestUnreadableStoreIsMovedAway(t *testing.T) {
	b := startBroker(t, Options{})
	d, _ := persistent(t, b, "d", 4)
	d.leave(b, "d")
	dir := killed(t, b)
	if err := os.WriteFile(filepath.Join(dir, "store", "MANIFEST"), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	b = startBroker(t, Options{Dir: dir})
	if s := b.Stats().Sessions; s.Quarantined == "" || s.Sessions != 0 {
		t.Errorf("got %+v, expected none and a quarantine", s)
	}
	if _, err := os.Stat(filepath.Join(b.Stats().Sessions.Quarantined, "MANIFEST")); err != nil {
		t.Error(err)
	}
	if _, present := persistent(t, b, "d", 4); present {
		t.Error("a session is present")
	}
}

func TestStoreIsLocked(t *testing.T) {
	b := startBroker(t, Options{})
	second := New(Options{Dir: b.opt.Dir})
	if err := second.Listen(); !errors.Is(err, ErrStoreLocked) {
		t.Errorf("got %v, expected ErrStoreLocked", err)
	}
}
