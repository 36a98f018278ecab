package broker

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// device is an MQTT client that shows every packet.
type device struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
	v    byte
}

func dial(t testing.TB, b *Broker) *device {
	t.Helper()
	c, err := net.Dial("tcp", b.Addresses()[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &device{t: t, conn: c, in: bufio.NewReader(c), v: 4}
}

func connect(t testing.TB, b *Broker, id string, version byte, clean bool) *device {
	t.Helper()
	d := dial(t, b)
	d.v = version
	d.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Connect},
		Connect:     packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: id, Clean: clean, Keepalive: 60},
	})
	if ack := d.read(); ack.FixedHeader.Type != packets.Connack || ack.ReasonCode != 0 {
		t.Fatalf("got packet type %d with reason %#x, expected CONNACK with success", ack.FixedHeader.Type, ack.ReasonCode)
	}
	return d
}

func (d *device) send(pk packets.Packet) {
	d.t.Helper()
	pk.ProtocolVersion = d.v
	var b bytes.Buffer
	var err error
	switch pk.FixedHeader.Type {
	case packets.Connect:
		err = pk.ConnectEncode(&b)
	case packets.Publish:
		err = pk.PublishEncode(&b)
	case packets.Puback:
		_, _ = d.conn.Write([]byte{packets.Puback << 4, 2, byte(pk.PacketID >> 8), byte(pk.PacketID)}) // the connection may be over
		return
	case packets.Pubrel:
		pk.FixedHeader.Qos = 1
		err = pk.PubrelEncode(&b)
	case packets.Pubrec:
		err = pk.PubrecEncode(&b)
	case packets.Pubcomp:
		err = pk.PubcompEncode(&b)
	case packets.Disconnect:
		err = pk.DisconnectEncode(&b)
	case packets.Subscribe:
		pk.FixedHeader.Qos = 1
		err = pk.SubscribeEncode(&b)
	}
	if err == nil {
		_, err = d.conn.Write(b.Bytes())
	}
	if err != nil {
		d.t.Error(err)
	}
}

func (d *device) publish(topic string, qos byte, id uint16, payload string) {
	d.t.Helper()
	d.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: qos}, TopicName: topic, PacketID: id, Payload: []byte(payload),
	})
}

func (d *device) subscribe(filter string) {
	d.t.Helper()
	d.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1,
		Filters: packets.Subscriptions{{Filter: filter, Qos: 0}},
	})
	d.expect(packets.Suback)
}

// read returns the next packet, or fails the test after ten seconds.
func (d *device) read() packets.Packet {
	d.t.Helper()
	pk, err := d.readFor(10 * time.Second)
	if err != nil {
		d.t.Fatal(err)
	}
	return pk
}

func (d *device) readFor(timeout time.Duration) (packets.Packet, error) {
	if err := d.conn.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return packets.Packet{}, err
	}
	first, err := d.in.ReadByte()
	if err != nil {
		return packets.Packet{}, err
	}
	pk := packets.Packet{ProtocolVersion: d.v}
	if err := pk.FixedHeader.Decode(first); err != nil {
		return pk, err
	}
	n, _, err := packets.DecodeLength(d.in)
	if err != nil {
		return pk, err
	}
	pk.FixedHeader.Remaining = n
	body := make([]byte, n)
	if _, err := io.ReadFull(d.in, body); err != nil {
		return pk, err
	}
	switch pk.FixedHeader.Type {
	case packets.Connack:
		err = pk.ConnackDecode(body)
	case packets.Publish:
		err = pk.PublishDecode(body)
	case packets.Suback:
		err = pk.SubackDecode(body)
	case packets.Puback:
		err = pk.PubackDecode(body)
	case packets.Pubrec:
		err = pk.PubrecDecode(body)
	case packets.Pubcomp:
		err = pk.PubcompDecode(body)
	case packets.Pubrel:
		err = pk.PubrelDecode(body)
	case packets.Disconnect:
		if len(body) > 0 {
			pk.ReasonCode = body[0] // the server's decoder wants properties after it
		}
	}
	return pk, err
}

func (d *device) expect(kind byte) packets.Packet {
	d.t.Helper()
	pk := d.read()
	if pk.FixedHeader.Type != kind {
		d.t.Fatalf("got packet type %d, expected %d", pk.FixedHeader.Type, kind)
	}
	return pk
}

// expectAcks reads acknowledgements of the given kind and ids, in order.
func (d *device) expectAcks(kind byte, ids ...uint16) {
	d.t.Helper()
	for _, id := range ids {
		if pk := d.expect(kind); pk.PacketID != id || pk.ReasonCode >= 0x80 {
			d.t.Fatalf("got id %d with reason %#x, expected id %d with success", pk.PacketID, pk.ReasonCode, id)
		}
	}
}

// expectSilence makes sure that nothing is held back by the network: a ping
// is answered, and nothing came before its answer.
func (d *device) expectSilence() {
	d.t.Helper()
	if _, err := d.conn.Write([]byte{packets.Pingreq << 4, 0}); err != nil {
		d.t.Fatal(err)
	}
	d.expect(packets.Pingresp)
}

// disk is a sink whose stores the test completes by hand. Topics below
// "local/" stay local.
type disk struct {
	mu     sync.Mutex
	err    error // of the next stores
	stored []func(error)
	topics []string
}

func (k *disk) sink(m Message) Store {
	if len(m.Topic) > 6 && m.Topic[:6] == "local/" {
		return nil
	}
	return func(done func(error)) error {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.err != nil {
			return k.err
		}
		k.topics = append(k.topics, m.Topic)
		k.stored = append(k.stored, done)
		return nil
	}
}

func (k *disk) refuse(err error) {
	k.mu.Lock()
	k.err = err
	k.mu.Unlock()
}

// await waits for the i-th store.
func (k *disk) await(t testing.TB, i int) {
	t.Helper()
	eventually(t, fmt.Sprintf("store %d", i), func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return len(k.stored) > i
	})
}

// finish waits for the i-th store and completes it.
func (k *disk) finish(t testing.TB, i int, err error) {
	t.Helper()
	k.await(t, i)
	k.mu.Lock()
	done := k.stored[i]
	k.mu.Unlock()
	done(err)
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// startBroker starts a broker that keeps its state on disk.
func startBroker(t testing.TB, opt Options) *Broker {
	t.Helper()
	if opt.Dir == "" {
		opt.Dir = t.TempDir()
	}
	return start(t, opt)
}

// startInMemory starts one that keeps nothing.
func startInMemory(t testing.TB, opt Options) *Broker {
	t.Helper()
	return start(t, opt)
}

func start(t testing.TB, opt Options) *Broker {
	t.Helper()
	if opt.Listeners == nil {
		opt.Listeners = []Listener{{Type: TypeTCP, Address: "127.0.0.1:0"}}
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	b := New(opt)
	if err := b.Listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func TestPubackWaitsForTheDiskAndLocalSubscribersDoNot(t *testing.T) {
	for _, version := range []byte{4, 5} {
		for qos, kind := range map[byte]byte{1: packets.Puback, 2: packets.Pubrec} {
			t.Run(fmt.Sprintf("v%d qos%d", version, qos), func(t *testing.T) {
				k := &disk{}
				b := startBroker(t, Options{Sink: k.sink})
				sub := connect(t, b, "sub", version, true)
				sub.subscribe("#")
				d := connect(t, b, "dev", version, true)
				d.publish("routed/a", qos, 7, "x")
				if pk := sub.expect(packets.Publish); string(pk.Payload) != "x" {
					t.Errorf("subscriber got %q", pk.Payload)
				}
				d.expectSilence()
				if got := b.Stats().HeldAcks; got != 1 {
					t.Errorf("held: got %d, expected 1", got)
				}
				k.finish(t, 0, nil)
				d.expectAcks(kind, 7)
				if qos == 2 {
					d.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrel}, PacketID: 7})
					d.expectAcks(packets.Pubcomp, 7)
				}
				eventually(t, "nothing held", func() bool { return b.Stats().HeldAcks == 0 })
			})
		}
	}
}

// TestAcksLeaveInPublishOrder mixes replicated and local topics and completes
// the stores out of order (MQTT-4.6.0-2).
func TestAcksLeaveInPublishOrder(t *testing.T) {
	k := &disk{}
	b := startBroker(t, Options{Sink: k.sink})
	d := connect(t, b, "dev", 4, true)
	d.publish("local/0", 1, 1, "")
	d.expectAcks(packets.Puback, 1) // nothing to wait for
	for id, topic := range []string{"r/2", "local/3", "r/4", "r/5", "local/6"} {
		d.publish(topic, 1, uint16(id+2), "")
	}
	k.finish(t, 2, nil)
	k.finish(t, 1, nil)
	d.expectSilence()
	k.finish(t, 0, nil)
	d.expectAcks(packets.Puback, 2, 3, 4, 5, 6)
	d.publish("local/7", 1, 7, "")
	d.expectAcks(packets.Puback, 7)
}

func TestRefusalIsToldToMQTT5(t *testing.T) {
	for qos, kind := range map[byte]byte{1: packets.Puback, 2: packets.Pubrec} {
		k := &disk{}
		b := startBroker(t, Options{Sink: k.sink, RefusalWait: 20 * time.Millisecond})
		sub := connect(t, b, "sub", 5, true)
		sub.subscribe("#")
		d := connect(t, b, "dev", 5, true)
		refused := func(id uint16) {
			t.Helper()
			pk := d.expect(kind)
			if pk.PacketID != id || pk.ReasonCode != 0x97 || pk.Properties.ReasonString == "" {
				t.Errorf("qos %d: got id %d reason %#x %q, expected id %d reason 0x97 with words", qos, pk.PacketID, pk.ReasonCode, pk.Properties.ReasonString, id)
			}
			sub.expect(packets.Publish)
		}
		k.refuse(errors.New("no space"))
		d.publish("r/a", qos, 1, "x")
		refused(1)
		k.refuse(nil)
		d.publish("r/a", qos, 1, "y") // the packet id is free again
		k.finish(t, 0, errors.New("disk error"))
		refused(1)
		d.publish("r/a", qos, 1, "z")
		k.finish(t, 1, nil)
		d.expectAcks(kind, 1)
		if got := b.Stats().Refused; got != 2 {
			t.Errorf("refused: got %d, expected 2", got)
		}
	}
}

func TestRefused311DeviceIsNeverAcknowledgedAndThenDisconnected(t *testing.T) {
	k := &disk{}
	b := startBroker(t, Options{Sink: k.sink, RefusalWait: 50 * time.Millisecond})
	d := connect(t, b, "dev", 4, true)
	k.refuse(errors.New("no space"))
	d.publish("r/a", 1, 1, "x")
	d.expectEnd()
}

// expectEnd makes sure that the broker closes the connection and says nothing
// before that.
func (d *device) expectEnd() {
	d.t.Helper()
	pk, err := d.readFor(10 * time.Second)
	if err == nil {
		d.t.Fatalf("got packet type %d, expected the end of the connection", pk.FixedHeader.Type)
	}
	var n net.Error
	if errors.As(err, &n) && n.Timeout() {
		d.t.Fatalf("the connection stays open: %v", err)
	}
}

func TestSpaceThatComesBackIsUsed(t *testing.T) {
	k := &disk{}
	b := startBroker(t, Options{Sink: k.sink, RefusalWait: time.Minute})
	d := connect(t, b, "dev", 4, true)
	k.refuse(errors.New("no space"))
	d.publish("r/a", 1, 1, "x")
	d.publish("r/b", 1, 2, "x")
	k.refuse(nil)
	k.finish(t, 0, nil)
	k.finish(t, 1, nil)
	d.expectAcks(packets.Puback, 1, 2)
	if k.topics[0] != "r/a" || k.topics[1] != "r/b" {
		t.Errorf("stored %v, expected the order of the publishes", k.topics)
	}
}

func TestFailedStoreEndsA311Connection(t *testing.T) {
	k := &disk{}
	b := startBroker(t, Options{Sink: k.sink})
	d := connect(t, b, "dev", 4, true)
	d.publish("r/a", 1, 1, "x")
	d.publish("r/b", 1, 2, "y")
	k.await(t, 1)
	k.finish(t, 0, errors.New("disk error"))
	k.finish(t, 1, nil) // must not be acknowledged before the first
	d.expectEnd()
}

// TestResentQoS2IsNotAcknowledgedByTheFirstAttempt drops a device whose
// publish is being stored; what it sends again after a failure must be stored.
func TestResentQoS2IsNotAcknowledgedByTheFirstAttempt(t *testing.T) {
	k := &disk{}
	b := startBroker(t, Options{Sink: k.sink, RefusalWait: time.Minute})
	d := connect(t, b, "dev", 4, false)
	d.publish("r/a", 2, 9, "x")
	d.expectSilence()
	d.conn.Close()
	eventually(t, "the disconnect", func() bool { return b.Stats().Clients == 0 })
	again := make(chan *device)
	go func() { again <- connect(t, b, "dev", 4, false) }()
	k.finish(t, 0, errors.New("disk error"))
	d = <-again
	d.publish("r/a", 2, 9, "x")
	k.finish(t, 1, nil)
	d.expectAcks(packets.Pubrec, 9)
}

func TestReservedPrefixesAreRefused(t *testing.T) {
	k := &disk{}
	b := startBroker(t, Options{Sink: k.sink, Reserved: []string{"vision/"}})
	d := connect(t, b, "dev", 5, true)
	d.publish("vision/r/s/c/detection", 1, 1, "x")
	if pk := d.expect(packets.Puback); pk.ReasonCode != packets.ErrNotAuthorized.Code {
		t.Errorf("got reason %#x, expected not authorised", pk.ReasonCode)
	}
	d.publish("vision/r/s/c/detection", 0, 0, "x")
	eventually(t, "both denied", func() bool { return b.Stats().Denied == 2 })
	if len(k.topics) != 0 {
		t.Errorf("stored %v", k.topics)
	}
}

// TestPipeliningDeviceIsAcknowledgedInFull sends many publishes without
// waiting, over stores that complete on another goroutine.
func TestPipeliningDeviceIsAcknowledgedInFull(t *testing.T) {
	const n = 20_000
	work := make(chan func(error), n)
	defer close(work)
	go func() {
		for done := range work {
			done(nil)
		}
	}()
	b := startBroker(t, Options{Sink: func(m Message) Store {
		if m.Topic == "local/x" {
			return nil
		}
		return func(done func(error)) error { work <- done; return nil }
	}})
	d := connect(t, b, "dev", 4, true)
	go func() {
		for i := range n {
			topic := "r/x"
			if i%7 == 0 {
				topic = "local/x"
			}
			d.publish(topic, 1, uint16(i%60_000+1), "x")
		}
	}()
	for i := range n {
		if pk := d.expect(packets.Puback); pk.PacketID != uint16(i%60_000+1) {
			t.Fatalf("ack %d: got id %d", i, pk.PacketID)
		}
	}
}

// TestDeviceThatDoesNotReadHoldsUpNobody has a QoS 1 subscriber whose socket
// is full: devices, the appliance itself and the broker's end go on.
func TestDeviceThatDoesNotReadHoldsUpNobody(t *testing.T) {
	k := &disk{}
	b := startBroker(t, Options{Sink: k.sink})
	deaf := connect(t, b, "deaf", 4, false)
	deaf.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1,
		Filters: packets.Subscriptions{{Filter: "local/#", Qos: 1}},
	})
	deaf.expect(packets.Suback)
	payload := make([]byte, 64<<10)
	for range 400 { // 25 MB, more than the socket and the gate take
		if err := b.Publish("local/x", payload, 1, false); err != nil {
			t.Fatal(err)
		}
	}
	d := connect(t, b, "dev", 4, true)
	d.publish("local/x", 1, 1, "y")
	d.expectAcks(packets.Puback, 1)
	d.publish("r/y", 1, 2, "y")
	k.finish(t, 0, nil)
	d.expectAcks(packets.Puback, 2)
	closed := make(chan error, 1)
	go func() { closed <- b.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("the broker's end waits for a device that does not read")
	}
}

// TestSlowReaderGetsWhatItIsOwed owes a session more than may wait for its
// socket; it gets all of it, over several connections.
func TestSlowReaderGetsWhatItIsOwed(t *testing.T) {
	b := startBroker(t, Options{})
	d := connect(t, b, "slow", 4, false)
	d.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1,
		Filters: packets.Subscriptions{{Filter: "x", Qos: 1}},
	})
	d.expect(packets.Suback)
	payload := make([]byte, 64<<10)
	const n = 400
	for i := range n {
		payload[0], payload[1] = byte(i>>8), byte(i)
		if err := b.Publish("x", bytes.Clone(payload), 1, false); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[int]bool{}
	for connections := 1; len(seen) < n; connections++ {
		if connections > n {
			t.Fatalf("%d of %d messages after %d connections", len(seen), n, connections)
		}
		for len(seen) < n {
			pk, err := d.readFor(10 * time.Second)
			if err != nil {
				break
			}
			if pk.FixedHeader.Type == packets.Publish {
				seen[int(pk.Payload[0])<<8|int(pk.Payload[1])] = true
				d.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: pk.PacketID})
			}
		}
		d = connect(t, b, "slow", 4, false)
	}
}

func connectWithWill(t *testing.T, b *Broker, topic string) *device {
	t.Helper()
	c, err := net.Dial("tcp", b.Addresses()[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	d := &device{t: t, conn: c, in: bufio.NewReader(c), v: 4}
	d.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Connect},
		Connect: packets.ConnectParams{
			ProtocolName: []byte("MQTT"), ClientIdentifier: "willing", Clean: true, Keepalive: 60,
			WillFlag: true, WillTopic: topic, WillPayload: []byte("gone"), WillQos: 1,
		},
	})
	return d
}

func TestWillsAreDevicesMessages(t *testing.T) {
	k := &disk{}
	b := startBroker(t, Options{Sink: k.sink, Reserved: []string{"vision/"}})
	forger := connectWithWill(t, b, "vision/r/s/c/detection")
	if ack := forger.expect(packets.Connack); ack.ReasonCode == 0 {
		t.Error("a will on a reserved topic is accepted")
	}
	d := connectWithWill(t, b, "r/willing")
	d.expect(packets.Connack)
	d.conn.Close()
	k.finish(t, 0, nil)
	if k.topics[0] != "r/willing" {
		t.Errorf("stored %v, expected the will", k.topics)
	}
}

// TestSessionWaitsForItsFormerConnection resumes a session while its QoS 2
// publish is still being stored: no PUBREC may come before that is settled.
func TestSessionWaitsForItsFormerConnection(t *testing.T) {
	k := &disk{}
	b := startBroker(t, Options{Sink: k.sink, RefusalWait: 100 * time.Millisecond})
	d := connect(t, b, "dev", 4, false)
	d.publish("r/a", 2, 9, "x")
	k.await(t, 0)
	c, err := net.Dial("tcp", b.Addresses()[0])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	again := &device{t: t, conn: c, in: bufio.NewReader(c), v: 4}
	again.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Connect},
		Connect:     packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: "dev", Keepalive: 60},
	})
	if ack := again.expect(packets.Connack); ack.ReasonCode != packets.Err3ServerUnavailable.Code {
		t.Errorf("got reason %#x, expected that the server is unavailable", ack.ReasonCode)
	}
	again.expectEnd()
	k.finish(t, 0, nil)
	connect(t, b, "dev", 4, false).expectAcks(packets.Pubrec, 9)
}

func TestGateForgetsDevicesThatAreGone(t *testing.T) {
	k := &disk{}
	b := startBroker(t, Options{Sink: k.sink})
	for i := range 20 {
		d := connect(t, b, fmt.Sprintf("dev-%d", i), 4, true)
		d.publish("r/a", 1, 1, "x")
		k.await(t, i)
		d.conn.Close()
	}
	for i := range 20 {
		k.finish(t, i, nil)
	}
	eventually(t, "no gate and nothing held", func() bool {
		n := 0
		b.hook.gates.Range(func(any, any) bool { n++; return true })
		return n == 0 && b.Stats().HeldAcks == 0
	})
}

func TestListeningForAnybodyIsRefused(t *testing.T) {
	for address, allow := range map[string]bool{"0.0.0.0:1883": false, ":1883": false, "192.0.2.1:1883": false, "127.0.0.1:1": true, "[::1]:1": true, "localhost:1": true} {
		err := CheckListener(Listener{Type: TypeTCP, Address: address}, false)
		if (err == nil) != allow {
			t.Errorf("%s: got %v, expected allowed=%v", address, err, allow)
		}
		if err := CheckListener(Listener{Type: TypeTCP, Address: address}, true); err != nil {
			t.Errorf("%s, with users: %v", address, err)
		}
	}
	b := New(Options{Listeners: []Listener{{Type: TypeTCP, Address: "0.0.0.0:0"}}, Logger: slog.New(slog.DiscardHandler)})
	if err := b.Listen(); !errors.Is(err, ErrListener) {
		t.Errorf("Listen: got %v, expected ErrListener", err)
	}
}

func FuzzGateWrite(f *testing.F) {
	f.Add([]byte{0x40, 2, 0, 1, 0x50, 2, 0, 2, 0xd0, 0}, uint16(1))
	f.Fuzz(func(t *testing.T, p []byte, id uint16) {
		if len(p) < 2 {
			return
		}
		g := newGate(nil, 4, &counters{})
		g.writing = true // nothing is written
		g.expect(id, false)
		if _, err := g.Write(p); err != nil {
			t.Fatal(err)
		}
		total := len(g.out)
		for _, a := range g.held {
			total += len(a.bytes)
		}
		if total != len(p) {
			t.Errorf("%d of %d bytes passed or were held", total, len(p))
		}
	})
}

// BenchmarkGate is what one replicated publish costs at the gate: expecting
// it, taking the server's PUBACK, and settling it.
func BenchmarkGate(b *testing.B) {
	near, far := net.Pipe()
	defer far.Close()
	go func() { _, _ = io.Copy(io.Discard, far) }()
	g := newGate(near, 4, &counters{})
	puback := []byte{packets.Puback << 4, 2, 0, 1}
	b.ReportAllocs()
	for b.Loop() {
		a := g.expect(1, false)
		if _, err := g.Write(puback); err != nil {
			b.Fatal(err)
		}
		g.resolve(a, false, nil)
	}
}
