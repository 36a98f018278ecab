package broker

import (
	"net/netip"
	"sync"
	"time"
)

// bucket lets so many through a second, and as many at once. The zero value
// lets everything through.
type bucket struct {
	interval time.Duration // between two
	burst    time.Duration // how far ahead it may be
	next     time.Time     // when the next would come in an even stream
}

func newBucket(perS float64) bucket {
	if perS <= 0 {
		return bucket{}
	}
	interval := time.Duration(float64(time.Second) / perS)
	return bucket{interval: interval, burst: max(time.Second, interval)}
}

// take returns how long the next one has to wait, and false if that is more
// than patience; then it does not count.
func (b *bucket) take(now time.Time, patience time.Duration) (time.Duration, bool) {
	if b.next.Before(now) {
		b.next = now
	}
	wait := max(0, b.next.Add(b.interval-b.burst).Sub(now))
	if wait > patience {
		return wait, false
	}
	b.next = b.next.Add(b.interval)
	return wait, true
}

// full reports whether the bucket has forgotten everything.
func (b *bucket) full(now time.Time) bool { return !b.next.After(now) }

const (
	// connectPatience is how long a connection may wait for its turn: after a
	// power cut all devices come back at once.
	connectPatience = 5 * time.Second
	// maxBuckets bounds the addresses that are remembered; beyond it new ones
	// share one bucket.
	maxBuckets = 4096
)

// connectRates has a bucket for each address, so that one that floods does
// not keep others out.
type connectRates struct {
	perS float64

	mu     sync.Mutex
	from   map[netip.Prefix]*bucket
	others bucket
	swept  time.Time
}

func newConnectRates(perS float64) *connectRates {
	return &connectRates{perS: perS, from: map[netip.Prefix]*bucket{}, others: newBucket(perS)}
}

// take returns how long a connection has to wait, or false if it is refused.
func (r *connectRates) take(remote string, now time.Time) (time.Duration, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweep(now)
	key := networkOf(remote)
	b, ok := r.from[key]
	switch {
	case ok:
	case len(r.from) < maxBuckets:
		fresh := newBucket(r.perS)
		b = &fresh
		r.from[key] = b
	default:
		b = &r.others
	}
	return b.take(now, connectPatience)
}

// sweep forgets those who have been quiet; mu is held.
func (r *connectRates) sweep(now time.Time) {
	if now.Sub(r.swept) < time.Second {
		return
	}
	r.swept = now
	for key, b := range r.from {
		if b.full(now) {
			delete(r.from, key)
		}
	}
}

// networkOf is who a connection comes from: an IPv4 address, or an IPv6
// network, since a device has a whole one.
func networkOf(remote string) netip.Prefix {
	a, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{} // a socket of this machine
	}
	addr, bits := a.Addr().Unmap().WithZone(""), 32
	if addr.Is6() {
		bits = 64
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
