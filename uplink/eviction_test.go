package uplink

import "testing"

// offerAll offers messages of one lane as fast as the queue takes them.
func offerAll(t *testing.T, q *Queue, lane, n int) {
	t.Helper()
	for range n {
		offer(t, q, testMessage(lane, 0), nil)
	}
}

// TestALaneIsSparedWhileALowerOneHasRecords: what a fast producer adds during
// an eviction is not taken from the next lane.
func TestALaneIsSparedWhileALowerOneHasRecords(t *testing.T) {
	t.Parallel()
	const bound, kept = 2000, 100
	q := openTestQueue(t, Options{MaxRecords: bound, Unsynced: true})
	offerAll(t, q, 5, kept)
	for range 20 {
		offerAll(t, q, 1, bound+bound/2)
		if a := q.Ledger()["r5"]; a.Evicted.Records > 0 {
			t.Fatalf("%d of lane 5 had to go, though lane 1 had records: %+v", a.Evicted.Records, q.Ledger()["r1"])
		}
	}
}
