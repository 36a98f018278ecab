package broker

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

const (
	crowd  = 50  // devices that behave
	rounds = 100 // messages to each of them
)

// bad is a device that misbehaves until stop is closed. It returns what says
// how far it has come with that, and fails the test where it has ended.
type bad func(t *testing.T, b *Broker, stop <-chan struct{}, done *sync.WaitGroup) func() int64

// TestBadDevicesDoNotSlowTheOthers has 50 devices that get every message of
// another, beside one that misbehaves all the while. They get all of them, in
// order: no device waits for one that does not read, nor for one that goes on.
func TestBadDevicesDoNotSlowTheOthers(t *testing.T) {
	for name, misbehave := range map[string]bad{
		"a slow reader": slowReader, "a flood": flood, "a flood that is not read": deafFlood,
		"garbage": garbage, "half-open connections": halfOpen,
	} {
		t.Run(name, func(t *testing.T) {
			b := startBroker(t, Options{Limits: Limits{ConnectsPerS: 1e6}})
			b.hook.sessions.limit.messages = 200 // the slow reader is soon at its bound
			stop := make(chan struct{})
			var done sync.WaitGroup
			turns := misbehave(t, b, stop, &done)
			before := turns()
			serveCrowd(t, b, "beside")
			if after := turns(); after <= before {
				t.Errorf("it misbehaved no more while the others were served: %d then, %d now", before, after)
			}
			close(stop)
			done.Wait()
		})
	}
}

// serveCrowd connects the devices and publishes one message after the other,
// each when all have got the last one.
func serveCrowd(t *testing.T, b *Broker, name string) {
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
	for round := range rounds {
		publisher.publish("site/"+name, 1, uint16(round+1), fmt.Sprintf("%d %01000d", round, 0))
		publisher.expectAcks(packets.Puback, uint16(round+1))
		for range crowd {
			if err := <-got; err != nil {
				t.Fatalf("%s: round %d: %v", name, round, err)
			}
		}
	}
}

// slowReader subscribes to everything, is owed more than its bound, and reads
// nothing. What it is owed and drops goes on.
func slowReader(t *testing.T, b *Broker, _ <-chan struct{}, _ *sync.WaitGroup) func() int64 {
	for _, version := range []byte{4, 5} {
		d := connect(t, b, fmt.Sprint("slow", version), version, true)
		d.subscribeTo(packets.Subscription{Filter: "#", Qos: 1})
	}
	payload := make([]byte, 64<<10)
	var taken atomic.Int64
	go func() {
		for b.Publish("fill", payload, 1, false) == nil && taken.Add(1) < 400 {
		}
	}()
	eventually(t, "the end of publishing past it", func() bool { return taken.Load() == 400 })
	if b.Stats().Dropped == 0 {
		t.Error("the slow reader is not at its bound")
	}
	return func() int64 {
		for _, id := range []string{"slow4", "slow5"} {
			if g := b.hook.sessions.get(id).connection(); g == nil || g.unread() == 0 {
				t.Errorf("%s was not connected, or read something", id)
			}
		}
		return b.Stats().Dropped
	}
}

// pump writes the same bytes over and over, as fast as they are taken.
func pump(conn net.Conn, bytes []byte, stop <-chan struct{}, done *sync.WaitGroup) func() int64 {
	var turns atomic.Int64
	done.Go(func() {
		for {
			_ = conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)) // a closed one fails below
			if _, err := conn.Write(bytes); err != nil {
				if n := net.Error(nil); !errors.As(err, &n) || !n.Timeout() {
					return
				}
			}
			turns.Add(1)
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	return turns.Load
}

// flood publishes at QoS 0 what nobody reads.
func flood(t *testing.T, b *Broker, stop <-chan struct{}, done *sync.WaitGroup) func() int64 {
	d := connect(t, b, "flood", 4, true)
	one := append([]byte{packets.Publish << 4, 107, 0, 5}, "flood"...)
	one = append(one, make([]byte, 100)...)
	turns := pump(d.conn, []byte(strings.Repeat(string(one), 100)), stop, done)
	eventually(t, "the flood", func() bool { return b.Stats().MessagesReceived > 1000 })
	return turns
}

// deafFlood publishes at QoS 1 and asks, and never reads an answer.
func deafFlood(t *testing.T, b *Broker, stop <-chan struct{}, done *sync.WaitGroup) func() int64 {
	d := connect(t, b, "deaf", 5, true)
	d.subscribeTo(packets.Subscription{Filter: "flood", Qos: 0})
	one := append([]byte{packets.Publish<<4 | 2, 110, 0, 5}, "flood"...)
	one = append(append(one, 0, 1, 0), make([]byte, 100)...)
	one = append(one, packets.Pingreq<<4, 0)
	turns := pump(d.conn, []byte(strings.Repeat(string(one), 100)), stop, done)
	eventually(t, "the flood", func() bool { return b.Stats().MessagesReceived > 1000 })
	return turns
}

// garbage connects and sends noise, over and over.
func garbage(t *testing.T, b *Broker, stop <-chan struct{}, done *sync.WaitGroup) func() int64 {
	r := rand.New(rand.NewPCG(1, 2))
	hello := []byte{packets.Connect << 4, 14, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, 2, 'm', 'e'}
	var turns atomic.Int64
	done.Go(func() {
		for {
			turns.Add(1)
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
	return turns.Load
}

// halfOpen opens connections that never say who they are, and begins others
// all the time.
func halfOpen(t *testing.T, b *Broker, stop <-chan struct{}, done *sync.WaitGroup) func() int64 {
	for range 300 {
		d := dial(t, b)
		if _, err := d.conn.Write([]byte{packets.Connect << 4, 0xff, 0x7f, 0}); err != nil {
			t.Fatal(err)
		}
	}
	var turns atomic.Int64
	done.Go(func() {
		for {
			turns.Add(1)
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
	return turns.Load
}
