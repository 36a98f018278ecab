package uplink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
)

func TestStreamsAndPeekTakeNothing(t *testing.T) {
	q := openTestQueue(t, Options{})
	for i := range 20 {
		store(t, q, testMessage(3, i))
		store(t, q, testMessage(8, i))
	}
	streams, err := q.Streams()
	if err != nil || len(streams) != 2 || streams[0].Route != "r8" || streams[0].Records != 20 || streams[1].OldestAt.IsZero() {
		t.Errorf("got %+v and %v", streams, err)
	}
	list := func(route string, after uint64, n int) (out []string) {
		entries, err := q.Peek(route, after, n)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			out = append(out, e.Route+string(e.Payload))
		}
		return out
	}
	expectList(t, list("r3", 0, 2), "r3m0", "r3m1")
	expectList(t, list("", 0, 3), "r3m0", "r8m0", "r3m1")
	expectList(t, list("", 4, 2), "r3m2", "r8m2")
	expectList(t, list("r8", 38, 5), "r8m19")
	if got := q.Depth().Records; got != 40 {
		t.Errorf("got %d records after looking, expected 40", got)
	}
}

func TestPurgeRemovesWhatIsNotInFlight(t *testing.T) {
	dir, now := t.TempDir(), newClock()
	q := openTestQueue(t, Options{Dir: dir, Now: now.now})
	for i := range 10 {
		store(t, q, testMessage(3, i))
		store(t, q, testMessage(8, i))
		now.advance(time.Minute)
	}
	inFlight := next(t, q, 2)
	limit := now.now().Add(-5 * time.Minute)
	gone, err := q.Purge(context.Background(), "r8", limit)
	if err != nil || gone.Records != 3 {
		t.Errorf("purged %+v and %v, expected m2 to m4", gone, err)
	}
	if gone, err := q.Purge(context.Background(), "r3", time.Time{}); err != nil || gone.Records != 10 {
		t.Errorf("purged %+v and %v, expected all ten", gone, err)
	}
	for _, e := range inFlight {
		q.Settle(e, Delivered)
	}
	closeQueue(t, q)
	q = openTestQueue(t, Options{Dir: dir, Now: now.now})
	expectList(t, payloads(t, q, 5), "m5", "m6", "m7", "m8", "m9")
	if a := q.Ledger()["r8"]; !a.Balanced() || a.Purged.Records != 3 || a.Delivered.Records != 2 {
		t.Errorf("account: %+v", a)
	}
	if a := q.Ledger()["r3"]; !a.Balanced() || a.Purged.Records != 10 {
		t.Errorf("account: %+v", a)
	}
}

func TestCheckFindsWhatIsWrong(t *testing.T) {
	q := openTestQueue(t, Options{})
	for i := range 10 {
		store(t, q, testMessage(3, i))
	}
	q.Kill(next(t, q, 1)[0], "test")
	eventually(t, "the dead letter", func() bool { return len(q.DeadLetters()) == 1 })
	check := func() CheckReport {
		r, err := q.Check(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := check(); len(r.Problems) != 0 || r.Queued.Records != 9 || r.DeadLetters.Records != 1 {
		t.Errorf("a sound store: %+v", r)
	}
	id := streamID{lane: 3, route: q.routes["r3"]}
	for _, harm := range []struct {
		key, value []byte
		says       string
	}{
		{recordKey(id, 5), []byte("garbage"), "damaged record"},
		{recordKey(id, 7), nil, "the stream says"},
		{recordKey(id, 1), encodeRecord(Entry{Message: testMessage(3, 1)}), "outside its stream"},
		{ledgerKey("r3"), []byte(`{"accepted":{"records":5}}`), "does not balance"},
		{ledgerKey("r3"), []byte(`{`), "ledger of route"},
		{deadKey(2), []byte("x"), "dead letter"},
		{routeKey("r3"), encodeUint(99), "has no name"},
	} {
		var was []byte
		if err := q.db.Update(func(txn *badger.Txn) error {
			if item, err := txn.Get(harm.key); err == nil {
				was, _ = item.ValueCopy(nil)
			}
			if harm.value == nil {
				return txn.Delete(harm.key)
			}
			return txn.Set(harm.key, harm.value)
		}); err != nil {
			t.Fatal(err)
		}
		if r := check(); !strings.Contains(strings.Join(r.Problems, "\n"), harm.says) {
			t.Errorf("%q as %q: got the problems %q, expected one that says %q", harm.key, harm.value, r.Problems, harm.says)
		}
		if err := q.db.Update(func(txn *badger.Txn) error {
			if was == nil {
				return txn.Delete(harm.key)
			}
			return txn.Set(harm.key, was)
		}); err != nil {
			t.Fatal(err)
		}
	}
	if r := check(); len(r.Problems) != 0 {
		t.Errorf("mended: %q", r.Problems)
	}
}

func TestInspectChangesNothing(t *testing.T) {
	dir := t.TempDir()
	q := openTestQueue(t, Options{Dir: dir})
	store(t, q, testMessage(5, 1))
	closeQueue(t, q)
	q = openTestQueue(t, Options{Dir: dir, Inspect: true})
	if got := q.Depth().Records; got != 1 {
		t.Errorf("got %d records", got)
	}
	closeQueue(t, q)
	spoilManifest(t, dir)
	if q, err := Open(Options{Dir: dir, Inspect: true}); err == nil {
		closeQueue(t, q)
		t.Error("a damaged store was opened")
	}
	if paths, _ := quarantines(dir); len(paths) != 0 {
		t.Errorf("a tool has quarantined %q", paths)
	}
}

// exported is a queue with records of every kind, and its export.
func exported(t *testing.T) []byte {
	t.Helper()
	q := openTestQueue(t, Options{Policies: map[string]Policy{"r5": {Order: ByLane}}})
	for i := range 30 {
		store(t, q, testMessage(3, i))
		store(t, q, testMessage(5, i))
	}
	store(t, q, Message{Route: "full", Lane: 9, Topic: "a/ü", QoS: 1, Retain: true, Payload: []byte{0, 255, 10},
		Expiry: time.Date(2100, 1, 1, 0, 0, 0, 7, time.UTC), Properties: []byte{1, 2}, Deaths: 2})
	store(t, q, Message{Route: "empty", Lane: 1, Topic: "e", QoS: 0})
	store(t, q, Message{Route: "dead", Lane: 10, Topic: "d", QoS: 1, Payload: []byte("poison")})
	q.Kill(next(t, q, 1)[0], "test")
	eventually(t, "the dead letter", func() bool { return len(q.DeadLetters()) == 1 })
	var b bytes.Buffer
	records, dead, err := q.Export(context.Background(), &b)
	if err != nil || records != 62 || dead != 1 {
		t.Fatalf("exported %d and %d, %v", records, dead, err)
	}
	return b.Bytes()
}

func TestExportIsImportedOnceAndWhole(t *testing.T) {
	b := exported(t)
	if end, err := VerifyExport(bytes.NewReader(b)); err != nil || end.Records != 62 || end.Dead != 1 {
		t.Errorf("verified %+v and %v", end, err)
	}
	q := openTestQueue(t, Options{})
	for range 2 {
		if _, err := q.Import(context.Background(), bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
	}
	e := next(t, q, 1)[0]
	if e.Route != "full" || e.Topic != "a/ü" || !e.Retain || !bytes.Equal(e.Payload, []byte{0, 255, 10}) ||
		!e.Expiry.Equal(time.Date(2100, 1, 1, 0, 0, 0, 7, time.UTC)) || !bytes.Equal(e.Properties, []byte{1, 2}) || e.Deaths != 2 ||
		time.Since(e.Accepted) > time.Hour || e.Accepted.IsZero() {
		t.Errorf("got %+v", e)
	}
	var want []string
	for i := range 30 {
		want = append(want, fmt.Sprintf("m%d", i))
	}
	expectList(t, payloads(t, q, 30), want...)
	expectList(t, payloads(t, q, 30), want...)
	expectList(t, payloads(t, q, 1), "")
	if d := q.DeadLetters(); len(d) != 1 || d[0].Reason != "test" {
		t.Errorf("dead letters: %+v", d)
	}
	if got := q.Depth().Records; got != 62 {
		t.Errorf("got %d records, expected 62 once", got)
	}
	if a := q.Ledger()["dead"]; a.Dead.Records != 1 || a.Accepted.Records != 1 || !a.Balanced() {
		t.Errorf("account: %+v", a)
	}
}

func TestImportGoesOnWhereItStopped(t *testing.T) {
	b := exported(t)
	dir := t.TempDir()
	q := openTestQueue(t, Options{Dir: dir, MaxRecords: 40})
	done, err := q.Import(context.Background(), bytes.NewReader(b))
	if !errors.Is(err, ErrFull) || done.Queued.Records != 40 {
		t.Errorf("a full queue: got %+v and %v", done, err)
	}
	closeQueue(t, q)
	q = openTestQueue(t, Options{Dir: dir})
	cut := bytes.Join(bytes.SplitAfter(b, []byte("\n"))[:51], nil)
	if _, err := q.Import(context.Background(), bytes.NewReader(cut)); !errors.Is(err, ErrExport) || q.Depth().Records != 50 {
		t.Errorf("a file that was cut off: got %v and %d records, expected 50", err, q.Depth().Records)
	}
	done, err = q.Import(context.Background(), bytes.NewReader(b))
	if err != nil || done.Skipped != 50 || done.Queued.Records != 12 || done.Dead.Records != 1 {
		t.Errorf("the whole file: got %+v and %v", done, err)
	}
	if got := q.Depth().Records; got != 62 {
		t.Errorf("got %d records, expected 62", got)
	}
}

func TestVerifyExportRefusesDamage(t *testing.T) {
	b := exported(t)
	lines := bytes.SplitAfter(b, []byte("\n"))
	for name, bad := range map[string][]byte{
		"nothing":         nil,
		"not an export":   []byte("{\"format\":\"x\"}\n"),
		"no end":          bytes.Join(lines[:len(lines)-2], nil),
		"a line missing":  bytes.Join(append(append([][]byte{}, lines[:5]...), lines[6:]...), nil),
		"a changed byte":  bytes.Replace(b, []byte(`"topic":"t/3"`), []byte(`"topic":"t/4"`), 1),
		"an empty topic":  bytes.Replace(b, []byte(`"topic":"t/3"`), []byte(`"topic":""`), 1),
		"an unknown word": bytes.Replace(b, []byte(`"topic":"t/3"`), []byte(`"tropic":"t/3"`), 1),
	} {
		if _, err := VerifyExport(bytes.NewReader(bad)); !errors.Is(err, ErrExport) {
			t.Errorf("%s: got %v, expected %v", name, err, ErrExport)
		}
	}
}

func TestTotalsAreWrittenWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, text := range []string{"one", "two"} {
		if err := replaceFile(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != text {
			t.Errorf("got %q and %v, expected %q", b, err, text)
		}
	}
	if err := replaceFile(filepath.Join(path, "no"), nil); err == nil {
		t.Error("a file below a file was written")
	}
}
