package uplink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	ossignal "os/signal"
	"path/filepath"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"golang.org/x/sys/unix"
)

func openTestQueue(t testing.TB, opt Options) *Queue {
	t.Helper()
	if opt.Dir == "" {
		opt.Dir = t.TempDir()
	}
	opt.Logger = slog.New(slog.DiscardHandler)
	if opt.MinFreeBytes == 0 {
		opt.MinFreeBytes = 1
	}
	q, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	return q
}

func testMessage(lane, i int) Message {
	return Message{Route: fmt.Sprintf("r%d", lane), Lane: lane, Topic: fmt.Sprintf("t/%d", lane), QoS: 1, Payload: []byte(fmt.Sprintf("m%d", i))}
}

// store enqueues and waits until the message is durable.
func store(t testing.TB, q *Queue, m Message) {
	t.Helper()
	done := make(chan error, 1)
	if err := q.Enqueue(m, func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// offer enqueues a message as a producer does: it waits while the queue is
// busy. Any goroutine may call it.
func offer(t testing.TB, q *Queue, m Message, done func(error)) {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		room := q.Room() // taken first: room that is made after the refusal must not be missed
		err := q.Enqueue(m, done)
		if err == nil {
			return
		}
		if !errors.Is(err, ErrBusy) {
			t.Errorf("lane %d: %v", m.Lane, err)
			return
		}
		select {
		case <-room:
		case <-deadline:
			t.Errorf("lane %d: no room in a minute: %v", m.Lane, err)
			return
		}
	}
}

// fill stores n messages.
func fill(t testing.TB, q *Queue, n int, message func(i int) Message) {
	t.Helper()
	done := make(chan error, n)
	for i := range n {
		offer(t, q, message(i), func(err error) { done <- err })
	}
	for range n {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

func next(t testing.TB, q *Queue, n int) []Entry {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	e, err := q.Next(ctx, Want{Max: n, History: n})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// eventually polls until ok holds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within 60 s: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestQueueHandsOutHighestLaneFirstInOrder(t *testing.T) {
	q := openTestQueue(t, Options{})
	for i := range 5 {
		store(t, q, testMessage(3, i))
		store(t, q, testMessage(8, i))
	}
	for _, lane := range []int{8, 3} {
		for i, e := range next(t, q, 5) {
			if want := fmt.Sprintf("m%d", i); e.Lane != lane || string(e.Payload) != want {
				t.Errorf("got lane %d %s, expected lane %d %s", e.Lane, e.Payload, lane, want)
			}
		}
	}
}

func TestQueueKeepsEveryFieldOverAReopen(t *testing.T) {
	dir := t.TempDir()
	q := openTestQueue(t, Options{Dir: dir})
	want := Message{Route: "route/#", Lane: 7, Topic: "a/b/ü", QoS: 1, Retain: true, Payload: []byte{0, 255, 10, 0}, Note: Note{"seq/x", 41}}
	before := time.Now()
	store(t, q, want)
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = openTestQueue(t, Options{Dir: dir})
	e := next(t, q, 1)[0]
	if e.Route != want.Route || e.Lane != want.Lane || e.Topic != want.Topic || e.QoS != 1 || !e.Retain || !bytes.Equal(e.Payload, want.Payload) {
		t.Errorf("got %+v, expected %+v", e.Message, want)
	}
	if e.Accepted.Before(before) || e.Accepted.After(time.Now()) {
		t.Errorf("accepted at %v, expected about %v", e.Accepted, before)
	}
	if got := q.Note("seq/x"); got != 41 {
		t.Errorf("note: got %d, expected 41", got)
	}
}

func TestQueueForgetsOnlyWhatWasSettled(t *testing.T) {
	dir := t.TempDir()
	q := openTestQueue(t, Options{Dir: dir})
	for i := range 10 {
		store(t, q, testMessage(5, i))
	}
	for _, e := range next(t, q, 10) {
		if e.Seq%2 == 0 { // out of order: the watermark must not pass the odd ones
			q.Settle(e, Delivered)
		}
	}
	eventually(t, "five settled", func() bool { return q.Depth().Records == 5 })
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = openTestQueue(t, Options{Dir: dir})
	for i, e := range next(t, q, 10) {
		if want := uint64(2*i + 1); e.Seq != want {
			t.Errorf("got seq %d, expected %d", e.Seq, want)
		}
	}
	if a := q.Ledger()["r5"]; a.Delivered.Records != 5 || a.Queued.Records != 5 || !a.Balanced() {
		t.Errorf("ledger: %+v", a)
	}
}

func TestQueueNeverReusesASequenceNumber(t *testing.T) {
	dir := t.TempDir()
	var last uint64
	for round := range 3 {
		q := openTestQueue(t, Options{Dir: dir})
		store(t, q, testMessage(5, round))
		e := next(t, q, 1)[0]
		if e.Seq <= last {
			t.Fatalf("round %d: got seq %d, expected more than %d", round, e.Seq, last)
		}
		last = e.Seq
		q.Settle(e, Delivered)
		eventually(t, "empty", func() bool { return q.Depth().Records == 0 })
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestQueueReadsFromDiskWhatTheTailDropped(t *testing.T) {
	q := openTestQueue(t, Options{})
	const n = 40
	payload := bytes.Repeat([]byte("x"), 200<<10) // 8 MB, four times the tail
	for i := range n {
		m := testMessage(5, i)
		m.Payload = append([]byte(fmt.Sprintf("m%d ", i)), payload...)
		store(t, q, m)
	}
	for i := 0; i < n; {
		for _, e := range next(t, q, 7) {
			if want := fmt.Sprintf("m%d ", i); !bytes.HasPrefix(e.Payload, []byte(want)) {
				t.Fatalf("got %.5s, expected %s", e.Payload, want)
			}
			i++
		}
	}
}

func TestQueueRefusesBeyondItsBounds(t *testing.T) {
	q := openTestQueue(t, Options{MaxBytes: 100, Policies: map[string]Policy{"r5": {Overflow: Reject}}})
	m := testMessage(5, 0)
	m.Payload = make([]byte, 90)
	store(t, q, m)
	if err := q.Enqueue(m, nil); !errors.Is(err, ErrFull) {
		t.Fatalf("got %v, expected ErrFull", err)
	}
	q.Settle(next(t, q, 1)[0], Delivered)
	eventually(t, "room again", func() bool { return q.Enqueue(m, nil) == nil })

	full := openTestQueue(t, Options{MinFreeBytes: 1 << 62})
	if err := full.Enqueue(testMessage(5, 0), nil); !errors.Is(err, ErrFull) {
		t.Errorf("below the disk's floor: got %v, expected ErrFull", err)
	}
	for name, bad := range map[string]Message{
		"lane":  {Route: "r", Topic: "t", Lane: 11},
		"qos":   {Route: "r", Topic: "t", Lane: 1, QoS: 2},
		"route": {Topic: "t", Lane: 1},
		"size":  {Route: "r", Topic: "t", Lane: 1, Payload: make([]byte, MaxMessageBytes)},
	} {
		if q.Enqueue(bad, nil) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestQueueStoresTheLargestMessage(t *testing.T) {
	q := openTestQueue(t, Options{})
	m := testMessage(5, 0)
	m.Payload = make([]byte, MaxMessageBytes-len(m.Topic))
	for range 3 {
		store(t, q, m)
	}
	for range 3 {
		e := next(t, q, 1)[0]
		if len(e.Payload) != len(m.Payload) {
			t.Fatalf("got %d bytes, expected %d", len(e.Payload), len(m.Payload))
		}
		q.Settle(e, Delivered)
	}
}

func TestQueueIsOpenOnce(t *testing.T) {
	dir := t.TempDir()
	openTestQueue(t, Options{Dir: dir})
	if _, err := Open(Options{Dir: dir}); !errors.Is(err, ErrLocked) {
		t.Errorf("got %v, expected ErrLocked", err)
	}
}

func TestQueueQuarantinesAStoreThatDoesNotOpen(t *testing.T) {
	dir := t.TempDir()
	q := openTestQueue(t, Options{Dir: dir})
	store(t, q, testMessage(5, 0))
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "store", "MANIFEST"), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	q = openTestQueue(t, Options{Dir: dir})
	s := q.Stats()
	if s.Quarantined == "" || s.Quarantines != 1 {
		t.Errorf("got %q and %d, expected one quarantined store", s.Quarantined, s.Quarantines)
	}
	if _, err := os.Stat(filepath.Join(s.Quarantined, "MANIFEST")); err != nil {
		t.Errorf("the quarantined store is not kept: %v", err)
	}
	store(t, q, testMessage(5, 1))
}

// TestFailedCommitsAreToldAndMended makes commits fail for a while.
func TestFailedCommitsAreToldAndMended(t *testing.T) {
	var broken atomic.Bool
	failure := errors.New("disk error")
	q := openTestQueue(t, Options{fault: func() error {
		if broken.Load() {
			return failure
		}
		return nil
	}})
	store(t, q, testMessage(5, 0))
	e := next(t, q, 1)[0]
	broken.Store(true)
	told := make(chan error, 1)
	if err := q.Enqueue(testMessage(5, 1), func(err error) { told <- err }); err != nil {
		t.Fatal(err)
	}
	if err := <-told; !errors.Is(err, failure) {
		t.Errorf("the producer was told %v", err)
	}
	q.Settle(e, Delivered)
	eventually(t, "the failure in the stats", func() bool { return errors.Is(q.Stats().Failing, failure) })
	broken.Store(false)
	eventually(t, "the settlement after all", func() bool { s := q.Stats(); return s.Failing == nil && s.Queued.Records == 0 })
	store(t, q, testMessage(5, 2))
	if a := q.Ledger()["r5"]; a.Accepted.Records != 2 || a.Delivered.Records != 1 || !a.Balanced() {
		t.Errorf("ledger: %+v", a)
	}
}

// TestDamagedRecordIsSetAside flips a bit of a stored record.
func TestDamagedRecordIsSetAside(t *testing.T) {
	dir := t.TempDir()
	q := openTestQueue(t, Options{Dir: dir})
	for i := range 3 {
		store(t, q, testMessage(5, i))
	}
	key := recordKey(q.byLane()[0].id, 2)
	if err := q.db.Update(func(txn *badger.Txn) error {
		item, err := txn.Get(key)
		if err != nil {
			return err
		}
		b, err := item.ValueCopy(nil)
		if err != nil {
			return err
		}
		b[len(b)/2] ^= 1
		return txn.Set(key, b)
	}); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = openTestQueue(t, Options{Dir: dir})
	expectList(t, payloads(t, q, 2), "m0", "m2")
	eventually(t, "the ledger to say so", func() bool { return q.Ledger()["r5"].Quarantined.Records == 1 })
	if a := q.Ledger()["r5"]; !a.Balanced() || a.Queued.Records != 2 {
		t.Errorf("ledger: %+v", a)
	}
	if err := q.db.View(func(txn *badger.Txn) error { _, err := txn.Get(asideKey(key)); return err }); err != nil {
		t.Errorf("the damaged record is not kept: %v", err)
	}
}

func TestNextIsBoundedByBytes(t *testing.T) {
	q := openTestQueue(t, Options{})
	m := testMessage(5, 0)
	m.Payload = make([]byte, 1000)
	for range 10 {
		store(t, q, m)
	}
	e, err := q.Next(t.Context(), Want{Max: 10, MaxBytes: 2500, History: 10})
	if err != nil || len(e) != 3 {
		t.Errorf("got %d entries (%v), expected 3", len(e), err)
	}
}

// TestProbeFindsWhatIsNotTheStoresFault takes the room to write away.
func TestProbeFindsWhatIsNotTheStoresFault(t *testing.T) {
	dir := t.TempDir()
	if err := probe(dir); err != nil {
		t.Errorf("a good directory: %v", err)
	}
	if err := probe(filepath.Join(dir, "absent")); err == nil {
		t.Error("an absent directory: no error")
	}
	var limit, few unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	few = limit
	few.Cur = 1 << 20
	ossignal.Ignore(unix.SIGXFSZ)
	defer ossignal.Reset(unix.SIGXFSZ)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &few); err != nil {
		t.Fatal(err)
	}
	err := probe(dir)
	if err2 := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err2 != nil {
		t.Fatal(err2)
	}
	if err == nil {
		t.Error("no room to write: no error")
	}
}

func TestDecodeRecordRefusesDamage(t *testing.T) {
	e := Entry{Accepted: time.Unix(1, 2), Message: Message{
		Topic: "topic", Payload: []byte("payload"), Properties: []byte("properties"), Expiry: time.Unix(3, 4), QoS: 1, Retain: true,
	}}
	whole := encodeRecord(e)
	var back Entry
	if err := decodeRecord(&back, whole); err != nil || !reflect.DeepEqual(back, e) {
		t.Errorf("got %+v (%v), expected %+v", back, err, e)
	}
	for i := range whole {
		if err := decodeRecord(&Entry{}, whole[:i]); !errors.Is(err, errRecord) {
			t.Errorf("cut at %d of %d: got %v", i, len(whole), err)
		}
		flipped := bytes.Clone(whole)
		flipped[i] ^= 4
		if err := decodeRecord(&Entry{}, flipped); !errors.Is(err, errRecord) {
			t.Errorf("a bit flipped at %d: got %v", i, err)
		}
	}
	whole[0] = 9
	if err := decodeRecord(&Entry{}, whole); !errors.Is(err, errRecord) {
		t.Errorf("unknown format: got %v", err)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add(encodeRecord(Entry{Message: Message{Topic: "t", Payload: []byte("p"), Properties: []byte("x"), Expiry: time.Unix(1, 1)}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var e Entry
		if err := decodeRecord(&e, b); err == nil && len(e.Payload)+len(e.Properties) > len(b) {
			t.Errorf("%d bytes from %d", len(e.Payload)+len(e.Properties), len(b))
		}
	})
}

func BenchmarkEnqueueDurable(b *testing.B) {
	q := openTestQueue(b, Options{})
	m := testMessage(5, 0)
	m.Payload = make([]byte, 256)
	slots := make(chan struct{}, 256)
	b.ReportAllocs()
	for b.Loop() {
		slots <- struct{}{}
		offer(b, q, m, func(error) { <-slots })
	}
}

func BenchmarkDrain(b *testing.B) {
	q := openTestQueue(b, Options{})
	m := testMessage(5, 0)
	m.Payload = make([]byte, 256)
	for range b.N {
		offer(b, q, m, nil)
	}
	store(b, q, m)
	b.ResetTimer()
	for n := 0; n < b.N; {
		for _, e := range next(b, q, 256) {
			q.Settle(e, Delivered)
			n++
		}
	}
}
