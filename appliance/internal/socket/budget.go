package socket

import (
	"context"
	"slices"
	"sync"
)

// budget bounds the bytes of all lines between their end and their answer.
// Who waits is served in turn, so that a connection with many lines gets no
// more than one with few. It is safe for concurrent use.
type budget struct {
	mu      sync.Mutex
	free    int
	waiting []*turn
}

type turn struct {
	bytes int
	ready chan struct{} // closed when the bytes are its own
}

// acquire waits for n bytes, at most the whole budget, or returns ctx's error.
func (b *budget) acquire(ctx context.Context, n int) error {
	b.mu.Lock()
	if len(b.waiting) == 0 && b.free >= n {
		b.free -= n
		b.mu.Unlock()
		return nil
	}
	t := &turn{n, make(chan struct{})}
	b.waiting = append(b.waiting, t)
	b.mu.Unlock()
	select {
	case <-t.ready:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.Index(b.waiting, t); i >= 0 {
		b.waiting = slices.Delete(b.waiting, i, i+1)
	} else {
		b.free += n
	}
	b.serve()
	return ctx.Err()
}

// release gives n bytes back. It does not block.
func (b *budget) release(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free += n
	b.serve()
}

// serve lets in who waits, in turn; mu is held.
func (b *budget) serve() {
	for len(b.waiting) > 0 && b.waiting[0].bytes <= b.free {
		b.free -= b.waiting[0].bytes
		close(b.waiting[0].ready)
		b.waiting = b.waiting[1:]
	}
}
