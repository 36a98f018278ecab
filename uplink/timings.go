package uplink

import (
	"math"
	"slices"
	"sync/atomic"
	"time"
)

// timingBounds are the upper bounds of the buckets of a Histogram: what a
// fast disk needs for a sync, up to what nobody waits for.
var timingBounds = [...]time.Duration{
	50 * time.Microsecond, 100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// recentTimings is how many of the newest durations are kept for quantiles.
const recentTimings = 512

// Timings measures how long something takes: all of it in a histogram, since
// the start, and the newest by themselves, for quantiles of now. The zero
// value is ready. Its methods may be called from any goroutine and take no
// lock: an Add is a handful of atomic operations.
type Timings struct {
	buckets [len(timingBounds) + 1]atomic.Uint64 // the last has no bound
	sum     atomic.Int64
	added   atomic.Uint64
	ring    [recentTimings]atomic.Int64
}

// Add counts one duration.
func (t *Timings) Add(d time.Duration) {
	d = max(d, 0)
	i := 0
	for i < len(timingBounds) && d > timingBounds[i] {
		i++
	}
	t.ring[(t.added.Add(1)-1)%recentTimings].Store(int64(d))
	t.sum.Add(int64(d))
	t.buckets[i].Add(1)
}

// Histogram is the distribution of durations since the start.
type Histogram struct {
	Count   uint64
	Sum     time.Duration
	Buckets []Bucket // from the shortest to the longest
}

// Bucket counts the durations up to a bound, and so all of the buckets below
// it too.
type Bucket struct {
	Upto  time.Duration
	Count uint64
}

// Histogram returns a snapshot.
func (t *Timings) Histogram() Histogram {
	h := Histogram{Buckets: make([]Bucket, len(timingBounds))}
	for i, bound := range timingBounds {
		h.Count += t.buckets[i].Load()
		h.Buckets[i] = Bucket{bound, h.Count}
	}
	h.Count += t.buckets[len(timingBounds)].Load()
	h.Sum = time.Duration(t.sum.Load())
	return h
}

// Recent returns the median and the 99th percentile of the newest durations,
// 512 at most, or zero where there is none.
func (t *Timings) Recent() (p50, p99 time.Duration) {
	n := min(t.added.Load(), recentTimings)
	if n == 0 {
		return 0, 0
	}
	sorted := make([]time.Duration, n)
	for i := range sorted {
		sorted[i] = time.Duration(t.ring[i].Load())
	}
	slices.Sort(sorted)
	at := func(p float64) time.Duration { return sorted[int(math.Ceil(p*float64(n)))-1] }
	return at(0.50), at(0.99)
}
