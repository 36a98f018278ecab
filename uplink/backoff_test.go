package uplink

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestBackoffGrowsToItsCeilingWithFullJitter(t *testing.T) {
	b := Backoff{Floor: time.Second, Ceiling: 10 * time.Second, Stable: time.Minute}
	for failures, top := range map[int]time.Duration{1: 2 * time.Second, 2: 4 * time.Second, 3: 8 * time.Second, 4: 10 * time.Second, 60: 10 * time.Second} {
		if got := b.wait(failures, 0); got != time.Second {
			t.Errorf("%d failures, least wait: got %v, expected the floor", failures, got)
		}
		if got := b.wait(failures, 0.999999); got > top || got < top-time.Millisecond {
			t.Errorf("%d failures, most wait: got %v, expected %v", failures, got, top)
		}
	}
}

func TestBackoffDrawsFromItsSpreadAtLeast(t *testing.T) {
	b := Backoff{Floor: time.Second, Ceiling: 10 * time.Second, Stable: time.Minute, Spread: 7 * time.Second}
	for failures, top := range map[int]time.Duration{1: 7 * time.Second, 2: 7 * time.Second, 3: 8 * time.Second, 4: 10 * time.Second} {
		if got := b.wait(failures, 0); got != time.Second {
			t.Errorf("%d failures, least wait: got %v, expected the floor", failures, got)
		}
		if got := b.wait(failures, 0.999999); got > top || got < top-time.Millisecond {
			t.Errorf("%d failures, most wait: got %v, expected %v", failures, got, top)
		}
	}
	b.Ceiling = 5 * time.Second
	if got := b.wait(1, 0.999999); got > b.Ceiling {
		t.Errorf("got %v, expected the ceiling of %v at most", got, b.Ceiling)
	}
}

func TestPauseByHandIsNotFollowedByAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		n, waits := 0, 0
		b := Backoff{Floor: time.Second, Ceiling: time.Hour, Stable: time.Minute}
		retry(ctx, func() (Backoff, <-chan struct{}) { return b, nil }, func(context.Context) error {
			switch n++; n {
			case 1:
				return errors.New("lost")
			case 2:
				return fmt.Errorf("a connection: %w", errPaused)
			}
			cancel()
			return ctx.Err()
		}, func(time.Duration, error) { waits++ })
		if n != 3 || waits != 1 {
			t.Errorf("got %d attempts and %d waits, expected 3, and a wait after the one that was lost", n, waits)
		}
	})
}

func TestBackoffStartsOverOnlyAfterAStableLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := Backoff{Floor: time.Second, Ceiling: time.Hour, Stable: time.Minute}
		ctx, cancel := context.WithCancel(t.Context())
		lasts := []time.Duration{time.Second, time.Second, 2 * time.Minute, time.Second}
		var tops []time.Duration
		failures, n := 0, 0
		retry(ctx, func() (Backoff, <-chan struct{}) { return b, nil }, func(context.Context) error {
			time.Sleep(lasts[n])
			return errors.New("lost")
		}, func(d time.Duration, _ error) {
			if lasts[n] >= b.Stable {
				failures = 0
			}
			failures++
			tops = append(tops, d)
			if most := b.Floor << failures; d > most {
				t.Errorf("wait %d: got %v, expected at most %v", n, d, most)
			}
			if n++; n == len(lasts) {
				cancel()
			}
		})
		if len(tops) != len(lasts) {
			t.Errorf("got %d waits, expected %d", len(tops), len(lasts))
		}
	})
}

func TestWhatIsPausedSaysSo(t *testing.T) {
	var p Pauser
	err := p.during(t.Context(), func(ctx context.Context) error {
		p.Set(true)
		<-ctx.Done()
		return errors.New("what became of the connection")
	})
	if !errors.Is(err, errPaused) {
		t.Errorf("got %v, expected %v", err, errPaused)
	}
}
