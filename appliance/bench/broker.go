//go:build !novision

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"outstation/appliance/internal/load"
	"outstation/uplink/mosquittotest"
)

const (
	brokerPayload = 256
	// latencyFor is how long the latency of one broker is measured at a time.
	latencyFor = 3 * time.Second
	// clockTick is the unit of the CPU times in /proc on Linux.
	clockTick = 10 * time.Millisecond
)

// fans are the loads of bench broker, each with QoS 0 and 1.
var fans = []struct {
	name                    string
	publishers, subscribers int
	batch                   int // messages of a publisher that are sent at once
	rate                    int // publishes a second while the latency is measured
}{
	{"fan-in", 50, 1, 10, 5_000},
	{"fan-out", 1, 50, 100, 200},
}

// brokerLine compares the appliance's broker with Mosquitto as brokers of
// local traffic, in medians of alternating runs. Messages and rates count
// arrivals at subscribers; a run in which one is missing is void.
type brokerLine struct {
	Bench        string  `json:"bench"`
	Case         string  `json:"case"`
	Publishers   int     `json:"publishers"`
	Subscribers  int     `json:"subscribers"`
	QoS          int     `json:"qos"`
	Payload      int     `json:"payload"`
	Messages     int     `json:"messages"`
	Runs         int     `json:"runs"`
	OursPS       float64 `json:"ours_per_s"` // as fast as the subscribers keep up
	MosquittoPS  float64 `json:"mosquitto_per_s"`
	Ratio        float64 `json:"ratio"`
	LatencyPS    int     `json:"latency_per_s"` // arrivals, while the latency was measured
	P50MS        float64 `json:"p50_ms"`        // from the publish to the arrival
	P99MS        float64 `json:"p99_ms"`
	MosquittoP50 float64 `json:"mosquitto_p50_ms"`
	MosquittoP99 float64 `json:"mosquitto_p99_ms"`
	CPU          float64 `json:"cpu_s_per_100k"` // of the broker's process, at full speed
	MosquittoCPU float64 `json:"mosquitto_cpu_s_per_100k"`
	LoadCPU      float64 `json:"load_cpu_s_per_100k"` // of this process, in the appliance's runs
}

// brokerFigures are what several runs gave, a value for each.
type brokerFigures struct{ rate, p50, p99, cpu, load []float64 }

// benchBroker measures local traffic. The latency is taken first, at a rate
// far below what either can do, and then the throughput.
func benchBroker(ctx context.Context, o options, emit func(any) error) error {
	for _, fan := range fans {
		for qos := range byte(2) {
			f := load.Fan{
				Publishers: fan.publishers, Subscribers: fan.subscribers, QoS: qos, Size: brokerPayload, Batch: fan.batch,
				Messages: o.local / fan.publishers / fan.subscribers / fan.batch * fan.batch,
			}
			var ours, other brokerFigures
			for i := range o.runs {
				pair := []func() error{
					func() error { return ours.appliance(ctx, o, f, fan.rate) },
					func() error { return other.mosquitto(ctx, o, f, fan.rate) },
				}
				for k := range pair { // who is first alternates
					if err := pair[(i+k)%2](); err != nil {
						return fmt.Errorf("%s, QoS %d: %w", fan.name, qos, err)
					}
				}
			}
			line := brokerLine{
				Bench: "broker", Case: fan.name, Publishers: f.Publishers, Subscribers: f.Subscribers, QoS: int(qos), Payload: f.Size,
				Messages: arrivals(f), Runs: o.runs, LatencyPS: fan.rate * fan.subscribers,
				OursPS: load.Median(ours.rate), MosquittoPS: load.Median(other.rate),
				P50MS: load.Median(ours.p50), P99MS: load.Median(ours.p99),
				MosquittoP50: load.Median(other.p50), MosquittoP99: load.Median(other.p99),
				CPU: load.Median(ours.cpu), MosquittoCPU: load.Median(other.cpu), LoadCPU: load.Median(ours.load),
			}
			line.Ratio = line.OursPS / line.MosquittoPS
			if err := emit(line); err != nil {
				return err
			}
		}
	}
	return nil
}

func arrivals(f load.Fan) int { return f.Messages * f.Publishers * f.Subscribers }

// appliance adds one run of the whole appliance, with its link to a centre,
// on topics that no route replicates.
func (b *brokerFigures) appliance(ctx context.Context, o options, f load.Fan, rate int) error {
	return withCentre(o, func(dir string, centre *mosquittotest.Server) (err error) {
		a, err := load.NewAppliance(o.binary, filepath.Join(dir, "edge"), centre.Address())
		if err != nil {
			return err
		}
		if err := a.Start(); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, a.Stop()) }()
		if _, err := a.Until(ctx, connected); err != nil {
			return err
		}
		f.Address = a.Address()
		return b.add(ctx, a.PID(), f, rate)
	})
}

// mosquitto adds one run of Mosquitto. Its window to a subscriber is not
// bounded, as ours hardly is, and its packets do not wait for those before
// them, as Go's do not.
func (b *brokerFigures) mosquitto(ctx context.Context, o options, f load.Fan, rate int) (err error) {
	dir, err := os.MkdirTemp(o.dir, "bench-")
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := mosquittotest.New(dir)
	if err != nil {
		return err
	}
	s.Extra = "max_inflight_messages 0\nset_tcp_nodelay true\n"
	if err := s.Start(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	f.Address = s.Address()
	return b.add(ctx, s.PID(), f, rate)
}

// add measures the latency and the throughput of the broker with a process id.
func (b *brokerFigures) add(ctx context.Context, pid int, f load.Fan, rate int) error {
	slow := f
	slow.Rate = rate
	slow.Messages = max(1, rate*int(latencyFor/time.Second)/f.Publishers)
	r, err := slow.Run(ctx, silence)
	if err != nil {
		return fmt.Errorf("latency: %w", err)
	}
	slices.Sort(r.Latency)
	b.p50 = append(b.p50, milliseconds(r.Latency[len(r.Latency)/2]))
	b.p99 = append(b.p99, milliseconds(r.Latency[len(r.Latency)*99/100]))

	broker, own := cpuOf(pid), ownCPU()
	if r, err = f.Run(ctx, silence); err != nil {
		return fmt.Errorf("throughput: %w", err)
	}
	hundredThousands := float64(arrivals(f)) / 100_000
	b.rate = append(b.rate, float64(arrivals(f))/r.Took.Seconds())
	b.cpu = append(b.cpu, (cpuOf(pid)-broker).Seconds()/hundredThousands)
	b.load = append(b.load, (ownCPU()-own).Seconds()/hundredThousands)
	return nil
}

// cpuOf is the CPU time of a process, of user and system together, or 0 where
// /proc does not say.
func cpuOf(pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(stat), ") ") // the name may have spaces
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	if err != nil {
		return 0
	}
	return time.Duration(user+system) * clockTick
}

func ownCPU() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
