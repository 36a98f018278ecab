package uplink

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"outstation/uplink/wire"
)

func TestLiveGoesOutWhileHistoryTrickles(t *testing.T) {
	s := startMosquitto(t)
	w := watch(t, s, "t/#")
	q := openTestQueue(t, Options{Policies: map[string]Policy{"r5": {Order: ByLane}}})
	const backlog = 2000
	for i := range backlog {
		m := testMessage(5, i)
		m.Payload = fmt.Appendf(nil, "old%d-%0200d", i, 0)
		if err := q.Enqueue(m, nil); err != nil {
			t.Fatal(err)
		}
	}
	store(t, q, testMessage(3, -1)) // strict, in a lower lane: history as well
	l := startLink(t, q, LinkOptions{Centre: Centre{Brokers: []string{s.URL()}}, Backfill: Backfill{Rate: 50_000}})
	eventually(t, "the link and some history", func() bool { return l.Stats().State == LinkConnected && len(w.payloads()) > 10 })
	store(t, q, testMessage(5, 7))
	eventually(t, "the live message", func() bool { return slices.Contains(w.payloads(), "m7") })
	if left := q.Depth().Records; left < backlog/2 {
		t.Errorf("only %d records were left when the live message arrived: the rate does not hold history back", left)
	}
}

func TestQuietHoursHoldHistoryBack(t *testing.T) {
	s := startMosquitto(t)
	w := watch(t, s, "t/#")
	q := openTestQueue(t, Options{})
	store(t, q, testMessage(5, 0))
	l := startLink(t, q, LinkOptions{Centre: Centre{Brokers: []string{s.URL()}}, Backfill: Backfill{Quiet: Hours{0, 24 * 60}}})
	eventually(t, "the link", func() bool { return l.Stats().State == LinkConnected })
	eventually(t, "a live message", func() bool {
		store(t, q, testMessage(6, 1))
		return slices.Contains(w.payloads(), "m1")
	})
	if slices.Contains(w.payloads(), "m0") {
		t.Error("history was sent in quiet hours")
	}
}

func TestHours(t *testing.T) {
	at := func(h, m int) time.Time { return time.Date(2026, 1, 1, h, m, 0, 0, time.UTC) }
	for _, c := range []struct {
		span string
		t    time.Time
		in   bool
	}{
		{"", at(12, 0), false}, {"06:00-22:00", at(6, 0), true}, {"06:00-22:00", at(22, 0), false}, {"06:00-22:00", at(5, 59), false},
		{"22:00-06:00", at(23, 0), true}, {"22:00-06:00", at(5, 59), true}, {"22:00-06:00", at(12, 0), false}, {"00:00-24:00", at(23, 59), true},
	} {
		h, err := ParseHours(c.span)
		if err != nil || h.Contains(c.t) != c.in {
			t.Errorf("%q at %v: got %v (%v), expected %v", c.span, c.t, h.Contains(c.t), err, c.in)
		}
	}
	for _, bad := range []string{"6", "06:00", "25:00-26:00", "06:70-07:00", "a:b-c:d"} {
		if _, err := ParseHours(bad); err == nil {
			t.Errorf("%q: accepted", bad)
		}
	}
}

func TestBackfillRoom(t *testing.T) {
	b := backfiller{limit: Backfill{Share: 0.25, Rate: 1000}}
	now := time.Now()
	if got := b.room(now, 100, 5); got != 20 {
		t.Errorf("got %d, expected a quarter of the window less what is in flight", got)
	}
	b.sent(now, 500)
	if b.room(now.Add(400*time.Millisecond), 100, 0) != 0 || b.room(now.Add(600*time.Millisecond), 100, 0) == 0 {
		t.Error("500 bytes at 1,000 a second do not take half a second")
	}
	if tiny := (&backfiller{}).room(now, 1, 0); tiny != 1 {
		t.Errorf("a window of one leaves history %d", tiny)
	}
}

func TestPauseDisconnectsAndKeepsEverything(t *testing.T) {
	s := startMosquitto(t)
	w := watch(t, s, "#")
	q := openTestQueue(t, Options{})
	pauser := &Pauser{}
	centre := Centre{Brokers: []string{s.URL()}}
	l := startLink(t, q, LinkOptions{Centre: centre, Pauser: pauser})
	p := startPresence(t, PresenceOptions{Centre: centre, Origin: testOrigin, Pauser: pauser})
	eventually(t, "link and presence", func() bool { return l.Stats().State == LinkConnected && p.Up() })
	pauser.Set(true)
	eventually(t, "the pause", func() bool { return l.Stats().State == LinkPaused && !p.Up() })
	state := func() string {
		topic, b, _ := w.last()
		m, _ := wire.ParsePresence(b)
		return topic + " " + m.State + " " + m.Reason
	}
	eventually(t, "offline at the centre", func() bool { return state() == testOrigin.Status()+" offline paused" })
	store(t, q, testMessage(5, 0))
	generations := l.Stats().Generation
	store(t, q, testMessage(5, 1))
	if st := l.Stats(); st.State != LinkPaused || st.Generation != generations || q.Depth().Records != 2 {
		t.Errorf("while paused: %+v, %d queued", st, q.Depth().Records)
	}
	pauser.Set(false)
	eventually(t, "everything at the centre", func() bool { return q.Depth().Records == 0 && p.Up() })
}

func TestNotesAreKept(t *testing.T) {
	dir := t.TempDir()
	q := openTestQueue(t, Options{Dir: dir})
	if err := q.SetNote(Note{"paused", 1}); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if got := openTestQueue(t, Options{Dir: dir}).Note("paused"); got != 1 {
		t.Errorf("got %d, expected 1", got)
	}
}

func TestNotesAreListedAndDropped(t *testing.T) {
	dir := t.TempDir()
	q := openTestQueue(t, Options{Dir: dir})
	for _, n := range []Note{{"ban/a", 1}, {"ban/b", 2}, {"other", 3}} {
		if err := q.SetNote(n); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.DropNote("ban/a"); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	got := openTestQueue(t, Options{Dir: dir}).Notes("ban/")
	if len(got) != 1 || got["ban/b"] != 2 {
		t.Errorf("got %v, expected ban/b alone", got)
	}
}
