package load

import (
	"cmp"
	"slices"
)

// Median is the middle of the values, the upper one of two.
func Median[T cmp.Ordered](values []T) T {
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	return sorted[len(sorted)/2]
}
