package uplink

import (
	"bytes"
	"sync/atomic"
	"testing"
	"time"
)

// TestPropertiesAndExpiryAreStoredAndCounted reads a message back after a
// restart, and compares the ledger with what it holds.
func TestPropertiesAndExpiryAreStoredAndCounted(t *testing.T) {
	dir := t.TempDir()
	m := testMessage(5, 1)
	m.Properties, m.Expiry = bytes.Repeat([]byte{3, 0, 1, 'j'}, 5000), time.Now().Add(time.Hour)
	q := openTestQueue(t, Options{Dir: dir})
	store(t, q, m)
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = openTestQueue(t, Options{Dir: dir})
	e := next(t, q, 1)[0]
	if !bytes.Equal(e.Properties, m.Properties) || e.Expiry.UnixNano() != m.Expiry.UnixNano() {
		t.Errorf("got %d bytes of properties and the expiry %v", len(e.Properties), e.Expiry)
	}
	want := int64(len(m.Topic) + len(m.Payload) + len(m.Properties))
	if got := q.Ledger()[m.Route].Accepted.Bytes; got != want {
		t.Errorf("ledger: got %d bytes, expected %d", got, want)
	}
	q.Settle(e, Delivered)
	eventually(t, "a balanced ledger", func() bool { a := q.Ledger()[m.Route]; return a.Balanced() && a.Delivered.Bytes == want })
}

// TestPropertiesCountAtTheBound fills a bound with properties.
func TestPropertiesCountAtTheBound(t *testing.T) {
	q := openTestQueue(t, Options{Policies: map[string]Policy{"r5": {MaxBytes: 10_000, Overflow: Reject}}})
	m := testMessage(5, 1)
	m.Properties = make([]byte, 6000)
	store(t, q, m)
	if err := q.Enqueue(m, nil); err == nil {
		t.Error("a second message of 6,000 bytes was taken at the bound of 10,000")
	}
	m.Properties = make([]byte, MaxMessageBytes)
	if err := q.Enqueue(m, nil); err == nil {
		t.Error("properties beyond the largest message were taken")
	}
}

// TestWhatExpiredInFlightIsNotSentAgain ends a connection with an
// unacknowledged message, and lets it expire before the next one.
func TestWhatExpiredInFlightIsNotSentAgain(t *testing.T) {
	now := time.Now()
	var ahead atomic.Int64
	q := openTestQueue(t, Options{Now: func() time.Time { return now.Add(time.Duration(ahead.Load())) }})
	l := NewLink(q, LinkOptions{})
	store(t, q, testMessage(5, 1))
	old := testMessage(5, 2)
	old.Expiry = now.Add(time.Minute)
	store(t, q, old)
	store(t, q, testMessage(5, 3))
	l.unacked = next(t, q, 3)
	l.expireUnacked()
	if len(l.unacked) != 3 {
		t.Fatalf("left: %d, expected all 3", len(l.unacked))
	}
	ahead.Store(int64(2 * time.Minute))
	l.expireUnacked()
	if len(l.unacked) != 2 || string(l.unacked[0].Payload) != "m1" || string(l.unacked[1].Payload) != "m3" {
		t.Errorf("left: %v", l.unacked)
	}
	eventually(t, "the ledger", func() bool { return q.Ledger()["r5"].Expired.Records == 1 })
}
