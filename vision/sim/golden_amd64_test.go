package sim

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"
)

// TestNoPixelChanges: the model was trained on these pixels, so that one of
// them changes is a decision and not a side effect. Other architectures may
// round differently.
func TestNoPixelChanges(t *testing.T) {
	for _, c := range []struct {
		opts          LineOptions
		width, height int
		want          string
	}{
		{LineOptions{Seed: 1, DefectRate: 0.2}, 1280, 720, "acec57a668b8e16e"},
		{LineOptions{Seed: 2, DefectRate: 1}, 320, 192, "621971a1a16a5676"},
		{LineOptions{Seed: 3, DefectRate: 1, PartsPerMinute: 240}, 640, 384, "6bce0c4878be4919"},
		{LineOptions{Seed: 4, DefectRate: 0.5, Width: 1920, Height: 1080}, 1920, 1080, "683a3464eb5903da"},
		{LineOptions{Seed: 5, DefectRate: 1, Width: 321, Height: 241}, 416, 416, "0ba3bd9ec36bbe28"},
		{LineOptions{Seed: 6, DefectRate: 1}, 1280, 722, "a24d32a830d0fd47"},
	} {
		l := newLine(t, c.opts)
		sum := sha256.New()
		for _, i := range []int64{0, 1, 40, 41, 300, 12345} {
			sum.Write(drawn(t, l, i, c.width, c.height))
		}
		if got := hex.EncodeToString(sum.Sum(nil)[:8]); got != c.want {
			t.Errorf("%+v at %d×%d: %s, want %s", c.opts, c.width, c.height, got, c.want)
		}
	}
}
