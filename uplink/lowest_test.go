package uplink

import (
	"bytes"
	"fmt"
	"testing"
	"time"
)

// TestAnEventPassesPicturesOnASlowLine fills a line of 400 KB a second with
// pictures of the lowest lane, and then has something urgent.
func TestAnEventPassesPicturesOnASlowLine(t *testing.T) {
	centre := startMosquitto(t)
	seen := watch(t, centre, "#")
	line := newToxicProxy(t, centre.Address())
	line.add(t, "bandwidth", "upstream", 1, `{"rate":400}`)
	q := openTestQueue(t, Options{})
	startLink(t, q, LinkOptions{Centre: Centre{Brokers: []string{line.url()}}, ClientID: "d"})
	picture := func(i int) Message {
		m := testMessage(MinLane, i)
		m.Payload = append(fmt.Appendf(nil, "picture %d ", i), bytes.Repeat([]byte{'.'}, 200<<10)...)
		return m
	}
	for i := range 20 {
		store(t, q, picture(i))
	}
	within(t, time.Minute, "the first picture at the centre", func() bool { return len(seen.payloads()) > 0 })
	store(t, q, Message{Route: "r8", Lane: 8, Topic: "event", Payload: []byte("event"), QoS: 1})
	before := len(seen.payloads())
	at := -1
	within(t, time.Minute, "the event", func() bool {
		for i, p := range seen.payloads() {
			if p == "event" {
				at = i
			}
		}
		return at >= 0
	})
	if at > before+2 {
		t.Errorf("the event came after %d pictures, %d of them when it was there already", at, at-before)
	}
	within(t, time.Minute, "an empty queue", func() bool { return q.Depth().Records == 0 })
	if n := len(seen.payloads()); n != 21 {
		t.Errorf("%d messages came, want 20 pictures and an event", n)
	}
}
