package vision

import (
	"math"
	"slices"
)

// assigner solves the linear assignment problem by shortest augmenting paths
// with potentials (Jonker and Volgenant 1987, "A shortest augmenting path
// algorithm for dense and sparse linear assignment problems", section 2,
// without its initial heuristics): at most rows²×columns steps. It keeps its
// memory; one goroutine uses it at a time.
type assigner struct {
	u, v, least []float64
	row, way    []int // of each column: the row that has it; where the path to it came from
	used        []bool
	result      []int
}

// assign pairs rows with columns so that the sum over all pairs of limit minus
// their cost is as large as can be; only costs below limit make a pair. cost
// is rows×columns, row by row, without NaN. The result has the column of each
// row, or -1; it is the assigner's own and valid until the next call.
func (s *assigner) assign(cost []float64, rows, columns int, limit float64) []int {
	s.result = resize(s.result, rows)
	for i := range s.result {
		s.result[i] = -1
	}
	if rows == 0 || columns == 0 {
		return s.result
	}
	flip := rows > columns // paths start at the shorter side, and find a place for all of it
	n, m := rows, columns
	if flip {
		n, m = columns, rows
	}
	gain := func(i, j int) float64 { // what a pair saves, as a cost of at most 0; rows and columns from 1
		if flip {
			i, j = j, i
		}
		return min(cost[(i-1)*columns+j-1]-limit, 0)
	}
	s.solve(n, m, gain)
	for j := 1; j <= m; j++ {
		if i := s.row[j]; i != 0 && gain(i, j) < 0 {
			if flip {
				s.result[j-1] = i - 1
			} else {
				s.result[i-1] = j - 1
			}
		}
	}
	return s.result
}

// solve finds s.row for n rows and m columns, n ≤ m, both counted from 1.
func (s *assigner) solve(n, m int, cost func(i, j int) float64) {
	s.u, s.v, s.least = resize(s.u, n+1), resize(s.v, m+1), resize(s.least, m+1)
	s.row, s.way, s.used = resize(s.row, m+1), resize(s.way, m+1), resize(s.used, m+1)
	clear(s.u)
	clear(s.v)
	clear(s.row)
	for i := 1; i <= n; i++ {
		s.augment(i, m, cost)
	}
}

// augment gives row i a column, moving others along the cheapest path.
func (s *assigner) augment(i, m int, cost func(i, j int) float64) {
	clear(s.used)
	for j := range s.least {
		s.least[j] = math.Inf(1)
	}
	s.row[0] = i
	at := 0
	for s.row[at] != 0 {
		s.used[at] = true
		from, next, step := s.row[at], 0, math.Inf(1)
		for j := 1; j <= m; j++ {
			if s.used[j] {
				continue
			}
			if c := cost(from, j) - s.u[from] - s.v[j]; c < s.least[j] {
				s.least[j], s.way[j] = c, at
			}
			if s.least[j] < step {
				step, next = s.least[j], j
			}
		}
		for j := range s.used {
			if s.used[j] {
				s.u[s.row[j]] += step
				s.v[j] -= step
			} else {
				s.least[j] -= step
			}
		}
		at = next
	}
	for at != 0 {
		before := s.way[at]
		s.row[at] = s.row[before]
		at = before
	}
}

// resize returns a slice of n elements, the same memory where it is enough.
// What the elements hold is unspecified.
func resize[T any](s []T, n int) []T { return slices.Grow(s[:0], n)[:n] }
