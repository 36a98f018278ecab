package uplink

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// setClock is a clock that a test sets.
type setClock struct{ ns atomic.Int64 }

func (c *setClock) now() time.Time          { return time.Unix(0, c.ns.Load()) }
func (c *setClock) forward(d time.Duration) { c.ns.Add(int64(d)) }

func newSetClock() *setClock {
	c := &setClock{}
	c.ns.Store(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixNano())
	return c
}

func TestStatsTellLanesApart(t *testing.T) {
	clock := newSetClock()
	q := openTestQueue(t, Options{Now: clock.now})
	first := clock.now()
	size := testMessage(3, 0).bytes()
	store(t, q, testMessage(3, 0))
	clock.forward(time.Minute)
	for i := range 4 {
		store(t, q, testMessage(8, i))
	}
	clock.forward(time.Minute)
	other := testMessage(3, 1)
	other.Route = "another" // of the same lane
	store(t, q, other)
	s := q.Stats()
	for lane := range s.LaneQueued {
		want, oldest := Tally{}, time.Time{}
		switch lane {
		case 3:
			want, oldest = Tally{2, 2 * size}, first
		case 8:
			want, oldest = Tally{4, 4 * size}, first.Add(time.Minute)
		}
		if s.LaneQueued[lane] != want || !s.LaneOldest[lane].Equal(oldest) {
			t.Errorf("lane %d: got %+v since %v, expected %+v since %v", lane, s.LaneQueued[lane], s.LaneOldest[lane], want, oldest)
		}
	}
	if !s.OldestAt.Equal(first) {
		t.Errorf("oldest: got %v, expected %v", s.OldestAt, first)
	}

	for _, e := range next(t, q, 5) { // lane 8, and the first of lane 3
		q.Settle(e, Delivered)
	}
	eventually(t, "what is left", func() bool { return q.Depth().Records == 1 })
	if at := q.Stats().OldestAt; !at.Equal(first.Add(2 * time.Minute)) {
		t.Errorf("oldest of what is left: got %v, expected %v", at, first.Add(2*time.Minute))
	}
}

// TestOldestPassesWhatWasReplaced looks at a stream whose watermark stays
// where it was while its oldest record is replaced, over and over.
func TestOldestPassesWhatWasReplaced(t *testing.T) {
	clock := newSetClock()
	q := openTestQueue(t, Options{Now: clock.now, Policies: map[string]Policy{"r3": {KeepLast: true}}})
	for i := range 5 {
		clock.forward(time.Second)
		store(t, q, testMessage(3, i))
		eventually(t, "the older one gives way", func() bool { return q.Depth().Records == 1 })
		if at := q.Stats().LaneOldest[3]; !at.Equal(clock.now()) {
			t.Errorf("message %d: oldest: got %v, expected %v", i, at, clock.now())
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if s := q.order[0]; s.watermark != 0 || s.before != s.last-1 {
		t.Errorf("a look starts after %d with the watermark %d, expected %d with 0", s.before, s.watermark, s.last-1)
	}
}

// TestOldestSeesWhatASalvageBringsBack has a salvage queue an old record
// after a look at the newer ones.
func TestOldestSeesWhatASalvageBringsBack(t *testing.T) {
	clock := newSetClock()
	q := openTestQueue(t, Options{Now: clock.now})
	q.mu.Lock()
	q.salvaging, q.seq = true, 100
	q.mu.Unlock()
	store(t, q, testMessage(3, 1))
	if at := q.Stats().OldestAt; !at.Equal(clock.now()) {
		t.Errorf("before: got %v, expected %v", at, clock.now())
	}
	old, c := clock.now().Add(-time.Hour), chain{queue: q, recovered: true}
	if err := c.add(t.Context(), Entry{Message: testMessage(3, 0), Seq: 7, Accepted: old}); err != nil {
		t.Fatal(err)
	}
	if err := c.wait(); err != nil {
		t.Fatal(err)
	}
	q.release()
	if at := q.Stats().OldestAt; !at.Equal(old) {
		t.Errorf("after: got %v, expected %v", at, old)
	}
}

func TestStatsCountWhatBecameOfRecords(t *testing.T) {
	clock := newSetClock()
	q := openTestQueue(t, Options{Now: clock.now, Policies: map[string]Policy{
		"r2": {MaxAge: time.Hour}, "r4": {MaxRecords: 3},
	}})
	for i := range 3 {
		store(t, q, testMessage(2, i))
	}
	clock.forward(2 * time.Hour)
	for i := range 5 {
		storeAgain(t, q, testMessage(4, i))
	}
	for i := range 2 {
		store(t, q, testMessage(9, i))
	}
	for _, e := range next(t, q, 2) {
		q.Kill(e, "a test")
	}
	eventually(t, "expiry, eviction and death", func() bool {
		l := q.Ledger()
		return l["r2"].Expired.Records == 3 && l["r4"].Evicted.Records == 3 && l["r9"].Dead.Records == 2
	})
	if err := q.Retry(q.DeadLetters()[0].ID); err != nil {
		t.Fatal(err)
	}
	s, l := q.Stats(), q.Ledger()
	if s.Deaths["r9"] != 2 || len(s.Deaths) != 1 || s.DeadLetters != 1 || l["r9"].Dead.Records != 1 {
		t.Errorf("got deaths %v with %d dead letters, %+v, expected 2 deaths, of which one was taken back", s.Deaths, s.DeadLetters, l["r9"])
	}
	for route, a := range l {
		if !a.Balanced() {
			t.Errorf("%s: %+v does not add up", route, a)
		}
	}
	if got := s.Queued.Records; got != l["r4"].Queued.Records+1 {
		t.Errorf("queued: got %d, the ledger says %+v", got, l)
	}
}

func TestHistogramCountsEveryCommit(t *testing.T) {
	var tried, failed atomic.Uint64
	q := openTestQueue(t, Options{fault: func() error {
		if tried.Add(1)%3 == 0 {
			failed.Add(1)
			return errors.New("a test's fault")
		}
		return nil
	}})
	for i := range 30 {
		done := make(chan error, 1)
		if err := q.Enqueue(testMessage(5, i), func(err error) { done <- err }); err != nil {
			t.Fatal(err)
		}
		<-done
	}
	s := q.Stats()
	if made := tried.Load() - failed.Load(); failed.Load() == 0 || s.CommitTimes.Count != made || s.Commits != made {
		t.Errorf("got %d in the histogram and %d commits, expected %d of %d tries", s.CommitTimes.Count, s.Commits, made, tried.Load())
	}
	if s.CommitTimes.Sum <= 0 || s.CommitP50 <= 0 || s.CommitP99 < s.CommitP50 {
		t.Errorf("got the sum %v, p50 %v, p99 %v", s.CommitTimes.Sum, s.CommitP50, s.CommitP99)
	}
}

func TestTimingsPutDurationsIntoBuckets(t *testing.T) {
	var timings Timings
	var all sync.WaitGroup
	const each = 1000
	for range 4 {
		all.Go(func() {
			for range each {
				timings.Add(50 * time.Microsecond)  // the bound belongs to its bucket
				timings.Add(51 * time.Microsecond)  // the next one
				timings.Add(3 * time.Millisecond)   // up to 5 ms
				timings.Add(11 * time.Second)       // beyond all bounds
				timings.Add(-10 * time.Millisecond) // a clock's fault, not a negative sum
			}
		})
	}
	all.Wait()
	h := timings.Histogram()
	want := map[time.Duration]uint64{
		50 * time.Microsecond: 8 * each, 100 * time.Microsecond: 12 * each, 2500 * time.Microsecond: 12 * each,
		5 * time.Millisecond: 16 * each, 10 * time.Second: 16 * each,
	}
	for _, b := range h.Buckets {
		if n, ok := want[b.Upto]; ok && n != b.Count {
			t.Errorf("up to %v: got %d, expected %d", b.Upto, b.Count, n)
		}
	}
	sum := 4 * each * (101*time.Microsecond + 3*time.Millisecond + 11*time.Second)
	if h.Count != 20*each || h.Sum != sum {
		t.Errorf("got %d with the sum %v, expected %d with %v", h.Count, h.Sum, 20*each, sum)
	}
}

func TestRecentTimingsForgetTheOld(t *testing.T) {
	var timings Timings
	if p50, p99 := timings.Recent(); p50 != 0 || p99 != 0 {
		t.Errorf("of nothing: got %v and %v", p50, p99)
	}
	for range 1000 {
		timings.Add(time.Hour)
	}
	for i := range recentTimings {
		timings.Add(time.Duration(i+1) * time.Millisecond)
	}
	if p50, p99 := timings.Recent(); p50 != 256*time.Millisecond || p99 != 507*time.Millisecond {
		t.Errorf("got %v and %v, expected 256ms and 507ms", p50, p99)
	}
}

func TestClearingIsWhatIsQueuedByTheRateAtWhichItShrinks(t *testing.T) {
	const waited = time.Hour
	began := time.Now()
	for name, c := range map[string]struct {
		perSecond [2]Tally // accepted, delivered
		queued    Tally
		waited    time.Duration
		want      Clearing
	}{
		"shrinks":                   {[2]Tally{{10, 1000}, {60, 6000}}, Tally{5000, 500_000}, waited, Clearing{true, 100 * time.Second}},
		"large ones are left":       {[2]Tally{{10, 1000}, {60, 6000}}, Tally{5000, 1_000_000}, waited, Clearing{true, 200 * time.Second}},
		"grows":                     {[2]Tally{{60, 6000}, {10, 1000}}, Tally{5000, 500_000}, waited, Clearing{}},
		"grows in bytes":            {[2]Tally{{10, 6000}, {60, 1000}}, Tally{5000, 500_000}, waited, Clearing{}},
		"stands still":              {[2]Tally{{10, 1000}, {10, 1000}}, Tally{5000, 500_000}, waited, Clearing{}},
		"no backlog":                {[2]Tally{{60, 6000}, {10, 1000}}, Tally{5000, 500_000}, 9 * time.Second, Clearing{Shrinks: true}},
		"the clock was set back":    {[2]Tally{{10, 1000}, {10, 1000}}, Tally{5000, 500_000}, -time.Hour, Clearing{Shrinks: true}},
		"empty":                     {[2]Tally{}, Tally{}, 0, Clearing{Shrinks: true}},
		"longer than time can tell": {[2]Tally{{}, {1, 1}}, Tally{1 << 50, 1 << 50}, waited, Clearing{true, (1<<31 - 1) * time.Second}},
	} {
		var p pace
		p.add(pacePoint{at: began.Add(-time.Hour)}, true) // more than it remembers
		for i := range int64(pacePoints) {
			times := func(t Tally) Tally { return Tally{t.Records * i, t.Bytes * i} }
			p.add(pacePoint{at: began.Add(time.Duration(i) * time.Second), accepted: times(c.perSecond[0]), delivered: times(c.perSecond[1])}, true)
		}
		if got := p.clearing(c.queued, c.waited); got != c.want {
			t.Errorf("%s: got %+v, expected %+v", name, got, c.want)
		}
	}
}

// TestClearingForgetsTheOutage has an hour without a centre, and then four
// seconds of draining.
func TestClearingForgetsTheOutage(t *testing.T) {
	var p pace
	now := time.Now()
	point := pacePoint{at: now}
	add := func(online bool, accepted, delivered int64) {
		point.at = point.at.Add(time.Second)
		point.accepted = point.accepted.plus(Tally{accepted, accepted})
		point.delivered = point.delivered.plus(Tally{delivered, delivered})
		p.add(point, online)
	}
	for range 3600 {
		add(false, 10, 0)
	}
	if got := p.clearing(Tally{36000, 36000}, time.Hour); got.Shrinks {
		t.Errorf("without a centre: got %+v", got)
	}
	for range 5 {
		add(true, 10, 110)
	}
	if got := p.clearing(Tally{35500, 35500}, time.Hour); got != (Clearing{true, 355 * time.Second}) {
		t.Errorf("after four seconds: got %+v, expected 355 s", got)
	}
}

// TestRoomIsWhatIsLeftByTheRateAtWhichTheQueueGrows, by whatever ends first.
func TestRoomIsWhatIsLeftByTheRateAtWhichTheQueueGrows(t *testing.T) {
	for name, c := range map[string]struct {
		growth  Tally // a second
		seconds int64
		left    Tally
		want    time.Duration
	}{
		"bytes end first":           {Tally{10, 1000}, 20, Tally{math.MaxInt64, 3_600_000}, time.Hour},
		"records end first":         {Tally{10, 1000}, 20, Tally{600, 3_600_000}, time.Minute},
		"does not grow":             {Tally{}, 20, Tally{600, 600}, 0},
		"shrinks":                   {Tally{-1, -1}, 20, Tally{600, 600}, 0},
		"looked at for a moment":    {Tally{10, 1000}, 9, Tally{600, 600}, 0},
		"the floor is behind":       {Tally{0, 1}, 20, Tally{600, -5}, 0},
		"longer than time can tell": {Tally{0, 1}, 20, Tally{1 << 60, 1 << 60}, (1<<31 - 1) * time.Second},
	} {
		var p pace
		for i := range c.seconds + 1 {
			p.add(pacePoint{at: time.Unix(1e9+i, 0), queued: Tally{1000 + c.growth.Records*i, 1000 + c.growth.Bytes*i}}, false)
		}
		if got := p.room(c.left); got != c.want {
			t.Errorf("%s: got %v, expected %v", name, got, c.want)
		}
	}
}

// TestWhatIsLeftIsTheNearestBound of the queue and of the disk.
func TestWhatIsLeftIsTheNearestBound(t *testing.T) {
	q := openTestQueue(t, Options{MaxBytes: 10 << 20, MaxRecords: 7})
	queued := Tally{Records: 2, Bytes: 1 << 20}
	if got := q.left(queued); got != (Tally{5, 9 << 20}) {
		t.Errorf("got %+v", got)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.freeDisk, q.opt.MinFreeBytes, q.opt.MaxRecords = 5<<20, 2<<20, 0
	if got := q.left(queued); got != (Tally{math.MaxInt64, 3 << 20}) {
		t.Errorf("above a floor: got %+v", got)
	}
}

func TestStatsSayThatAnOutageDoesNotClear(t *testing.T) {
	clock := newSetClock()
	q := openTestQueue(t, Options{Now: clock.now})
	store(t, q, testMessage(5, 1))
	if c := q.Stats().Clearing; !c.Shrinks || c.In != 0 {
		t.Errorf("of a new record: got %+v, expected no backlog", c)
	}
	clock.forward(time.Minute)
	if c := q.Stats().Clearing; c.Shrinks {
		t.Errorf("without a centre: got %+v, expected that it does not shrink", c)
	}
	for _, e := range next(t, q, 1) {
		q.Settle(e, Delivered)
	}
	eventually(t, "no backlog", func() bool { c := q.Stats().Clearing; return c.Shrinks && c.In == 0 })
}

// BenchmarkOldest is what one look at the ages of a deep queue costs, with
// streams of which the oldest record was replaced over and over.
func BenchmarkOldest(b *testing.B) {
	q := openTestQueue(b, Options{Policies: map[string]Policy{"last": {KeepLast: true}}})
	const deep = 300_000
	for i := range deep {
		for lane := 1; lane <= MaxLane; lane += 3 {
			offer(b, q, testMessage(lane, i), nil)
		}
		offer(b, q, Message{Route: "last", Lane: 5, Topic: fmt.Sprint("t/", i%10), QoS: 1, Payload: []byte("x")}, nil)
	}
	eventually(b, "commits", func() bool { return q.Stats().Pending == 0 })
	b.ResetTimer()
	for b.Loop() {
		q.oldest()
	}
}

// TestADrainingQueueSaysWhenItIsClear takes records from a backlog, slowly,
// while none comes in.
func TestADrainingQueueSaysWhenItIsClear(t *testing.T) {
	clock := newSetClock()
	q := openTestQueue(t, Options{Now: clock.now})
	for i := range 5000 {
		if err := q.Enqueue(testMessage(5, i), nil); err != nil {
			t.Fatal(err)
		}
	}
	clock.forward(time.Minute)
	q.SetOnline(true)
	eventually(t, "an estimate", func() bool {
		q.Settle(next(t, q, 1)[0], Delivered) // 200 a second at most
		c := q.Stats().Clearing
		return c.Shrinks && c.In > 0
	})
}
