package uplink

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

// payloads takes what is queued and returns it, settling nothing.
func payloads(t *testing.T, q *Queue, n int) []string {
	t.Helper()
	var out []string
	for len(out) < n {
		for _, e := range next(t, q, n-len(out)) {
			out = append(out, string(e.Payload))
		}
	}
	return out
}

func expectList(t *testing.T, got []string, want ...string) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, expected %v", got, want)
	}
}

// storeAgain stores a message, as often as the queue is busy making room.
func storeAgain(t *testing.T, q *Queue, m Message) {
	t.Helper()
	eventually(t, "room", func() bool {
		done := make(chan error, 1)
		err := q.Enqueue(m, func(err error) { done <- err })
		if errors.Is(err, ErrBusy) {
			return false
		}
		if err != nil {
			t.Fatal(err)
		}
		return <-done == nil
	})
}

func TestWholeBoundEvictsLowestLaneAndOldestFirst(t *testing.T) {
	q := openTestQueue(t, Options{MaxRecords: 10})
	for i := range 5 {
		store(t, q, testMessage(3, i))
		store(t, q, testMessage(8, i))
	}
	for i := 5; i < 8; i++ {
		storeAgain(t, q, testMessage(8, i))
	}
	eventually(t, "the bound", func() bool { return q.Depth().Records <= 10 })
	l := q.Ledger()
	if evicted := l["r3"].Evicted.Records; evicted < 3 || l["r8"].Evicted.Records != 0 {
		t.Fatalf("evicted %d from lane 3 and %d from lane 8", evicted, l["r8"].Evicted.Records)
	}
	expectList(t, payloads(t, q, 8), "m0", "m1", "m2", "m3", "m4", "m5", "m6", "m7")
	first := int(l["r3"].Evicted.Records)
	if first < 5 { // what is left of the low lane is its newest
		expectList(t, payloads(t, q, 1), fmt.Sprintf("m%d", first))
	}
	for route, a := range l {
		if !a.Balanced() {
			t.Errorf("%s: %+v", route, a)
		}
	}
}

func TestRouteBoundEvictsItsOwnOldest(t *testing.T) {
	q := openTestQueue(t, Options{Policies: map[string]Policy{"r5": {MaxRecords: 4}}})
	store(t, q, testMessage(1, 0)) // a lower lane has nothing to do with it
	for i := range 20 {
		storeAgain(t, q, testMessage(5, i))
	}
	l := q.Ledger()
	if a := l["r5"]; a.Queued.Records > 4 || a.Evicted.Records != a.Accepted.Records-a.Queued.Records || l["r1"].Evicted.Records != 0 {
		t.Errorf("ledger: %+v", l)
	}
	got := payloads(t, q, int(l["r5"].Queued.Records))
	if got[len(got)-1] != "m19" {
		t.Errorf("the newest is not kept: %v", got)
	}
}

func TestRejectRefusesAndKeepsWhatItHas(t *testing.T) {
	q := openTestQueue(t, Options{MaxRecords: 6, Policies: map[string]Policy{"r5": {MaxRecords: 3, Overflow: Reject}, "r6": {Overflow: Reject}}})
	for i := range 3 {
		store(t, q, testMessage(5, i))
		store(t, q, testMessage(6, i))
	}
	for lane, what := range map[int]string{5: "the route's bound", 6: "the whole's bound", 7: "nothing may be evicted"} {
		if err := q.Enqueue(testMessage(lane, 9), nil); !errors.Is(err, ErrFull) {
			t.Errorf("%s: got %v, expected ErrFull", what, err)
		}
	}
	expectList(t, payloads(t, q, 6), "m0", "m1", "m2", "m0", "m1", "m2")
}

// clock is a clock that a test sets.
type clock struct{ ns atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ns.Store(time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.ns.Load()) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

func TestWhatIsTooOldExpires(t *testing.T) {
	c := newClock()
	q := openTestQueue(t, Options{Now: c.now, Policies: map[string]Policy{"r5": {MaxAge: time.Hour}}})
	store(t, q, testMessage(5, 0))
	own := testMessage(6, 1)
	own.Expiry = c.now().Add(time.Minute)
	store(t, q, testMessage(6, 0)) // never expires, and stands before the next
	store(t, q, own)
	store(t, q, testMessage(6, 2))
	c.advance(2 * time.Hour)
	store(t, q, testMessage(5, 1))
	expectList(t, payloads(t, q, 3), "m0", "m2", "m1")
	eventually(t, "two expired", func() bool {
		l := q.Ledger()
		return l["r5"].Expired.Records == 1 && l["r6"].Expired.Records == 1
	})
}

func TestAgeIsBoundedThoughNobodyReads(t *testing.T) {
	c := newClock()
	q := openTestQueue(t, Options{Now: c.now})
	for i := range 10 {
		store(t, q, testMessage(5, i))
	}
	c.advance(time.Hour)
	q.SetPolicies(map[string]Policy{"r5": {MaxAge: time.Minute}}) // also for what is queued
	eventually(t, "all expired", func() bool { return q.Depth().Records == 0 })
	if a := q.Ledger()["r5"]; a.Expired.Records != 10 || !a.Balanced() {
		t.Errorf("ledger: %+v", a)
	}
}

func topicMessage(topic string, i int) Message {
	m := testMessage(5, i)
	m.Topic = topic
	return m
}

func TestKeepLastCoalescesWhileOffline(t *testing.T) {
	dir := t.TempDir()
	opt := Options{Dir: dir, Policies: map[string]Policy{"r5": {KeepLast: true}}}
	q := openTestQueue(t, opt)
	for i := range 6 {
		store(t, q, topicMessage(fmt.Sprintf("t/%d", i%2), i))
	}
	eventually(t, "two left", func() bool { return q.Depth().Records == 2 })
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = openTestQueue(t, opt)
	store(t, q, topicMessage("t/0", 6)) // replaces what a former process left
	eventually(t, "two left", func() bool { return q.Depth().Records == 2 && q.Ledger()["r5"].Coalesced.Records == 5 })
	q.SetOnline(true)
	store(t, q, topicMessage("t/0", 7)) // the link is up: nothing is replaced
	expectList(t, payloads(t, q, 3), "m5", "m6", "m7")
	if a := q.Ledger()["r5"]; !a.Balanced() {
		t.Errorf("ledger: %+v", a)
	}
}

func TestByLaneSendsLiveBeforeBacklog(t *testing.T) {
	dir := t.TempDir()
	opt := Options{Dir: dir, Policies: map[string]Policy{"r5": {Order: ByLane}}}
	q := openTestQueue(t, opt)
	for i := range 3 {
		store(t, q, testMessage(5, i)) // offline
	}
	retained := testMessage(5, 3)
	retained.Retain = true
	store(t, q, retained)
	store(t, q, testMessage(9, 4)) // strict, of a higher lane, but history too
	q.SetOnline(true)
	boundary := q.Stats().LastSequence
	store(t, q, testMessage(5, 5))
	store(t, q, testMessage(2, 6))
	live, err := q.Next(t.Context(), Want{Max: 10, Boundary: boundary})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range live {
		got = append(got, string(e.Payload))
	}
	expectList(t, got, "m5", "m6")
	expectList(t, payloads(t, q, 5), "m4", "m3", "m0", "m1", "m2")
}

func TestLanesAreReadInTheOrderOfAcceptance(t *testing.T) {
	q := openTestQueue(t, Options{})
	for i := range 6 {
		m := testMessage(5, i)
		m.Route = fmt.Sprintf("route-%d", i%3)
		store(t, q, m)
	}
	expectList(t, payloads(t, q, 6), "m0", "m1", "m2", "m3", "m4", "m5")
}
