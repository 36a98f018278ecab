package broker

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// Failed logins make an address wait. A device whose password is wrong tries
// for ever, and others may connect from the same address: so the one name is
// slowed soon, and the address only after as many failures as an attack makes.
const (
	freeForName    = 3  // failures of one name from one address, without a wait
	freeForAddress = 30 // failures of all names from one address
	firstWait      = time.Second
	longestWait    = time.Minute
	// localWait is the longest wait for programs on this machine.
	localWait = 2 * time.Second
	// One failure of a name is forgotten in forgiveName, one of an address in
	// forgiveAddress.
	forgiveName    = 30 * time.Second
	forgiveAddress = 10 * time.Second
	// maxRemembered bounds each of the two tables.
	maxRemembered = 8192
)

// attempts counts failed logins. Its methods may be called from any goroutine.
type attempts struct {
	mu        sync.Mutex
	seed      maphash.Seed
	addresses map[netip.Addr]*failures
	names     map[nameAt]*failures
}

// nameAt is a user's name at an address; the name is hashed, as anything can
// be sent as one.
type nameAt struct {
	address netip.Addr
	name    uint64
}

// failures are what is held against an address or a name.
type failures struct {
	count int
	since time.Time // when the last was forgotten, or the first came
	until time.Time // no login before
}

func newAttempts() *attempts {
	return &attempts{seed: maphash.MakeSeed(), addresses: map[netip.Addr]*failures{}, names: map[nameAt]*failures{}}
}

func (a *attempts) key(address netip.Addr, name string) nameAt {
	return nameAt{address, maphash.String(a.seed, name)}
}

// wait is how long a login has to wait; one that comes before is not tried.
func (a *attempts) wait(address netip.Addr, name string, now time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	var until time.Time
	if f := a.names[a.key(address, name)]; f != nil {
		until = f.until
	}
	if f := a.addresses[address]; f != nil && f.until.After(until) {
		until = f.until
	}
	return until.Sub(now)
}

// failed counts a failed login.
func (a *attempts) failed(address netip.Addr, name string, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !address.IsValid() || address.IsLoopback() {
		fail(a.names, a.key(address, name), now, leniency{freeForName, forgiveName, localWait})
		return // all programs on this machine are at one address
	}
	fail(a.names, a.key(address, name), now, leniency{freeForName, forgiveName, longestWait})
	fail(a.addresses, address, now, leniency{freeForAddress, forgiveAddress, longestWait})
}

// leniency is how many failures are free, how soon one is forgotten, and the
// longest wait.
type leniency struct {
	free    int
	forgive time.Duration
	longest time.Duration
}

func fail[K comparable](table map[K]*failures, key K, now time.Time, l leniency) {
	f := table[key]
	if f == nil {
		makeRoom(table, now)
		f = &failures{since: now}
		table[key] = f
	}
	forgiven := int(now.Sub(f.since) / l.forgive)
	f.since = f.since.Add(time.Duration(forgiven) * l.forgive)
	f.count = max(0, f.count-forgiven) + 1
	if f.count > l.free {
		f.until = now.Add(min(l.longest, firstWait<<min(f.count-l.free-1, 16)))
	}
}

// makeRoom forgets those who need not wait any more and, if they all have to,
// an eighth of them, whoever they are.
func makeRoom[K comparable](table map[K]*failures, now time.Time) {
	if len(table) < maxRemembered {
		return
	}
	for k, f := range table {
		if now.After(f.until) {
			delete(table, k)
		}
	}
	for k := range table {
		if len(table) <= maxRemembered*7/8 {
			return
		}
		delete(table, k)
	}
}
