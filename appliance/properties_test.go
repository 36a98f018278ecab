package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"outstation/uplink"
	"outstation/web"
)

// publish5 sends messages as an MQTT 5 device and waits for each PUBACK.
func publish5(t *testing.T, address string, messages ...packets.Packet) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	in := bufio.NewReader(c)
	exchange := func(b *bytes.Buffer, encoded error, answer byte) {
		t.Helper()
		if encoded != nil {
			t.Fatal(encoded)
		}
		if _, err := b.WriteTo(c); err != nil {
			t.Fatal(err)
		}
		if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		head, err := in.ReadByte()
		if err != nil || head>>4 != answer {
			t.Fatalf("got packet %#x, %v, expected kind %d", head, err, answer)
		}
		n, _, err := packets.DecodeLength(in)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, in, int64(n)); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	hello := packets.Packet{
		ProtocolVersion: 5, FixedHeader: packets.FixedHeader{Type: packets.Connect},
		Connect: packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: "v5", Clean: true},
	}
	exchange(&b, hello.ConnectEncode(&b), packets.Connack)
	for i, m := range messages {
		m.ProtocolVersion, m.PacketID, m.FixedHeader = 5, uint16(i+1), packets.FixedHeader{Type: packets.Publish, Qos: 1}
		exchange(&b, m.PublishEncode(&b), packets.Puback)
	}
}

// TestPropertiesAreStoredAndExpiryIsHonoured publishes to an appliance without
// a centre, lets one message expire, and looks at what is left.
func TestPropertiesAreStoredAndExpiryIsHonoured(t *testing.T) {
	centre := startMosquitto(t)
	seen := consume(t, centre.URL(), "sensors/#")
	if err := centre.Stop(); err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(t, t.TempDir(), centre.URL())
	cfg.Uplink.Routes = append(cfg.Uplink.Routes, RouteConfig{Match: "short/#", To: "sensors/short", QoS: 1})
	p := start(t, cfg, nil, binary(t))
	publish5(t, cfg.Broker.Listeners[0].Address,
		packets.Packet{TopicName: "sensors/long", Payload: []byte("kept"), Properties: packets.Properties{
			MessageExpiryInterval: 3600, ContentType: "text/plain", User: []packets.UserProperty{{Key: "unit", Val: "bar"}},
		}},
		packets.Packet{TopicName: "short/x", Payload: []byte("too late"), Properties: packets.Properties{MessageExpiryInterval: 1}},
	)
	account := func(s web.Snapshot, route string) web.RouteLedger {
		for _, l := range s.Ledger {
			if l.Route == route {
				return l
			}
		}
		return web.RouteLedger{}
	}
	p.until("the expiry", func(s web.Snapshot) bool { return account(s, "short/#").Expired.Records == 1 })
	if code := p.stop(); code != 0 {
		t.Fatalf("exit status %d", code)
	}

	q, err := uplink.Open(uplink.Options{Dir: filepath.Join(cfg.DataDir, "queue"), MinFreeBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	var kept uplink.Entry
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for kept.Topic != "sensors/reg/site-1/long" { // what the appliance says of itself is queued too
		entries, err := q.Next(ctx, uplink.Want{Max: 1, History: 1})
		if err != nil {
			t.Fatal(err)
		}
		kept = entries[0]
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(kept.Properties, []byte("text/plain")) || !bytes.Contains(kept.Properties, []byte("\x00\x04unit\x00\x03bar")) {
		t.Errorf("properties: %q", kept.Properties)
	}
	if left := time.Until(kept.Expiry); left < 50*time.Minute || left > time.Hour {
		t.Errorf("expires in %v, expected about an hour", left)
	}

	if err := centre.Start(); err != nil {
		t.Fatal(err)
	}
	p = start(t, cfg, nil, binary(t))
	p.eventually("what is still wanted", func() bool { return string(seen.last("/long")) == "kept" })
	s := p.until("an empty queue", func(s web.Snapshot) bool { return s.Queue.Records == 0 })
	if got := seen.on("/short"); len(got) > 0 {
		t.Errorf("what had expired arrived: %s", got[0].Payload())
	}
	if l := account(s, "sensors/#"); l.Accepted != l.Delivered || l.Accepted.Bytes <= uint64(len("sensors/reg/site-1/long"+"kept"+"text/plain"+"unit"+"bar")) {
		t.Errorf("ledger: %+v", l)
	}
	if code := p.stop(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}
