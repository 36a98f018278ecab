package uplink

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"outstation/uplink/mosquittotest"
	"outstation/uplink/wire"
)

var testOrigin = wire.Origin{Region: "reg", Site: "site-1", DeviceID: "dev-1"}

// quickBackoff does not make a test wait.
var quickBackoff = Backoff{Floor: 20 * time.Millisecond, Ceiling: 100 * time.Millisecond, Stable: time.Hour}

func startMosquitto(t testing.TB) *mosquittotest.Server {
	t.Helper()
	s, err := mosquittotest.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
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

// watcher is a consumer at the centre with a session that survives the
// centre's restart.
type watcher struct {
	mu   sync.Mutex
	seen []mqtt.Message
}

func watch(t testing.TB, s *mosquittotest.Server, filter string) *watcher {
	t.Helper()
	return watchAs(t, s, "watcher", filter)
}

func watchAs(t testing.TB, s *mosquittotest.Server, id, filter string) *watcher {
	t.Helper()
	w := &watcher{}
	opts := mqtt.NewClientOptions().AddBroker(s.URL()).SetClientID(id).SetCleanSession(false).
		SetMaxReconnectInterval(100 * time.Millisecond).SetConnectRetryInterval(50 * time.Millisecond).
		SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
			w.mu.Lock()
			w.seen = append(w.seen, m)
			w.mu.Unlock()
		})
	c := mqtt.NewClient(opts)
	if tok := c.Connect(); tok.Wait() && tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	if tok := c.Subscribe(filter, 1, nil); tok.Wait() && tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	t.Cleanup(func() { c.Disconnect(10) })
	return w
}

// payloads are what was seen, each once, in the order of the first sight.
func (w *watcher) payloads() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	seen := map[string]bool{}
	for _, m := range w.seen {
		if p := string(m.Payload()); !seen[p] {
			seen[p] = true
			out = append(out, p)
		}
	}
	return out
}

func (w *watcher) last() (topic string, payload []byte, retained bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.seen) == 0 {
		return "", nil, false
	}
	m := w.seen[len(w.seen)-1]
	return m.Topic(), m.Payload(), m.Retained()
}

func startLink(t testing.TB, q *Queue, opt LinkOptions) *Link {
	t.Helper()
	opt.Backoff, opt.Logger = quickBackoff, slog.New(slog.DiscardHandler)
	if opt.ClientID == "" {
		opt.ClientID = "dev-1"
	}
	l := NewLink(q, opt)
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { l.Serve(ctx) })
	t.Cleanup(func() { cancel(); done.Wait() })
	return l
}

func startPresence(t testing.TB, opt PresenceOptions) *Presence {
	t.Helper()
	opt.Backoff, opt.Logger = quickBackoff, slog.New(slog.DiscardHandler)
	p := NewPresence(opt)
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { p.Serve(ctx) })
	t.Cleanup(func() { cancel(); done.Wait() })
	return p
}

func expectAll(t *testing.T, w *watcher, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d messages at the centre", n), func() bool { return len(w.payloads()) >= n })
	for i, p := range w.payloads() {
		if want := fmt.Sprintf("m%d", i); p != want {
			t.Fatalf("message %d: got %s, expected %s", i, p, want)
		}
	}
}

func TestLinkDeliversInOrderAndEmptiesTheQueue(t *testing.T) {
	s := startMosquitto(t)
	w := watch(t, s, "t/#")
	q := openTestQueue(t, Options{})
	for i := range 1000 {
		if err := q.Enqueue(testMessage(5, i), nil); err != nil {
			t.Fatal(err)
		}
	}
	l := startLink(t, q, LinkOptions{Centre: Centre{Brokers: []string{s.URL()}}})
	expectAll(t, w, 1000)
	eventually(t, "empty queue", func() bool { return q.Depth().Records == 0 })
	if st := l.Stats(); st.State != LinkConnected || st.Delivered < 1000 || st.Generation != 1 {
		t.Errorf("stats: %+v", st)
	}
}

func TestLinkLosesNothingWhenTheCentreComesAndGoes(t *testing.T) {
	s := startMosquitto(t)
	w := watch(t, s, "t/#")
	q := openTestQueue(t, Options{})
	l := startLink(t, q, LinkOptions{Centre: Centre{Brokers: []string{s.URL()}}})
	const n = 6000
	var producer sync.WaitGroup
	producer.Go(func() {
		for i := range n {
			offer(t, q, testMessage(5, i), nil)
		}
	})
	for round := 1; round <= 3; round++ {
		eventually(t, "progress", func() bool { return len(w.payloads()) > round*200 })
		if err := s.Stop(); err != nil { // in order, so that Mosquitto keeps what it acknowledged
			t.Fatal(err)
		}
		eventually(t, "the loss to be seen", func() bool { return l.Stats().State != LinkConnected })
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
	}
	producer.Wait()
	expectAll(t, w, n)
	if a := q.Ledger()["r5"]; !a.Balanced() || a.Accepted.Records != n {
		t.Errorf("ledger: %+v", a)
	}
}

// faultProxy stands between the link and the centre.
type faultProxy struct {
	net.Listener
	connects atomic.Int64
	mute     atomic.Bool // nothing comes back from the centre

	mu  sync.Mutex
	cut func(up []byte) bool // looks at what goes up; true closes the connection
	at  []time.Time          // when connections were made
}

func newFaultProxy(t *testing.T, target string) *faultProxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &faultProxy{Listener: ln}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			p.connects.Add(1)
			p.mu.Lock()
			p.at = append(p.at, time.Now())
			p.mu.Unlock()
			_ = c.(*net.TCPConn).SetReadBuffer(16 << 10) // a slow line has no megabytes of buffer
			up, err := net.Dial("tcp", target)
			if err != nil {
				c.Close()
				continue
			}
			end := func() { c.Close(); up.Close() }
			go pass(up, c, end, p.goesUp)
			go pass(c, up, end, func([]byte) (drop, cut bool) { return p.mute.Load(), false })
		}
	}()
	return p
}

func (p *faultProxy) goesUp(b []byte) (drop, cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return false, p.cut != nil && p.cut(b)
}

func (p *faultProxy) setCut(cut func([]byte) bool) {
	p.mu.Lock()
	p.cut = cut
	p.mu.Unlock()
}

func (p *faultProxy) url() string { return "tcp://" + p.Addr().String() }

// pass copies from one side to the other as look allows.
func pass(to, from net.Conn, end func(), look func([]byte) (drop, cut bool)) {
	defer end()
	b := make([]byte, 4096)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		drop, cut := look(b[:n])
		if cut {
			return
		}
		if drop {
			continue
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

func TestNothingIsDeletedWithoutItsPuback(t *testing.T) {
	s := startMosquitto(t)
	w := watch(t, s, "t/#")
	p := newFaultProxy(t, s.Address())
	q := openTestQueue(t, Options{})
	l := startLink(t, q, LinkOptions{Centre: Centre{Brokers: []string{p.url()}}, AckTimeout: 300 * time.Millisecond})
	eventually(t, "link", func() bool { return l.Stats().State == LinkConnected })
	p.mute.Store(true)
	for i := range 10 {
		store(t, q, testMessage(5, i))
	}
	eventually(t, "the messages at the centre", func() bool { return len(w.payloads()) == 10 })
	eventually(t, "the silence to end the connection", func() bool { return l.Stats().State != LinkConnected })
	store(t, q, testMessage(5, 10)) // its commit would carry any settlement
	if got := q.Depth().Records; got != 11 {
		t.Fatalf("%d records are queued without a PUBACK, expected 11", got)
	}
	p.mute.Store(false)
	eventually(t, "delivery after the silence", func() bool { return q.Depth().Records == 0 })
}

func TestLinkSurvivesACentreThatSaysNothing(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // accepts into its backlog, and that is all
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	q := openTestQueue(t, Options{})
	l := startLink(t, q, LinkOptions{Centre: Centre{Brokers: []string{"tcp://" + ln.Addr().String()}, ConnectTimeout: 200 * time.Millisecond}})
	eventually(t, "a reason", func() bool { st := l.Stats(); return st.State == LinkDown && st.Reason != "" })
}

func TestLinkTriesBrokersInOrder(t *testing.T) {
	s := startMosquitto(t)
	q := openTestQueue(t, Options{})
	l := startLink(t, q, LinkOptions{Centre: Centre{Brokers: []string{"tcp://127.0.0.1:1", s.URL()}}})
	eventually(t, "the second broker", func() bool { return l.Stats().Broker == s.URL() })
}

func TestPresenceSaysWhatIsTrue(t *testing.T) {
	s := startMosquitto(t)
	w := watch(t, s, testOrigin.CameraStatus("cam-1"))
	p := newFaultProxy(t, s.Address())
	pr := NewPresence(PresenceOptions{
		Centre: Centre{Brokers: []string{p.url()}}, Origin: testOrigin, Camera: "cam-1",
		Backoff: quickBackoff, Logger: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { pr.Serve(ctx) })
	state := func() wire.Presence {
		_, b, _ := w.last()
		m, _ := wire.ParsePresence(b)
		return m
	}
	eventually(t, "online", func() bool { return state().State == wire.Online })
	first := state()
	pr.Set(wire.BlindNow, "stalled", time.Now())
	eventually(t, "blind", func() bool { m := state(); return m.State == wire.BlindNow && m.Reason == "stalled" })
	if m := state(); m.Session != first.Session || m.CameraID != "cam-1" || m.DeviceID != "dev-1" || m.Since == nil {
		t.Errorf("got %+v after %+v", m, first)
	}
	cancel()
	done.Wait()
	eventually(t, "a clean offline", func() bool { m := state(); return m.State == wire.Offline && m.Reason == "stopped" })
}

// TestWillSpeaksForAConnectionThatDied cuts the presence's connection without
// a DISCONNECT.
func TestWillSpeaksForAConnectionThatDied(t *testing.T) {
	s := startMosquitto(t)
	w := watch(t, s, testOrigin.Status())
	p := newFaultProxy(t, s.Address())
	pr := startPresence(t, PresenceOptions{Centre: Centre{Brokers: []string{p.url()}}, Origin: testOrigin})
	eventually(t, "online", func() bool { _, b, _ := w.last(); return strings.Contains(string(b), `"online"`) })
	_, online, _ := w.last()
	p.setCut(func([]byte) bool { return true })
	pr.Set(wire.Degraded, "x", time.Now()) // is cut on its way
	eventually(t, "the will", func() bool { _, b, _ := w.last(); return strings.Contains(string(b), `"offline"`) })
	_, b, _ := w.last()
	will, err := wire.ParsePresence(b)
	first, _ := wire.ParsePresence(online)
	if err != nil || will.Session != first.Session || will.Reason != "connection lost" || will.Since != nil {
		t.Errorf("will %s after %s (%v)", b, online, err)
	}
	late := watchAs(t, s, "late", testOrigin.Status())
	eventually(t, "the retained will", func() bool {
		_, b, retained := late.last()
		return retained && strings.Contains(string(b), `"offline"`)
	})
}

func TestWindowBoundsWhatIsInFlight(t *testing.T) {
	s := startMosquitto(t)
	w := watch(t, s, "t/#")
	p := newFaultProxy(t, s.Address())
	q := openTestQueue(t, Options{})
	l := startLink(t, q, LinkOptions{Centre: Centre{Brokers: []string{p.url()}}, Window: 4})
	eventually(t, "link", func() bool { return l.Stats().State == LinkConnected })
	p.mute.Store(true)
	for i := range 20 {
		store(t, q, testMessage(5, i))
	}
	eventually(t, "a full window", func() bool { return len(w.payloads()) == 4 && l.Stats().InFlight == 4 })
	store(t, q, testMessage(5, 20))
	if got := len(w.payloads()); got != 4 {
		t.Errorf("%d messages at the centre, the window is 4", got)
	}
}

func TestRetainedFlagTravels(t *testing.T) {
	s := startMosquitto(t)
	q := openTestQueue(t, Options{})
	m := testMessage(5, 0)
	m.Retain = true
	store(t, q, m)
	startLink(t, q, LinkOptions{Centre: Centre{Brokers: []string{s.URL()}}})
	eventually(t, "delivery", func() bool { return q.Depth().Records == 0 })
	w := watch(t, s, "t/#")
	eventually(t, "the retained message", func() bool { _, b, retained := w.last(); return retained && string(b) == "m0" })
}

// TestLargeMessagePassesASlowLine sends a message that takes several
// acknowledgement time-outs to leave.
func TestLargeMessagePassesASlowLine(t *testing.T) {
	s := startMosquitto(t)
	w := watch(t, s, "t/#")
	p := newFaultProxy(t, s.Address())
	p.setCut(func(b []byte) bool {
		time.Sleep(time.Duration(len(b)) * 4 * time.Microsecond) // 250 kB/s: the line is what is slow, nothing is synchronised
		return false
	})
	q := openTestQueue(t, Options{})
	m := testMessage(5, 0)
	m.Payload = make([]byte, 1_000_000)
	store(t, q, m)
	l := startLink(t, q, LinkOptions{Centre: Centre{Brokers: []string{p.url()}}, AckTimeout: 6 * time.Second})
	eventually(t, "delivery", func() bool { return q.Depth().Records == 0 && len(w.payloads()) > 0 })
	if g, n := l.Stats().Generation, len(w.payloads()); g != 1 || n != 1 {
		t.Errorf("it took %d connections and came %d times", g, n)
	}
}

func TestStopIsQuickThoughAPresenceWaits(t *testing.T) {
	s := startMosquitto(t)
	p := newFaultProxy(t, s.Address())
	pr := NewPresence(PresenceOptions{
		Centre: Centre{Brokers: []string{p.url()}}, Origin: testOrigin, Backoff: quickBackoff, Logger: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { pr.Serve(ctx); close(ended) }()
	eventually(t, "presence", pr.Up)
	p.mute.Store(true)
	pr.Set(wire.Degraded, "x", time.Now()) // waits for a PUBACK that does not come
	cancel()
	select {
	case <-ended:
	case <-time.After(2*stopTimeout + time.Second):
		t.Error("the stop waits for the centre")
	}
}
