package uplink

import (
	"fmt"
	"path/filepath"
	"testing"
)

// TestDiskSpaceIsBounded sends much more through a queue that is never empty
// than may lie on the disk: a backlog that stays, and small and large records
// (those lie in the value log) that flow past it.
func TestDiskSpaceIsBounded(t *testing.T) {
	dir := t.TempDir()
	const slack = 24 << 20
	opt := Options{Dir: dir, slack: slack}
	q := openTestQueue(t, opt)
	for i := range 500 {
		store(t, q, testMessage(1, i)) // a lower lane: it waits
	}
	for name, size := range map[string]int{"small": 2 << 10, "large": 600 << 10} {
		for sent := 0; sent < 128<<20; { // a multiple of the bound
			sent += flow(t, q, size)
		}
		eventually(t, name+" records to be given back", func() bool {
			kept, _ := q.sizes()
			size, err := allocated(filepath.Join(dir, "store"))
			return err == nil && size <= diskFactor*kept+slack
		})
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = openTestQueue(t, opt)
	if got := q.Depth().Records; got != 500 || q.Stats().Reclaiming != nil {
		t.Errorf("got %d records (%v), expected 500", got, q.Stats().Reclaiming)
	}
	for i, e := range next(t, q, 500) {
		if want := fmt.Sprintf("m%d", i); string(e.Payload) != want {
			t.Fatalf("got %s, expected %s", e.Payload, want)
		}
	}
}

// flow stores some records in a high lane, delivers them and returns their
// bytes.
func flow(t *testing.T, q *Queue, size int) (bytes int) {
	t.Helper()
	const n = 50
	done := make(chan error, n)
	for range n {
		m := testMessage(9, 0)
		m.Payload = make([]byte, size)
		offer(t, q, m, func(err error) { done <- err })
		bytes += size
	}
	for range n {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	for got := 0; got < n; {
		for _, e := range next(t, q, n-got) {
			q.Settle(e, Delivered)
			got++
		}
	}
	return bytes
}
