package broker

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

const (
	crowd  = 50  // devices that behave
	rounds = 100 // messages to each of them
)

// bad is a device that misbehaves until stop is closed.
type bad func(t *testing.T, b *Broker, stop <-chan struct{}, done *sync.WaitGroup)

// TestBadDevicesDoNotSlowTheOthers has 50 devices that get every message of
// another, alone and beside one that misbehaves. They get all of them in
// order, and it takes no time of another kind.
func TestBadDevicesDoNotSlowTheOthers(t *testing.T) {
	for name, misbehave := range map[string]bad{
		"a slow reader": slowReader, "a flood": flood, "a flood that is not read": deafFlood,
		"garbage": garbage, "half-open connections": halfOpen,
	} {
		t.Run(name, func(t *testing.T) {
			b := startBroker(t, Options{Limits: Limits{ConnectsPerS: 1e6}})
			b.hook.sessions.limit.messages = 200 // the slow reader is soon at its bound
			alone := serveCrowd(t, b, "alone")
			stop := make(chan struct{})
			var done sync.WaitGroup
			misbehave(t, b, stop, &done)
			beside := serveCrowd(t, b, "beside")
			close(stop)
			done.Wait()
			t.Logf("alone %v, beside %v", alone, beside)
			if beside > 30*alone+3*time.Second {
				t.Errorf("%d devices got %d messages in %v, alone it took %v", crowd, rounds, beside, alone)
			}
		})
	}
}

// serveCrowd connects the devices and publishes one message after the other,
// each when all have got the last one.
func serveCrowd(t *testing.T, b *Broker, name string) time.Duration {
	t.Helper()
	publisher := connect(t, b, name+"-publisher", 5, true)
	got := make(chan error, crowd)
	for i := range crowd {
		d := connect(t, b, fmt.Sprint(name, i), 4+byte(i%2), true)
		d.subscribeTo(packets.Subscription{Filter: "site/" + name, Qos: byte(i % 2)})
		go func() {
			for round := range rounds {
				pk, err := d.readFor(30 * time.Second)
				if err == nil && !strings.HasPrefix(string(pk.Payload), fmt.Sprint(round, " ")) {
					err = fmt.Errorf("got packet type %d %.10q, expected message %d", pk.FixedHeader.Type, pk.Payload, round)
				}
				if err == nil && pk.FixedHeader.Qos == 1 {
					_, err = d.conn.Write([]byte{packets.Puback << 4, 2, byte(pk.PacketID >> 8), byte(pk.PacketID)})
				}
				got <- err
				if err != nil {
					return
				}
			}
		}()
	}
	start := time.Now()
	for round := range rounds {
		publisher.publish("site/"+name, 1, uint16(round+1), fmt.Sprintf("%d %01000d", round, 0))
		publisher.expectAcks(packets.Puback, uint16(round+1))
		for range crowd {
			if err := <-got; err != nil {
				t.Fatalf("%s: round %d: %v", name, round, err)
			}
		}
	}
	return time.Since(start)
}

// slowReader subscribes to everything, is owed more than its bound, and reads
// nothing.
func slowReader(t *testing.T, b *Broker, _ <-chan struct{}, _ *sync.WaitGroup) {
	for _, version := range []byte{4, 5} {
		d := connect(t, b, fmt.Sprint("slow", version), version, true)
		d.subscribeTo(packets.Subscription{Filter: "#", Qos: 1})
	}
	payload := make([]byte, 64<<10)
	for range 400 {
		if err := b.Publish("fill", payload, 1, false); err != nil {
			t.Fatal(err)
		}
	}
	if b.Stats().Dropped == 0 {
		t.Error("the slow reader is not at its bound")
	}
}

// pump writes the same bytes over and over, as fast as they are taken.
func pump(conn net.Conn, bytes []byte, stop <-chan struct{}, done *sync.WaitGroup) {
	done.Go(func() {
		for {
			_ = conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)) // a closed one fails below
			if _, err := conn.Write(bytes); err != nil {
				if n := net.Error(nil); !errors.As(err, &n) || !n.Timeout() {
					return
				}
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
}

// flood publishes at QoS 0 what nobody reads.
func flood(t *testing.T, b *Broker, stop <-chan struct{}, done *sync.WaitGroup) {
	d := connect(t, b, "flood", 4, true)
	one := append([]byte{packets.Publish << 4, 107, 0, 5}, "flood"...)
	one = append(one, make([]byte, 100)...)
	pump(d.conn, []byte(strings.Repeat(string(one), 100)), stop, done)
	eventually(t, "the flood", func() bool { return b.Stats().MessagesReceived > 1000 })
}

// deafFlood publishes at QoS 1 and asks, and never reads an answer.
func deafFlood(t *testing.T, b *Broker, stop <-chan struct{}, done *sync.WaitGroup) {
	d := connect(t, b, "deaf", 5, true)
	d.subscribeTo(packets.Subscription{Filter: "flood", Qos: 0})
	one := append([]byte{packets.Publish<<4 | 2, 110, 0, 5}, "flood"...)
	one = append(append(one, 0, 1, 0), make([]byte, 100)...)
	one = append(one, packets.Pingreq<<4, 0)
	pump(d.conn, []byte(strings.Repeat(string(one), 100)), stop, done)
	eventually(t, "the flood", func() bool { return b.Stats().MessagesReceived > 1000 })
}

// garbage connects and sends noise, over and over.
func garbage(t *testing.T, b *Broker, stop <-chan struct{}, done *sync.WaitGroup) {
	r := rand.New(rand.NewPCG(1, 2))
	hello := []byte{packets.Connect << 4, 14, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, 2, 'm', 'e'}
	done.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			c, err := net.Dial("tcp", b.Addresses()[0])
			if err != nil {
				t.Error(err)
				return
			}
			noise := make([]byte, r.IntN(2000))
			for i := range noise {
				noise[i] = byte(r.Uint32())
			}
			if r.IntN(2) == 0 {
				noise = append(append([]byte{}, hello...), noise...)
			}
			_, _ = c.Write(noise) // the broker may have closed it
			_ = c.Close()         // and this one is of no use any more
		}
	})
}

// halfOpen opens connections that never say who they are, and begins others
// all the time.
func halfOpen(t *testing.T, b *Broker, stop <-chan struct{}, done *sync.WaitGroup) {
	for range 300 {
		d := dial(t, b)
		if _, err := d.conn.Write([]byte{packets.Connect << 4, 0xff, 0x7f, 0}); err != nil {
			t.Fatal(err)
		}
	}
	done.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			c, err := net.Dial("tcp", b.Addresses()[0])
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(c, "\x10") // the broker may have closed it
			_ = c.Close()                    // and this one is of no use any more
		}
	})
}
