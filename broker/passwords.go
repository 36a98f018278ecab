package broker

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net/netip"
	"sync"
	"time"

	"outstation/broker/access"
)

// Bounds of the work that logins make.
const (
	// maxHashing is how many passwords are checked at a time; each takes the
	// memory that its hash says.
	maxHashing = 2
	// maxWaitingLogins is how many may wait for that, and maxWaitingHere how
	// many of them from one address.
	maxWaitingLogins = 2048
	maxWaitingHere   = 1024
	// hashingWait is how long one may wait.
	hashingWait = 10 * time.Second
	// maxVerified bounds the logins that are remembered.
	maxVerified = 16384
)

// errBusy says that too many logins wait.
var errBusy = errors.New("too many logins wait")

// passwords checks logins. A password that was right is remembered, under a
// key that lives only in this process, so that a thousand devices that come
// back at once are let in at once. One address has one password checked at a
// time, whatever it sends. Its methods may be called from any goroutine.
type passwords struct {
	secret  [32]byte
	hashing chan struct{}
	decoy   func() (access.Hash, error) // for names that nobody has

	mu       sync.Mutex
	verified map[[32]byte]struct{}
	queues   map[netip.Addr]*loginQueue
	waiting  int
}

// loginQueue is the logins of one address that wait or are being checked.
type loginQueue struct {
	turn chan struct{}
	len  int
}

func newPasswords() *passwords {
	p := &passwords{hashing: make(chan struct{}, maxHashing), verified: map[[32]byte]struct{}{}, queues: map[netip.Addr]*loginQueue{}}
	_, _ = rand.Read(p.secret[:]) // it never fails
	p.decoy = sync.OnceValues(func() (access.Hash, error) { return access.NewHash(p.secret[:]) })
	return p
}

// known reports whether a password was found right before.
func (p *passwords) known(name string, hash access.Hash, password []byte) bool {
	key := p.key(name, hash, password)
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.verified[key]
	return ok
}

// remember keeps a login that was right.
func (p *passwords) remember(name string, hash access.Hash, password []byte) {
	key := p.key(name, hash, password)
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := range p.verified {
		if len(p.verified) < maxVerified {
			break
		}
		delete(p.verified, k) // any one
	}
	p.verified[key] = struct{}{}
}

// forget forgets all logins.
func (p *passwords) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.verified)
}

// key stands for a login without giving the password away.
func (p *passwords) key(name string, hash access.Hash, password []byte) (key [32]byte) {
	mac := hmac.New(sha256.New, p.secret[:])
	for _, part := range [][]byte{[]byte(name), []byte(hash.Text()), password} {
		_ = binary.Write(mac, binary.BigEndian, uint64(len(part))) // a hash takes everything
		mac.Write(part)
	}
	mac.Sum(key[:0])
	return key
}

// inTurn runs check when it is the turn of a login from address, or returns
// errBusy without.
func (p *passwords) inTurn(address netip.Addr, stop <-chan struct{}, check func()) error {
	q, err := p.join(address)
	if err != nil {
		return err
	}
	defer p.leave(address, q)
	timer := time.NewTimer(hashingWait)
	defer timer.Stop()
	for _, slot := range []chan struct{}{q.turn, p.hashing} {
		select {
		case slot <- struct{}{}:
			defer func() { <-slot }()
		case <-timer.C:
			return errBusy
		case <-stop:
			return errBusy
		}
	}
	check()
	return nil
}

func (p *passwords) join(address netip.Addr) (*loginQueue, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.queues[address]
	if q == nil {
		q = &loginQueue{turn: make(chan struct{}, 1)}
	}
	if p.waiting >= maxWaitingLogins || q.len >= maxWaitingHere {
		return nil, errBusy
	}
	p.queues[address] = q
	q.len++
	p.waiting++
	return q, nil
}

func (p *passwords) leave(address netip.Addr, q *loginQueue) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting--
	if q.len--; q.len == 0 {
		delete(p.queues, address)
	}
}

// verify checks a password. A name that nobody has, and a hash that is cheaper
// than a new one, take as long as any other, so that the time does not tell
// which names exist.
func (p *passwords) verify(hash access.Hash, exists bool, password []byte) bool {
	ok := exists && hash.Verify(password)
	if !ok && (!exists || !hash.Strong()) {
		if decoy, err := p.decoy(); err == nil {
			decoy.Verify(password)
		}
	}
	return ok
}
