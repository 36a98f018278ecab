//go:build !novision

// Command bench measures the appliance and prints one JSON object a line.
// `make bench` runs it. It needs bin/outstation, a real Mosquitto as the
// centre, and the model, video and library of the tests.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// benches in the order in which they run. Each emits its lines; what belongs
// to the uplink runs with it.
var benches = []struct {
	name, group string
	run         func(context.Context, options, func(any) error) error
}{
	{"frame", "frame", benchFrame},
	{"accuracy", "accuracy", benchAccuracy},
	{"cameras", "cameras", benchCameras},
	{"flat", "flat", benchFlat},
	{"uplink", "uplink", benchUplink},
	{"drain", "uplink", benchDrain},
	{"memory", "uplink", benchMemory},
	{"broker", "broker", benchBroker},
	{"sessions", "sessions", benchSessions},
	{"logins", "logins", benchLogins},
	{gpuBench, gpuBench, benchGPU},
}

// gpuBench runs only when it is asked for: it loads another ONNX Runtime, of
// which a process has one.
const gpuBench = "gpu"

// options of all benches.
type options struct {
	binary   string
	dir      string // on the disk that is measured
	messages int
	runs     int
	drain    int
	memory   int
	local    int
	frames   int

	memoryLimit, gcPercent int // of the process that bench memory measures
}

func main() {
	var o options
	only := flag.String("only", "", "run this bench alone: frame, accuracy, cameras, flat, uplink (with drain and memory), drain, memory, broker, sessions, logins or gpu")
	child := flag.String("memory-child", "", "be the process that bench memory measures, with its queue in this directory")
	flat := flag.Bool("flat-child", false, "be the process that bench flat measures")
	broker := flag.String("sessions-child", "", "be the process that bench sessions and bench logins measure, with its store in this directory")
	users := flag.String("sessions-users", "", "the users of that process")
	flag.StringVar(&o.binary, "binary", "bin/outstation", "the appliance")
	flag.StringVar(&o.dir, "dir", ".run", "directory for queues, on the disk to be measured")
	flag.IntVar(&o.messages, "messages", 100_000, "messages of one uplink run")
	flag.IntVar(&o.runs, "runs", 5, "runs of the appliance and of what it is compared with, of which the medians are printed")
	flag.IntVar(&o.drain, "drain", 200_000, "records that bench drain queues")
	flag.IntVar(&o.memory, "memory", 1_000_000, "records that bench memory, and messages that bench sessions queues")
	flag.IntVar(&o.local, "local", 500_000, "arrivals of one broker run")
	flag.IntVar(&o.frames, "frames", 100_000, "frames that bench flat inspects")
	flag.IntVar(&o.memoryLimit, "memory-limit", memoryLimitMiB, "Go's memory limit in bench memory, MiB")
	flag.IntVar(&o.gcPercent, "gc-percent", gcPercent, "Go's GC percentage in bench memory")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	emit := json.NewEncoder(os.Stdout).Encode
	var err error
	switch {
	case *child != "":
		err = memoryChild(ctx, *child, o, emit)
	case *flat:
		err = flatChild(ctx, o, emit)
	case *broker != "":
		err = sessionsChild(*broker, *users, emit)
	default:
		err = run(ctx, *only, o, emit)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, only string, o options, emit func(any) error) error {
	if err := os.MkdirAll(o.dir, 0o750); err != nil {
		return err
	}
	known := false
	for _, b := range benches {
		if only != "" && only != b.name && only != b.group || only == "" && b.name == gpuBench {
			continue
		}
		known = true
		if err := b.run(ctx, o, emit); err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
	}
	if !known {
		return fmt.Errorf("no bench is called %q", only)
	}
	return nil
}
