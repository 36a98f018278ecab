package vision

import (
	"context"
	"fmt"
	"time"
)

// Upgrader is a Detector that serves while a better one of the same model is
// made, such as one whose engine takes minutes to build.
type Upgrader interface {
	Detector

	// Pending says what Upgrade makes and how long that takes as a rule; ""
	// when there is nothing to make. It is safe for concurrent use.
	Pending() string

	// Upgrade makes the better detector. The Pipeline calls it once, beside
	// Detect and Info; it may outlive this detector's Close. It should give up
	// when ctx ends. The caller owns what it returns.
	Upgrade(ctx context.Context) (Detector, error)
}

// UpgradeStats is the Upgrade of the detector that serves. It is zero when
// there is none, and again once the better detector has taken over.
type UpgradeStats struct {
	What  string    // is made
	Since time.Time // when that began
	Error string    // that ended it; "" while it is under way
}

// upgrade is the one that is under way for a worker's detector.
type upgrade struct {
	cancel context.CancelFunc
	done   chan Detector // of this upgrade alone: what comes late meets no receiver
}

// install makes d the detector, and starts its upgrade if it has one.
func (w *worker) install(ctx context.Context, d Detector) {
	w.detector, w.batch.max, w.batch.failures = d, batchOf(d), 0
	w.calls.forget()
	w.loaded(d, nil)
	ctx, cancel := context.WithCancel(ctx)
	w.upgrade = upgrade{cancel, make(chan Detector)}
	u, ok := d.(Upgrader)
	ok = ok && u.Pending() != ""
	var s UpgradeStats
	if ok {
		s = UpgradeStats{What: u.Pending(), Since: time.Now()}
	}
	w.mu.Lock()
	w.stats.Upgrade = s
	w.mu.Unlock()
	if !ok {
		return
	}
	w.log.Info("a better detector is being made while this one serves", "what", u.Pending())
	done := w.upgrade.done
	w.aside.Go(func() { w.makeBetter(ctx, u, done) })
}

// makeBetter runs an upgrade and hands over what came of it.
func (w *worker) makeBetter(ctx context.Context, u Upgrader, done chan<- Detector) {
	d, err := u.Upgrade(ctx)
	if err == nil && d == nil {
		err = fmt.Errorf("model %q: the upgrade brought no detector", w.opts.Name)
	}
	if err != nil {
		w.notBetter(ctx, err)
		return
	}
	select {
	case done <- d:
	case <-ctx.Done():
		w.shut(d)
	}
}

// notBetter notes why an upgrade failed, unless its detector is gone.
func (w *worker) notBetter(ctx context.Context, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	w.stats.Upgrade.Error = err.Error()
	w.log.Error("the better detector cannot be made; the old one stays", "error", err)
}

// replace puts next in the place of the detector. The old one is closed
// beside it: freeing a GPU's memory takes longer than a frame should wait. An
// upgrade of the old one is of no use any more.
func (w *worker) replace(ctx context.Context, next Detector) {
	old := w.detector
	w.upgrade.cancel()
	w.install(ctx, next)
	w.aside.Go(func() { w.shut(old) })
}

// shut closes a detector; nil is none.
func (w *worker) shut(d Detector) {
	if d == nil {
		return
	}
	if err := d.Close(); err != nil {
		w.log.Warn("closing the detector", "error", err)
	}
}
