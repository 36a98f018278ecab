package socket

import (
	"fmt"
	"sync"
	"testing"
)

// BenchmarkLines counts lines that are durable, of senders that wait for each
// answer and of others that do not.
func BenchmarkLines(b *testing.B) {
	for _, ahead := range []int{1, maxUnanswered} {
		for _, conns := range []int{1, 32} {
			b.Run(fmt.Sprintf("ahead=%d/connections=%d", ahead, conns), func(b *testing.B) { benchmarkLines(b, ahead, conns) })
		}
	}
}

func benchmarkLines(b *testing.B, ahead, conns int) {
	r := run(b, nil)
	text := []byte("{" + body + "}\n")
	var all sync.WaitGroup
	b.ResetTimer()
	for c := range conns {
		lines := b.N/conns + min(1, max(0, b.N%conns-c))
		s := r.dial()
		room := make(chan struct{}, ahead)
		all.Go(func() {
			for range lines {
				room <- struct{}{}
				if _, err := s.conn.Write(text); err != nil {
					b.Error(err)
					return
				}
			}
		})
		all.Go(func() {
			for range lines {
				if a := s.answer(); !a.OK {
					b.Errorf("got %+v", a)
					return
				}
				<-room
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lines/s")
}
