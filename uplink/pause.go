package uplink

import (
	"context"
	"errors"
	"sync"
)

// errPaused ends a connection that was paused by hand.
var errPaused = errors.New("paused")

// Pauser is the switch of every connection to the centre. The zero value is
// not paused. It is safe for concurrent use.
type Pauser struct {
	mu      sync.Mutex
	paused  bool
	changed chan struct{} // closed and replaced by Set
}

// Set pauses, which ends the connections, or lets them be made again.
func (p *Pauser) Set(paused bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paused = paused
	if p.changed != nil {
		close(p.changed)
	}
	p.changed = make(chan struct{})
}

// Paused reports whether connections are paused.
func (p *Pauser) Paused() bool {
	paused, _ := p.look()
	return paused
}

func (p *Pauser) look() (bool, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	return p.paused, p.changed
}

// await returns when connections may be made, or ctx's error.
func (p *Pauser) await(ctx context.Context) error {
	for {
		paused, changed := p.look()
		if !paused {
			return ctx.Err()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// during calls f with a context that also ends, with errPaused as its cause,
// when connections are paused. It returns f's error, or else errPaused.
func (p *Pauser) during(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		for {
			paused, changed := p.look()
			if paused {
				cancel(errPaused)
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	err := f(ctx)
	if cause := context.Cause(ctx); errors.Is(cause, errPaused) {
		return cause
	}
	return err
}
