//go:build !novision

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"outstation/uplink"
)

// What the process under test sets for Go's memory, unless flags say
// otherwise. The limit is soft: close to it the collector works harder, and
// nothing fails.
const (
	memoryLimitMiB = 72
	gcPercent      = 50
)

const (
	diskGoal = 64 << 20 // of the directory once all is drained
	// The requirement gives the disk a minute to come back; a second one is
	// watched, so that a miss has a figure.
	diskWatch  = 2 * time.Minute
	probeEvery = 20 * time.Millisecond // of the producer that is watched for stalls
)

// memoryLine is a process that holds nothing but the queue.
type memoryLine struct {
	Bench        string  `json:"bench"`
	Records      int     `json:"records"`
	Payload      int     `json:"payload"`
	LimitMiB     int     `json:"go_memory_limit_mib"`
	GCPercent    int     `json:"go_gc_percent"`
	RSSAnonMiB   float64 `json:"rss_anon_mib"`       // highest until all is queued and the store is at rest
	DrainRSSMiB  float64 `json:"rss_anon_drain_mib"` // highest after that
	DiskFullMiB  float64 `json:"disk_mib_queued"`
	DiskMiB      float64 `json:"disk_mib_after_drain"`    // when the directory was small enough, or at the end of the watch
	SecondsBelow float64 `json:"seconds_below_64_mib"`    // from the last delivery; -1 if not within two minutes
	StallMaxMS   float64 `json:"producer_stall_max_ms"`   // longest wait for a sync of a producer that goes on meanwhile
	StallFillMS  float64 `json:"producer_stall_queue_ms"` // the same while the million is queued, 256 in flight
	QueuedPS     float64 `json:"queued_per_s"`
	DrainedPS    float64 `json:"drained_per_s"` // Next and Settle, without a network
}

// benchMemory runs this program again as a process that holds only the queue.
func benchMemory(ctx context.Context, o options, emit func(any) error) (err error) {
	dir, err := os.MkdirTemp(o.dir, "bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, "-memory-child", dir, "-memory", strconv.Itoa(o.memory),
		"-memory-limit", strconv.Itoa(o.memoryLimit), "-gc-percent", strconv.Itoa(o.gcPercent))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("the process with the queue: %w", err)
	}
	var line memoryLine
	if err := json.Unmarshal(out, &line); err != nil {
		return fmt.Errorf("the process with the queue: %w: %s", err, out)
	}
	return emit(line)
}

// memoryChild is that process.
func memoryChild(ctx context.Context, dir string, o options, emit func(any) error) (err error) {
	debug.SetMemoryLimit(int64(o.memoryLimit) << 20)
	debug.SetGCPercent(o.gcPercent)
	records := o.memory
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	q, err := uplink.Open(uplink.Options{Dir: dir, MinFreeBytes: 16 << 20, Logger: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	rss := watchRSS()
	defer rss.end()
	line := memoryLine{Bench: "memory", Records: records, Payload: uplinkPayload, LimitMiB: o.memoryLimit, GCPercent: o.gcPercent}

	p := producer{queue: q}
	began := time.Now()
	if err := p.fill(ctx, records, 256); err != nil {
		return err
	}
	line.QueuedPS = float64(records) / time.Since(began).Seconds()
	line.StallFillMS = milliseconds(p.worst())
	if err := settleDown(ctx, dir); err != nil {
		return err
	}
	line.RSSAnonMiB = rss.highest()
	if line.DiskFullMiB, err = diskMiB(dir); err != nil {
		return err
	}
	began = time.Now()
	if err := drain(ctx, q, records); err != nil {
		return err
	}
	line.DrainedPS = float64(records) / time.Since(began).Seconds()
	if err := line.reclaim(ctx, dir, &p); err != nil {
		return err
	}
	line.DrainRSSMiB = rss.highest()
	return emit(line)
}

// reclaim watches the directory shrink while a producer goes on, slowly, and
// what it stores is delivered at once.
func (l *memoryLine) reclaim(ctx context.Context, dir string, p *producer) error {
	drained := time.Now()
	ctx, cancel := context.WithTimeout(ctx, diskWatch)
	defer cancel()
	var both sync.WaitGroup
	both.Go(func() { _ = drain(ctx, p.queue, -1) }) // ends with ctx
	stalls := producer{queue: p.queue}
	failed := make(chan error, 1)
	both.Go(func() { failed <- stalls.trickle(ctx) })
	l.SecondsBelow = -1
	var err error
	for ctx.Err() == nil {
		if l.DiskMiB, err = diskMiB(dir); err != nil || l.DiskMiB < diskGoal>>20 {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	if err == nil && l.DiskMiB < diskGoal>>20 {
		l.SecondsBelow = time.Since(drained).Seconds()
	}
	cancel()
	both.Wait()
	l.StallMaxMS = milliseconds(stalls.worst())
	return errors.Join(err, <-failed)
}

// producer enqueues and times the wait until each record is synced, the wait
// for room included.
type producer struct {
	queue   *uplink.Queue
	longest atomic.Int64
	failed  atomic.Pointer[error]
}

func (p *producer) worst() time.Duration { return time.Duration(p.longest.Load()) }

func (p *producer) enqueue(ctx context.Context, settled func()) error {
	began := time.Now()
	m := uplink.Message{Route: "sensors/#", Lane: 3, QoS: 1, Topic: "sensors/r/s/bench", Payload: make([]byte, uplinkPayload)}
	done := func(err error) {
		if err != nil {
			p.failed.CompareAndSwap(nil, &err)
		}
		if took := int64(time.Since(began)); took > p.longest.Load() {
			p.longest.Store(took) // done has one caller
		}
		settled()
	}
	for {
		room := p.queue.Room()
		err := p.queue.Enqueue(m, done)
		if !errors.Is(err, uplink.ErrBusy) {
			return err
		}
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *producer) err() error {
	if err := p.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// fill stores n records with at most window waiting for their sync.
func (p *producer) fill(ctx context.Context, n, window int) error {
	slots := make(chan struct{}, window)
	for range n {
		slots <- struct{}{}
		if err := p.enqueue(ctx, func() { <-slots }); err != nil {
			return err
		}
	}
	for range window { // all are settled once every slot is ours
		slots <- struct{}{}
	}
	return p.err()
}

// trickle stores a record every probeEvery until ctx ends.
func (p *producer) trickle(ctx context.Context) error {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	var waiting sync.WaitGroup
	defer waiting.Wait()
	for {
		select {
		case <-ctx.Done():
			waiting.Wait()
			return p.err()
		case <-tick.C:
		}
		waiting.Add(1)
		if err := p.enqueue(context.WithoutCancel(ctx), waiting.Done); err != nil {
			waiting.Done()
			return err
		}
	}
}

// drain takes n records out, or all until ctx ends if n is negative.
func drain(ctx context.Context, q *uplink.Queue, n int) error {
	for left := n; left != 0; {
		entries, err := q.Next(ctx, uplink.Want{Max: 256, History: 256})
		if err != nil {
			return err
		}
		for _, e := range entries {
			q.Settle(e, uplink.Delivered)
		}
		left -= len(entries)
	}
	return nil
}

// settleDown waits until the store has had nothing to write for a second.
func settleDown(ctx context.Context, dir string) error {
	last, still := -1.0, 0
	for deadline := time.Now().Add(time.Minute); still < 5 && time.Now().Before(deadline); {
		now, err := diskMiB(dir)
		if err != nil {
			return err
		}
		if still++; now != last {
			last, still = now, 0
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
	return nil
}

// diskMiB is what the files below dir take of the disk. A hole in a file
// takes nothing.
func diskMiB(dir string) (float64, error) {
	var blocks int64
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			var st syscall.Stat_t
			if err = syscall.Lstat(path, &st); err == nil {
				blocks += st.Blocks
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("size of %s: %w", dir, err)
	}
	return float64(blocks*512) / (1 << 20), nil
}
