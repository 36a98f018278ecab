package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"outstation/uplink/wire"
	"outstation/vision"
)

// restartCode is the exit status of an appliance that ends so that its service
// manager starts it again.
const restartCode = 3

// restartUptime is how long a process lives at least before it restarts itself,
// and so the shortest time between two such restarts: whatever makes calls hang
// at once after the start is not mended by restarts.
const restartUptime = 10 * time.Minute

// restartError says why the appliance ends to be started again.
type restartError struct{ error }

func (e restartError) Unwrap() error { return e.error }

// maxStuck is how many calls into cameras may be stuck before the appliance
// restarts itself: as many as the pipeline says, or fewer where there are so
// few cameras that with those none is left.
func maxStuck(cfg VisionConfig) int {
	return max(1, min(vision.DefaultMaxStuck, cfg.cameras()*vision.DefaultMaxStuckPerCamera))
}

// openRestart watches for what only another process can mend.
func (a *app) openRestart(opt appOptions) error {
	after := opt.restarts
	if after == 0 {
		after = restartUptime
	}
	a.background(func(ctx context.Context) {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			s := a.vision.Stats()
			if err := errors.Join(s.Stuck(), s.Hung()); err != nil && time.Since(a.started) >= after {
				// Now, as the process may not live to the end of Close. It is the fault of a model on trial whose own
				// detector hangs, which is rolled back, and of no other.
				if err := a.models.end(); err != nil {
					a.log.Error("this restart counts against the models on trial", "error", err)
				}
				a.restart <- restartError{fmt.Errorf("ending with status %d to be started again: %w", restartCode, err)}
				return
			}
		}
	})
	return nil
}

// restartChecks say that a restart is due; none when it is not.
func restartChecks(f facts) (checks []wire.Check) {
	say := func(name string, err error) {
		if err == nil {
			return
		}
		detail := err.Error() + "; the appliance restarts itself"
		if left := restartUptime - f.now.Sub(f.started); left > 0 {
			detail += " in " + left.Round(time.Second).String()
		}
		checks = append(checks, check(name, wire.Unhealthy, detail))
	}
	say("cameras", f.vision.Stuck())
	say("detectors", f.vision.Hung())
	return checks
}

// endWithin ends the process with a status if it has not stopped in time. The
// function that it returns calls that off.
func endWithin(d time.Duration, status int, errOut io.Writer) func() bool {
	return time.AfterFunc(d, func() {
		fmt.Fprintf(errOut, "outstation: not stopped within %v, ending at once\n", d)
		os.Exit(status)
	}).Stop
}
