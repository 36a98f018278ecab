package sim

import (
	"syscall"
	"testing"
)

func newLine(t testing.TB, o LineOptions) *Line {
	t.Helper()
	l, err := NewLine(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// drawn are the pixels of a frame at some size.
func drawn(t testing.TB, l *Line, index int64, width, height int) []byte {
	t.Helper()
	m, dst := l.Image(index), make([]byte, 3*width*height)
	defer m.Close()
	if _, err := m.Letterbox(dst, width, height, 114); err != nil {
		t.Fatal(err)
	}
	return dst
}

func BenchmarkLine(b *testing.B) {
	for _, c := range []struct {
		name                string
		source, destination [2]int
	}{
		{"720p", [2]int{1280, 720}, [2]int{1280, 720}},
		{"1080p", [2]int{1920, 1080}, [2]int{1920, 1080}},
		{"720p to 320x192", [2]int{1280, 720}, [2]int{320, 192}},
		{"1080p to 416x416", [2]int{1920, 1080}, [2]int{416, 416}},
	} {
		b.Run(c.name, func(b *testing.B) {
			l := newLine(b, LineOptions{Seed: 1, Width: c.source[0], Height: c.source[1], DefectRate: DefaultDefectRate})
			dst := make([]byte, 3*c.destination[0]*c.destination[1])
			var i int64
			b.ReportAllocs()
			began := processorTime(b)
			for b.Loop() {
				m := l.Image(i)
				if _, err := m.Letterbox(dst, c.destination[0], c.destination[1], 114); err != nil {
					b.Fatal(err)
				}
				m.Close()
				i++
			}
			b.ReportMetric((processorTime(b)-began)*1e3/float64(b.N), "cpu-ms/op")
		})
	}
}

// processorTime is that of this process so far, in seconds: on a machine with
// other work it says more than the time that passes.
func processorTime(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}
