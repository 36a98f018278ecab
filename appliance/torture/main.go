// Command torture kills the appliance with -9 at random moments under the
// load of devices with many messages in flight, while the way to the centre
// is cut at random, and checks that nothing acknowledged is lost and that the
// ledger is exact. `make torture` runs it, beside Mosquitto's own bridge
// under the same script.
//
// With -powercut the appliance runs in an emulated machine, and it is the
// machine that is killed: see guest.go. `make powercut` runs that.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// options of a run.
type options struct {
	binary   string
	dir      string
	cycles   int
	seed     uint64
	bridge   bool
	powercut bool
	deps     string // of the power cut: what .ci/deps powercut fetched
	program  string // of the power cut: a test binary that can turn the sync off
	unsynced int    // cycles of the power cut with it
}

func main() {
	var o options
	flag.StringVar(&o.binary, "binary", "bin/outstation", "the appliance")
	flag.StringVar(&o.dir, "dir", ".run", "directory for queues and logs, which stay there after a failure")
	flag.IntVar(&o.cycles, "cycles", 200, "how often the appliance is killed")
	flag.Uint64Var(&o.seed, "seed", 0, "repeats the schedule of a former run; 0 takes a new one")
	flag.BoolVar(&o.bridge, "bridge", true, "run Mosquitto's bridge under the same script")
	flag.BoolVar(&o.powercut, "powercut", false, "kill an emulated machine instead of the process")
	flag.StringVar(&o.deps, "deps", ".deps/powercut", "power cut: the guest's kernel, modules and shell")
	flag.StringVar(&o.program, "unsynced-binary", "", "power cut: test binary of the appliance, for the run without a sync")
	flag.IntVar(&o.unsynced, "unsynced-cycles", 2, "power cut: cycles without a sync, which must lose something")
	flag.Parse()
	if o.seed == 0 {
		o.seed = rand.Uint64()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(1)
	}
}

// report is the JSON object at the end.
type report struct {
	Bench    string  `json:"bench"`
	Cycles   int     `json:"cycles"`
	Seed     uint64  `json:"seed"`
	Passed   bool    `json:"passed"`
	Seconds  float64 `json:"seconds"`
	Ours     *result `json:"outstation"`
	Bridge   *result `json:"bridge,omitempty"`
	Unsynced *result `json:"unsynced,omitempty"` // must lose something
}

func run(ctx context.Context, o options) error {
	began := time.Now()
	if err := os.MkdirAll(o.dir, 0o750); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.dir, "torture-")
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	r := report{Bench: "torture", Cycles: o.cycles, Seed: o.seed}
	fmt.Fprintf(os.Stderr, "torture: seed %d, logs in %s\n", o.seed, dir)
	if o.powercut {
		r.Bench = "powercut"
		err = r.powercut(ctx, o, dir)
	} else {
		err = r.processes(ctx, o, dir)
	}
	if err != nil {
		return fmt.Errorf("seed %d: %w", o.seed, err)
	}
	r.Passed = r.Ours.exact() && (r.Unsynced == nil || r.Unsynced.Lost > 0)
	r.Seconds = time.Since(began).Seconds()
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		return err
	}
	switch {
	case !r.Ours.exact():
		return fmt.Errorf("seed %d: the appliance lost something or its ledger is wrong; what it left is in %s", o.seed, dir)
	case !r.Passed:
		return fmt.Errorf("seed %d: without a sync nothing was lost, so this proves nothing; see %s", o.seed, dir)
	}
	return os.RemoveAll(dir)
}

// processes kills processes of this machine.
func (r *report) processes(ctx context.Context, o options, dir string) (err error) {
	r.Ours, err = torture(ctx, "outstation", o.cycles, o.seed, filepath.Join(dir, "outstation"), processPace,
		func(dir, centre string) (edge, error) { return newProcess(o.binary, dir, centre) })
	if err != nil || !o.bridge {
		return err
	}
	r.Bridge, err = torture(ctx, "bridge", o.cycles, o.seed, filepath.Join(dir, "bridge"), processPace, newBridge)
	return err
}

// powercut kills an emulated machine.
func (r *report) powercut(ctx context.Context, o options, dir string) (err error) {
	r.Ours, err = torture(ctx, "outstation", o.cycles, o.seed, filepath.Join(dir, "outstation"), guestPace,
		func(dir, centre string) (edge, error) {
			return newGuest(guestOptions{deps: o.deps, program: o.binary, dir: dir, centre: centre})
		})
	if err != nil || o.unsynced == 0 {
		return err
	}
	r.Unsynced, err = torture(ctx, "unsynced", o.unsynced, o.seed, filepath.Join(dir, "unsynced"), unsyncedPace,
		func(dir, centre string) (edge, error) {
			return newGuest(guestOptions{deps: o.deps, program: o.program, dir: dir, centre: centre, unsynced: true})
		})
	return err
}
