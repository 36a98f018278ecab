package uplink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// awaitSalvages waits until nothing is being salvaged.
func awaitSalvages(t *testing.T, q *Queue) QueueStats {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := q.AwaitSalvage(ctx); err != nil {
		t.Fatal(err)
	}
	return q.Stats()
}

// expectSound fails the test unless the store and the ledger say the same.
func expectSound(t *testing.T, q *Queue) {
	t.Helper()
	r, err := q.Check(context.Background())
	if err != nil || len(r.Problems) > 0 {
		t.Errorf("the store: %v, %q", err, r.Problems)
	}
}

// expectOnce drains a queue and fails the test unless it holds m0 to m(n-1),
// each once.
func expectOnce(t *testing.T, q *Queue, n int) {
	t.Helper()
	if got := q.Depth().Records; got != int64(n) {
		t.Errorf("got %d records, expected %d", got, n)
		return
	}
	seen := map[string]bool{}
	for len(seen) < n {
		for _, e := range next(t, q, 1000) {
			if seen[string(e.Payload)] {
				t.Fatalf("%s came twice", e.Payload)
			}
			seen[string(e.Payload)] = true
		}
	}
	for i := range n {
		if !seen[fmt.Sprintf("m%d", i)] {
			t.Fatalf("m%d is lost", i)
		}
	}
}

// TestSalvageOfASecondWreck damages the store into which a first one was being
// salvaged: both hold the same records.
func TestSalvageOfASecondWreck(t *testing.T) {
	const n = 15_000
	dir, now := t.TempDir(), newClock()
	q := openTestQueue(t, Options{Dir: dir, Unsynced: true, Now: now.now})
	store(t, q, Message{Route: "dead", Lane: 10, Topic: "t"})
	q.Kill(next(t, q, 1)[0], "for the test")
	fill(t, q, n, func(i int) Message { return testMessage(1+i%3, i) })
	closeQueue(t, q)
	spoilManifest(t, dir)
	now.advance(time.Second)
	var commits atomic.Int64
	reached, release := make(chan struct{}), make(chan struct{})
	openTestQueue(t, Options{Dir: dir, Unsynced: true, Now: now.now, fault: func() error {
		if commits.Add(1) == 5 {
			close(reached)
			<-release
		}
		return nil
	}})
	<-reached
	dir = killed(t, dir)
	close(release)
	spoilManifest(t, dir)
	now.advance(time.Second)
	q = openTestQueue(t, Options{Dir: dir, Unsynced: true, Now: now.now})
	if s := awaitSalvages(t, q); s.SalvageError != nil || len(s.Salvaged) != 2 {
		t.Fatalf("salvage: got %+v and %v, expected two", s.Salvaged, s.SalvageError)
	}
	expectSound(t, q)
	expectOnce(t, q, n)
	if d := q.DeadLetters(); len(d) != 1 {
		t.Errorf("dead letters: %+v", d)
	}
	for route, a := range q.Ledger() {
		if !a.Balanced() || a.Quarantined.Records != 0 {
			t.Errorf("account of %s: %+v", route, a)
		}
	}
}

// TestDeadLettersOfTwoWrecks salvages one dead letter out of two stores.
func TestDeadLettersOfTwoWrecks(t *testing.T) {
	dir, now := t.TempDir(), newClock()
	q := openTestQueue(t, Options{Dir: dir, Now: now.now})
	store(t, q, testMessage(5, 0))
	q.Kill(next(t, q, 1)[0], "for the test")
	closeQueue(t, q)
	spoilManifest(t, dir)
	now.advance(time.Second)
	q = openTestQueue(t, Options{Dir: dir, Now: now.now})
	s := awaitSalvage(t, q)
	closeQueue(t, q)
	if err := os.Remove(filepath.Join(dir, s.Dir, salvageFile)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, totalsFile)); err != nil { // it said that the first one is done
		t.Fatal(err)
	}
	spoilManifest(t, dir)
	now.advance(time.Second)
	q = openTestQueue(t, Options{Dir: dir, Now: now.now})
	if s := awaitSalvages(t, q); len(s.Salvaged) != 2 || s.DeadLetters != 1 {
		t.Errorf("got %+v and %d dead letters, expected two salvages and one letter", s.Salvaged, s.DeadLetters)
	}
	expectSound(t, q)
}

// TestANewStoreIsCopiedAtOnce checks that a kill soon after a quarantine does
// not give the next store the sequence numbers of this one.
func TestANewStoreIsCopiedAtOnce(t *testing.T) {
	dir := t.TempDir()
	q := openTestQueue(t, Options{Dir: dir})
	store(t, q, testMessage(5, 0))
	closeQueue(t, q)
	spoilManifest(t, dir)
	release := make(chan struct{})
	q = openTestQueue(t, Options{Dir: dir, fault: func() error { <-release; return nil }})
	defer close(release)
	copied, err := readTotals(dir)
	if err != nil || copied.LastSeq < q.LastSequence() {
		t.Errorf("the copy says %d and %v, the new store has begun with %d", copied.LastSeq, err, q.LastSequence())
	}
}

// failOnce is a fault of one commit. The first commit waits until ready.
func failOnce(at int64, ready <-chan struct{}) func() error {
	var commits atomic.Int64
	return func() error {
		n := commits.Add(1)
		if n == 1 {
			<-ready
		}
		if n == at {
			return errors.New("for the test")
		}
		return nil
	}
}

// failingQueue opens a queue of which one commit fails. The first commit waits
// until n records are queued or pending.
func failingQueue(t *testing.T, dir string, at int64, n int) *Queue {
	t.Helper()
	ready := make(chan struct{})
	q := openTestQueue(t, Options{Dir: dir, Unsynced: true, fault: failOnce(at, ready)})
	go func() {
		defer close(ready)
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			q.mu.Lock()
			load := q.total.Records
			q.mu.Unlock()
			if load >= int64(n) {
				return
			}
		}
	}()
	return q
}

// TestSalvageComesBackToWhatFailed lets one commit of a salvage fail: what
// comes behind it must not be noted as if it had not.
func TestSalvageComesBackToWhatFailed(t *testing.T) {
	for name, n := range map[string]int{"in the middle": 5000, "before the dead letter": 100} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			q := openTestQueue(t, Options{Dir: dir, Unsynced: true})
			store(t, q, Message{Route: "dead", Lane: 10, Topic: "t"})
			q.Kill(next(t, q, 1)[0], "for the test")
			fill(t, q, n, func(i int) Message { return testMessage(1+i%3, i) })
			closeQueue(t, q)
			spoilManifest(t, dir)
			q = failingQueue(t, dir, 1, n)
			if s := awaitSalvages(t, q); s.SalvageError == nil {
				t.Fatalf("got %+v, expected the failure", s.Salvaged)
			}
			closeQueue(t, q)
			q = openTestQueue(t, Options{Dir: dir, Unsynced: true})
			awaitSalvages(t, q)
			expectSound(t, q)
			expectOnce(t, q, n)
			if d := q.DeadLetters(); len(d) != 1 {
				t.Errorf("dead letters: %+v", d)
			}
		})
	}
}

// TestImportComesBackToWhatFailed is the same for an import.
func TestImportComesBackToWhatFailed(t *testing.T) {
	for name, n := range map[string]int{"in the middle": 5000, "before the dead letter": 100} {
		t.Run(name, func(t *testing.T) {
			other := openTestQueue(t, Options{Unsynced: true})
			store(t, other, Message{Route: "dead", Lane: 10, Topic: "t"})
			other.Kill(next(t, other, 1)[0], "for the test")
			fill(t, other, n, func(i int) Message { return testMessage(1+i%3, i) })
			eventually(t, "the dead letter", func() bool { return len(other.DeadLetters()) == 1 })
			var b bytes.Buffer
			if _, _, err := other.Export(context.Background(), &b); err != nil {
				t.Fatal(err)
			}
			q := failingQueue(t, "", 1, n)
			if done, err := q.Import(context.Background(), bytes.NewReader(b.Bytes())); err == nil {
				t.Fatalf("got %+v, expected the failure", done)
			}
			if _, err := q.Import(context.Background(), bytes.NewReader(b.Bytes())); err != nil {
				t.Fatal(err)
			}
			expectSound(t, q)
			expectOnce(t, q, n)
			if d := q.DeadLetters(); len(d) != 1 {
				t.Errorf("dead letters: %+v", d)
			}
		})
	}
}

// TestTwoImportsOfOneExport starts an import while another is under way.
func TestTwoImportsOfOneExport(t *testing.T) {
	b := exported(t)
	reached, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	q := openTestQueue(t, Options{fault: func() error {
		once.Do(func() { close(reached); <-release })
		return nil
	}})
	first := make(chan error, 1)
	go func() {
		_, err := q.Import(context.Background(), bytes.NewReader(b))
		first <- err
	}()
	<-reached
	second := make(chan error, 1)
	go func() {
		_, err := q.Import(context.Background(), bytes.NewReader(b))
		second <- err
	}()
	select {
	case err := <-second:
		if !errors.Is(err, ErrBusy) {
			t.Errorf("a second import: got %v, expected %v", err, ErrBusy)
		}
	case <-time.After(time.Minute):
		t.Error("a second import waits")
	}
	close(release)
	if err := <-first; err != nil {
		t.Error(err)
	}
	if got := q.Depth().Records; got != 62 {
		t.Errorf("got %d records, expected 62 once", got)
	}
}

// TestASalvagedStoreIsNotSalvagedAgain loses the copy of the totals, in which
// it is noted that a store was salvaged.
func TestASalvagedStoreIsNotSalvagedAgain(t *testing.T) {
	dir, now := t.TempDir(), newClock()
	q := openTestQueue(t, Options{Dir: dir, Now: now.now})
	store(t, q, testMessage(5, 0))
	closeQueue(t, q)
	spoilManifest(t, dir)
	now.advance(time.Second)
	q = openTestQueue(t, Options{Dir: dir, Now: now.now})
	awaitSalvage(t, q)
	q.Settle(next(t, q, 1)[0], Delivered)
	store(t, q, testMessage(5, 1))
	last := q.LastSequence()
	closeQueue(t, q)
	if err := os.Remove(filepath.Join(dir, totalsFile)); err != nil {
		t.Fatal(err)
	}
	spoilManifest(t, dir)
	now.advance(time.Second)
	q = openTestQueue(t, Options{Dir: dir, Now: now.now})
	awaitSalvage(t, q)
	if got := q.LastSequence(); got <= last {
		t.Errorf("sequence numbers go on from %d, expected more than %d", got, last)
	}
	expectList(t, payloads(t, q, int(q.Depth().Records)), "m1")
}

// TestAToolKeepsTheTotalsOfABlankStore looks into a queue that was killed
// between the move of its damaged store and the first commit of a new one.
func TestAToolKeepsTheTotalsOfABlankStore(t *testing.T) {
	dir := t.TempDir()
	q := openTestQueue(t, Options{Dir: dir})
	store(t, q, testMessage(5, 0))
	if err := q.SetNote(Note{"other", 7}); err != nil {
		t.Fatal(err)
	}
	closeQueue(t, q)
	storeDir := filepath.Join(dir, "store")
	if err := os.Rename(storeDir, filepath.Join(dir, "store.quarantine-20260101T000000.000")); err != nil {
		t.Fatal(err)
	}
	db, err := openBadger(badgerOptions(storeDir, true, DefaultMaxBytes, badgerLog{log: q.opt.Logger}))
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	closeQueue(t, openTestQueue(t, Options{Dir: dir, Inspect: true}))
	q = openTestQueue(t, Options{Dir: dir})
	awaitSalvage(t, q)
	if a := q.Ledger()["r5"]; a.Accepted.Records != 1 || a.Queued.Records != 1 || q.Note("other") != 7 {
		t.Errorf("account: %+v, note: %d", a, q.Note("other"))
	}
}

// TestTotalsAreCopiedByManyAtOnce copies them as a note and the clock do.
func TestTotalsAreCopiedByManyAtOnce(t *testing.T) {
	q := openTestQueue(t, Options{Unsynced: true})
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 20 {
				if err := q.SetNote(Note{fmt.Sprintf("note%d", i), uint64(j)}); err != nil {
					t.Error(err)
				}
				if err := q.Stats().TotalsError; err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	copied, err := readTotals(q.opt.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		if got := copied.Notes[fmt.Sprintf("note%d", i)]; got != 19 {
			t.Errorf("note %d: the copy says %d, expected 19", i, got)
		}
	}
}

// TestNothingIsEvictedWhileStreamsAreHeld reaches the bound during a salvage:
// what would go first cannot be seen yet.
func TestNothingIsEvictedWhileStreamsAreHeld(t *testing.T) {
	q := openTestQueue(t, Options{MaxRecords: 40, Policies: map[string]Policy{"r8": {Order: ByLane}}})
	q.SetOnline(true)
	for i := range 20 {
		store(t, q, testMessage(1, i))
		store(t, q, testMessage(8, i))
	}
	q.mu.Lock()
	q.salvaging = true
	q.mu.Unlock()
	if err := q.Enqueue(testMessage(8, 20), func(error) {}); !errors.Is(err, ErrBusy) {
		t.Errorf("at the bound: got %v, expected %v", err, ErrBusy)
	}
	q.evict()
	if a := q.Ledger()["r8"]; q.Depth().Records != 40 || a.Evicted.Records != 0 {
		t.Errorf("%d records are left, account: %+v", q.Depth().Records, a)
	}
	q.release()
	eventually(t, "room", func() bool { return q.Enqueue(testMessage(8, 21), func(error) {}) == nil })
	eventually(t, "the lowest lane to give way", func() bool { return q.Ledger()["r1"].Evicted.Records > 0 })
	if a := q.Ledger()["r8"]; a.Evicted.Records != 0 {
		t.Errorf("account: %+v", a)
	}
}
