package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"outstation/uplink/wire"
	"outstation/vision/models"
	"outstation/web"
)

// The steps of an activation that are not the making of an engine, which says
// what it is itself.
const (
	stepLoading = "checking its files and loading it"
	stepGate    = "inspecting its golden frames"
	stepSwap    = "putting it into the place of the version before"
)

// activating is the activation that is under way.
type activating struct {
	name, sha string
	before    string    // SHA-256 of the version that is active meanwhile; "" where none is
	since     time.Time // when it began
	step      string
	stepSince time.Time
}

// begin says that a version is being activated, until the function that it
// returns is called. The caller holds k.changing.
func (k *modelKeeper) begin(name, sha, before string) (end func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	k.activating = &activating{name: name, sha: sha, before: before, since: now, step: stepLoading, stepSince: now}
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.activating = nil
	}
}

// step says what the activation that is under way does from now on.
func (k *modelKeeper) step(what string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if a := k.activating; a != nil && a.step != what {
		next := *a // others may be reading this one
		next.step, next.stepSince = what, k.now()
		k.activating = &next
	}
}

// gateLimit is how long golden frames may take, which are few: a detector that
// hangs cannot be ended, and holds up every other activation.
const gateLimit = 5 * time.Minute

// activatingCheck says what is being activated. That is no fault, as what was
// active serves on, unless it hangs.
func activatingCheck(f modelFacts, now time.Time) []wire.Check {
	a := f.activating
	if a == nil {
		return nil
	}
	state, detail := wire.Healthy, webActivating(f).String()
	if a.step == stepGate && now.Sub(a.stepSince) >= gateLimit {
		state, detail = wire.Impaired, detail+"; it does not answer any more, and no other version can be activated: restart the appliance"
	}
	return []wire.Check{check("activation", state, detail)}
}

// webActivating is what the page shows of an activation, or nil.
func webActivating(f modelFacts) *web.Activating {
	a := f.activating
	if a == nil {
		return nil
	}
	return &web.Activating{Name: a.name, Version: a.sha, Before: a.before, Since: a.since, Step: a.step, StepSince: a.stepSince}
}

const (
	// tellAfter is the time between two looks at an activation that a command
	// waits for.
	tellAfter = time.Second
	// tellAgain is how long a step may take before it is told again.
	tellAgain = 30 * time.Second
)

// tellActivation writes what the activation does that somebody waits for, a
// line for each step and one now and then, until ctx ends. What it cannot learn
// it leaves out: the answer that is waited for says what is wrong.
func tellActivation(ctx context.Context, c client, w io.Writer, name string, every, again time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	began, last, told := time.Now(), "", time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var s web.Snapshot
		err := c.do(ctx, request{method: http.MethodGet, path: "status.json"}, func(body io.Reader) error { return json.NewDecoder(body).Decode(&s) })
		a := s.Activating
		if err != nil || ctx.Err() != nil || a == nil || a.Name != name || (a.Step == last && time.Since(told) < again) {
			continue
		}
		last, told = a.Step, time.Now()
		fmt.Fprintf(w, "%s@%s: %s, %v so far; meanwhile %s\n", a.Name, models.Short(a.Version), a.Step, time.Since(began).Round(time.Second), a.Meanwhile())
	}
}
