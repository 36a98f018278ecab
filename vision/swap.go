package vision

import (
	"context"
	"errors"
	"fmt"
)

// ErrNoModel is wrapped by Swap's error for a name that is not in Options.Models.
var ErrNoModel = errors.New("no such model in the pipeline")

// Swap opens another detector for a model and puts it in the place of the one
// that serves. That one inspects frames until then, finishes the frame in
// hand, and is closed after the switch. When open fails, or ctx or the
// pipeline ends first, the old one stays. A model that could not be loaded so
// far is loaded with it.
//
// Swap returns when the next frame goes to the new detector. It is safe for
// concurrent use and needs a pipeline that is served, or it waits for ctx.
func (p *Pipeline) Swap(ctx context.Context, model string, open OpenDetector) error {
	w := p.worker(model)
	if w == nil {
		return fmt.Errorf("vision: %q: %w", model, ErrNoModel)
	}
	d, err := open(ctx)
	if err != nil {
		return fmt.Errorf("vision: model %q: %w", model, err)
	}
	select {
	case w.swaps <- d:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-w.exited:
		err = ErrServed
	case <-p.done:
		err = ErrServed
	}
	return errors.Join(fmt.Errorf("vision: model %q is not replaced: %w", model, err), d.Close())
}

func (p *Pipeline) worker(model string) *worker {
	for _, w := range p.workers {
		if w.opts.Name == model {
			return w
		}
	}
	return nil
}

// swapped puts a detector that was swapped in into the place of the old one.
func (w *worker) swapped(ctx context.Context, next Detector) {
	w.replace(ctx, next)
	w.fresh()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stats.Swaps++
}
