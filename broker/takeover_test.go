package broker

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// TestATakeoverEndsTheFormerConnectionFirst takes connections over that are
// still open.
func TestATakeoverEndsTheFormerConnectionFirst(t *testing.T) {
	b := startBroker(t, Options{})
	open := func(id string, expiry uint32) packets.Packet {
		_, ack := connectWith(t, b, 5, packets.ConnectParams{
			ClientIdentifier: id, WillFlag: true, WillTopic: "will", WillPayload: []byte("gone"),
			WillProperties: packets.Properties{WillDelayInterval: 60},
		}, packets.Properties{SessionExpiryInterval: expiry, SessionExpiryIntervalFlag: true})
		return ack
	}
	for i := range 20 {
		if ack := open("short", 0); ack.SessionPresent {
			t.Fatalf("connection %d: a session that ended with its connection is said to be there", i)
		}
		if ack := open("long", 100); ack.SessionPresent != (i > 0) {
			t.Fatalf("connection %d: got session present %v", i, ack.SessionPresent)
		}
		for _, id := range []string{"short", "long"} {
			s := b.hook.sessions.get(id)
			eventually(t, "the device has its session", func() bool { return s.connection() != nil })
			if cl, ok := b.server.Clients.Get(id); !ok || cl.Closed() {
				t.Fatalf("connection %d of %s: the server has lost it", i, id)
			}
			s.mu.Lock()
			if s.will != nil {
				t.Fatalf("connection %d of %s: the will of a device that is back waits for its time", i, id)
			}
			s.mu.Unlock()
		}
	}
}

// TestTwoDevicesOfOneName connect at the same moment: one of them is left, and
// gets what it is owed.
func TestTwoDevicesOfOneName(t *testing.T) {
	b := startBroker(t, Options{})
	subscribe := encoded(t, 4, packets.Packet{FixedHeader: header(packets.Subscribe), PacketID: 7, Filters: packets.Subscriptions{{Filter: "x"}}})
	for round := range 30 {
		var devices [2]*device
		var connecting sync.WaitGroup
		for i := range devices {
			d := dial(t, b)
			devices[i] = d
			connecting.Go(func() {
				d.send(packets.Packet{
					FixedHeader: packets.FixedHeader{Type: packets.Connect},
					Connect:     packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: fmt.Sprint("dev-", round), Keepalive: 60},
				})
			})
		}
		connecting.Wait()
		arrived := make(chan string, len(devices))
		for _, d := range devices {
			go func() {
				for {
					pk, err := d.readFor(10 * time.Second)
					switch {
					case err != nil:
						return
					case pk.FixedHeader.Type == packets.Connack:
						if _, err := d.conn.Write(subscribe); err != nil {
							return // it is the other one
						}
					case pk.FixedHeader.Type == packets.Publish:
						arrived <- string(pk.Payload)
						return
					}
				}
			}()
		}
		eventually(t, "a message at the device that is left", func() bool {
			if err := b.Publish("x", []byte("m"), 0, false); err != nil {
				t.Fatal(err)
			}
			return len(arrived) > 0
		})
		for _, d := range devices {
			d.conn.Close()
		}
	}
}

// TestATakeoverDoesNotWaitForAnUnsubscribe has one whose deletion the disk
// does not take.
func TestATakeoverDoesNotWaitForAnUnsubscribe(t *testing.T) {
	disk := newSlow()
	b := startBroker(t, Options{fault: disk.fault})
	defer disk.set(false, nil)
	d, _ := persistent(t, b, "d", 5)
	d.subscribeTo(packets.Subscription{Filter: "x", Qos: 1})
	disk.set(false, errors.New("the disk fails"))
	if _, err := d.conn.Write(encoded(t, 5, packets.Packet{FixedHeader: header(packets.Unsubscribe), PacketID: 8, Filters: packets.Subscriptions{{Filter: "x"}}})); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the failure shows", func() bool { return b.Stats().Sessions.Failing != nil })
	d = dial(t, b)
	d.v = 5
	d.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}, Connect: packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: "d"}})
	if ack, err := d.readFor(takeOverWait / 2); err != nil || ack.ReasonCode != 0 {
		t.Errorf("got reason %#x and error %v, expected success", ack.ReasonCode, err)
	}
	disk.set(false, nil)
	eventually(t, "the subscription leaves the store", func() bool { return keys(t, b, prefixSubscription) == 0 })
}

// TestAFailedPublishIsNotAcknowledgedLater loses the connection while a publish
// is handed to the sink, which fails then or later.
func TestAFailedPublishIsNotAcknowledgedLater(t *testing.T) {
	for _, qos := range []byte{1, 2} {
		for _, at := range []string{"at once", "later"} {
			var b *Broker
			failed := errors.New("not stored")
			later := make(chan func(error), 1)
			b = startBroker(t, Options{Sink: func(Message) Store {
				return func(done func(error)) error {
					if at == "later" {
						later <- done
						return b.Disconnect("d")
					}
					done(failed)
					return nil
				}
			}})
			d := connect(t, b, "d", 4, false)
			d.publish("x", qos, 9, "m")
			d.expectEnd()
			if at == "later" {
				(<-later)(failed)
			}
			t.Logf("QoS %d, %s", qos, at)
			connect(t, b, "d", 4, false).expectSilence()
		}
	}
}
