// Conformance runs the public MQTT suites against the broker, which it starts
// on loopback, and prints when each suite begins and ends, and at the end one
// line for each suite and each case that fails.
// With -mosquitto it runs them against Mosquitto instead.
//
// The exit status is 0 if nothing failed but what is known to.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"outstation/broker"
	"outstation/broker/access"
)

// timeout of one suite.
const timeout = 10 * time.Minute

// unittest runs a file of tests whose own main does not know its arguments.
const unittest = `
import runpy, sys, unittest
main = unittest.main
unittest.main = lambda *a, **k: main(argv=["tests"])
sys.path.insert(0, ".")
runpy.run_path(sys.argv[0], run_name="__main__")
`

// suite is one program of tests.
type suite struct {
	name  string
	argv  func(s settings, port string) []string
	known map[string]string // cases that fail, and why
}

type settings struct {
	paho, testmqtt, mosquitto string
}

var suites = []suite{
	{name: "testmqtt 3.1.1", argv: testmqtt("3"), known: map[string]string{
		"Will Message on Abnormal Disconnect [MQTT-3.1.2-8]": "its client sent DISCONNECT, as it does now and then, and no will was due",
	}},
	{name: "testmqtt 5", argv: testmqtt("5")},
	{name: "paho 3.1.1", argv: paho("client_test.py")},
	{name: "paho 5", argv: paho("client_test5.py"), known: map[string]string{
		"test_subscribe_failure": "it expects 0x80; ours says 0x87, not authorized",
		"test_request_response":  "it may publish before the SUBACK of the second client came",
		"test_subscribe_options": "it may publish before the SUBACK of the second client came",
	}},
}

// rules refuse what the suites want to be refused.
const rules = "topic readwrite #\ntopic readwrite $TopicA/#\ntopic readwrite $client_test5/#\ntopic deny test/nosubscribe\n"

func testmqtt(version string) func(settings, string) []string {
	return func(s settings, port string) []string {
		return []string{s.testmqtt, "conformance", "--version", version, "--broker", "tcp://127.0.0.1:" + port}
	}
}

func paho(file string) func(settings, string) []string {
	return func(_ settings, port string) []string {
		return []string{"python3", "-c", "import sys; sys.argv = sys.argv[1:]\n" + unittest, file, "--hostname=127.0.0.1", "-p", port}
	}
}

// outcome is what a suite said.
type outcome struct {
	total  int
	failed []string
	output string
}

func main() {
	var s settings
	flag.StringVar(&s.paho, "paho", "", "directory of paho.mqtt.testing")
	flag.StringVar(&s.testmqtt, "testmqtt", "", "program of testmqtt")
	flag.StringVar(&s.mosquitto, "mosquitto", "", "program of Mosquitto, to test it instead of the broker")
	verbose := flag.Bool("v", false, "print what the suites say")
	flag.Parse()
	if err := run(s, *verbose); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

// run runs all suites at once, each with a broker of its own.
func run(s settings, verbose bool) error {
	var err error
	if s.testmqtt, err = filepath.Abs(s.testmqtt); err != nil { // it is started in another directory
		return err
	}
	outcomes := make([]outcome, len(suites))
	errs := make([]error, len(suites))
	var all sync.WaitGroup
	for i, suite := range suites {
		all.Go(func() {
			start := time.Now()
			fmt.Printf("%-16s runs, for %v at most\n", suite.name, timeout)
			outcomes[i], errs[i] = suite.run(s)
			fmt.Printf("%-16s has ended after %v\n", suite.name, time.Since(start).Round(time.Second))
		})
	}
	all.Wait()
	unexpected := 0
	for i, suite := range suites {
		if verbose {
			fmt.Println(outcomes[i].output)
		}
		if errs[i] != nil {
			return fmt.Errorf("%s: %w", suite.name, errs[i])
		}
		o := outcomes[i]
		fmt.Printf("%-16s %d of %d\n", suite.name, o.total-len(o.failed), o.total)
		for _, name := range o.failed {
			why, known := suite.known[name]
			if !known {
				unexpected++
			}
			fmt.Println("  not passed:", strings.TrimSuffix(name+": "+why, ": "))
		}
	}
	if unexpected > 0 && s.mosquitto == "" {
		return fmt.Errorf("cases that should pass and do not: %d", unexpected)
	}
	return nil
}

func (u suite) run(s settings) (outcome, error) {
	port, stop, err := serve(s)
	if err != nil {
		return outcome{}, err
	}
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	argv := u.argv(s, port)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = filepath.Join(s.paho, "interoperability")
	out, err := cmd.CombinedOutput()
	o := read(string(out))
	if o.total == 0 || ctx.Err() != nil { // a suite with failures ends with an error too
		return o, fmt.Errorf("it did not come to its end: %w\n%s", errors.Join(err, ctx.Err()), out)
	}
	return o, nil
}

var (
	colours = regexp.MustCompile("\x1b\\[[0-9;]*m")
	total   = regexp.MustCompile(`(?m)^\s*(?:Total:\s+|Ran )(\d+)`)
	failure = regexp.MustCompile(`(?m)^(?:FAIL|ERROR): (test_\w+)|✗ FAIL (.*?)(?: \([^)]*\))?$`)
)

// read finds the numbers and the failures in what a suite printed.
func read(text string) outcome {
	o := outcome{output: colours.ReplaceAllString(text, "")}
	if m := total.FindStringSubmatch(o.output); m != nil {
		o.total, _ = strconv.Atoi(m[1]) // digits only
	}
	for _, m := range failure.FindAllStringSubmatch(o.output, -1) {
		o.failed = append(o.failed, m[1]+m[2])
	}
	slices.Sort(o.failed)
	o.failed = slices.Compact(o.failed)
	return o
}

// serve starts the server that is tested.
func serve(s settings) (port string, stop func(), err error) {
	if s.mosquitto != "" {
		return serveMosquitto(s.mosquitto)
	}
	acl, err := access.ParseACL("conformance", []byte(rules))
	if err != nil {
		return "", nil, err
	}
	b := broker.New(broker.Options{
		ACL:          acl,
		Listeners:    []broker.Listener{{Type: broker.TypeTCP, Address: "127.0.0.1:0"}},
		MaxKeepAlive: time.Minute, // the suite for MQTT 5 asks for 120 s and expects less
		Logger:       slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err := b.Listen(); err != nil {
		return "", nil, err
	}
	_, port, _ = strings.Cut(b.Addresses()[0], ":")
	return port, func() {
		if err := b.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "conformance:", err)
		}
	}, nil
}
