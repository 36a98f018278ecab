package uplink

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// TestSalvageWaitsForSpace has no room on the disk for a copy of the damaged
// store; what is new goes out meanwhile.
func TestSalvageWaitsForSpace(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a[b]*") // no pattern
	q := openTestQueue(t, Options{Dir: dir})
	store(t, q, testMessage(5, 0))
	closeQueue(t, q)
	spoilManifest(t, dir)
	var space atomic.Uint64
	space.Store(1000)
	free := func(string) (uint64, error) { return space.Load(), nil }
	q = openTestQueue(t, Options{Dir: dir, MinFreeBytes: 1000, free: free, salvageAgain: time.Millisecond})
	if s := awaitSalvages(t, q); !errors.Is(s.SalvageError, ErrFull) || s.Salvaging || len(s.Salvaged) != 0 {
		t.Errorf("without space: got %+v and %v, expected %v", s.Salvaged, s.SalvageError, ErrFull)
	}
	store(t, q, testMessage(5, 1))
	q.Settle(next(t, q, 1)[0], Delivered)
	paths, err := quarantines(dir)
	if err != nil || len(paths) != 1 {
		t.Fatalf("got the quarantined stores %q and %v, expected one", paths, err)
	}
	spoil(t, filepath.Join(paths[0], totalsFile), 0, []byte("garbage")) // which keeps no record from being salvaged
	space.Store(1 << 40)
	eventually(t, "the salvage", func() bool { s := q.Stats(); return s.SalvageError == nil && len(s.Salvaged) == 1 })
	expectList(t, payloads(t, q, 1), "m0")
	expectSound(t, q)
	if a := q.Ledger()["r5"]; !a.Balanced() || a.Accepted.Records != 2 || a.Quarantined.Records != 0 {
		t.Errorf("account: %+v", a)
	}
}

// TestSalvageStopsAtTheFloor fills the disk while a damaged store is copied:
// below the floor a file that Badger maps could kill the process.
func TestSalvageStopsAtTheFloor(t *testing.T) {
	q := openTestQueue(t, Options{})
	store(t, q, testMessage(5, 0))
	db, err := badger.OpenManaged(badgerOptions(t.TempDir(), false, DefaultMaxBytes, badgerLog{log: q.opt.Logger}))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	other := openTestQueue(t, Options{MinFreeBytes: 1 << 62})
	if _, err := other.gather(context.Background(), db, filepath.Join(q.opt.Dir, "store")); !errors.Is(err, ErrFull) {
		t.Errorf("a copy below the floor: got %v, expected %v", err, ErrFull)
	}
	c := chain{queue: other}
	if err := c.keepDead(DeadLetter{Route: "r"}, Note{}); !errors.Is(err, ErrFull) {
		t.Errorf("a dead letter below the floor: got %v, expected %v", err, ErrFull)
	}
}

// TestAToolWatchesTheDisk fills the disk while a tool has the queue open.
func TestAToolWatchesTheDisk(t *testing.T) {
	var space atomic.Uint64
	space.Store(1 << 40)
	q := openTestQueue(t, Options{Inspect: true, MinFreeBytes: 1000, free: func(string) (uint64, error) { return space.Load(), nil }})
	store(t, q, testMessage(5, 0))
	space.Store(999)
	eventually(t, "a refusal", func() bool { return errors.Is(q.Enqueue(testMessage(5, 1), func(error) {}), ErrFull) })
}

// TestQuarantinesKeepTheirOrderWhenTheClockIsSetBack checks that the newest
// quarantined store is the last by name, since the copy of the totals is its.
func TestQuarantinesKeepTheirOrderWhenTheClockIsSetBack(t *testing.T) {
	dir, now := t.TempDir(), newClock()
	for i := range 3 {
		q := openTestQueue(t, Options{Dir: dir, Now: now.now})
		if i > 0 {
			awaitSalvage(t, q)
		}
		store(t, q, testMessage(5, i))
		closeQueue(t, q)
		spoilManifest(t, dir)
		now.advance(-time.Duration(i) * time.Hour) // at first not at all
	}
	q := openTestQueue(t, Options{Dir: dir, Now: now.now})
	awaitSalvage(t, q)
	paths, err := quarantines(dir)
	if err != nil || len(paths) != 3 || filepath.Join(dir, filepath.Base(q.quarantined)) != paths[2] {
		t.Errorf("got %q and %v, expected %s as the last of three", paths, err, q.quarantined)
	}
	expectSound(t, q)
	expectOnce(t, q, 3)
}

// TestSalvageLeavesWhatHadLeft salvages a store from which records have left
// above the watermark, and a dead letter.
func TestSalvageLeavesWhatHadLeft(t *testing.T) {
	dir := t.TempDir()
	q := openTestQueue(t, Options{Dir: dir})
	for i := range 6 {
		store(t, q, testMessage(3, i))
	}
	out := next(t, q, 4)
	q.Kill(out[3], "for the test")
	q.Settle(out[2], Delivered)
	q.Settle(out[1], Delivered)
	eventually(t, "the dead letter", func() bool { return len(q.DeadLetters()) == 1 })
	if err := q.DropDead(out[3].Seq); err != nil {
		t.Fatal(err)
	}
	closeQueue(t, q)
	spoilManifest(t, dir)
	q = openTestQueue(t, Options{Dir: dir})
	if s := awaitSalvage(t, q); s.Queued.Records != 3 || s.Unread != 0 || s.Dead.Records != 0 {
		t.Errorf("salvage: %+v, expected three records", s)
	}
	expectList(t, payloads(t, q, 3), "m0", "m4", "m5")
	expectSound(t, q)
}

// TestSalvageWithoutTheLastBlock damages the end of a table, where the name of
// the route is.
func TestSalvageWithoutTheLastBlock(t *testing.T) {
	const n = 100
	dir := t.TempDir()
	q := openTestQueue(t, Options{Dir: dir})
	fill(t, q, n, func(i int) Message { return testMessage(5, i) })
	closeQueue(t, q)
	spoilManifest(t, dir)
	tables, err := filepath.Glob(filepath.Join(dir, "store", "*.sst"))
	if err != nil || len(tables) != 1 {
		t.Fatalf("got the tables %q and %v, expected one", tables, err)
	}
	b, err := os.ReadFile(tables[0])
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, []byte("rr5"))
	if at < 0 {
		t.Fatal("the name of the route is not in the table")
	}
	spoil(t, tables[0], int64(at), []byte("zzzzzzzzzzzz"))
	q = openTestQueue(t, Options{Dir: dir})
	s := awaitSalvage(t, q)
	if s.Queued.Records < n-25 || len(s.Damaged) != 1 { // what is in one block is lost
		t.Errorf("salvage: %+v", s)
	}
	expectSound(t, q)
	for route, a := range q.Ledger() {
		if !a.Balanced() {
			t.Errorf("account of %s: %+v", route, a)
		}
	}
}

// TestSalvageGoesOnWhenThereIsSpaceAgain fills the disk in the middle of a
// salvage. When it goes on, streams are not held, and records get new places:
// only the note says which were queued already.
func TestSalvageGoesOnWhenThereIsSpaceAgain(t *testing.T) {
	const n = 20_000 // more than may wait for the disk
	dir := t.TempDir()
	q := openTestQueue(t, Options{Dir: dir, Unsynced: true})
	fill(t, q, n, func(i int) Message { return testMessage(1+i%3, i) })
	closeQueue(t, q)
	spoilManifest(t, dir)
	if err := os.Remove(filepath.Join(dir, totalsFile)); err != nil { // so that the old ledger is taken over, once
		t.Fatal(err)
	}
	var space atomic.Uint64
	var commits atomic.Int64
	space.Store(1 << 40)
	opened := make(chan *Queue, 1)
	q = openTestQueue(t, Options{
		Dir: dir, Unsynced: true, MinFreeBytes: 1000, salvageAgain: time.Millisecond,
		free: func(string) (uint64, error) { return space.Load(), nil },
		fault: func() error {
			if commits.Add(1) == 1 {
				q := <-opened
				space.Store(500)
				q.watchDisk()
			}
			return nil
		},
	})
	opened <- q
	eventually(t, "the disk's floor", func() bool { return errors.Is(q.Stats().SalvageError, ErrFull) })
	half := q.Depth().Records
	if half == 0 || half >= n {
		t.Fatalf("got %d records when the salvage was interrupted, expected some of %d", half, n)
	}
	seen := map[string]bool{}
	deliver := func(n int64) { // from the store too, so that only the note tells what was in it
		for range n {
			e := next(t, q, 1)[0]
			if seen[string(e.Payload)] {
				t.Fatalf("%s came twice", e.Payload)
			}
			seen[string(e.Payload)] = true
			q.Settle(e, Delivered)
		}
		eventually(t, "the store to be empty", func() bool { return q.Depth().Records == 0 })
	}
	deliver(half)
	space.Store(1 << 40)
	eventually(t, "the salvage", func() bool { return len(q.Stats().Salvaged) == 1 })
	expectSound(t, q)
	var accepted int64
	for route, a := range q.Ledger() {
		if accepted += a.Accepted.Records; !a.Balanced() || a.Quarantined.Records != 0 {
			t.Errorf("account of %s: %+v", route, a)
		}
	}
	if accepted != n {
		t.Errorf("the ledger says %d accepted, expected %d", accepted, n)
	}
	if got := q.Depth().Records; got != n-half {
		t.Errorf("got %d records after %d, expected %d", got, half, n-half)
	}
	deliver(n - half)
}

// TestSalvageKnowsWhatLeftByTheWatermark loses the deletion of a record.
func TestSalvageKnowsWhatLeftByTheWatermark(t *testing.T) {
	dir := t.TempDir()
	q := openTestQueue(t, Options{Dir: dir})
	for i := range 3 {
		store(t, q, testMessage(5, i))
	}
	e := next(t, q, 2)
	q.Settle(e[0], Delivered)
	q.Settle(e[1], Delivered)
	closeQueue(t, q)
	db, err := openBadger(badgerOptions(filepath.Join(dir, "store"), true, DefaultMaxBytes, badgerLog{log: q.opt.Logger}))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(func(txn *badger.Txn) error { return txn.Set(recordKey(e[1].stream.id, e[1].Seq), encodeRecord(e[1])) }), db.Close()); err != nil {
		t.Fatal(err)
	}
	spoilManifest(t, dir)
	q = openTestQueue(t, Options{Dir: dir})
	awaitSalvage(t, q)
	expectSound(t, q)
	if got := q.Depth().Records; got != 1 {
		t.Errorf("got %d records, expected the one that had not left", got)
	}
}

// TestSalvageMakesBacklogOfWhatWasLive checks that new messages of a by-lane
// route do not wait for salvaged ones.
func TestSalvageMakesBacklogOfWhatWasLive(t *testing.T) {
	dir, policies := t.TempDir(), map[string]Policy{"r5": {Order: ByLane}}
	q := openTestQueue(t, Options{Dir: dir, Policies: policies})
	q.SetOnline(true)
	store(t, q, testMessage(5, 0))
	closeQueue(t, q)
	spoilManifest(t, dir)
	q = openTestQueue(t, Options{Dir: dir, Policies: policies})
	awaitSalvage(t, q)
	if streams, err := q.Streams(); err != nil || len(streams) != 1 || streams[0].Class != "backlog" {
		t.Errorf("got %+v and %v, expected a backlog", streams, err)
	}
}

// TestWhatIsSalvagedLateComesLast adds an old record to a stream that is not
// held: the reader, who takes new ones from memory, has to see it.
func TestWhatIsSalvagedLateComesLast(t *testing.T) {
	q := openTestQueue(t, Options{})
	store(t, q, testMessage(3, 0))
	q.Settle(next(t, q, 1)[0], Delivered)
	q.mu.Lock()
	q.seq += 100
	q.mu.Unlock()
	store(t, q, testMessage(3, 1))
	c := chain{queue: q, recovered: true}
	if err := c.add(context.Background(), Entry{Message: testMessage(3, 2), Seq: 50, Accepted: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if err := c.wait(); err != nil {
		t.Fatal(err)
	}
	expectList(t, payloads(t, q, 2), "m1", "m2")
}

// TestWhatIsSalvagedInTimeComesFirst adds an old record to a stream that is
// held, behind a new one.
func TestWhatIsSalvagedInTimeComesFirst(t *testing.T) {
	dir := t.TempDir()
	q := openTestQueue(t, Options{Dir: dir})
	q.mu.Lock()
	q.seq, q.salvaging = 100, true
	q.mu.Unlock()
	store(t, q, testMessage(3, 1))
	if entries, err := q.take(Want{Max: 1, History: 1}); err != nil || len(entries) > 0 {
		t.Errorf("a stream that is held gave %+v and %v", entries, err)
	}
	c := chain{queue: q, recovered: true}
	if err := c.add(context.Background(), Entry{Message: testMessage(3, 0), Seq: 50, Accepted: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if err := c.wait(); err != nil {
		t.Fatal(err)
	}
	q.release()
	expectSound(t, q)
	if e := next(t, q, 2); len(e) != 2 || string(e[0].Payload) != "m0" || string(e[1].Payload) != "m1" {
		t.Errorf("got %+v, expected the old one and then the new one", e)
	}
	closeQueue(t, q)
	q = openTestQueue(t, Options{Dir: dir})
	expectList(t, payloads(t, q, 2), "m0", "m1")
}

// TestSalvageAfterWhatIsNewHasLeft salvages at a later start, when the old
// places of the records are below the watermark.
func TestSalvageAfterWhatIsNewHasLeft(t *testing.T) {
	dir := t.TempDir()
	q := openTestQueue(t, Options{Dir: dir})
	store(t, q, testMessage(5, 0))
	closeQueue(t, q)
	spoilManifest(t, dir)
	full := func(string) (uint64, error) { return 1000, nil } // no space for a salvage
	q = openTestQueue(t, Options{Dir: dir, MinFreeBytes: 1000, free: full})
	awaitSalvages(t, q)
	store(t, q, testMessage(5, 1))
	q.Settle(next(t, q, 1)[0], Delivered)
	closeQueue(t, q)
	q = openTestQueue(t, Options{Dir: dir})
	awaitSalvage(t, q)
	expectSound(t, q)
	expectList(t, payloads(t, q, 1), "m0")
}

// TestSalvageStopsAtTheBound has room for some of what is in a damaged store.
func TestSalvageStopsAtTheBound(t *testing.T) {
	dir := t.TempDir()
	q := openTestQueue(t, Options{Dir: dir})
	for i := range 10 {
		store(t, q, testMessage(5, i))
	}
	closeQueue(t, q)
	spoilManifest(t, dir)
	q = openTestQueue(t, Options{Dir: dir, Policies: map[string]Policy{"r5": {MaxRecords: 4, Overflow: Reject}}})
	if s := awaitSalvage(t, q); s.Queued.Records != 4 || s.Left.Records != 6 {
		t.Errorf("salvage: %+v, expected four and six that are left", s)
	}
	expectList(t, payloads(t, q, 4), "m0", "m1", "m2", "m3")
	if a := q.Ledger()["r5"]; !a.Balanced() || a.Quarantined.Records != 6 || a.Evicted.Records != 0 {
		t.Errorf("account: %+v", a)
	}
}

// TestAChainThatFailedTakesNothing checks that what comes after a failure is
// not stored behind it.
func TestAChainThatFailedTakesNothing(t *testing.T) {
	c := chain{queue: openTestQueue(t, Options{}), failed: errors.New("for the test")}
	if err := c.add(context.Background(), Entry{Message: testMessage(3, 0)}); !errors.Is(err, c.failed) {
		t.Errorf("got %v, expected %v", err, c.failed)
	}
}
