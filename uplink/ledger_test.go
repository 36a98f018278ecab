package uplink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"
)

// ledgerModel drives a queue at random and knows what was accepted.
type ledgerModel struct {
	t        *testing.T
	rnd      *rand.Rand
	clock    *clock
	dir      string
	queue    *Queue
	out      []Entry // handed out, unsettled
	accepted int
}

func (m *ledgerModel) open() {
	m.out = nil
	m.queue = openTestQueue(m.t, Options{
		Dir: m.dir, Now: m.clock.now, MaxRecords: 400, MaxDeadBytes: 200,
		Policies: map[string]Policy{
			"r1": {MaxRecords: 20}, "r2": {MaxAge: time.Hour}, "r3": {KeepLast: true},
			"r4": {Order: ByLane}, "r5": {MaxBytes: 200, Overflow: Reject},
		},
	})
}

// crash goes on with a copy of the directory, as a kill leaves it.
func (m *ledgerModel) crash() {
	m.kill()
	m.open()
}

func (m *ledgerModel) kill() {
	m.queue.committing.Lock()
	to := killed(m.t, m.dir)
	m.queue.committing.Unlock()
	closeQueue(m.t, m.queue)
	m.dir = to
}

func (m *ledgerModel) produce() {
	for range m.rnd.IntN(20) {
		done := make(chan error, 1)
		msg := testMessage(1+m.rnd.IntN(10), m.rnd.Int())
		msg.Retain = m.rnd.IntN(4) == 0
		switch err := m.queue.Enqueue(msg, func(err error) { done <- err }); {
		case errors.Is(err, ErrBusy), errors.Is(err, ErrFull):
		case err != nil:
			m.t.Fatal(err)
		default:
			if err := <-done; err != nil {
				m.t.Fatal(err)
			}
			m.accepted++
		}
	}
}

func (m *ledgerModel) consume() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	entries, err := m.queue.Next(ctx, Want{Max: 1 + m.rnd.IntN(50), History: 50})
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		m.t.Fatal(err)
	}
	m.out = append(m.out, entries...)
}

func (m *ledgerModel) settle() {
	for len(m.out) > 0 && m.rnd.IntN(8) > 0 {
		i := m.rnd.IntN(len(m.out))
		if m.rnd.IntN(4) == 0 {
			m.queue.Kill(m.out[i], "test")
		} else {
			m.queue.Settle(m.out[i], Delivered)
		}
		m.out = append(m.out[:i], m.out[i+1:]...)
	}
}

func (m *ledgerModel) deadLetters() {
	for _, d := range m.queue.DeadLetters() {
		change := []func(uint64) error{m.queue.Retry, m.queue.DropDead}[m.rnd.IntN(2)]
		if err := change(d.ID); err != nil && !errors.Is(err, ErrNoDeadLetter) {
			m.t.Fatal(err)
		}
	}
}

func (m *ledgerModel) purge() {
	route := fmt.Sprintf("r%d", 1+m.rnd.IntN(10))
	if _, err := m.queue.Purge(context.Background(), route, time.Time{}); err != nil {
		m.t.Fatal(err)
	}
}

// reimport queues a few records of another box.
func (m *ledgerModel) reimport() {
	other := openTestQueue(m.t, Options{Unsynced: true})
	for i := range 5 {
		store(m.t, other, testMessage(6, i))
	}
	var b bytes.Buffer
	if _, _, err := other.Export(context.Background(), &b); err != nil {
		m.t.Fatal(err)
	}
	done, err := m.queue.Import(context.Background(), &b)
	if err != nil && !errors.Is(err, ErrFull) {
		m.t.Fatal(err)
	}
	m.accepted += int(done.Queued.Records)
}

// damage makes the store one that has to be quarantined, and awaits its
// salvage.
func (m *ledgerModel) damage() {
	if m.rnd.IntN(2) == 0 {
		m.kill() // the copy of the totals is old
	} else {
		closeQueue(m.t, m.queue)
	}
	spoilManifest(m.t, m.dir)
	m.clock.advance(time.Second) // the quarantine is named after it
	m.open()
	eventually(m.t, "the end of the salvage", func() bool { return !m.queue.Stats().Salvaging })
	if err := m.queue.Stats().SalvageError; err != nil {
		m.t.Fatal(err)
	}
}

// TestLedgerStaysExact drives random operations with crashes, and checks the
// equation and the store's content after each restart.
func TestLedgerStaysExact(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	m := &ledgerModel{t: t, rnd: rand.New(rand.NewPCG(seed, 2)), clock: newClock(), dir: filepath.Join(t.TempDir(), "queue")}
	m.open()
	for range 400 {
		switch m.rnd.IntN(24) {
		case 0:
			m.crash()
			m.check()
		case 1:
			closeQueue(t, m.queue)
			m.open()
			m.check()
		case 2:
			m.deadLetters()
		case 3:
			m.purge()
		case 4:
			m.clock.advance(time.Duration(m.rnd.IntN(90)) * time.Minute)
		case 5:
			m.queue.SetOnline(m.rnd.IntN(2) == 0)
		case 6:
			if m.rnd.IntN(4) == 0 {
				m.reimport()
			}
		case 7:
			if m.rnd.IntN(8) == 0 {
				m.damage()
				m.check()
			}
		case 8, 9, 10, 11:
			m.consume()
		case 12, 13, 14, 15:
			m.settle()
		default:
			m.produce()
		}
	}
	m.crash()
	m.check()
}

// check holds the ledger against the store and against what was accepted.
func (m *ledgerModel) check() {
	m.t.Helper()
	m.queue.reading.Lock() // so that nothing is evicted meanwhile
	r, err := m.queue.Check(context.Background())
	m.queue.reading.Unlock()
	if err != nil || len(r.Problems) > 0 {
		m.t.Fatalf("the store: %v, %q", err, r.Problems)
	}
	var sum int64
	for route, a := range m.queue.Ledger() {
		if sum += a.Accepted.Records; !a.Balanced() {
			m.t.Fatalf("route %s does not balance: %+v", route, a)
		}
	}
	if sum != int64(m.accepted) {
		m.t.Fatalf("accepted %d, the ledger says %d", m.accepted, sum)
	}
}
