package uplink

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"time"
)

// Tuning is what of a link may change while it runs. Zero values mean the
// defaults.
type Tuning struct {
	// Centre, Window and Down belong to a connection: when they change, it is ended
	// and the next one is made at once. What it leaves unacknowledged goes out
	// first on that one, as after any other end.
	Centre Centre
	Window int // publishes that may wait for their PUBACK at once
	Down   *DownRouter

	// The rest holds from the next publish, fetch or attempt on.
	AckTimeout     time.Duration // a PUBACK that is later ends the connection
	MaxPacketBytes int64         // what is larger becomes a dead letter
	Backoff        Backoff
	Backfill       Backfill
}

func (t Tuning) withDefaults() Tuning {
	if t.Window == 0 {
		t.Window = DefaultWindow
	}
	if t.AckTimeout == 0 {
		t.AckTimeout = DefaultAckTimeout
	}
	if t.MaxPacketBytes == 0 {
		t.MaxPacketBytes = DefaultMaxPacketBytes
	}
	t.Centre, t.Backoff, _ = linkDefaults(t.Centre, t.Backoff, nil)
	return t
}

// Tune changes how the link works, and reports whether that ends the
// connection. It returns at once and is safe for concurrent use.
func (l *Link) Tune(t Tuning) (redial bool) {
	t = t.withDefaults()
	return l.tuned.set(t, func(old Tuning) bool {
		return old.Window != t.Window || !reflect.DeepEqual(old.Centre, t.Centre) || !reflect.DeepEqual(old.Down, t.Down)
	})
}

// tuning is how the link has to work now.
func (l *Link) tuning() Tuning {
	t, _ := l.tuned.get()
	return t
}

func (l *Link) backoff() (Backoff, <-chan struct{}) {
	t, changed := l.tuned.get()
	return t.Backoff, changed
}

// reaching is how a presence reaches the centre.
type reaching struct {
	centre  Centre
	backoff Backoff
}

// Tune changes how the presence reaches the centre. Another centre ends the
// connection, with offline as its last word, and the next one is made at once.
// It returns at once and is safe for concurrent use.
func (p *Presence) Tune(c Centre, b Backoff) {
	c, b, _ = linkDefaults(c, b, nil)
	p.tuned.set(reaching{c, b}, func(old reaching) bool { return !reflect.DeepEqual(old.centre, c) })
}

func (p *Presence) backoff() (Backoff, <-chan struct{}) {
	r, changed := p.tuned.get()
	return r.backoff, changed
}

// errTuned ends a connection that is not as it should be any more.
var errTuned = errors.New("the configuration of the link changed")

// tuned is a value that may change while a connection uses it.
type tuned[T any] struct {
	mu      sync.Mutex
	value   T
	changed chan struct{} // closed and replaced when the connection has to be made anew
}

func newTuned[T any](v T) *tuned[T] { return &tuned[T]{value: v, changed: make(chan struct{})} }

// get returns the value and a channel that is closed when a connection made
// with it has to end.
func (t *tuned[T]) get() (T, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.value, t.changed
}

// set changes the value. redial is asked whether the connection has to be
// made anew.
func (t *tuned[T]) set(v T, redial func(old T) bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	again := redial(t.value)
	t.value = v
	if again {
		close(t.changed)
		t.changed = make(chan struct{})
	}
	return again
}

// unlessTuned calls f with a context that also ends, with errTuned as its
// cause, when changed is closed.
func unlessTuned(ctx context.Context, changed <-chan struct{}, f func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-changed:
			cancel(errTuned)
		case <-ctx.Done():
		}
	}()
	return f(ctx)
}
