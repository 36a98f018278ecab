package vision

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestAModelThatCannotBeLoadedIsLoggedOncePerReason, while it is tried every
// second.
func TestAModelThatCannotBeLoadedIsLoggedOncePerReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out lockedBuffer
		tries := 0
		s := serve(t, Options{
			Models: []ModelOptions{{Name: "m", Open: func(context.Context) (Detector, error) {
				if tries++; tries <= 5 {
					return nil, errors.New("first reason")
				}
				return nil, errors.New("second reason")
			}}},
			Cameras: []CameraOptions{{ID: "c", NewSource: new(images).every(100 * time.Millisecond), Model: "m"}},
			Backoff: func(int) time.Duration { return time.Second },
			Logger:  slog.New(slog.NewTextHandler(&out, nil)),
		})
		time.Sleep(10 * time.Second)
		if err := s.stop(); err != nil {
			t.Error(err)
		}
		if n := strings.Count(out.String(), "the model cannot be loaded"); n != 2 || !strings.Contains(out.String(), "second reason") {
			t.Errorf("%d lines after %d tries:\n%s", n, tries, &out)
		}
	})
}

// lockedBuffer takes writes from any goroutine.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestACameraThatStaysAwayIsLoggedOnce, and again when the reason is another.
func TestACameraThatStaysAwayIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out lockedBuffer
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
			t.Errorf("%d lines for %d attempts, expected 2:\n%s", got, attempts, out.String())
		}
	})
}
