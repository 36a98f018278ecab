package sim

import (
	"testing"
)

func BenchmarkLine(b *testing.B) {
	for _, size := range [][2]int{{1280, 720}, {1920, 1080}} {
		b.Run("", func(b *testing.B) {
			l, err := NewLine(LineOptions{Seed: 1, Width: size[0], Height: size[1], DefectRate: 0.2})
			if err != nil {
				b.Fatal(err)
			}
			dst := make([]byte, 3*size[0]*size[1])
			var i int64
			b.ReportAllocs()
			for b.Loop() {
				m := l.Image(i)
				if _, err := m.Letterbox(dst, size[0], size[1], 114); err != nil {
					b.Fatal(err)
				}
				m.Close()
				i++
			}
		})
	}
}
