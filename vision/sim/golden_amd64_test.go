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
		{LineOptions{Seed: 1, DefectRate: 0.2}, 1280, 720, "e43eff27331af66c"},
		{LineOptions{Seed: 2, DefectRate: 1}, 320, 192, "c570a11aedb9c729"},
		{LineOptions{Seed: 3, DefectRate: 1, PartsPerMinute: 240}, 640, 384, "3258cd4a4799fbf8"},
		{LineOptions{Seed: 4, DefectRate: 0.5, Width: 1920, Height: 1080}, 1920, 1080, "e53d52d5885decd2"},
		{LineOptions{Seed: 5, DefectRate: 1, Width: 321, Height: 241}, 416, 416, "8d54c8f7c1def423"},
		{LineOptions{Seed: 6, DefectRate: 1}, 1280, 722, "d295e001665a14f8"},
	} {
		l := newLine(t, c.opts)
		sum := sha256.New()
		for _, i := range []int64{0, 41, 12345} {
			sum.Write(drawn(t, l, i, c.width, c.height))
		}
		if got := hex.EncodeToString(sum.Sum(nil)[:8]); got != c.want {
			t.Errorf("%+v at %d×%d: %s, want %s", c.opts, c.width, c.height, got, c.want)
		}
	}
}
