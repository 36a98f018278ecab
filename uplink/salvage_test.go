package uplink

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// spoil overwrites part of a file of a closed store.
func spoil(t *testing.T, path string, at int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// spoilManifest makes a closed store one that does not open.
func spoilManifest(t *testing.T, dir string) {
	t.Helper()
	spoil(t, filepath.Join(dir, "store", "MANIFEST"), 0, []byte("garbage"))
}

func closeQueue(t *testing.T, q *Queue) {
	t.Helper()
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
}

// awaitSalvage waits for the end of the salvage and returns its outcome.
func awaitSalvage(t *testing.T, q *Queue) Salvage {
	t.Helper()
	eventually(t, "the end of the salvage", func() bool { return !q.Stats().Salvaging })
	s := q.Stats()
	if s.SalvageError != nil || len(s.Salvaged) != 1 {
		t.Fatalf("salvage: got %+v and %v, expected one", s.Salvaged, s.SalvageError)
	}
	return s.Salvaged[0]
}

func TestSalvageQueuesAQuarantinedStoreAgainBeforeWhatIsNew(t *testing.T) {
	dir := t.TempDir()
	policies := map[string]Policy{"r5": {Order: ByLane}}
	q := openTestQueue(t, Options{Dir: dir, Policies: policies})
	for i := range 40 {
		store(t, q, testMessage(3, i))
		store(t, q, testMessage(5, i))
	}
	large := testMessage(9, 0)
	large.Payload = make([]byte, MaxMessageBytes-100) // in the value log
	large.Payload[77] = 77
	store(t, q, large)
	for _, e := range next(t, q, 11) { // the large one and ten of lane 3; what waits by lane is history
		q.Settle(e, Delivered)
	}
	dead := next(t, q, 1)[0]
	q.Kill(dead, "for the test")
	if err := q.SetNote(Note{CounterPrefix + "cam", 81}); err != nil {
		t.Fatal(err)
	}
	if err := q.SetNote(Note{"other", 7}); err != nil {
		t.Fatal(err)
	}
	store(t, q, large)
	closeQueue(t, q)
	spoilManifest(t, dir)

	q = openTestQueue(t, Options{Dir: dir, Policies: policies})
	store(t, q, testMessage(3, 1000)) // waits behind the salvaged ones of its route
	s := awaitSalvage(t, q)
	if s.Queued.Records != 40+29+1 || s.Dead.Records != 1 || s.Unread != 0 || len(s.Damaged) != 0 {
		t.Errorf("salvage: %+v", s)
	}
	got := map[int][]string{}
	for range 71 {
		e := next(t, q, 1)[0]
		if e.Lane == 9 {
			if len(e.Payload) != len(large.Payload) || e.Payload[77] != 77 {
				t.Error("the large message came back changed")
			}
			continue
		}
		got[e.Lane] = append(got[e.Lane], string(e.Payload))
	}
	want := map[int][]string{}
	for i := range 40 {
		want[5] = append(want[5], fmt.Sprintf("m%d", i))
		if i > 10 {
			want[3] = append(want[3], fmt.Sprintf("m%d", i))
		}
	}
	expectList(t, got[3], append(want[3], "m1000")...)
	expectList(t, got[5], want[5]...)
	if d := q.DeadLetters(); len(d) != 1 || d[0].Reason != "for the test" {
		t.Errorf("dead letters: %+v", d)
	}
	for route, want := range map[string]int64{"r3": 41, "r5": 40, "r9": 2} {
		if a := q.Ledger()[route]; !a.Balanced() || a.Accepted.Records != want || a.Quarantined.Records != 0 {
			t.Errorf("account of %s: %+v, expected %d accepted", route, a, want)
		}
	}
	if c, o := q.Note(CounterPrefix+"cam"), q.Note("other"); c <= 81 || o != 7 {
		t.Errorf("notes: got a counter of %d and another of %d, expected more than 81 and 7", c, o)
	}
	if _, err := os.Stat(filepath.Join(dir, s.Dir, salvageFile)); err != nil {
		t.Errorf("the outcome is not kept: %v", err)
	}
}

// TestSalvageReadsAroundDamage spoils one place in every file of a store.
func TestSalvageReadsAroundDamage(t *testing.T) {
	const n = 60_000
	dir := t.TempDir()
	q := openTestQueue(t, Options{Dir: dir, Unsynced: true})
	fill(t, q, n, func(i int) Message {
		m := testMessage(5, i)
		m.Payload = fmt.Appendf(nil, "%0200d", i)
		return m
	})
	dir = killed(t, dir) // with its write-ahead logs
	closeQueue(t, q)
	spoilManifest(t, dir)
	tables, logs := 0, 0
	files, err := os.ReadDir(filepath.Join(dir, "store"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		path := filepath.Join(dir, "store", f.Name())
		switch filepath.Ext(path) {
		case ".sst":
			tables++
			spoil(t, path, 100_000, []byte("garbage"))
		case ".mem":
			logs++
			spoil(t, path, 50_000, []byte("garbage"))
		}
	}
	if tables == 0 || logs == 0 {
		t.Fatalf("got %d tables and %d logs, expected some of each", tables, logs)
	}
	q = openTestQueue(t, Options{Dir: dir, Unsynced: true})
	s := awaitSalvage(t, q)
	// A block of a table has 4 KiB, some twenty records; of a log one record is lost.
	lost, most := n-s.Queued.Records, int64(25*tables+2*logs)
	if lost <= 0 || lost > most || len(s.Damaged) != tables+logs {
		t.Errorf("lost %d records of %d, expected some and at most %d; damaged files: %q", lost, n, most, s.Damaged)
	}
	if a := q.Ledger()["r5"]; !a.Balanced() || a.Accepted.Records != n || a.Quarantined.Records != lost {
		t.Errorf("account: %+v, expected %d quarantined", a, lost)
	}
}

// killed copies the directory of a running queue, in which nothing is being
// committed, as a kill would leave it: the page cache is what a later process
// reads. Badger may compact meanwhile; then it copies again.
func killed(t *testing.T, dir string) string {
	t.Helper()
	list := func() string {
		b, err := os.ReadFile(filepath.Join(dir, "store", "MANIFEST"))
		if err != nil {
			t.Fatal(err)
		}
		files, err := os.ReadDir(filepath.Join(dir, "store"))
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(files, string(b))
	}
	var to string
	eventually(t, "a copy of one moment", func() bool {
		to = filepath.Join(t.TempDir(), "queue")
		before := list()
		return os.CopyFS(to, os.DirFS(dir)) == nil && list() == before
	})
	return to
}

// TestSalvageGoesOnAfterAKill copies the directory in the middle of a salvage
// and goes on with the copy.
func TestSalvageGoesOnAfterAKill(t *testing.T) {
	const n = 15_000
	dir := t.TempDir()
	q := openTestQueue(t, Options{Dir: dir, Unsynced: true})
	fill(t, q, n, func(i int) Message { return testMessage(1+i%3, i) })
	closeQueue(t, q)
	spoilManifest(t, dir)
	var commits atomic.Int64
	reached, release := make(chan struct{}), make(chan struct{})
	q = openTestQueue(t, Options{Dir: dir, Unsynced: true, fault: func() error {
		if commits.Add(1) == 5 {
			close(reached)
			<-release
		}
		return nil
	}})
	<-reached
	half := q.Depth().Records
	dir = killed(t, dir)
	close(release)
	if half == 0 || half >= n {
		t.Fatalf("got %d records when the salvage was interrupted, expected some of %d", half, n)
	}
	q = openTestQueue(t, Options{Dir: dir, Unsynced: true})
	awaitSalvage(t, q)
	if got := q.Depth().Records; got != n {
		t.Errorf("after going on from %d: got %d records, expected %d", half, got, n)
	}
	last := map[int]int{}
	for got := 0; got < n; {
		for _, e := range next(t, q, 1000) {
			var i int
			if _, err := fmt.Sscanf(string(e.Payload), "m%d", &i); err != nil || i < last[e.Lane] {
				t.Fatalf("lane %d: got %q after m%d", e.Lane, e.Payload, last[e.Lane])
			}
			last[e.Lane] = i
			got++
		}
	}
	for route, a := range q.Ledger() {
		if !a.Balanced() || a.Quarantined.Records != 0 {
			t.Errorf("account of %s: %+v", route, a)
		}
	}
}

// TestTotalsOutliveTheStore removes a store altogether.
func TestTotalsOutliveTheStore(t *testing.T) {
	dir := t.TempDir()
	q := openTestQueue(t, Options{Dir: dir})
	for i := range 10 {
		store(t, q, testMessage(5, i))
	}
	for _, e := range next(t, q, 4) {
		q.Settle(e, Delivered)
	}
	last := q.LastSequence()
	closeQueue(t, q)
	if err := os.RemoveAll(filepath.Join(dir, "store")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		q = openTestQueue(t, Options{Dir: dir})
		a := q.Ledger()["r5"]
		if a.Accepted.Records != 10 || a.Delivered.Records != 4 || a.Quarantined.Records != 6 || !a.Balanced() {
			t.Errorf("account: %+v", a)
		}
		if q.LastSequence() <= last {
			t.Errorf("sequence numbers go on from %d, expected more than %d", q.LastSequence(), last)
		}
		closeQueue(t, q)
	}
}

// TestTotalsAreCopiedUnlessTheyAreTorn checks that a damaged copy is said and
// does no harm.
func TestTornTotalsDoNoHarm(t *testing.T) {
	dir := t.TempDir()
	q := openTestQueue(t, Options{Dir: dir})
	store(t, q, testMessage(5, 0))
	closeQueue(t, q)
	spoilManifest(t, dir)
	if err := os.WriteFile(filepath.Join(dir, totalsFile), []byte(`{"format":1,"led`), 0o600); err != nil {
		t.Fatal(err)
	}
	q = openTestQueue(t, Options{Dir: dir})
	awaitSalvage(t, q)
	if e := next(t, q, 1)[0]; string(e.Payload) != "m0" {
		t.Errorf("got %q", e.Payload)
	}
	if a := q.Ledger()["r5"]; !a.Balanced() || a.Accepted.Records != 1 {
		t.Errorf("account: %+v", a)
	}
}

func TestOldQuarantinesAreRemovedOnceTheyAreSalvaged(t *testing.T) {
	dir := t.TempDir()
	now := newClock()
	for i := range keepQuarantines + 2 {
		q := openTestQueue(t, Options{Dir: dir, Now: now.now})
		if i > 0 {
			awaitSalvage(t, q)
		}
		store(t, q, testMessage(5, i))
		closeQueue(t, q)
		spoilManifest(t, dir)
		now.advance(time.Hour)
	}
	q := openTestQueue(t, Options{Dir: dir, Now: now.now})
	awaitSalvage(t, q)
	if n := q.Stats().Quarantines; n != keepQuarantines {
		t.Errorf("got %d quarantined stores, expected %d", n, keepQuarantines)
	}
	if got := q.Depth().Records; got != keepQuarantines+2 {
		t.Errorf("got %d records over all those stores, expected %d", got, keepQuarantines+2)
	}
}

// FuzzReadRaw feeds garbage in the place of a table and of a log.
func FuzzReadRaw(f *testing.F) {
	rnd := rand.New(rand.NewPCG(3, 4))
	b := make([]byte, 300)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		for _, name := range []string{"000001.sst", "00001.mem"} {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := readRaw(dir, func(rawEntry) error { return nil }); err != nil {
			t.Error(err)
		}
	})
}
