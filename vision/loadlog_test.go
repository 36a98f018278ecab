package vision

import (
	"bytes"
	"context"
	"errors"
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
