package uplink

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"outstation/uplink/mosquittotest"
)

// toxicProxy is a line to the centre that can be made worse.
type toxicProxy struct{ *toxiproxy.Proxy }

func newToxicProxy(t *testing.T, target string) toxicProxy {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p := toxicProxy{toxiproxy.NewProxy(server, "line", "127.0.0.1:0", target)}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

func (p toxicProxy) url() string { return "tcp://" + p.Listen }

// add makes the line worse: kind and attributes are toxiproxy's.
func (p toxicProxy) add(t *testing.T, kind, stream string, toxicity float64, attributes string) {
	t.Helper()
	toxic := fmt.Sprintf(`{"name":%q,"type":%q,"stream":%q,"toxicity":%v,"attributes":%s}`, kind+stream, kind, stream, toxicity, attributes)
	if _, err := p.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
		t.Fatal(err)
	}
}

func (p toxicProxy) remove(t *testing.T, kind, stream string) {
	t.Helper()
	if err := p.Toxics.RemoveToxic(t.Context(), kind+stream); err != nil {
		t.Fatal(err)
	}
}

// sized is a message whose payload starts with its number.
func sized(i, size int) Message {
	m := testMessage(5, i)
	m.Payload = append(fmt.Appendf(nil, "m%d ", i), bytes.Repeat([]byte{'.'}, size)...)
	return m
}

// numbers are the messages that were seen, each once, in the order of the
// first sight.
func (w *watcher) numbers(t *testing.T) []int {
	t.Helper()
	var out []int
	for _, p := range w.payloads() {
		var n int
		if _, err := fmt.Sscanf(p, "m%d", &n); err != nil {
			t.Fatalf("%.20q: %v", p, err)
		}
		out = append(out, n)
	}
	return out
}

// expectNumbers waits until the centre has the messages up to n in order,
// without those that are left out, and the ledger says the same.
func expectNumbers(t *testing.T, q *Queue, w *watcher, n int, leftOut ...int) {
	t.Helper()
	within(t, time.Minute, "an empty queue", func() bool { return settled(q) == n })
	within(t, time.Minute, "everything at the centre", func() bool { return len(w.numbers(t)) >= n-len(leftOut) })
	expected := 0
	for _, got := range w.numbers(t) {
		for contains(leftOut, expected) {
			expected++
		}
		if got != expected {
			t.Fatalf("got message %d, expected %d", got, expected)
		}
		expected++
	}
	a := q.Ledger()["r5"]
	if dead := q.DeadLetters(); len(dead) != len(leftOut) || int(a.Dead.Records) != len(leftOut) {
		t.Errorf("dead letters: %+v", dead)
	}
	if !a.Balanced() || int(a.Delivered.Records) != n-len(leftOut) || int(a.Accepted.Records) != n {
		t.Errorf("ledger: %+v", a)
	}
}

// settled is how many records have left the queue.
func settled(q *Queue) int {
	a := q.Ledger()["r5"]
	return int(a.Accepted.Records - a.Queued.Records)
}

func contains(list []int, n int) bool {
	for _, l := range list {
		if l == n {
			return true
		}
	}
	return false
}

// within is eventually with a deadline of its own.
func within(t *testing.T, d time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(d); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", d, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestFlappingLineUnderLoad resets connections again and again while messages
// are produced.
func TestFlappingLineUnderLoad(t *testing.T) {
	t.Parallel()
	s := startMosquitto(t)
	w := watch(t, s, "t/#")
	p := newToxicProxy(t, s.Address())
	q := openTestQueue(t, Options{})
	l := startLink(t, q, LinkOptions{Centre: Centre{Brokers: []string{p.url()}}, ProbeGap: 10 * time.Millisecond, Canary: testOrigin.Canary()})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	n := 0
	var producer sync.WaitGroup
	producer.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for ; ctx.Err() == nil; n++ {
			offer(t, q, sized(n, 200), nil)
			<-tick.C
		}
	})
	rnd := rand.New(rand.NewPCG(faultSeed(t), 0))
	for range 12 {
		before := l.Stats()
		p.add(t, "reset_peer", "upstream", 0.5+rnd.Float64()/2, fmt.Sprintf(`{"timeout":%d}`, rnd.IntN(300)))
		p.add(t, "reset_peer", "downstream", rnd.Float64(), fmt.Sprintf(`{"timeout":%d}`, rnd.IntN(300)))
		within(t, 20*time.Second, "a lost connection, or one that was spared", func() bool {
			now := l.Stats()
			return now.State != LinkConnected || now.Generation > before.Generation || now.Delivered > before.Delivered+300
		})
		p.remove(t, "reset_peer", "upstream")
		p.remove(t, "reset_peer", "downstream")
		within(t, 20*time.Second, "progress", func() bool { return l.Stats().Delivered > before.Delivered+50 })
	}
	stop()
	producer.Wait()
	expectNumbers(t, q, w, n)
}

// TestDelayDoesNotMeanOneMessagePerRoundTrip has a round trip of 400 ms.
func TestDelayDoesNotMeanOneMessagePerRoundTrip(t *testing.T) {
	t.Parallel()
	s := startMosquitto(t)
	w := watch(t, s, "t/#")
	p := newToxicProxy(t, s.Address())
	p.add(t, "latency", "upstream", 1, `{"latency":200,"jitter":50}`)
	p.add(t, "latency", "downstream", 1, `{"latency":200,"jitter":50}`)
	q := openTestQueue(t, Options{})
	l := startLink(t, q, LinkOptions{Centre: Centre{Brokers: []string{p.url()}}})
	within(t, time.Minute, "link", func() bool { return l.Stats().State == LinkConnected })
	const n = 1000
	most := 0
	for i := range n {
		offer(t, q, sized(i, 200), nil)
	}
	within(t, time.Minute, "an empty queue", func() bool { most = max(most, l.Stats().InFlight); return settled(q) == n })
	expectNumbers(t, q, w, n)
	if st := l.Stats(); most < DefaultWindow/2 || st.Generation != 1 {
		t.Errorf("at most %d were in flight, the window is %d; %d connections", most, st.Window, st.Generation)
	}
}

// TestThinLine has a line that takes longer for what is in flight than the
// acknowledgement time-out, with buffers on the way that hide it.
func TestThinLine(t *testing.T) {
	t.Parallel()
	s := startMosquitto(t)
	w := watch(t, s, "t/#")
	p := newToxicProxy(t, s.Address())
	p.add(t, "bandwidth", "upstream", 1, `{"rate":200}`) // KB/s
	q := openTestQueue(t, Options{})
	const n = 8
	for i := range n {
		offer(t, q, sized(i, 200_000), nil)
	}
	l := startLink(t, q, LinkOptions{Centre: Centre{Brokers: []string{p.url()}}, AckTimeout: 3 * time.Second, Canary: testOrigin.Canary()})
	expectNumbers(t, q, w, n)
	if g := l.Stats().Generation; g != 1 {
		t.Errorf("it took %d connections", g)
	}
}

// TestSlicedPackets has a line that hands on a few bytes at a time.
func TestSlicedPackets(t *testing.T) {
	t.Parallel()
	s := startMosquitto(t)
	w := watch(t, s, "t/#")
	p := newToxicProxy(t, s.Address())
	for _, stream := range []string{"upstream", "downstream"} {
		p.add(t, "slicer", stream, 1, `{"average_size":5,"size_variation":4,"delay":10}`)
	}
	p.add(t, "slow_close", "downstream", 1, `{"delay":200}`)
	q := openTestQueue(t, Options{})
	const n = 200
	for i := range n {
		offer(t, q, sized(i, 100), nil)
	}
	l := startLink(t, q, LinkOptions{Centre: Centre{Brokers: []string{p.url()}}, Canary: testOrigin.Canary()})
	expectNumbers(t, q, w, n)
	if g := l.Stats().Generation; g != 1 {
		t.Errorf("it took %d connections", g)
	}
}

// TestLineThatDiesAfterSoManyBytes passes 20,000 bytes in each connection:
// what is smaller goes on, and what is larger can never pass.
func TestLineThatDiesAfterSoManyBytes(t *testing.T) {
	t.Parallel()
	s := startMosquitto(t)
	w := watch(t, s, "t/#")
	p := newToxicProxy(t, s.Address())
	p.add(t, "limit_data", "upstream", 1, `{"bytes":20000}`)
	q := openTestQueue(t, Options{})
	const n, poison = 100, 60
	for i := range n {
		size := 1000
		if i == poison {
			size = 30_000
		}
		offer(t, q, sized(i, size), nil)
	}
	startLink(t, q, LinkOptions{Centre: Centre{Brokers: []string{p.url()}}, ProbeGap: 10 * time.Millisecond, Canary: testOrigin.Canary()})
	expectNumbers(t, q, w, n, poison)
}

// TestHalfOpenLink has a line on which packets vanish, in both directions or
// in one.
func TestHalfOpenLink(t *testing.T) {
	t.Parallel()
	for name, streams := range map[string][]string{"both": {"upstream", "downstream"}, "up": {"upstream"}, "down": {"downstream"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startMosquitto(t)
			w := watch(t, s, "t/#")
			p := newToxicProxy(t, s.Address())
			q := openTestQueue(t, Options{})
			l := startLink(t, q, LinkOptions{
				Centre:     Centre{Brokers: []string{p.url()}, KeepAlive: time.Second, ConnectTimeout: time.Second},
				AckTimeout: time.Second, Canary: testOrigin.Canary(),
			})
			offer(t, q, sized(0, 10), nil)
			eventually(t, "delivery", func() bool { return settled(q) == 1 })
			for _, stream := range streams {
				p.add(t, "timeout", stream, 1, `{"timeout":0}`)
			}
			for i := range 10 {
				offer(t, q, sized(1+i, 10), nil)
			}
			within(t, 10*time.Second, "the loss to be seen", func() bool { return l.Stats().State != LinkConnected })
			for _, stream := range streams {
				p.remove(t, "timeout", stream)
			}
			expectNumbers(t, q, w, 11)
		})
	}
}

// TestIdleHalfOpenLink has nothing in flight: only the keep-alive can tell.
func TestIdleHalfOpenLink(t *testing.T) {
	t.Parallel()
	s := startMosquitto(t)
	p := newToxicProxy(t, s.Address())
	q := openTestQueue(t, Options{})
	l := startLink(t, q, LinkOptions{Centre: Centre{Brokers: []string{p.url()}, KeepAlive: time.Second, ConnectTimeout: time.Second}})
	eventually(t, "link", func() bool { return l.Stats().State == LinkConnected })
	p.add(t, "timeout", "upstream", 1, `{"timeout":0}`)
	p.add(t, "timeout", "downstream", 1, `{"timeout":0}`)
	within(t, 10*time.Second, "the loss to be seen", func() bool { return l.Stats().State != LinkConnected })
}

// TestCentreThatAcknowledgesLate is later than the acknowledgement time-out
// with everything that it says.
func TestCentreThatAcknowledgesLate(t *testing.T) {
	t.Parallel()
	s := startMosquitto(t)
	w := watch(t, s, "t/#")
	p := newToxicProxy(t, s.Address())
	p.add(t, "latency", "downstream", 1, `{"latency":1200}`)
	q := openTestQueue(t, Options{})
	const n = 50
	for i := range n {
		offer(t, q, sized(i, 10), nil)
	}
	l := startLink(t, q, LinkOptions{
		Centre: Centre{Brokers: []string{p.url()}}, AckTimeout: 500 * time.Millisecond, ProbeGap: 10 * time.Millisecond, Canary: testOrigin.Canary(),
	})
	eventually(t, "a reason", func() bool { return strings.Contains(l.Stats().Reason, errLate.Error()) })
	expectNumbers(t, q, w, n)
}

// TestCentreThatClosesAfterConnack never takes anything for a while: that is
// no reason to find messages guilty.
func TestCentreThatClosesAfterConnack(t *testing.T) {
	t.Parallel()
	for name, canary := range map[string]string{"with canary": testOrigin.Canary(), "without": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startMosquitto(t)
			w := watch(t, s, "t/#")
			c := newClosingCentre(t, s)
			q := openTestQueue(t, Options{})
			const n = 300
			for i := range n {
				offer(t, q, sized(i, 10), nil)
			}
			l := startLink(t, q, LinkOptions{Centre: Centre{Brokers: []string{c.url()}}, ProbeGap: 5 * time.Millisecond, Canary: canary})
			within(t, time.Minute, "100 connections and a reason", func() bool { return c.closed.Load() >= 100 && l.Stats().Reason != "" })
			if d := q.Depth().Records; d != n || len(q.DeadLetters()) != 0 {
				t.Errorf("%d queued, dead: %+v", d, q.DeadLetters())
			}
			c.open.Store(true)
			expectNumbers(t, q, w, n)
		})
	}
}

// closingCentre closes each connection when it has said CONNACK, until it is
// open.
type closingCentre struct {
	net.Listener
	open   atomic.Bool
	closed atomic.Int64
}

func newClosingCentre(t *testing.T, s *mosquittotest.Server) *closingCentre {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &closingCentre{Listener: ln}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go c.serve(conn, s.Address())
		}
	}()
	return c
}

func (c *closingCentre) url() string { return "tcp://" + c.Addr().String() }

func (c *closingCentre) serve(conn net.Conn, target string) {
	defer conn.Close()
	if !c.open.Load() {
		if _, err := conn.Read(make([]byte, 1024)); err == nil {
			_, _ = conn.Write([]byte{0x20, 2, 0, 0}) // CONNACK, accepted; then it is over
		}
		c.closed.Add(1)
		return
	}
	up, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer up.Close()
	go func() { _, _ = io.Copy(conn, up); conn.Close() }()
	_, _ = io.Copy(up, conn) // it ends when either side does
}
