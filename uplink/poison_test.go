package uplink

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"outstation/uplink/mosquittotest"
)

func poisonMessage(i int) Message {
	m := testMessage(5, i)
	m.Payload = fmt.Appendf(nil, "POISON-%d", i)
	return m
}

// TestPoisonIsIsolatedAndTheRestGoesOn puts two messages that the centre
// closes the connection on between good ones.
func TestPoisonIsIsolatedAndTheRestGoesOn(t *testing.T) {
	s := startMosquitto(t)
	w := watch(t, s, "t/#")
	p := newFaultProxy(t, s.Address())
	p.setCut(func(b []byte) bool { return bytes.Contains(b, []byte("POISON")) })
	q := openTestQueue(t, Options{})
	const n = 300
	for i := range n {
		m := testMessage(5, i)
		if i == 50 || i == 51 {
			m = poisonMessage(i)
		}
		store(t, q, m)
	}
	startLink(t, q, LinkOptions{Centre: Centre{Brokers: []string{p.url()}}, ProbeGap: 10 * time.Millisecond, Canary: testOrigin.Canary()})
	eventually(t, "an empty queue", func() bool { return q.Depth().Records == 0 })
	dead := q.DeadLetters()
	if len(dead) != 2 || dead[0].ID != 51 || dead[1].ID != 52 || !strings.Contains(dead[0].Reason, "alone in flight") {
		t.Fatalf("dead letters: %+v", dead)
	}
	eventually(t, "all good ones", func() bool { return len(w.payloads()) == n-2 })
	for i, got := range w.payloads() {
		want := i
		if i >= 50 {
			want += 2
		}
		if got != fmt.Sprintf("m%d", want) {
			t.Fatalf("message %d: got %s, expected m%d", i, got, want)
		}
	}
	if c := p.connects.Load(); c > 2*(suspectAfter+deadAfter)+3 {
		t.Errorf("%d connects for two poison messages", c)
	}
	if a := q.Ledger()["r5"]; a.Dead.Records != 2 || a.Delivered.Records != n-2 || !a.Balanced() {
		t.Errorf("ledger: %+v", a)
	}
}

// TestFlappingLinkConvictsNobody cuts the connection again and again, at
// random, with good messages in flight.
func TestFlappingLinkConvictsNobody(t *testing.T) {
	s := startMosquitto(t)
	w := watch(t, s, "t/#")
	p := newFaultProxy(t, s.Address())
	rnd := rand.New(rand.NewPCG(3, 4))
	p.setCut(func([]byte) bool { return rnd.IntN(8) == 0 })
	q := openTestQueue(t, Options{})
	const n = 400
	for i := range n {
		store(t, q, testMessage(5, i))
	}
	startLink(t, q, LinkOptions{Centre: Centre{Brokers: []string{p.url()}}, Window: 8, ProbeGap: time.Millisecond, Canary: testOrigin.Canary()})
	eventually(t, "many cuts", func() bool { return p.connects.Load() > 25 || q.Depth().Records == 0 })
	p.setCut(nil)
	expectAll(t, w, n)
	if dead := q.DeadLetters(); len(dead) != 0 {
		t.Errorf("good messages were convicted: %+v", dead)
	}
}

func TestOversizeIsADeadLetterAtOnce(t *testing.T) {
	s := startMosquitto(t)
	w := watch(t, s, "t/#")
	q := openTestQueue(t, Options{})
	big := testMessage(5, 0)
	big.Payload = make([]byte, 5000)
	store(t, q, big)
	store(t, q, testMessage(5, 1))
	l := startLink(t, q, LinkOptions{Centre: Centre{Brokers: []string{s.URL()}}, MaxPacketBytes: 4096})
	eventually(t, "the one behind it", func() bool { return len(w.payloads()) == 1 })
	eventually(t, "the dead letter", func() bool { return len(q.DeadLetters()) == 1 })
	if d := q.DeadLetters()[0]; !strings.Contains(d.Reason, "oversize: a packet of 5012 bytes") || l.Stats().Generation != 1 {
		t.Errorf("got %+v after %d connections", d, l.Stats().Generation)
	}
}

func TestDeadLettersAreKeptRetriedAndDropped(t *testing.T) {
	dir := t.TempDir()
	q := openTestQueue(t, Options{Dir: dir})
	for i := range 3 {
		m := testMessage(5, i)
		m.Retain, m.Properties = i == 0, []byte("p")
		store(t, q, m)
	}
	for _, e := range next(t, q, 3) {
		q.Kill(e, "no reason")
	}
	eventually(t, "three dead", func() bool { return len(q.DeadLetters()) == 3 })
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = openTestQueue(t, Options{Dir: dir})
	letters := q.DeadLetters()
	if len(letters) != 3 || letters[0].Reason != "no reason" || letters[0].Deaths != 1 {
		t.Fatalf("after a reopen: %+v", letters)
	}
	if err := q.DropDead(letters[2].ID); err != nil {
		t.Fatal(err)
	}
	if err := q.Retry(letters[0].ID); err != nil {
		t.Fatal(err)
	}
	for _, id := range []uint64{letters[0].ID, letters[2].ID, 999} {
		if err := q.Retry(id); !errors.Is(err, ErrNoDeadLetter) {
			t.Errorf("retry %d: got %v, expected ErrNoDeadLetter", id, err)
		}
	}
	e := next(t, q, 1)[0]
	if string(e.Payload) != "m0" || !e.Retain || e.Deaths != 1 || string(e.Properties) != "p" {
		t.Errorf("retried: %+v", e.Message)
	}
	q.Kill(e, "again")
	eventually(t, "dead again", func() bool { return len(q.DeadLetters()) == 2 })
	if d := q.DeadLetters()[1]; d.Deaths != 2 || d.Reason != "again" {
		t.Errorf("dead again: %+v", d)
	}
	if a := q.Ledger()["r5"]; a.Accepted.Records != 3 || a.Dead.Records != 2 || a.Purged.Records != 1 || !a.Balanced() {
		t.Errorf("ledger: %+v", a)
	}
}

func TestDeadLettersAreBounded(t *testing.T) {
	q := openTestQueue(t, Options{MaxDeadBytes: 1000})
	for i := range 10 {
		m := testMessage(5, i)
		m.Payload = make([]byte, 300)
		store(t, q, m)
		q.Kill(next(t, q, 1)[0], "x")
	}
	eventually(t, "the bound", func() bool { return q.Ledger()["r5"].Evicted.Records == 7 })
	if a := q.Ledger()["r5"]; len(q.DeadLetters()) != 3 || !a.Balanced() {
		t.Errorf("%d dead letters, ledger: %+v", len(q.DeadLetters()), a)
	}
}

func TestCanaryStallEndsAConnectionThatWasProven(t *testing.T) {
	s := startMosquitto(t)
	q := openTestQueue(t, Options{})
	l := startLink(t, q, LinkOptions{
		Centre: Centre{Brokers: []string{s.URL()}}, Canary: testOrigin.Canary(), CanaryEvery: 20 * time.Millisecond, CanaryTimeout: 200 * time.Millisecond,
	})
	eventually(t, "a canary", func() bool { return l.Stats().Proven })
	// The centre goes on acknowledging, but the subscription is gone: another
	// session of ours took it away.
	taken, err := l.tuning().Centre.connect(t.Context(), dial{clientID: "dev-1", clean: true})
	if err != nil {
		t.Fatal(err)
	}
	taken.client.Disconnect(10)
	eventually(t, "a new connection", func() bool { st := l.Stats(); return st.Generation > 1 && st.State == LinkConnected })
}

// TestUnprovenPathIsLeftAlone has a centre that acknowledges canaries and may
// not send them back.
func TestUnprovenPathIsLeftAlone(t *testing.T) {
	s, err := mosquittotest.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	acl := filepath.Join(s.Dir, "acl")
	if err := os.WriteFile(acl, []byte("topic readwrite t/#\ntopic write appliance/#\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Extra = "acl_file " + acl + "\n"
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop() })
	q := openTestQueue(t, Options{})
	l := startLink(t, q, LinkOptions{
		Centre: Centre{Brokers: []string{s.URL()}}, Canary: testOrigin.Canary(), CanaryEvery: 10 * time.Millisecond, CanaryTimeout: 30 * time.Millisecond,
	})
	for i := range 50 {
		store(t, q, testMessage(5, i))
		eventually(t, "delivery", func() bool { return q.Depth().Records == 0 })
	}
	if st := l.Stats(); st.Generation != 1 || st.Proven {
		t.Errorf("got %d connections, proven %v", st.Generation, st.Proven)
	}
}

// TestCentreThatClosesOnCanariesGetsNoMore has a centre that closes the
// connection on a publish below $SYS.
func TestCentreThatClosesOnCanariesGetsNoMore(t *testing.T) {
	s := startMosquitto(t)
	q := openTestQueue(t, Options{})
	l := startLink(t, q, LinkOptions{
		Centre: Centre{Brokers: []string{s.URL()}}, Canary: "$SYS/not/allowed", CanaryEvery: 10 * time.Millisecond, CanaryTimeout: 30 * time.Millisecond,
	})
	n := 0
	eventually(t, "a connection that stays for 20 deliveries", func() bool {
		generation := l.Stats().Generation
		for range 20 {
			store(t, q, testMessage(5, n))
			n++
			eventually(t, "delivery", func() bool { return q.Depth().Records == 0 })
		}
		return l.Stats().Generation == generation
	})
	if dead := q.DeadLetters(); len(dead) != 0 {
		t.Errorf("good messages were convicted: %+v", dead)
	}
}
