//go:build !novision

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"outstation/uplink/mosquittotest"
	"outstation/web"
)

const (
	uplinkPayload = 256
	uplinkWindow  = 256
	// silence voids a run: nothing arrived for this long.
	silence = 30 * time.Second
)

// uplinkLine is one device that publishes at QoS 1 with a window, counted
// from its first publish to the last arrival at the centre.
type uplinkLine struct {
	Bench      string  `json:"bench"`
	Payload    int     `json:"payload"`
	QoS        int     `json:"qos"`
	Publishers int     `json:"publishers"`
	InFlight   int     `json:"inflight"`
	Messages   int     `json:"messages"`
	DurablePS  float64 `json:"durable_per_s"`
	AckedPS    float64 `json:"acked_per_s"`  // first publish to last PUBACK
	FsyncPS    float64 `json:"fsync_per_s"`  // synced transactions
	FsyncP50MS float64 `json:"fsync_p50_ms"` // of the same disk, 4 KiB
}

func benchUplink(ctx context.Context, o options) (any, error) {
	if err := os.MkdirAll(o.dir, 0o750); err != nil {
		return nil, err
	}
	var lines []uplinkLine
	for range o.runs {
		line, err := uplinkRun(ctx, o)
		if err != nil {
			return nil, err
		}
		lines = append(lines, line)
	}
	slices.SortFunc(lines, func(a, b uplinkLine) int { return int(a.DurablePS - b.DurablePS) })
	return lines[len(lines)/2], nil
}

func uplinkRun(ctx context.Context, o options) (line uplinkLine, err error) {
	dir, err := os.MkdirTemp(o.dir, "bench-")
	if err != nil {
		return line, err
	}
	defer os.RemoveAll(dir)
	fsync, err := fsyncP50(dir)
	if err != nil {
		return line, err
	}
	centre, err := mosquittotest.New(dir)
	if err != nil {
		return line, err
	}
	if err := centre.Start(); err != nil {
		return line, err
	}
	defer func() { err = errors.Join(err, centre.Stop()) }()
	app, err := startAppliance(ctx, o.binary, dir, centre.URL())
	if err != nil {
		return line, err
	}
	defer app.stop()
	began, acked, arrived, err := load(ctx, app.mqtt, centre.Address(), o.messages)
	if err != nil {
		return line, err
	}
	s, err := app.status()
	if err != nil {
		return line, err
	}
	n := float64(o.messages)
	return uplinkLine{
		Bench: "uplink", Payload: uplinkPayload, QoS: 1, Publishers: 1, InFlight: uplinkWindow, Messages: o.messages,
		DurablePS: n / arrived.Sub(began).Seconds(), AckedPS: n / acked.Sub(began).Seconds(),
		FsyncPS: float64(s.Queue.Commits) / arrived.Sub(began).Seconds(), FsyncP50MS: fsync,
	}, nil
}

// load publishes at the appliance and collects at the centre.
func load(ctx context.Context, device, centre string, n int) (began, acked, arrived time.Time, err error) {
	consumer, err := dial(ctx, centre, "bench-consumer")
	if err != nil {
		return began, acked, arrived, err
	}
	defer consumer.Close()
	if err = consumer.subscribe("sensors/#"); err != nil {
		return began, acked, arrived, err
	}
	publisher, err := dial(ctx, device, "bench-device")
	if err != nil {
		return began, acked, arrived, err
	}
	defer publisher.Close()
	published := make(chan error, 1)
	began = time.Now()
	go func() {
		err := publisher.publish("sensors/bench", n, uplinkPayload, uplinkWindow)
		acked = time.Now()
		published <- err
	}()
	arrived, err = consumer.collect(n, silence)
	if err == nil {
		err = <-published
	}
	return began, acked, arrived, err
}

// appliance is a running outstation.
type appliance struct {
	cmd       *exec.Cmd
	mqtt, web string
}

func startAppliance(ctx context.Context, binary, dir, centre string) (*appliance, error) {
	a := &appliance{}
	for _, address := range []*string{&a.mqtt, &a.web} {
		port, err := mosquittotest.FreePort()
		if err != nil {
			return nil, err
		}
		*address = fmt.Sprintf("127.0.0.1:%d", port)
	}
	config := fmt.Sprintf("device_id: bench\nregion: r\nsite: s\ndata_dir: %s\nuplink: {brokers: [%q]}\nlog: {level: warn}\n"+
		"broker: {listeners: [{type: tcp, address: %q}]}\nweb: {listen: %q}\n", filepath.Join(dir, "data"), centre, a.mqtt, a.web)
	file := filepath.Join(dir, "outstation.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	a.cmd = exec.Command(binary, "run", "--config", file)
	a.cmd.Stderr = os.Stderr
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := a.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w; make build makes it", err)
	}
	for deadline := time.Now().Add(silence); ; time.Sleep(20 * time.Millisecond) {
		if s, err := a.status(); err == nil && s.Uplink.State == web.UplinkConnected {
			return a, nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			a.stop()
			return nil, fmt.Errorf("%s does not reach the centre", binary)
		}
	}
}

func (a *appliance) status() (s web.Snapshot, err error) {
	resp, err := http.Get("http://" + a.web + "/status.json")
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	return s, json.NewDecoder(resp.Body).Decode(&s)
}

// stop ends the appliance; how it ended does not matter to the figures.
func (a *appliance) stop() {
	_ = a.cmd.Process.Signal(syscall.SIGTERM)
	_ = a.cmd.Wait()
}

// fsyncP50 is the median of 200 synced writes of 4 KiB in dir, in ms.
func fsyncP50(dir string) (float64, error) {
	f, err := os.Create(filepath.Join(dir, "fsync"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	block := make([]byte, 4096)
	var took []time.Duration
	for range 200 {
		began := time.Now()
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return 0, err
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return float64(took[len(took)/2]) / float64(time.Millisecond), nil
}
