package vision

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestACameraThatStaysAwayIsLoggedOnce, and again when the reason is another.
func TestACameraThatStaysAwayIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		attempts := 0
		s := serve(t, Options{
			Logger: slog.New(slog.NewTextHandler(&out, nil)),
			Sink:   func(Event) {},
			Cameras: []CameraOptions{{ID: "a", NewSource: func() Source {
				return &fakeSource{open: func(context.Context) error {
					attempts++
					return fmt.Errorf("reason %d", attempts/6)
				}}
			}}},
		})
		time.Sleep(20 * time.Second)
		s.stop()
		if got := strings.Count(out.String(), "camera lost"); attempts < 7 || got != 2 {
			t.Errorf("%d lines for %d attempts, expected 2:\n%s", got, attempts, &out)
		}
	})
}
