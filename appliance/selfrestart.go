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

// restartUptimeOne is how many times that long a process lives at least before it
// restarts itself for single cameras, while others work.
const restartUptimeOne = 6

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
			if err := restartDue(a.vision.Stats(), after, time.Since(a.started), time.Now()); err != nil {
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

// restartDue says why a process that has been up that long is to be started
// again, or nothing. after is restartUptime.
//
// A single camera at its own bound is a reason too, once it has been stuck for
// after. It must have had frames from this process: one that had none was not
// mended by the last start, and would restart the others' appliance for ever.
func restartDue(s vision.Stats, after, up time.Duration, now time.Time) error {
	if err := errors.Join(s.Stuck(), s.Hung()); err != nil && up >= after {
		return err
	}
	for _, c := range s.Cameras {
		if left, will := restartIn(c, after, up, now); will && left <= 0 {
			return fmt.Errorf("camera %q, for %v: %w", c.ID, now.Sub(c.Since).Round(time.Second), vision.ErrStuck)
		}
	}
	return nil
}

// restartIn is how long it takes until a camera that is stuck is a reason for
// a restart, if it will be one.
func restartIn(c vision.CameraStats, after, up time.Duration, now time.Time) (left time.Duration, will bool) {
	if c.Reason != vision.ReasonStuck || c.Frames == 0 {
		return 0, false
	}
	return max(after-now.Sub(c.Since), restartUptimeOne*after-up), true
}

// stuckDetail adds to a camera's check what becomes of one that is stuck.
func stuckDetail(out wire.Check, c vision.CameraStats, f facts) wire.Check {
	if c.Reason != vision.ReasonStuck || f.vision.Stuck() != nil {
		return out
	}
	if left, will := restartIn(c, restartUptime, f.now.Sub(f.started), f.now); will {
		out.Detail += "; the appliance restarts itself for it in " + max(0, left).Round(time.Second).String()
	} else {
		out.Detail += "; it has given no frame since the start, so another start would not help: check the camera and its driver, then start the appliance again"
	}
	return out
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
