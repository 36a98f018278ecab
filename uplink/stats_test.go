package uplink

import (
	"fmt"
	"testing"
)

// BenchmarkOldest is what one look at the ages of a deep queue costs, with
// streams of which the oldest record was replaced over and over.
func BenchmarkOldest(b *testing.B) {
	q := openTestQueue(b, Options{Policies: map[string]Policy{"last": {KeepLast: true}}})
	const deep = 300_000
	for i := range deep {
		for lane := 1; lane <= MaxLane; lane += 3 {
			storeSoon(b, q, testMessage(lane, i))
		}
		storeSoon(b, q, Message{Route: "last", Lane: 5, Topic: fmt.Sprint("t/", i%10), QoS: 1, Payload: []byte("x")})
	}
	eventually(b, "commits", func() bool { return q.Stats().Pending == 0 })
	b.ResetTimer()
	for b.Loop() {
		q.oldest()
	}
}

func storeSoon(b *testing.B, q *Queue, m Message) {
	b.Helper()
	for {
		room := q.Room()
		if q.Enqueue(m, nil) == nil {
			return
		}
		<-room
	}
}
