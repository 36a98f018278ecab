package vision

import (
	"math"
	"math/rand/v2"
	"testing"
)

// cheapest is the largest gain of any assignment of the rows from i on.
func cheapest(cost []float64, rows, columns, i int, taken int, limit float64) float64 {
	if i == rows {
		return 0
	}
	most := cheapest(cost, rows, columns, i+1, taken, limit) // no column for this row
	for j := range columns {
		if c := cost[i*columns+j]; taken&(1<<j) == 0 && c < limit {
			most = max(most, limit-c+cheapest(cost, rows, columns, i+1, taken|1<<j, limit))
		}
	}
	return most
}

func TestAssignAgainstBruteForce(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var s assigner
	for range 3000 {
		rows, columns, limit := r.IntN(7), r.IntN(7), 0.2+0.8*r.Float64()
		cost := make([]float64, rows*columns)
		for i := range cost {
			cost[i] = r.Float64()
			if r.IntN(4) == 0 {
				cost[i] = float64(r.IntN(3)) / 2 // equal ones
			}
		}
		got := s.assign(cost, rows, columns, limit)
		gain, taken := 0.0, map[int]bool{}
		for i, j := range got {
			if j < 0 {
				continue
			}
			if taken[j] || cost[i*columns+j] >= limit {
				t.Fatalf("%v of %d×%d below %v: %v", cost, rows, columns, limit, got)
			}
			taken[j] = true
			gain += limit - cost[i*columns+j]
		}
		if want := cheapest(cost, rows, columns, 0, 0, limit); len(got) != rows || math.Abs(gain-want) > 1e-9 {
			t.Fatalf("%v of %d×%d below %v: %v gains %v, want %v", cost, rows, columns, limit, got, gain, want)
		}
	}
}

// BenchmarkAssignFull is the most that a camera's tracker is asked.
func BenchmarkAssignFull(b *testing.B) {
	r := rand.New(rand.NewPCG(5, 6))
	cost := make([]float64, maxTracks*maxTracked)
	for i := range cost {
		cost[i] = r.Float64()
	}
	var s assigner
	s.assign(cost, maxTracks, maxTracked, 0.8)
	b.ReportAllocs()
	for b.Loop() {
		s.assign(cost, maxTracks, maxTracked, 0.8)
	}
}
