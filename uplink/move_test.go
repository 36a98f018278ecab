package uplink

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// TestPurgeOfManyWaitsForTheDisk checks that what is purged and not stored
// yet, which is in memory, is bounded.
func TestPurgeOfManyWaitsForTheDisk(t *testing.T) {
	const n = 4*maxBatchSettled + 3
	most := 0
	var q *Queue
	q = openTestQueue(t, Options{Unsynced: true, fault: func() error {
		q.mu.Lock()
		defer q.mu.Unlock()
		most = max(most, len(q.settled))
		return nil
	}})
	fill(t, q, n, func(i int) Message { return testMessage(3, i) })
	if gone, err := q.Purge(context.Background(), "", time.Time{}); err != nil || gone.Records != n || q.Depth().Records != 0 {
		t.Errorf("purged %+v and %v, expected %d; %d are left", gone, err, n, q.Depth().Records)
	}
	q.committing.Lock()
	defer q.committing.Unlock()
	if most > maxBatchSettled {
		t.Errorf("%d removals waited for the disk, expected at most %d", most, maxBatchSettled)
	}
}

// TestPurgeSaysWhatTheDiskSays purges while the disk fails.
func TestPurgeSaysWhatTheDiskSays(t *testing.T) {
	var fails atomic.Bool
	q := openTestQueue(t, Options{fault: func() error {
		if fails.Load() {
			return errors.New("for the test")
		}
		return nil
	}})
	store(t, q, testMessage(3, 0))
	fails.Store(true)
	if _, err := q.Purge(context.Background(), "", time.Time{}); err == nil {
		t.Error("a purge that was not stored succeeded")
	}
}

// TestExportLeavesOutWhatIsDamaged damages one record and one dead letter.
func TestExportLeavesOutWhatIsDamaged(t *testing.T) {
	q := openTestQueue(t, Options{})
	for i := range 5 {
		store(t, q, testMessage(3, i))
	}
	for _, e := range next(t, q, 2) {
		q.Kill(e, "for the test")
	}
	eventually(t, "the dead letters", func() bool { return len(q.DeadLetters()) == 2 })
	if err := q.db.Update(func(txn *badger.Txn) error {
		if err := txn.Set(deadKey(1), []byte("x")); err != nil {
			return err
		}
		return txn.Set(recordKey(streamID{lane: 3, route: 1}, 4), []byte("x"))
	}); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if records, dead, err := q.Export(context.Background(), &b); err != nil || records != 2 || dead != 1 {
		t.Errorf("exported %d and %d, %v; expected 2 and 1", records, dead, err)
	}
	if end, err := VerifyExport(bytes.NewReader(b.Bytes())); err != nil || end.Records != 2 || end.Dead != 1 || end.Unread != 2 {
		t.Errorf("verified %+v and %v", end, err)
	}
	other := openTestQueue(t, Options{})
	if done, err := other.Import(context.Background(), &b); err != nil || done.Queued.Records != 2 || done.Dead.Records != 1 {
		t.Errorf("imported %+v and %v", done, err)
	}
}

// TestExportErrorsNameTheLine spoils lines of an export.
func TestExportErrorsNameTheLine(t *testing.T) {
	lines := bytes.SplitAfter(exported(t), []byte("\n"))
	for at, name := range map[int]string{0: "line 1: ", 1: "line 2: ", 40: "line 41: "} {
		spoiled := append([][]byte{}, lines...)
		spoiled[at] = []byte("{\n")
		if _, err := VerifyExport(bytes.NewReader(bytes.Join(spoiled, nil))); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, expected %q", err, name)
		}
		spoiled[at] = []byte("{\"topic\":\"\"}\n")
		if _, err := VerifyExport(bytes.NewReader(bytes.Join(spoiled, nil))); at > 0 && (err == nil || !strings.Contains(err.Error(), name)) {
			t.Errorf("got %v, expected %q", err, name)
		}
	}
}

// writerFunc is an io.Writer.
type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// TestCloseWaitsForAnExport closes a queue in the middle of an export, whose
// store must stay open: what Badger has mapped is read there.
func TestCloseWaitsForAnExport(t *testing.T) {
	q := openTestQueue(t, Options{})
	for i := range 10 {
		m := testMessage(3, i)
		m.Payload = make([]byte, 100_000)
		store(t, q, m)
	}
	closed := make(chan error, 1)
	var once sync.Once
	_, _, err := q.Export(context.Background(), writerFunc(func(b []byte) (int, error) {
		once.Do(func() {
			go func() { closed <- q.Close() }()
			select {
			case err := <-closed:
				t.Errorf("the queue was closed: %v", err)
			case <-time.After(300 * time.Millisecond): // more than a close takes
			}
		})
		return len(b), nil
	}))
	if err != nil {
		t.Error(err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if _, err := q.Check(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("a check after it: got %v, expected %v", err, ErrClosed)
	}
}
