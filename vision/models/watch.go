package models

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// errStuck says that a download makes no progress.
var errStuck = errors.New("too little has come for too long")

// watch ends a download that brings less than stuckBytes in a while. Bytes are
// written to it from one goroutine.
type watch struct {
	bytes atomic.Int64
	done  chan struct{}
	ended chan struct{}
}

func newWatch(every time.Duration, cancel context.CancelCauseFunc) *watch {
	w := &watch{done: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(w.ended)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-w.done:
				return
			case <-tick.C:
				if w.bytes.Swap(0) < stuckBytes {
					cancel(errStuck)
					return
				}
			}
		}
	}()
	return w
}

// Write counts what has come.
func (w *watch) Write(b []byte) (int, error) {
	w.bytes.Add(int64(len(b)))
	return len(b), nil
}

func (w *watch) stop() {
	close(w.done)
	<-w.ended
}
