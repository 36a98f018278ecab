package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/mochi-mqtt/server/v2/packets"

	"outstation/broker"
	"outstation/uplink/wire"
	"outstation/web"
)

// startApp opens an appliance in this process and closes it at the end.
func startApp(t *testing.T, cfg Config) *app {
	t.Helper()
	a, err := openApp(cfg, slog.New(slog.DiscardHandler), appOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// TestAllStores stores one publish in two places, with refusals in between.
func TestAllStores(t *testing.T) {
	full := errors.New("full")
	var calls [2]int
	var settle [2]func(error)
	refuse := [2]error{nil, full}
	fake := func(i int) broker.Store {
		return func(done func(error)) error {
			calls[i]++
			if refuse[i] == nil {
				settle[i] = done
			}
			return refuse[i]
		}
	}
	store := all([]broker.Store{fake(0), fake(1)})
	var told []error
	done := func(err error) { told = append(told, err) }
	for range 3 {
		if err := store(done); !errors.Is(err, full) {
			t.Fatalf("got %v, expected the refusal", err)
		}
	}
	settle[0](nil) // durable while the other is still refused
	refuse[1] = nil
	if err := store(done); err != nil {
		t.Fatal(err)
	}
	if calls != [2]int{1, 4} || len(told) != 0 {
		t.Fatalf("got the calls %v and told %v, expected 1 and 4, and nothing told", calls, told)
	}
	settle[1](nil)
	if len(told) != 1 || told[0] != nil {
		t.Fatalf("told %v, expected one success", told)
	}

	told, refuse = nil, [2]error{}
	if err := all([]broker.Store{fake(0), fake(1)})(done); err != nil {
		t.Fatal(err)
	}
	settle[1](nil)
	settle[0](full)
	if len(told) != 1 || !errors.Is(told[0], full) {
		t.Fatalf("told %v, expected one failure", told)
	}
}

// envelopes are the events at a consumer, by the end of their topic.
func (c *consumer) envelopes(t *testing.T, suffix string) []wire.Envelope {
	t.Helper()
	var out []wire.Envelope
	for _, m := range c.on(suffix) {
		e, err := wire.ParseEnvelope(m.Payload())
		if err != nil {
			t.Fatalf("%s: %v", m.Topic(), err)
		}
		out = append(out, e)
	}
	return out
}

// publish sends one message at QoS 1 and waits for its PUBACK.
func publish(t *testing.T, address, topic, payload string) {
	t.Helper()
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + address).SetClientID("dev"))
	if tok := c.Connect(); !tok.WaitTimeout(10*time.Second) || tok.Error() != nil {
		t.Fatalf("connect: %v", tok.Error())
	}
	defer c.Disconnect(0)
	if tok := c.Publish(topic, 1, false, payload); !tok.WaitTimeout(10*time.Second) || tok.Error() != nil {
		t.Fatalf("publish on %s: %v", topic, tok.Error())
	}
}

// TestDevicesMessagesBecomeEvents publishes as devices do, twice, with a
// restart in between, and reads at the centre and beside the devices.
func TestDevicesMessagesBecomeEvents(t *testing.T) {
	centre := startMosquitto(t)
	seen := consume(t, centre.URL(), "events/#", "sensors/#")
	cfg := testConfig(t, t.TempDir(), centre.URL())
	cfg.Forward = []ForwardConfig{
		{Source: "zigbee", Match: "zigbee2mqtt/+", EventType: "door_access", Timestamp: "{{ .payload.last_seen }}"},
		{Source: "line", Match: "sensors/+", EventType: "telemetry"},
	}
	address := cfg.Broker.Listeners[0].Address
	for run := range 2 {
		a, err := openApp(cfg, slog.New(slog.DiscardHandler), appOptions{})
		if err != nil {
			t.Fatal(err)
		}
		local := make(chan mqtt.Message, 16)
		l := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + address).SetClientID("local"))
		if tok := l.Connect(); tok.Wait() && tok.Error() != nil {
			t.Fatal(tok.Error())
		}
		if tok := l.Subscribe("events/reg/site-1/zigbee/+", 1, func(_ mqtt.Client, m mqtt.Message) { local <- m }); tok.Wait() && tok.Error() != nil {
			t.Fatal(tok.Error())
		}
		publish(t, address, "zigbee2mqtt/door", `{"contact":false,"last_seen":"2026-11-21T01:00:00Z"}`)
		publish(t, address, "zigbee2mqtt/door", "7;OPEN")
		publish(t, address, "sensors/x", `{"t":21}`)
		publish(t, address, "other/x", `{"t":21}`)
		for _, want := range []string{"door_access", "unparsed"} {
			select {
			case m := <-local:
				if !strings.HasSuffix(m.Topic(), want) {
					t.Errorf("got %s beside the device, expected %s", m.Topic(), want)
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("no %s beside the device", want)
			}
		}
		eventually(t, "the events and the raw message at the centre", func() bool {
			return len(seen.on("zigbee/door_access")) == run+1 && len(seen.on("zigbee/unparsed")) == run+1 &&
				len(seen.on("line/telemetry")) == run+1 && len(seen.on("sensors/reg/site-1/x")) == run+1
		})
		expectFigures(t, a, map[string]float64{
			`outstation_events_total{source="zigbee"}`:          2,
			`outstation_events_unparsed_total{source="zigbee"}`: 1,
			`outstation_events_refused_total{source="zigbee"}`:  0,
			`outstation_events_total{source="line"}`:            1,
		})
		if s := a.snapshot(); len(s.Events.Sources) != 3 || !strings.Contains(s.Events.Sources[2].LastUnparsed, "not JSON") {
			t.Errorf("got %+v", s.Events)
		}
		l.Disconnect(0)
		// What the centre has not acknowledged is sent again by the next run.
		eventually(t, "the centre's acknowledgements", func() bool { return a.queue.Depth().Records == 0 })
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
	doors := seen.envelopes(t, "zigbee/door_access")
	if doors[0].IdempotencyKey != doors[1].IdempotencyKey || doors[0].EventID == doors[1].EventID || doors[0].IdempotencyKey != "site-1-zigbee-door-2026-11-21T01:00:00Z" {
		t.Errorf("a resend became %s %s and %s %s", doors[0].EventID, doors[0].IdempotencyKey, doors[1].EventID, doors[1].IdempotencyKey)
	}
	if u := seen.envelopes(t, "zigbee/unparsed"); u[0].IdempotencyKey == u[1].IdempotencyKey {
		t.Errorf("two messages without a time have the key %s", u[0].IdempotencyKey)
	}
}

// device5 is an MQTT 5 device that says which reason it got.
type device5 struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
	id   uint16
}

func connect5(t *testing.T, address string) *device5 {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	d := &device5{t: t, conn: conn, in: bufio.NewReader(conn)}
	var b bytes.Buffer
	hello := packets.Packet{
		ProtocolVersion: 5, FixedHeader: packets.FixedHeader{Type: packets.Connect},
		Connect: packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: "v5", Clean: true},
	}
	if err := hello.ConnectEncode(&b); err != nil {
		t.Fatal(err)
	}
	d.exchange(b.Bytes(), packets.Connack)
	return d
}

// exchange sends a packet and returns the body of the answer.
func (d *device5) exchange(b []byte, answer byte) []byte {
	d.t.Helper()
	if _, err := d.conn.Write(b); err != nil {
		d.t.Fatal(err)
	}
	if err := d.conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		d.t.Fatal(err)
	}
	head, err := d.in.ReadByte()
	if err != nil || head>>4 != answer {
		d.t.Fatalf("got packet %#x, %v, expected kind %d", head, err, answer)
	}
	n, _, err := packets.DecodeLength(d.in)
	if err != nil {
		d.t.Fatal(err)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(d.in, body); err != nil {
		d.t.Fatal(err)
	}
	return body
}

// publish returns the reason of the PUBACK.
func (d *device5) publish(topic, payload string) byte {
	d.t.Helper()
	d.id++
	m := packets.Packet{ProtocolVersion: 5, PacketID: d.id, FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, TopicName: topic, Payload: []byte(payload)}
	var b bytes.Buffer
	if err := m.PublishEncode(&b); err != nil {
		d.t.Fatal(err)
	}
	if body := d.exchange(b.Bytes(), packets.Puback); len(body) > 2 {
		return body[2]
	}
	return 0
}

// TestAnEventThatIsNotStoredIsNotAcknowledged fills the route of events and
// expects that devices and machines are refused, until there is space.
func TestAnEventThatIsNotStoredIsNotAcknowledged(t *testing.T) {
	centre := startMosquitto(t)
	if err := centre.Stop(); err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(t, t.TempDir(), centre.URL())
	cfg.Forward = []ForwardConfig{{Source: "s", Match: "+/forwarded", EventType: "telemetry"}}
	cfg.Uplink.Routes = append(defaultRoutes(), RouteConfig{Name: "event", QoS: 1, MaxRecords: 2, Overflow: "reject"})
	secret := addToken(t, cfg, "panel")
	a := startApp(t, cfg)
	d := connect5(t, cfg.Broker.Listeners[0].Address)
	if got := d.publish("x/forwarded", `{}`); got != 0 { // beside the boot's event there is room for one
		t.Fatalf("got reason %#x", got)
	}
	const quotaExceeded = 0x97
	if got := d.publish("x/forwarded", `{}`); got != quotaExceeded {
		t.Errorf("got reason %#x for an event that cannot be stored", got)
	}
	if got := d.publish("sensors/forwarded", `{}`); got != quotaExceeded {
		t.Errorf("got reason %#x for a replicated message whose event cannot be stored", got)
	}
	if got := d.publish("sensors/other", `{}`); got != 0 {
		t.Errorf("got reason %#x for a message that is no event", got)
	}
	if status, body, retry := post(t, cfg, "/hooks/panel", secret, "application/json", `{}`); status != 503 || retry == "" || !strings.Contains(body, "not stored") {
		t.Errorf("got %d, Retry-After %q: %s", status, retry, body)
	}
	if got := a.queue.Ledger()["event"].Accepted.Records; got != 2 {
		t.Errorf("%d events were accepted, expected 2", got)
	}
	expectFigures(t, a, map[string]float64{
		`outstation_events_refused_total{source="s"}`:     2,
		`outstation_events_refused_total{source="panel"}`: 1,
		`outstation_event_posts_total{status="503"}`:      1,
	})
	if err := centre.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "space", func() bool { return a.queue.Ledger()["event"].Queued.Records == 0 })
	if got := d.publish("sensors/forwarded", `{}`); got != 0 {
		t.Errorf("got reason %#x when there was space", got)
	}
	if got := a.queue.Ledger()["sensors/#"].Accepted.Records; got != 2 {
		t.Errorf("%d raw messages were accepted, expected 2", got)
	}
}

// TestKilledAppliancesEventsArrive kills the program while a device and a
// machine send, and expects every event that was acknowledged at the centre.
func TestKilledAppliancesEventsArrive(t *testing.T) {
	centre := startMosquitto(t)
	seen := consume(t, centre.URL(), "events/#", "sensors/#")
	cfg := testConfig(t, t.TempDir(), centre.URL())
	cfg.Forward = []ForwardConfig{{Source: "dev", Match: "sensors/line/+", EventType: "telemetry"}} // what it sends is not JSON
	secret := addToken(t, cfg, "panel")
	dev := &device{acked: map[string]bool{}}
	posted := map[string]bool{}
	for range 3 {
		p := start(t, cfg, nil, binary(t))
		stop := make(chan struct{})
		var sending sync.WaitGroup
		sending.Go(func() { dev.publish(cfg.Broker.Listeners[0].Address, stop) })
		goal := dev.count() + 300
		for ended := len(posted) + 20; len(posted) < ended; {
			status, body, _ := post(t, cfg, "/hooks/panel", secret, "", fmt.Sprintf(`{"n":%d}`, len(posted)))
			var answer acceptedPost
			if err := json.Unmarshal([]byte(body), &answer); status != 202 || err != nil {
				t.Fatalf("got %d %s", status, body)
			}
			posted[answer.EventID] = true
		}
		p.eventually("acknowledgements", func() bool { return dev.count() >= goal })
		p.kill()
		close(stop)
		sending.Wait()
	}
	p := start(t, cfg, nil, binary(t))
	p.until("an empty queue", func(s web.Snapshot) bool { return s.Queue.Records == 0 && s.Uplink.State == web.UplinkConnected })
	raw, events := map[string]bool{}, map[string]bool{}
	for _, m := range seen.on("sensors/reg/site-1/line/x") {
		raw[string(m.Payload())] = true
	}
	for _, e := range seen.envelopes(t, "dev/unparsed") {
		var u wire.Unparsed
		if err := json.Unmarshal(e.Payload, &u); err != nil {
			t.Fatal(err)
		}
		events[string(u.Raw)] = true
	}
	for payload := range dev.acked {
		if !raw[payload] || !events[payload] {
			t.Fatalf("%s was acknowledged; raw at the centre: %v, its event: %v", payload, raw[payload], events[payload])
		}
	}
	for _, e := range seen.envelopes(t, "panel/webhook") {
		delete(posted, e.EventID)
	}
	if len(posted) > 0 {
		t.Errorf("%d events that were answered with 202 are lost", len(posted))
	}
	boots := seen.envelopes(t, "outstation/boot")
	t.Logf("%d acknowledged, %d raw, %d events, %d boots", len(dev.acked), len(raw), len(events), len(boots))
	for i, e := range boots[1:] {
		if !strings.Contains(string(e.Payload), `"clean_stop":false`) || !strings.Contains(string(e.Payload), bootRestart) {
			t.Errorf("boot %d after a kill: %s", i+1, e.Payload)
		}
	}
	if code := p.stop(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	p = start(t, cfg, nil, binary(t))
	p.eventually("the boot after a stop in order", func() bool { return strings.Contains(string(seen.last("outstation/boot")), `"clean_stop":true`) })
}

// TestAReloadChangesTheRules adds a rule to a running appliance.
func TestAReloadChangesTheRules(t *testing.T) {
	centre := startMosquitto(t)
	seen := consume(t, centre.URL(), "events/#")
	cfg := testConfig(t, t.TempDir(), centre.URL())
	p := start(t, cfg, nil, binary(t))
	publish(t, cfg.Broker.Listeners[0].Address, "a/b", `{"n":1}`)
	cfg.Forward = []ForwardConfig{{Source: "s", Match: "a/+", EventType: "telemetry"}}
	if code, out := p.reload(cfg); code != 0 || !strings.Contains(out, "forward") {
		t.Fatalf("%d %s", code, out)
	}
	publish(t, cfg.Broker.Listeners[0].Address, "a/b", `{"n":2}`)
	p.eventually("the event at the centre", func() bool { return len(seen.on("s/telemetry")) == 1 })
	if got := string(seen.envelopes(t, "s/telemetry")[0].Payload); got != `{"n":2}` {
		t.Errorf("got the payload %s", got)
	}
}

// TestUnparsedKeepsTheBytes makes sure that a reader gets back what was sent.
func TestUnparsedKeepsTheBytes(t *testing.T) {
	cfg := testConfig(t, t.TempDir(), "tcp://127.0.0.1:1")
	cfg.Forward = []ForwardConfig{{Source: "s", Match: "a/#", EventType: "x"}}
	engine, err := cfg.forwardEngine()
	if err != nil {
		t.Fatal(err)
	}
	ev, ok := engine.Message("a/b", []byte{0, 0xff, '"'}, time.Now())
	if want := base64.StdEncoding.EncodeToString([]byte{0, 0xff, '"'}); !ok || !strings.Contains(string(ev.Bytes), `"raw_base64":"`+want+`"`) {
		t.Errorf("got %s", ev.Bytes)
	}
}
