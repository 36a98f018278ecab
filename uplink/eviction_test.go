package uplink

import (
	"errors"
	"testing"
	"time"
)

// enqueueAll offers messages of one lane as fast as the queue takes them.
func enqueueAll(t *testing.T, q *Queue, lane, n int) {
	t.Helper()
	for range n {
		for deadline := time.Now().Add(20 * time.Second); ; {
			err := q.Enqueue(testMessage(lane, 0), nil)
			if err == nil {
				break
			}
			if !errors.Is(err, ErrBusy) || time.Now().After(deadline) {
				t.Fatalf("lane %d: %v", lane, err)
			}
			<-q.Room()
		}
	}
}

// TestALaneIsSparedWhileALowerOneHasRecords: what a fast producer adds during
// an eviction is not taken from the next lane.
func TestALaneIsSparedWhileALowerOneHasRecords(t *testing.T) {
	t.Parallel()
	const bound, kept = 2000, 100
	q := openTestQueue(t, Options{MaxRecords: bound, Unsynced: true})
	enqueueAll(t, q, 5, kept)
	enqueueAll(t, q, 5, 1)
	for range 20 {
		enqueueAll(t, q, 1, bound)
		enqueueAll(t, q, 1, 1)
		enqueueAll(t, q, 1, bound/2)
		if a := q.Ledger()["r5"]; a.Evicted.Records > 0 {
			t.Fatalf("%d of lane 5 had to go, though lane 1 had records: %+v", a.Evicted.Records, q.Ledger()["r1"])
		}
	}
}
