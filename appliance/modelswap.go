package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"outstation/vision"
	"outstation/vision/models"
)

const (
	// swapTimeout bounds how long a version that goes back by itself waits for
	// a detector that does not end its inspection.
	swapTimeout = 30 * time.Second
	// apartAfter is how long models of one name may run different versions
	// before that is a problem: a swap has just been made, and is being noted.
	apartAfter = 2 * time.Second
	// apartRetry is the time between two attempts to bring them together.
	apartRetry = time.Minute
)

// ready is a detector that waits for its turn.
type ready struct {
	model    ModelConfig
	detector vision.Detector
}

// openAll opens a version for each configured model that shows it. With an
// error none is open: what cannot be loaded for all is put into none.
func (k *modelKeeper) openAll(ctx context.Context, name, sha string) (opened []ready, err error) {
	for _, m := range k.users(name) {
		d, err := k.openVersion(ctx, m, sha)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s@%s cannot be loaded for model %s: %w", name, models.Short(sha), m.Name, err), closeAll(opened))
		}
		opened = append(opened, ready{m, d})
	}
	return opened, nil
}

// swapAll puts open detectors into the pipeline and returns those that are in
// it. With an error the others are closed.
func (k *modelKeeper) swapAll(ctx context.Context, opened []ready) (in []ready, err error) {
	for i, r := range opened {
		open := func(context.Context) (vision.Detector, error) { return r.detector, nil }
		if err := k.vision.Swap(ctx, r.model.Name, open); err != nil { // Swap closed this one
			return opened[:i], errors.Join(err, closeAll(opened[i+1:]))
		}
	}
	return opened, nil
}

// swapOrUndo is swapAll, and with an error models that have a new detector go
// back to the version before, if there was one. They do so although whoever
// asked has given up. What does not go back is left to bringTogether.
func (k *modelKeeper) swapOrUndo(ctx context.Context, opened []ready, before string) error {
	in, err := k.swapAll(ctx, opened)
	if err == nil || before == "" {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), swapTimeout)
	defer cancel()
	errs := []error{err}
	for _, r := range in {
		if err := k.show(ctx, r.model, before); err != nil {
			errs = append(errs, fmt.Errorf("and %s@%s does not take over again: %w", r.model.Path, models.Short(before), err))
		}
	}
	return errors.Join(errs...)
}

// show puts a version into the pipeline for one model.
func (k *modelKeeper) show(ctx context.Context, m ModelConfig, sha string) error {
	return k.vision.Swap(ctx, m.Name, func(ctx context.Context) (vision.Detector, error) { return k.openVersion(ctx, m, sha) })
}

func closeAll(opened []ready) error {
	var errs []error
	for _, r := range opened {
		errs = append(errs, r.detector.Close())
	}
	return errors.Join(errs...)
}

// giveUp rolls back the version that failed in its trial, unless the one before
// cannot be loaded. A model that does not take it is not a reason for the
// others to go on failing; it is left to bringTogether.
func (k *modelKeeper) giveUp(ctx context.Context, name string, s storedState, reason string) {
	ctx, cancel := context.WithTimeout(ctx, swapTimeout)
	defer cancel()
	opened, err := k.openAll(ctx, name, s.Previous)
	if err != nil {
		k.fail(name, fmt.Errorf("%s, and the version before it does not take over: %w", reason, err))
		return
	}
	k.goBack(name, s.Current, reason)
	if _, err := k.swapAll(ctx, opened); err != nil {
		k.log.Error("the version before does not take over everywhere", "model", name, "error", err)
	}
}

// bringTogether asks models that run another version of a name than the
// current one to run that, and says in health what they run until they do. It
// leaves alone what has another problem: then it is not sure what is current.
func (k *modelKeeper) bringTogether(ctx context.Context, name string) {
	s, other := k.state(name), k.elsewhere(name)
	switch {
	case s.Current == "" || (s.problem != "" && s.apart.IsZero()):
	case len(other) == 0 && !s.apart.IsZero():
		k.refresh(name, nil)
	case len(other) == 0:
	case s.apart.IsZero():
		k.setApart(name, k.now().Add(apartAfter))
	case !k.now().Before(s.apart):
		k.setApart(name, k.now().Add(apartRetry))
		ctx, cancel := context.WithTimeout(ctx, swapTimeout)
		defer cancel()
		for _, o := range other {
			if o.hung {
				continue // it takes nothing until the restart
			}
			apart := fmt.Errorf("model %s runs version %s while %s is active; it is asked to take that every %v", o.model.Name, models.Short(o.runs), models.Short(s.Current), apartRetry)
			k.fail(name, apart)
			if err := k.show(ctx, o.model, s.Current); err != nil {
				k.fail(name, fmt.Errorf("%w: %w", apart, err))
				return
			}
		}
	}
}

// running is a configured model and the version that it runs.
type running struct {
	model ModelConfig
	runs  string // SHA-256
	hung  bool
}

// elsewhere are the configured models of a name that run another version than
// the current one. One that runs none is loading it.
func (k *modelKeeper) elsewhere(name string) (out []running) {
	stats, current := k.statsOf(name), k.state(name).Current
	for i, m := range k.users(name) {
		if sha := stats[i].ModelSHA256; stats[i].Ready && sha != "" && sha != current {
			out = append(out, running{m, sha, stats[i].Hung})
		}
	}
	return out
}

// setApart notes that models of a name run different versions.
func (k *modelKeeper) setApart(name string, next time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.states[name]
	s.apart = next
	k.states[name] = s
}
