package uplink

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// weekRoute is one route of the simulated week: what it is given, and what of
// it has to be left.
type weekRoute struct {
	name   string
	lane   int
	policy Policy
	every  int // minutes between its messages
	size   int // of a payload
	topics int

	given []weekMessage // that were acknowledged
}

type weekMessage struct {
	id    int
	topic string
	at    time.Time
	bytes int64
}

const (
	weekMinutes = 7 * 24 * 60
	weekRecords = 6500 // the bound of the whole
	burstDay    = 6    // on which a high lane fills the queue
	burstSize   = 1800
)

func weekRoutes() []*weekRoute {
	return []*weekRoute{
		{name: "alarm", lane: 9, every: 30, size: 100, topics: 3, policy: Policy{Overflow: Reject, MaxRecords: 500}},
		{name: "burst", lane: 8, size: 100, topics: 1},
		{name: "detect", lane: 8, every: 2, size: 300, topics: 4, policy: Policy{MaxAge: 24 * time.Hour, Order: ByLane}},
		{name: "weekly", lane: 7, every: 5, size: 80, topics: 2, policy: Policy{MaxAge: 168 * time.Hour}},
		{name: "state", lane: 6, every: 1, size: 60, topics: 20, policy: Policy{KeepLast: true}},
		{name: "telemetry", lane: 5, every: 1, size: 120, topics: 5, policy: Policy{MaxRecords: 1000}},
		{name: "refusing", lane: 4, every: 10, size: 50, topics: 1, policy: Policy{Overflow: Reject, MaxRecords: 100}},
		{name: "pictures", lane: 3, every: 3, size: 2000, topics: 1, policy: Policy{MaxBytes: 100_000}},
		{name: "low", lane: 2, every: 20, size: 100, topics: 2},
		{name: "bulk", lane: 1, every: 1, size: 200, topics: 1},
	}
}

// week is the simulation: a queue, and a plain record of what it was given.
type week struct {
	t      *testing.T
	clock  *clock
	routes []*weekRoute
	opt    Options
	q      *Queue
	stored sync.WaitGroup
	next   int
}

func newWeek(t *testing.T) *week {
	w := &week{t: t, clock: newClock(), routes: weekRoutes()}
	policies := map[string]Policy{}
	for _, r := range w.routes {
		policies[r.name] = r.policy
	}
	w.opt = Options{Dir: t.TempDir(), Now: w.clock.now, Policies: policies, MaxRecords: weekRecords, Unsynced: true}
	w.q = openTestQueue(t, w.opt)
	return w
}

// give offers a message until it is stored or refused for good.
func (w *week) give(r *weekRoute) {
	w.next++
	m := Message{Route: r.name, Lane: r.lane, QoS: 1, Topic: fmt.Sprintf("t/%s/%d", r.name, w.next%r.topics)}
	m.Payload = append(fmt.Appendf(nil, "%d ", w.next), bytes.Repeat([]byte{'.'}, r.size)...)
	given := weekMessage{w.next, m.Topic, w.clock.now(), m.bytes()}
	w.stored.Add(1)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(200 * time.Microsecond) {
		err := w.q.Enqueue(m, func(err error) {
			if err != nil {
				w.t.Errorf("%s %d: %v", r.name, given.id, err)
			}
			w.stored.Done()
		})
		switch {
		case err == nil:
			r.given = append(r.given, given)
			return
		case errors.Is(err, ErrFull) && r.policy.Overflow == Reject:
			w.stored.Done()
			return
		case !errors.Is(err, ErrBusy) || time.Now().After(deadline):
			w.stored.Done()
			w.t.Fatalf("%s %d: %v", r.name, given.id, err)
		}
	}
}

// restart closes the queue and opens it again; with kill it goes on with a
// copy of the files as they are while it is open.
func (w *week) restart(kill bool) {
	w.stored.Wait()
	if kill {
		w.opt.Dir = copyLive(w.t, w.opt.Dir)
	}
	if err := w.q.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.q = openTestQueue(w.t, w.opt)
	if s := w.q.Stats(); s.Quarantined != "" {
		w.t.Fatalf("the store was quarantined: %s", s.Quarantined)
	}
}

// copyLive copies the store of an open queue, at a moment at which Badger does
// not exchange files.
func copyLive(t *testing.T, dir string) string {
	t.Helper()
	manifest := func() []byte {
		b, err := os.ReadFile(filepath.Join(dir, "store", "MANIFEST"))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for range 20 {
		to, before := t.TempDir(), manifest()
		err := copyDir(filepath.Join(to, "store"), filepath.Join(dir, "store"))
		if err == nil && bytes.Equal(before, manifest()) {
			return to
		}
	}
	t.Fatal("the store's files never stand still")
	return ""
}

// run is the week.
func (w *week) run() {
	for minute := range weekMinutes {
		for _, r := range w.routes {
			if r.every > 0 && minute%r.every == 0 {
				w.give(r)
			}
		}
		switch minute {
		case weekMinutes * 3 / 7:
			w.restart(false)
		case weekMinutes * 5 / 7:
			w.restart(true)
		case burstDay * 24 * 60:
			for range burstSize {
				w.give(w.routes[1])
			}
		}
		w.clock.advance(time.Minute)
	}
	w.stored.Wait()
}

// bounds are how many of a route's newest messages may be left: exactly, or
// within the share that eviction frees at once.
func (w *week) bounds(r *weekRoute) (least, most int) {
	n := len(r.given)
	switch p := r.policy; {
	case p.MaxAge > 0:
		fresh := 0
		for _, m := range r.given {
			if !w.clock.now().After(m.at.Add(p.MaxAge)) {
				fresh++
			}
		}
		return fresh, fresh
	case p.Overflow == Reject:
		return n, n
	case p.MaxRecords > 0:
		return int(p.MaxRecords - p.MaxRecords/spareShare), int(p.MaxRecords)
	case p.MaxBytes > 0:
		each := r.given[0].bytes + 4 // the number may have more digits
		return int((p.MaxBytes-p.MaxBytes/spareShare)/each) - 1, int(p.MaxBytes / r.given[0].bytes)
	case r.name == "burst":
		return n, n
	case r.name == "low": // the next to give way when the lowest has nothing left
		return 1, n - 1
	}
	// The lowest: what came since it last had to give way, while other routes
	// shrank to the least that they keep and grew again.
	return 0, weekRecords/spareShare + 100
}

// kept is what is left of a route, in the order of acceptance.
func (w *week) kept(r *weekRoute) (ids []int, size int64) {
	entries, err := w.q.Peek(r.name, 0, weekRecords)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		var id int
		if _, err := fmt.Sscanf(string(e.Payload), "%d", &id); err != nil {
			w.t.Fatal(err)
		}
		ids, size = append(ids, id), size+e.bytes()
	}
	return ids, size
}

// expected is what has to be left of a route, of which n are: the newest, or
// the newest of each topic.
func (r *weekRoute) expected(n int) (ids []int) {
	if !r.policy.KeepLast {
		for _, m := range r.given[len(r.given)-n:] {
			ids = append(ids, m.id)
		}
		return ids
	}
	seen := map[string]bool{}
	for _, m := range slices.Backward(r.given) {
		if !seen[m.topic] {
			seen[m.topic] = true
			ids = append(ids, m.id)
		}
	}
	slices.Reverse(ids)
	return ids
}

// check compares what is left of a route, and its account, with the record of
// what it was given.
func (w *week) check(r *weekRoute) []int {
	ids, size := w.kept(r)
	least, most := w.bounds(r)
	if r.policy.KeepLast {
		least, most = r.topics, r.topics
	}
	if len(ids) < least || len(ids) > most {
		w.t.Errorf("%s: %d of %d are left, expected %d to %d", r.name, len(ids), len(r.given), least, most)
		return ids
	}
	if want := r.expected(len(ids)); !slices.Equal(ids, want) {
		w.t.Errorf("%s: what is left is not the newest: %v, expected %v", r.name, ids, want)
	}
	var given Tally
	for _, m := range r.given {
		given.add(m.bytes)
	}
	a := w.q.Ledger()[r.name]
	if !a.Balanced() || a.Accepted != given || a.Queued != (Tally{int64(len(ids)), size}) {
		w.t.Errorf("%s: %d left with %d bytes of %+v, ledger: %+v", r.name, len(ids), size, given, a)
	}
	gone := a.Accepted.minus(a.Queued)
	switch p := r.policy; {
	case p.Overflow == Reject: // nothing is gone
	case p.MaxAge > 0:
		gone = gone.minus(a.Expired)
	case p.KeepLast:
		gone = gone.minus(a.Coalesced)
	default:
		gone = gone.minus(a.Evicted)
	}
	if gone != (Tally{}) {
		w.t.Errorf("%s: %+v left under the wrong name: %+v", r.name, gone, a)
	}
	return ids
}

// TestAWeekOffline lets seven days pass without a link, with the bounds of
// routes and of the whole reached, a restart and a kill. What is left is what
// the policies say, and it is what arrives when the link comes up.
func TestAWeekOffline(t *testing.T) {
	t.Parallel()
	w := newWeek(t)
	w.run()
	eventually(t, "expiry and eviction to be stored", func() bool {
		fresh, _ := w.bounds(w.routes[2])
		l := w.q.Ledger()
		return int(l["detect"].Queued.Records) == fresh && l["low"].Evicted.Records > 0 && w.q.Depth().Records <= weekRecords && w.quiet()
	})
	left := map[string][]int{}
	total := 0
	for _, r := range w.routes {
		left[r.name] = w.check(r)
		total += len(left[r.name])
		t.Logf("%s: %d of %d left", r.name, len(left[r.name]), len(r.given))
	}
	const expired = 20 // and more at most, after the last eviction
	if least := weekRecords - weekRecords/spareShare - expired; total < least || total > weekRecords {
		t.Errorf("%d records are left, expected %d to %d", total, least, weekRecords)
	}
	w.deliver(left, total)
}

// quiet reports whether nothing is on its way into the store or out of it.
func (w *week) quiet() bool {
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	return len(w.q.pending)+len(w.q.settled) == 0 && !w.q.writing
}

// deliver lets the link come up, and compares what arrives with what was left.
func (w *week) deliver(left map[string][]int, total int) {
	s := startMosquitto(w.t)
	seen := watch(w.t, s, "t/#")
	startLink(w.t, w.q, LinkOptions{Centre: Centre{Brokers: []string{s.URL()}}})
	within(w.t, time.Minute, "an empty queue", func() bool { return w.q.Depth().Records == 0 })
	within(w.t, time.Minute, "everything at the centre", func() bool { return len(seen.payloads()) >= total })
	arrived := map[string][]int{}
	seen.mu.Lock()
	defer seen.mu.Unlock()
	for _, m := range seen.seen {
		route, id := "", 0
		if _, err := fmt.Sscanf(string(bytes.ReplaceAll([]byte(m.Topic()), []byte("/"), []byte(" "))), "t %s", &route); err != nil {
			w.t.Fatal(err)
		}
		if _, err := fmt.Sscanf(string(m.Payload()), "%d", &id); err != nil {
			w.t.Fatal(err)
		}
		arrived[route] = append(arrived[route], id)
	}
	for _, r := range w.routes {
		if !slices.Equal(arrived[r.name], left[r.name]) {
			w.t.Errorf("%s: %d arrived, %d were left, or not in their order", r.name, len(arrived[r.name]), len(left[r.name]))
		}
		if a := w.q.Ledger()[r.name]; !a.Balanced() || int(a.Delivered.Records) != len(left[r.name]) {
			w.t.Errorf("%s: ledger: %+v", r.name, a)
		}
	}
}
