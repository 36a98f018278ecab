package uplink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	broker "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"

	"outstation/uplink/mosquittotest"
)

// local stands for the local broker.
type local struct {
	mu      sync.Mutex
	got     []Message
	refuse  error                // what it says, or nil
	blocked chan struct{}        // nil, or closed when it goes on
	before  func(payload []byte) // called before a message is taken
}

func (l *local) deliver(topic string, payload []byte, qos byte, retain bool) error {
	l.mu.Lock()
	blocked, before := l.blocked, l.before
	l.mu.Unlock()
	if blocked != nil {
		<-blocked
	}
	if before != nil {
		before(payload)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuse != nil {
		return l.refuse
	}
	l.got = append(l.got, Message{Topic: topic, Payload: payload, QoS: qos, Retain: retain})
	return nil
}

func (l *local) set(change func(*local)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(l)
}

func (l *local) messages() []Message {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Message(nil), l.got...)
}

// payloads are what arrived, each once, in the order of the first arrival.
func (l *local) payloads() []string {
	var out []string
	seen := map[string]bool{}
	for _, m := range l.messages() {
		if p := string(m.Payload); !seen[p] {
			seen[p] = true
			out = append(out, p)
		}
	}
	return out
}

func startDown(t testing.TB, url string, here *local, routes ...DownRoute) (*Link, *Queue) {
	t.Helper()
	r, err := NewDownRouter(testOrigin, routes)
	if err != nil {
		t.Fatal(err)
	}
	q := openTestQueue(t, Options{})
	return startLink(t, q, LinkOptions{Centre: Centre{Brokers: []string{url}}, Down: r, Deliver: here.deliver, Pauser: &Pauser{}}), q
}

// listening waits until the link is subscribed (before that, the centre keeps
// nothing for it) and nothing of this is left on its way.
func listening(t testing.TB, l *Link, s *mosquittotest.Server, here *local) {
	t.Helper()
	c := sender(t, s)
	topic := testOrigin.Command("hello")
	if l.opt.ClientID != testOrigin.DeviceID {
		topic = "a/hello"
	}
	eventually(t, "the subscription", func() bool {
		before := l.Stats().Down.Received
		say(t, c, topic, "hello", 1, false)
		return l.Stats().Down.Received > before
	})
	say(t, c, topic, "ready", 1, false)
	eventually(t, "the last greeting", func() bool {
		m := here.messages()
		return len(m) > 0 && string(m[len(m)-1].Payload) == "ready"
	})
	here.set(func(l *local) { l.got = nil })
}

var senders atomic.Int64

func sender(t testing.TB, s *mosquittotest.Server) mqtt.Client {
	t.Helper()
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(s.URL()).SetClientID(fmt.Sprintf("sender-%d", senders.Add(1))))
	if tok := c.Connect(); tok.Wait() && tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	t.Cleanup(func() { c.Disconnect(10) })
	return c
}

func say(t testing.TB, c mqtt.Client, topic, payload string, qos byte, retain bool) {
	t.Helper()
	if tok := c.Publish(topic, qos, retain, payload); tok.Wait() && tok.Error() != nil {
		t.Fatal(tok.Error())
	}
}

func TestCommandComesDown(t *testing.T) {
	s := startMosquitto(t)
	here := &local{}
	l, _ := startDown(t, s.URL(), here, DownRoute{Match: "fleet/{site}/+", To: "from-{1}/{3}"})
	listening(t, l, s, here)
	c := sender(t, s)
	binary := "\x00\xff\xfe\x00binary"
	say(t, c, testOrigin.Command("restart"), binary, 1, false)
	say(t, c, "fleet/site-1/speed", "3", 0, false)
	say(t, c, "fleet/site-2/speed", "4", 1, false)
	eventually(t, "both", func() bool { return len(here.messages()) == 2 })
	got := here.messages()
	if m := got[0]; m.Topic != testOrigin.Command("restart") || string(m.Payload) != binary || m.QoS != 1 || m.Retain {
		t.Errorf("the command arrived as %+v", m)
	}
	if m := got[1]; m.Topic != "from-fleet/speed" || string(m.Payload) != "3" || m.QoS != 0 {
		t.Errorf("the other arrived as %+v", m)
	}
	eventually(t, "the counts", func() bool {
		st := l.Stats().Down
		return st.Delivered == st.Received && st.Delivered >= 3 && st.Refused+st.Dropped+st.Echoes == 0 && st.Error == "" && len(st.Denied) == 0
	})
}

// TestCommandsSentMeanwhileComeAfter sends while the appliance is away; the
// centre hands them over before anything is subscribed again.
func TestCommandsSentMeanwhileComeAfter(t *testing.T) {
	s := startMosquitto(t)
	here := &local{}
	l, _ := startDown(t, s.URL(), here)
	listening(t, l, s, here)
	l.opt.Pauser.Set(true)
	eventually(t, "the pause", func() bool { return l.Stats().State == LinkPaused })
	c := sender(t, s)
	var want []string
	for i := range 100 {
		want = append(want, fmt.Sprintf("c%d", i))
		say(t, c, testOrigin.Command("x"), want[i], 1, false)
	}
	if err := s.Stop(); err != nil { // the centre restarts, too
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	l.opt.Pauser.Set(false)
	eventually(t, "all of them", func() bool { return len(here.payloads()) == len(want) })
	if got := here.payloads(); strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("got %v", got)
	}
}

// TestCommandIsAcknowledgedOnlyWhenTheLocalBrokerHasIt cuts the connection
// after the local broker took a command and before its PUBACK left.
func TestCommandIsAcknowledgedOnlyWhenTheLocalBrokerHasIt(t *testing.T) {
	s := startMosquitto(t)
	p := newFaultProxy(t, s.Address())
	here := &local{}
	l, _ := startDown(t, p.url(), here)
	listening(t, l, s, here)
	cut := false
	here.set(func(l *local) {
		l.before = func([]byte) {
			if !cut {
				cut = true
				p.setCut(func([]byte) bool { p.cut = nil; return true }) // once; goesUp holds the lock
			}
		}
	})
	say(t, sender(t, s), testOrigin.Command("x"), "once more", 1, false)
	eventually(t, "the second time", func() bool { return len(here.messages()) == 2 })
	if got := here.payloads(); len(got) != 1 || l.Stats().Generation < 2 {
		t.Errorf("got %v on %d connections", got, l.Stats().Generation)
	}
}

func TestRefusedCommandIsNotAcknowledged(t *testing.T) {
	s := startMosquitto(t)
	here := &local{}
	l, q := startDown(t, s.URL(), here)
	listening(t, l, s, here)
	here.set(func(l *local) { l.got, l.refuse = nil, errors.New("closing") })
	c := sender(t, s)
	say(t, c, testOrigin.Command("x"), "1", 1, false)
	say(t, c, testOrigin.Command("x"), "2", 1, false)
	eventually(t, "the refusal", func() bool { st := l.Stats().Down; return st.Refused > 0 && st.Error == "closing" })
	store(t, q, testMessage(5, 0))
	eventually(t, "a record on its way up meanwhile", func() bool { return q.Depth().Records == 0 })
	l.opt.Pauser.Set(true)
	eventually(t, "the pause", func() bool { return l.Stats().State == LinkPaused })
	here.set(func(l *local) { l.refuse = nil })
	l.opt.Pauser.Set(false)
	eventually(t, "both on the next connection", func() bool { return strings.Join(here.payloads(), " ") == "1 2" })
	eventually(t, "no error any more", func() bool { return l.Stats().Down.Error == "" })
}

func TestRefusedCommandIsOfferedAgain(t *testing.T) {
	s := startMosquitto(t)
	here := &local{}
	l, _ := startDown(t, s.URL(), here)
	listening(t, l, s, here)
	here.set(func(l *local) { l.got, l.refuse = nil, errors.New("not now") })
	c := sender(t, s)
	say(t, c, testOrigin.Command("x"), "1", 1, false)
	say(t, c, testOrigin.Command("x"), "2", 1, false)
	eventually(t, "the refusal", func() bool { return l.Stats().Down.Refused > 0 })
	here.set(func(l *local) { l.refuse = nil })
	eventually(t, "both", func() bool { return strings.Join(here.payloads(), " ") == "1 2" })
	if g := l.Stats().Generation; g != 1 {
		t.Errorf("it took %d connections", g)
	}
}

// TestABlockedLocalBrokerBoundsWhatWaits has the centre send everything at
// once to an appliance whose local broker stands still.
func TestABlockedLocalBrokerBoundsWhatWaits(t *testing.T) {
	s, err := mosquittotest.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s.Extra = "max_inflight_messages 0\n"
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop() })
	here := &local{}
	l, q := startDown(t, s.URL(), here)
	listening(t, l, s, here)
	blocked := make(chan struct{})
	here.set(func(l *local) { l.got, l.blocked = nil, blocked })
	c := sender(t, s)
	const n = maxDownRecords + 500
	for i := range n {
		c.Publish(testOrigin.Command("x"), 1, false, fmt.Sprintf("m%d", i))
	}
	eventually(t, "what was left at the centre", func() bool { return l.Stats().Down.LeftThere >= n-maxDownRecords })
	say(t, c, testOrigin.Command("x"), "lost", 0, false)
	eventually(t, "what has no room", func() bool { return l.Stats().Down.Dropped == 1 })
	if w := l.Stats().Down.Waiting; w != maxDownRecords {
		t.Errorf("%d wait, expected %d", w, maxDownRecords)
	}
	store(t, q, testMessage(5, 0))
	eventually(t, "a record on its way up meanwhile", func() bool { return q.Depth().Records == 0 })
	here.set(func(l *local) { l.blocked = nil })
	close(blocked)
	eventually(t, "all of them", func() bool { return len(here.payloads()) == n })
	for i, p := range here.payloads() {
		if want := fmt.Sprintf("m%d", i); p != want {
			t.Fatalf("message %d: got %s, expected %s", i, p, want)
		}
	}
}

func TestWaitingBytesAreBounded(t *testing.T) {
	d := newDownlink(&DownRouter{}, func(string, []byte, byte, bool) error { return nil }, func(string, []byte) bool { return false })
	take, _ := d.open(time.Now())
	for i := range 10 {
		take(&fakeMessage{topic: "t", payload: make([]byte, maxDownBytes/4), qos: 1, id: uint16(i + 1)})
	}
	if st := d.snapshot(); st.Waiting != 3 || st.LeftThere != 7 { // with its topic, a fourth is too much
		t.Errorf("%d wait and %d were left", st.Waiting, st.LeftThere)
	}
}

// TestWhatIsLeftAtTheCentreIsNotOvertaken has room again before everything
// that waits is delivered.
func TestWhatIsLeftAtTheCentreIsNotOvertaken(t *testing.T) {
	d := newDownlink(&DownRouter{}, func(string, []byte, byte, bool) error { return nil }, func(string, []byte) bool { return false })
	take, behind := d.open(time.Now())
	take(&fakeMessage{topic: "t", payload: make([]byte, maxDownBytes-10), qos: 1, id: 1})
	take(&fakeMessage{topic: "t", payload: []byte("2"), qos: 1, id: 2})
	take(&fakeMessage{topic: "t", payload: []byte("has no room"), qos: 1, id: 3})
	first, _ := d.head()
	d.handled(first, true, nil)
	take(&fakeMessage{topic: "t", payload: []byte("4"), qos: 1, id: 4})
	if st := d.snapshot(); st.Waiting != 1 || st.LeftThere != 2 {
		t.Errorf("%d wait and %d were left", st.Waiting, st.LeftThere)
	}
	select {
	case <-behind:
		t.Error("made anew before everything was delivered")
	default:
	}
	second, _ := d.head()
	d.handled(second, true, nil)
	select {
	case <-behind:
	default:
		t.Error("what was left is not asked for")
	}
	take, _ = d.open(time.Now())
	take(&fakeMessage{topic: "t", payload: []byte("has room"), qos: 1, id: 3})
	take(&fakeMessage{topic: "t", payload: []byte("at QoS 0")})
	if st := d.snapshot(); st.Waiting != 2 {
		t.Error("a new connection does not begin anew")
	}
	d.open(time.Now())
	if m, _ := d.head(); d.snapshot().Waiting != 1 || m.Qos() != 0 {
		t.Error("what comes again on the next connection is still waiting from the last")
	}
}

// fakeMessage is a message without a connection.
type fakeMessage struct {
	topic   string
	payload []byte
	qos     byte
	id      uint16
	acked   bool
}

var _ mqtt.Message = (*fakeMessage)(nil)

func (m *fakeMessage) Duplicate() bool   { return false }
func (m *fakeMessage) Qos() byte         { return m.qos }
func (m *fakeMessage) Retained() bool    { return false }
func (m *fakeMessage) Topic() string     { return m.topic }
func (m *fakeMessage) MessageID() uint16 { return m.id }
func (m *fakeMessage) Payload() []byte   { return m.payload }
func (m *fakeMessage) Ack()              { m.acked = true }

// TestWhatCannotBeDeliveredIsAcknowledged: it would come again for ever.
func TestWhatCannotBeDeliveredIsAcknowledged(t *testing.T) {
	r, err := NewDownRouter(testOrigin, []DownRoute{{Match: "a/#", To: "{rest}"}})
	if err != nil {
		t.Fatal(err)
	}
	here := &local{}
	d := newDownlink(r, here.deliver, func(string, []byte) bool { return false })
	take, _ := d.open(time.Now())
	sent := []*fakeMessage{{topic: "a", qos: 1, id: 1}, {topic: "a/$SYS/x", qos: 1, id: 2}, {topic: "b", qos: 1, id: 3}, {topic: "a/b", qos: 1, id: 4}}
	for _, m := range sent {
		take(m)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { d.serve(ctx) })
	eventually(t, "the good one", func() bool { return len(here.messages()) == 1 })
	cancel()
	done.Wait()
	for _, m := range sent {
		if !m.acked {
			t.Errorf("%s is not acknowledged", m.topic)
		}
	}
	if st := d.snapshot(); st.Dropped != 3 || st.Delivered != 1 || !strings.Contains(st.LastDrop, "b: ") {
		t.Errorf("stats: %+v", st)
	}
}

// denying is a broker that refuses subscriptions below a prefix.
type denying struct {
	allowAll
	prefix string
}

func (h *denying) OnACLCheck(_ *broker.Client, topic string, write bool) bool {
	return write || !strings.HasPrefix(topic, h.prefix)
}

// TestRefusedSubscriptionLeavesTheLinkAlone needs a broker that answers 0x80;
// Mosquitto grants and filters later.
func TestRefusedSubscriptionLeavesTheLinkAlone(t *testing.T) {
	ln := listeners.NewTCP(listeners.Config{ID: "tcp", Address: "127.0.0.1:0"})
	server := broker.New(&broker.Options{Logger: slog.New(slog.DiscardHandler), InlineClient: true})
	if err := errors.Join(server.AddHook(&denying{prefix: "cmd/"}, nil), server.AddListener(ln), server.Serve()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	here := &local{}
	l, q := startDown(t, "tcp://"+ln.Address(), here, DownRoute{Match: "a/#", To: "{topic}"})
	eventually(t, "the refusal", func() bool { return l.Stats().Down.Denied[testOrigin.Command("#")] == errRefused.Error() })
	eventually(t, "the other subscription", func() bool {
		return server.Publish("a/x", []byte("x"), false, 1) == nil && len(here.messages()) > 0
	})
	store(t, q, testMessage(5, 0))
	eventually(t, "a record on its way up", func() bool { return q.Depth().Records == 0 })
	if st := l.Stats(); st.Generation != 1 || len(st.Down.Denied) != 1 {
		t.Errorf("stats: %+v", st)
	}
}

// TestDeadlySubscriptionIsLeftAlone has a centre that closes the connection
// instead of refusing.
func TestDeadlySubscriptionIsLeftAlone(t *testing.T) {
	s := startMosquitto(t)
	p := newFaultProxy(t, s.Address())
	filter := []byte(testOrigin.Command("#"))
	p.setCut(func(b []byte) bool { return bytes.Contains(b, filter) })
	l, q := startDown(t, p.url(), &local{})
	eventually(t, "the third death", func() bool { return strings.Contains(l.Stats().Down.Denied[string(filter)], "died on it") })
	store(t, q, testMessage(5, 0))
	eventually(t, "a record on its way up", func() bool { return q.Depth().Records == 0 })
	if g := l.Stats().Generation; g != deadAfter+1 {
		t.Errorf("it took %d connections, expected %d", g, deadAfter+1)
	}
}

// TestMirroredRoutes sends up what also comes down.
func TestMirroredRoutes(t *testing.T) {
	s := startMosquitto(t)
	w := watch(t, s, "a/x")
	here, there := &local{}, &local{}
	l, q := startDown(t, s.URL(), here, DownRoute{Match: "a/#", To: "{topic}"})
	listening(t, l, s, here)
	r, err := NewDownRouter(testOrigin, []DownRoute{{Match: "a/#", To: "{topic}"}})
	if err != nil {
		t.Fatal(err)
	}
	second := startLink(t, openTestQueue(t, Options{}), LinkOptions{
		Centre: Centre{Brokers: []string{s.URL()}}, ClientID: "dev-2", Down: r, Deliver: there.deliver,
	})
	listening(t, second, s, there)
	for i := range 50 {
		m := testMessage(5, i)
		m.Topic = "a/x"
		store(t, q, m)
	}
	eventually(t, "all at the other appliance", func() bool { return len(there.payloads()) >= 50 })
	eventually(t, "the echoes", func() bool { return l.Stats().Down.Echoes == 50 })
	say(t, sender(t, s), "a/x", "from the centre", 1, false)
	eventually(t, "what is no echo", func() bool { return slices.Contains(here.payloads(), "from the centre") })
	for _, m := range here.messages() {
		if p := string(m.Payload); p != "from the centre" && m.Topic == "a/x" {
			t.Errorf("%s came back", p)
		}
	}
	eventually(t, "all at the centre, once", func() bool { return len(w.payloads()) == 51 })
}

func TestRetainedCommands(t *testing.T) {
	s := startMosquitto(t)
	c := sender(t, s)
	say(t, c, testOrigin.Command("mode"), "\x00night", 1, true)
	here := &local{}
	l, q := startDown(t, s.URL(), here, DownRoute{Match: "a/#", To: "{topic}"})
	eventually(t, "the retained one", func() bool {
		m := here.messages()
		return len(m) == 1 && m[0].Retain && string(m[0].Payload) == "\x00night"
	})
	// What this appliance retained at the centre comes with every new
	// subscription and is its own.
	m := testMessage(5, 0)
	m.Topic, m.Retain = "a/state", true
	store(t, q, m)
	eventually(t, "its echo", func() bool { return l.Stats().Down.Echoes == 1 })
	l.opt.Pauser.Set(true)
	eventually(t, "the pause", func() bool { return l.Stats().State == LinkPaused })
	l.opt.Pauser.Set(false)
	eventually(t, "the retained echo", func() bool { return l.Stats().Down.Echoes == 2 })
	for _, m := range here.messages() {
		if m.Topic == "a/state" {
			t.Errorf("%s came back", m.Payload)
		}
	}
}

// TestTuneChangesWhatComesDown adds a route to a running link, which connects
// anew for it, and takes it away again.
func TestTuneChangesWhatComesDown(t *testing.T) {
	s := startMosquitto(t)
	here := &local{}
	l, _ := startDown(t, s.URL(), here)
	listening(t, l, s, here)
	at := Centre{Brokers: []string{s.URL()}}
	with, err := NewDownRouter(testOrigin, []DownRoute{{Match: "fleet/#", To: "set/{rest}"}})
	if err != nil {
		t.Fatal(err)
	}
	if !l.Tune(Tuning{Centre: at, Backoff: quickBackoff, Down: with}) {
		t.Error("the link says that it keeps its connection")
	}
	c := sender(t, s)
	eventually(t, "a message by the new route", func() bool {
		say(t, c, "fleet/speed", "x", 1, false)
		return slices.ContainsFunc(here.messages(), func(m Message) bool { return m.Topic == "set/speed" })
	})
	if same, err := NewDownRouter(testOrigin, []DownRoute{{Match: "fleet/#", To: "set/{rest}"}}); err != nil || l.Tune(Tuning{Centre: at, Backoff: quickBackoff, Down: same}) {
		t.Errorf("equal routes end the connection, %v", err)
	}
	without, err := NewDownRouter(testOrigin, nil)
	if err != nil {
		t.Fatal(err)
	}
	l.Tune(Tuning{Centre: at, Backoff: quickBackoff, Down: without})
	eventually(t, "a message that no route brings", func() bool {
		say(t, c, "fleet/speed", "y", 1, false)
		return l.Stats().Down.Dropped > 0
	})
}
