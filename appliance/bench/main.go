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

// benches in the order in which they run. Each returns one line.
var benches = []struct {
	name string
	run  func(context.Context, options) (any, error)
}{
	{"frame", benchFrame},
	{"uplink", benchUplink},
}

// options of all benches.
type options struct {
	binary   string
	dir      string // on the disk that is measured
	messages int
	runs     int
}

func main() {
	var o options
	only := flag.String("only", "", "run this bench alone: frame or uplink")
	flag.StringVar(&o.binary, "binary", "bin/outstation", "the appliance")
	flag.StringVar(&o.dir, "dir", ".run", "directory for queues, on the disk to be measured")
	flag.IntVar(&o.messages, "messages", 100_000, "messages of one uplink run")
	flag.IntVar(&o.runs, "runs", 3, "runs of which the median is printed")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *only, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, only string, o options) error {
	known := false
	for _, b := range benches {
		if only != "" && only != b.name {
			continue
		}
		known = true
		line, err := b.run(ctx, o)
		if err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		if err := json.NewEncoder(os.Stdout).Encode(line); err != nil {
			return err
		}
	}
	if !known {
		return fmt.Errorf("no bench is called %q", only)
	}
	return nil
}
