package uplink

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"outstation/uplink/mosquittotest"
)

// TestPoisonAnywhere has a centre that closes the connection on a payload,
// with more than a window of good messages around it, on one strict route.
func TestPoisonAnywhere(t *testing.T) {
	t.Parallel()
	const n, gap = 1000, 600 * time.Millisecond // longer than a disconnect takes
	for name, poison := range map[string][]int{"first": {0}, "middle": {500}, "last": {n - 1}, "two": {300, 700}, "neighbours": {400, 401}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startMosquitto(t)
			w := watch(t, s, "t/#")
			p := newFaultProxy(t, s.Address())
			p.setCut(func(b []byte) bool { return bytes.Contains(b, []byte("POISON")) })
			q := openTestQueue(t, Options{})
			for i := range n {
				m := sized(i, 10)
				if contains(poison, i) {
					m.Payload = append(m.Payload, "POISON"...)
				}
				offer(t, q, m, nil)
			}
			startLink(t, q, LinkOptions{Centre: Centre{Brokers: []string{p.url()}}, ProbeGap: gap, Canary: testOrigin.Canary()})
			expectNumbers(t, q, w, n, poison...)
			if most := int64(len(poison)*(suspectAfter+deadAfter) + 1); p.connects.Load() > most {
				t.Errorf("%d connects for %d poison messages, expected at most %d", p.connects.Load(), len(poison), most)
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			for i := suspectAfter; i < suspectAfter+deadAfter; i++ { // while it is isolated
				if d := p.at[i].Sub(p.at[i-1]); d < gap/2 { // the proxy may be late to see the first
					t.Errorf("connects %d and %d are %v apart, expected %v", i-1, i, d, gap)
				}
			}
		})
	}
}

// TestIsolationStaysBelowTenConnectsAMinute is what EMQX needs: it may ban at
// 15.
func TestIsolationStaysBelowTenConnectsAMinute(t *testing.T) {
	t.Parallel()
	if DefaultProbeGap*10 < time.Minute {
		t.Errorf("%v between connects are more than ten a minute", DefaultProbeGap)
	}
}

// limitedMosquitto takes messages, or packets, up to 10,000 bytes.
func limitedMosquitto(t *testing.T, option string) *mosquittotest.Server {
	t.Helper()
	s, err := mosquittotest.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s.Extra = option + " 10000\n"
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestMosquittoTakesAndDropsWhatIsTooLarge shows what message_size_limit does
// to a 3.1.1 client: a PUBACK, and nothing for subscribers. No client can see
// that.
func TestMosquittoTakesAndDropsWhatIsTooLarge(t *testing.T) {
	t.Parallel()
	s := limitedMosquitto(t, "message_size_limit")
	w := watch(t, s, "t/#")
	c, err := net.Dial("tcp", s.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	connect := append([]byte{0x10, 13, 0, 4}, "MQTT\x04\x02\x00\x3c\x00\x01x"...)
	publish := append([]byte{0x32, 0xa7, 0x9c, 1, 0, 3}, "t/5\x00\x07"...) // 20,007 bytes follow the length
	publish = append(publish, make([]byte, 20_000)...)
	if _, err := c.Write(append(connect, publish...)); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 8)
	if _, err := io.ReadFull(c, answer); err != nil || !bytes.Equal(answer, []byte{0x20, 2, 0, 0, 0x40, 2, 0, 7}) {
		t.Errorf("got % x (%v), expected a CONNACK and a PUBACK", answer, err)
	}
	q := openTestQueue(t, Options{})
	for i, size := range []int{10, 20_000, 10} {
		offer(t, q, sized(i, size), nil)
	}
	startLink(t, q, LinkOptions{Centre: Centre{Brokers: []string{s.URL()}}, Canary: testOrigin.Canary()})
	within(t, time.Minute, "the last message", func() bool { return settled(q) == 3 && len(w.numbers(t)) == 2 })
	if a := q.Ledger()["r5"]; a.Delivered.Records != 3 {
		t.Errorf("ledger: %+v", a)
	}
}

// TestMosquittoClosesOnAPacketThatIsTooLarge has max_packet_size: the message
// is found, and nothing else is lost.
func TestMosquittoClosesOnAPacketThatIsTooLarge(t *testing.T) {
	t.Parallel()
	s := limitedMosquitto(t, "max_packet_size")
	w := watch(t, s, "t/#")
	q := openTestQueue(t, Options{})
	const n, poison = 300, 100
	for i := range n {
		size := 10
		if i == poison {
			size = 20_000
		}
		offer(t, q, sized(i, size), nil)
	}
	startLink(t, q, LinkOptions{Centre: Centre{Brokers: []string{s.URL()}}, ProbeGap: 10 * time.Millisecond, Canary: testOrigin.Canary()})
	expectNumbers(t, q, w, n, poison)
}

// TestMaxPacketBytesStandsInForTheCentresLimit keeps back what the centre
// would drop without a word.
func TestMaxPacketBytesStandsInForTheCentresLimit(t *testing.T) {
	t.Parallel()
	s := limitedMosquitto(t, "message_size_limit")
	w := watch(t, s, "t/#")
	q := openTestQueue(t, Options{})
	for i, size := range []int{10, 20_000, 10} {
		offer(t, q, sized(i, size), nil)
	}
	l := startLink(t, q, LinkOptions{Centre: Centre{Brokers: []string{s.URL()}}, MaxPacketBytes: 10_000})
	expectNumbers(t, q, w, 3, 1)
	if d := q.DeadLetters()[0]; !strings.Contains(d.Reason, "oversize") || l.Stats().Generation != 1 {
		t.Errorf("got %+v after %d connections", d, l.Stats().Generation)
	}
}

// TestCentreThatRefusesEverything closes on each publish and answers the rest:
// nothing tells which message is at fault, so at most one for each that went
// through becomes a dead letter.
func TestCentreThatRefusesEverything(t *testing.T) {
	t.Parallel()
	for name, passed := range map[string]int{"from the start": 0, "after one went through": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startMosquitto(t)
			w := watch(t, s, "t/#")
			p := newFaultProxy(t, s.Address())
			q := openTestQueue(t, Options{})
			startLink(t, q, LinkOptions{Centre: Centre{Brokers: []string{p.url()}}, ProbeGap: time.Millisecond})
			for i := range passed {
				offer(t, q, sized(i, 10), nil)
			}
			within(t, time.Minute, "what goes through", func() bool { return settled(q) == passed })
			p.setCut(func(b []byte) bool { return bytes.Contains(b, []byte("t/5")) })
			const n = 20
			for i := passed; i < n; i++ {
				offer(t, q, sized(i, 10), nil)
			}
			within(t, time.Minute, "many connections", func() bool { return p.connects.Load() > 30 })
			if dead := len(q.DeadLetters()); dead > passed {
				t.Errorf("%d messages are dead letters, %d went through", dead, passed)
			}
			p.setCut(nil)
			within(t, time.Minute, "the rest", func() bool { return len(w.numbers(t)) == n-len(q.DeadLetters()) && settled(q) == n })
		})
	}
}
