package broker

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

func TestTopicsGetAliases(t *testing.T) {
	b := startBroker(t, Options{})
	d, _ := connectWith(t, b, 5, packets.ConnectParams{ClientIdentifier: "dev", Clean: true}, packets.Properties{TopicAliasMaximum: 1})
	d.subscribeTo(packets.Subscription{Filter: "#", Qos: 1})
	for i, want := range []struct {
		published, topic string
		qos              byte
		alias            uint16
	}{{"a", "a", 0, 1}, {"a", "", 1, 1}, {"b", "b", 1, 0}, {"a", "", 0, 1}} {
		if err := b.Publish(want.published, []byte("x"), want.qos, false); err != nil {
			t.Fatal(err)
		}
		pk := d.expect(packets.Publish)
		if pk.TopicName != want.topic || pk.Properties.TopicAlias != want.alias || pk.FixedHeader.Qos != want.qos || string(pk.Payload) != "x" {
			t.Errorf("message %d: got %q with alias %d, expected %+v", i, pk.TopicName, pk.Properties.TopicAlias, want)
		}
	}
	other := connect(t, b, "other", 5, true)
	other.subscribeTo(packets.Subscription{Filter: "#", Qos: 1})
	if err := b.Publish("a", []byte("x"), 1, false); err != nil {
		t.Fatal(err)
	}
	if pk := other.expect(packets.Publish); pk.TopicName != "a" || pk.Properties.TopicAlias != 0 {
		t.Errorf("a device that allows none: got %q with alias %d", pk.TopicName, pk.Properties.TopicAlias)
	}
}

func TestKeepAliveIsBounded(t *testing.T) {
	b := startBroker(t, Options{MaxKeepAlive: 50 * time.Second})
	_, ack := connectWith(t, b, 5, packets.ConnectParams{ClientIdentifier: "dev", Clean: true}, packets.Properties{})
	if ack.Properties.ServerKeepAlive != 50 {
		t.Errorf("got a keep-alive of %d s, expected 50", ack.Properties.ServerKeepAlive)
	}
}

func TestEmptyClientIDOfAKeptSessionIsRefused(t *testing.T) {
	b := startBroker(t, Options{})
	_, ack := connectWith(t, b, 4, packets.ConnectParams{}, packets.Properties{})
	if ack.ReasonCode != 2 {
		t.Errorf("got return code %#x, expected 2", ack.ReasonCode)
	}
}

// TestLastWordsReachADeviceThatIsStillSending: a connection that is closed
// with unread input is reset, and what was written to it is lost.
func TestLastWordsReachADeviceThatIsStillSending(t *testing.T) {
	b := startBroker(t, Options{})
	d := connect(t, b, "dev", 5, true)
	var all bytes.Buffer
	for i := range 3000 { // QoS 2 without PUBREL, more than Receive Maximum
		pk := packets.Packet{
			ProtocolVersion: 5, FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 2}, TopicName: "x", PacketID: uint16(i + 1), Payload: fmt.Appendf(nil, "%01000d", i),
		}
		if err := pk.PublishEncode(&all); err != nil {
			t.Fatal(err)
		}
	}
	sent := make(chan struct{})
	go func() {
		_, _ = d.conn.Write(all.Bytes()) // the connection ends meanwhile
		close(sent)
	}()
	eventually(t, "the end of the connection", func() bool { return b.Stats().Clients == 0 })
	<-sent
	for {
		pk, err := d.readFor(10 * time.Second)
		if err != nil {
			t.Fatalf("the connection ended without a DISCONNECT: %v", err)
		}
		if pk.FixedHeader.Type == packets.Disconnect {
			return
		}
	}
}

// TestAliasesBelongToAConnection uses one that only a former connection knew.
func TestAliasesBelongToAConnection(t *testing.T) {
	b := startBroker(t, Options{})
	watcher := connect(t, b, "watcher", 4, true)
	watcher.subscribe("#")
	d := connect(t, b, "dev", 5, false)
	alias := func(d *device, topic string, number uint16) {
		d.send(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, TopicName: topic, PacketID: 1, Payload: []byte("x"),
			Properties: packets.Properties{TopicAlias: number, TopicAliasFlag: true},
		})
	}
	for _, topic := range []string{"a", ""} {
		alias(d, topic, 1)
		d.expectAcks(packets.Puback, 1)
		if pk := watcher.expect(packets.Publish); pk.TopicName != "a" {
			t.Errorf("got %q, expected a", pk.TopicName)
		}
	}
	d.conn.Close()
	again := connect(t, b, "dev", 5, false)
	alias(again, "", 1)
	again.expectEndWith(packets.ErrProtocolViolationNoTopic.Code)
	again = connect(t, b, "dev", 5, false)
	alias(again, "a", maxAliases+1)
	again.expectEndWith(packets.ErrTopicAliasInvalid.Code)
	watcher.expectSilence()
}
