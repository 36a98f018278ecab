package broker

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// encoded draws a packet of a version of MQTT.
func encoded(t testing.TB, version byte, pk packets.Packet) []byte {
	t.Helper()
	pk.ProtocolVersion = version
	var b bytes.Buffer
	encode := map[byte]func(*bytes.Buffer) error{
		packets.Connect: pk.ConnectEncode, packets.Publish: pk.PublishEncode, packets.Puback: pk.PubackEncode, packets.Pubrec: pk.PubrecEncode,
		packets.Pubrel: pk.PubrelEncode, packets.Pubcomp: pk.PubcompEncode, packets.Subscribe: pk.SubscribeEncode,
		packets.Unsubscribe: pk.UnsubscribeEncode, packets.Pingreq: pk.PingreqEncode, packets.Disconnect: pk.DisconnectEncode, packets.Auth: pk.AuthEncode,
		packets.Connack: pk.ConnackEncode, packets.Suback: pk.SubackEncode, packets.Unsuback: pk.UnsubackEncode, packets.Pingresp: pk.PingrespEncode,
	}[pk.FixedHeader.Type]
	if err := encode(&b); err != nil {
		t.Fatalf("packet type %d: %v", pk.FixedHeader.Type, err)
	}
	return b.Bytes()
}

// header is a fixed header with the flags that the specification wants.
func header(kind byte) packets.FixedHeader {
	h := packets.FixedHeader{Type: kind}
	if kind == packets.Pubrel || kind == packets.Subscribe || kind == packets.Unsubscribe {
		h.Qos = 1
	}
	return h
}

// validPackets has one of every type that a version knows, as a device or by
// mistake a server would send it.
func validPackets(t testing.TB, version byte) map[byte][]byte {
	out := map[byte][]byte{}
	props := packets.Properties{User: []packets.UserProperty{{Key: "k", Val: "v"}}}
	for kind := packets.Connect; kind <= packets.Auth; kind++ {
		if kind == packets.Auth && version < 5 {
			continue
		}
		pk := packets.Packet{FixedHeader: header(kind), PacketID: 1, Properties: props}
		switch kind {
		case packets.Connect:
			pk.PacketID = 0
			pk.Connect = packets.ConnectParams{
				ProtocolName: []byte("MQTT"), ClientIdentifier: "fuzz", Clean: true, Keepalive: 60, UsernameFlag: true, Username: []byte("u"),
				PasswordFlag: true, Password: []byte("p"), WillFlag: true, WillTopic: "will", WillPayload: []byte("gone"), WillQos: 1,
				WillProperties: packets.Properties{ContentType: "text", CorrelationData: []byte("c"), ResponseTopic: "r"},
			}
			pk.Properties = packets.Properties{SessionExpiryInterval: 3, SessionExpiryIntervalFlag: true, ReceiveMaximum: 2, TopicAliasMaximum: 3, MaximumPacketSize: 9000}
		case packets.Publish:
			pk.FixedHeader.Qos, pk.FixedHeader.Retain, pk.TopicName, pk.Payload = 1, true, "a/b", []byte("payload")
			pk.Properties = packets.Properties{
				PayloadFormat: 1, PayloadFormatFlag: true, MessageExpiryInterval: 5, ContentType: "text", ResponseTopic: "r", CorrelationData: []byte("c"),
				TopicAlias: 1, TopicAliasFlag: true, User: props.User,
			}
		case packets.Subscribe, packets.Unsubscribe:
			pk.Filters = packets.Subscriptions{{Filter: "a/+", Qos: 2}, {Filter: "$share/g/#", Qos: 1}}
			if kind == packets.Subscribe {
				pk.Properties.SubscriptionIdentifier = []int{7}
			}
		case packets.Suback, packets.Unsuback:
			pk.ReasonCodes = []byte{0, 1}
		case packets.Auth:
			pk.Properties.AuthenticationMethod, pk.Properties.AuthenticationData = "m", []byte("d")
		}
		out[kind] = encoded(t, version, pk)
	}
	return out
}

// drain reads everything that a device is sent, and fails if it is not MQTT.
func drain(d *device) {
	for {
		if _, err := d.readFor(time.Hour); err != nil {
			if n := net.Error(nil); !errors.As(err, &n) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				d.t.Errorf("the broker sent to MQTT %d what cannot be read: %v", d.v, err)
			}
			return
		}
	}
}

// FuzzPackets sends a stream to the broker, after a CONNECT or instead of it.
// The broker survives, ends the connection with the stream, goes on to serve
// others, and what it hands on can be read.
func FuzzPackets(f *testing.F) {
	for _, version := range []byte{4, 5} {
		all := validPackets(f, version)
		for kind, packet := range all {
			f.Add(version == 5, kind != packets.Connect, packet)
			f.Add(version == 5, true, append(append([]byte{}, packet...), all[packets.Publish]...))
			f.Add(version == 5, false, append(append([]byte{}, all[packets.Connect]...), packet...))
			f.Add(version == 5, true, packet[:len(packet)/2])
		}
	}
	b := startBroker(f, Options{Limits: Limits{ConnectsPerS: 1e6, MaxPacketBytes: 64 << 10}})
	for _, version := range []byte{4, 5} {
		watcher := connect(f, b, string('a'+rune(version)), version, true)
		watcher.subscribeTo(packets.Subscription{Filter: "#", Qos: 0})
		go drain(watcher)
	}
	canary := connect(f, b, "canary", 5, true)
	f.Fuzz(func(t *testing.T, five, connected bool, stream []byte) {
		d := dial(t, b)
		if d.v = 4; five {
			d.v = 5
		}
		if connected {
			d.send(packets.Packet{FixedHeader: header(packets.Connect), Connect: packets.ConnectParams{
				ProtocolName: []byte("MQTT"), ClientIdentifier: "fuzz", Clean: true, Keepalive: 60,
			}})
			d.expect(packets.Connack)
		}
		_, _ = d.conn.Write(stream) // the broker may have closed it
		if err := d.conn.(*net.TCPConn).CloseWrite(); err != nil && connected {
			t.Log(err)
		}
		if err := d.conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, d.in); err != nil {
			if n := net.Error(nil); errors.As(err, &n) && n.Timeout() {
				t.Fatalf("the connection is still open: %v", err)
			}
		}
		if err := d.conn.Close(); err != nil {
			t.Fatal(err)
		}
		canary.t = t
		canary.publish("canary", 1, 1, "x")
		canary.expectAcks(packets.Puback, 1)
	})
}
