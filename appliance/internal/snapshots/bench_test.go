package snapshots

import (
	"testing"
)

// BenchmarkPut is a picture of 150 KB, synced with its directory.
func BenchmarkPut(b *testing.B) {
	s, err := Open(Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	for b.Loop() {
		n++
		sum, data := jpeg(n, 150<<10)
		if err := s.Put(sum, data); err != nil {
			b.Fatal(err)
		}
	}
}
