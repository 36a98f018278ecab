package broker

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// sentProperties are what a device says of its message here.
func sentProperties() packets.Properties {
	return packets.Properties{
		PayloadFormat: 1, PayloadFormatFlag: true, ContentType: "application/json", ResponseTopic: "answer/here",
		CorrelationData: []byte{0, 1, 255}, User: []packets.UserProperty{{Key: "b", Val: "2"}, {Key: "a", Val: "1"}, {Key: "a", Val: "1"}},
		MessageExpiryInterval: 3600,
	}
}

// checkProperties makes sure that a message has what sentProperties says.
func checkProperties(t *testing.T, m Message) {
	t.Helper()
	var got packets.Properties
	if _, err := got.Decode(packets.Publish, bytes.NewBuffer(append([]byte{byte(len(m.Properties))}, m.Properties...))); err != nil {
		t.Fatal(err)
	}
	want := sentProperties()
	if got.ContentType != want.ContentType || got.ResponseTopic != want.ResponseTopic || !got.PayloadFormatFlag || got.PayloadFormat != 1 ||
		!bytes.Equal(got.CorrelationData, want.CorrelationData) || len(got.User) != 3 || got.User[0] != want.User[0] || got.User[2] != want.User[2] {
		t.Errorf("got %+v, expected %+v", got, want)
	}
	if got.MessageExpiryInterval != 0 || got.TopicAlias != 0 {
		t.Errorf("got the expiry %d and the alias %d among the properties, expected neither", got.MessageExpiryInterval, got.TopicAlias)
	}
	if left := time.Until(m.Expiry); left < 59*time.Minute || left > time.Hour {
		t.Errorf("expires in %v, expected an hour", left)
	}
}

// taken is a sink that hands every message to the test.
func taken() (Sink, chan Message) {
	c := make(chan Message, 10)
	return func(m Message) Store {
		return func(done func(error)) error {
			c <- m
			done(nil)
			return nil
		}
	}, c
}

func TestPropertiesAndExpiryReachTheSink(t *testing.T) {
	sink, got := taken()
	b := startBroker(t, Options{Sink: sink})
	d := connect(t, b, "dev", 5, true)
	first := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, TopicName: "r/a", PacketID: 1, Payload: []byte("x"), Properties: sentProperties(),
		Mods: packets.Mods{AllowResponseInfo: true},
	}
	first.Properties.TopicAlias, first.Properties.TopicAliasFlag = 3, true
	d.send(first)
	d.expectAcks(packets.Puback, 1)
	checkProperties(t, <-got)

	// The alias alone names the topic from now on, and is no property of the message.
	d.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, PacketID: 2,
		Properties: packets.Properties{TopicAlias: 3, TopicAliasFlag: true},
	})
	d.expectAcks(packets.Puback, 2)
	if m := <-got; m.Topic != "r/a" || m.Properties != nil || !m.Expiry.IsZero() {
		t.Errorf("got %+v, expected r/a without properties", m)
	}

	old := connect(t, b, "old", 4, true)
	old.publish("r/b", 1, 1, "x")
	old.expectAcks(packets.Puback, 1)
	if m := <-got; m.Properties != nil || !m.Expiry.IsZero() {
		t.Errorf("got %+v of a 3.1.1 device", m)
	}
}

// TestAnAliasDoesNotReachAReservedTopic tries to name a reserved topic by an
// alias, which the server resolves after it has asked what may be published.
func TestAnAliasDoesNotReachAReservedTopic(t *testing.T) {
	sink, got := taken()
	b := startBroker(t, Options{Sink: sink, Reserved: []string{"vision/"}})
	d := connect(t, b, "dev", 5, true)
	alias := packets.Properties{TopicAlias: 1, TopicAliasFlag: true}
	publish := func(id uint16, topic string) {
		d.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, PacketID: id, TopicName: topic, Properties: alias})
	}
	publish(1, "vision/r/s/c/detection")
	if ack := d.expect(packets.Puback); ack.ReasonCode != packets.ErrNotAuthorized.Code {
		t.Errorf("got reason %#x, expected not authorized", ack.ReasonCode)
	}
	publish(2, "") // the alias was not learnt
	d.expectEndWith(packets.ErrProtocolViolationNoTopic.Code)
	select {
	case m := <-got:
		t.Errorf("a publish reached %q", m.Topic)
	default:
	}
}

func TestAWillKeepsItsPropertiesAndExpiry(t *testing.T) {
	sink, got := taken()
	b := startBroker(t, Options{Sink: sink})
	c, err := net.Dial("tcp", b.Addresses()[0])
	if err != nil {
		t.Fatal(err)
	}
	d := &device{t: t, conn: c, v: 5}
	d.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Connect},
		Mods:        packets.Mods{AllowResponseInfo: true},
		Connect: packets.ConnectParams{
			ProtocolName: []byte("MQTT"), ClientIdentifier: "willing", Clean: true, Keepalive: 60,
			WillFlag: true, WillTopic: "r/will", WillPayload: []byte("gone"), WillQos: 1, WillProperties: sentProperties(),
		},
	})
	eventually(t, "the device", func() bool { return b.Stats().Clients == 1 })
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	m := <-got
	if m.Topic != "r/will" {
		t.Errorf("got %q", m.Topic)
	}
	checkProperties(t, m)
}

func TestAcknowledgementsDoNotRepeatTheirPublish(t *testing.T) {
	b := startInMemory(t, Options{})
	d := connect(t, b, "dev", 5, true)
	for qos, kind := range map[byte]byte{1: packets.Puback, 2: packets.Pubrec} {
		d.send(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: qos}, TopicName: "a", PacketID: uint16(qos),
			Properties: packets.Properties{User: []packets.UserProperty{{Key: "k", Val: "v"}}},
		})
		if ack := d.expect(kind); len(ack.Properties.User) > 0 {
			t.Errorf("QoS %d: got %+v", qos, ack.Properties.User)
		}
	}
}
