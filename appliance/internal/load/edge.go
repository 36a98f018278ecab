package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"outstation/uplink/mosquittotest"
	"outstation/web"
)

// readyTimeout bounds the start and the stop of whatever is started here. An
// emulated machine needs most of it.
const readyTimeout = 2 * time.Minute

// probeDevice is the device number of what Probe publishes.
const probeDevice = ^uint32(0)

// Edge is what stands between devices and the centre. It keeps its addresses
// and its state over Kill and Start.
type Edge interface {
	// Start returns when the process was started; Ready waits for more.
	Start() error
	// Ready waits until devices can connect.
	Ready(ctx context.Context) error
	// Kill ends it at once and waits for that.
	Kill() error
	// Stop ends it in order.
	Stop() error
	// Address is where devices connect.
	Address() string
}

// Appliance is a running outstation.
type Appliance struct {
	Binary string
	Config string    // file
	Data   string    // directory
	Log    io.Writer // standard error of the process

	mqtt, web string
	cmd       *exec.Cmd
	done      chan error // how the process ended
}

var _ Edge = (*Appliance)(nil)

// NewAppliance writes a configuration in dir for an appliance that uses the
// centre at host:port. Its back-off is short, so that what is measured is not
// the wait.
func NewAppliance(binary, dir, centre string) (*Appliance, error) {
	a := &Appliance{
		Binary: binary, Config: filepath.Join(dir, "outstation.yaml"), Data: filepath.Join(dir, "data"), Log: os.Stderr,
	}
	for _, address := range []*string{&a.mqtt, &a.web} {
		port, err := mosquittotest.FreePort()
		if err != nil {
			return nil, err
		}
		*address = fmt.Sprintf("127.0.0.1:%d", port)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("appliance: %w", err)
	}
	if err := os.WriteFile(a.Config, Config(a.Data, centre, a.mqtt, a.web), 0o600); err != nil {
		return nil, fmt.Errorf("appliance: %w", err)
	}
	return a, nil
}

// Config is an appliance's configuration for a load: addresses are host:port.
func Config(data, centre, mqtt, web string) []byte {
	return fmt.Appendf(nil, `device_id: load
region: r
site: s
data_dir: %s
log: {level: warn}
broker: {listeners: [{type: tcp, address: %q}]}
web: {listen: %q}
vision: {socket: {path: ""}}
uplink:
  brokers: [%q]
  backoff: {floor: 50ms, ceiling: 200ms, stable: 30s}
  queue: {min_free_bytes: 16MiB}
`, data, mqtt, web, "tcp://"+centre)
}

// Start runs the appliance.
func (a *Appliance) Start() error {
	a.cmd = exec.Command(a.Binary, "run", "--config", a.Config)
	a.cmd.Stderr = a.Log
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := a.cmd.Start(); err != nil {
		return fmt.Errorf("%w; make build makes it", err)
	}
	a.done = make(chan error, 1)
	cmd, done := a.cmd, a.done
	go func() { done <- cmd.Wait() }()
	return nil
}

// Ready waits until the page answers.
func (a *Appliance) Ready(ctx context.Context) error {
	_, err := a.Until(ctx, func(web.Snapshot) bool { return true })
	return err
}

// Until polls the status until ok holds.
func (a *Appliance) Until(ctx context.Context, ok func(web.Snapshot) bool) (s web.Snapshot, err error) {
	err = Until(ctx, a.done, func() bool {
		var failed error
		s, failed = Status(ctx, a.web)
		return failed == nil && ok(s)
	})
	return s, err
}

// Address is where devices connect.
func (a *Appliance) Address() string { return a.mqtt }

// PID is the process of an appliance that was started.
func (a *Appliance) PID() int { return a.cmd.Process.Pid }

// Web is where the page is.
func (a *Appliance) Web() string { return a.web }

// Kill ends the appliance with SIGKILL.
func (a *Appliance) Kill() error { return End(a.cmd, a.done, syscall.SIGKILL) }

// Stop ends the appliance in order.
func (a *Appliance) Stop() error { return End(a.cmd, a.done, syscall.SIGTERM) }

// Status asks the page at host:port.
func Status(ctx context.Context, address string) (s web.Snapshot, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/status.json", nil)
	if err != nil {
		return s, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	return s, json.NewDecoder(resp.Body).Decode(&s)
}

// Bridge is a Mosquitto with a bridge to the centre, in the appliance's
// place: persistence on, no bound that could make it drop a message, and the
// shortest wait before it connects again that its configuration has.
type Bridge struct{ server *mosquittotest.Server }

var _ Edge = (*Bridge)(nil)

// NewBridge prepares a bridge in dir to the centre at host:port.
func NewBridge(dir, centre string) (*Bridge, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("bridge: %w", err)
	}
	s, err := mosquittotest.New(dir)
	if err != nil {
		return nil, err
	}
	s.Extra = fmt.Sprintf("max_inflight_messages 0\nmax_inflight_bytes 0\nmax_queued_bytes 0\n"+
		"connection centre\naddress %s\ntopic %s out 1\ncleansession false\nnotifications false\ntry_private false\n"+
		"restart_timeout 1\n", centre, Filter)
	return &Bridge{s}, nil
}

// Start runs the bridge and waits until it listens.
func (b *Bridge) Start() error { return b.server.Start() }

// Ready has nothing to wait for.
func (b *Bridge) Ready(context.Context) error { return nil }

// Kill ends the bridge with SIGKILL.
func (b *Bridge) Kill() error { return b.server.Kill() }

// Stop ends the bridge in order, so that it writes its persistence.
func (b *Bridge) Stop() error { return b.server.Stop() }

// Address is where devices connect.
func (b *Bridge) Address() string { return b.server.Address() }

// Probe waits until a message goes through an edge to the centre at
// host:port, so that a measurement does not begin with a reconnect.
func Probe(ctx context.Context, e Edge, centre string) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	consumer, err := Dial(ctx, centre, "probe-consumer", true)
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	defer consumer.Close()
	if err := consumer.Subscribe(Filter, 0); err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	device, err := Dial(ctx, e.Address(), "probe-device", true)
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	defer device.Close()
	arrived := make(chan error, 1)
	go func() {
		_, err := consumer.receive()
		arrived <- err
	}()
	for n := uint32(0); ; n++ {
		err := device.publish("sensors/probe", ID{probeDevice, n}, HeaderBytes)
		if err = errors.Join(err, device.out.Flush()); err != nil {
			return fmt.Errorf("probe: %w", err)
		}
		select {
		case err := <-arrived:
			return err
		case <-ctx.Done():
			return fmt.Errorf("probe: nothing goes through to the centre: %w", ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Until polls until ok holds, and fails if the process ends before, which
// done says.
func Until(ctx context.Context, done chan error, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for !ok() {
		select {
		case err := <-done:
			done <- err
			return fmt.Errorf("the process ended: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("not ready in time: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// End signals a process and waits for it. One that has ended is no error.
func End(cmd *exec.Cmd, done chan error, sig os.Signal) error {
	if cmd == nil {
		return nil
	}
	if err := cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %v: %w", sig, err)
	}
	select {
	case err := <-done:
		done <- err
		return nil // it was told to end, so how it did is of no interest
	case <-time.After(readyTimeout):
		return errors.Join(fmt.Errorf("the process did not end by %v", sig), cmd.Process.Kill())
	}
}

// FsyncP50 is the median of 200 synced writes of 4 KiB in dir.
func FsyncP50(dir string) (time.Duration, error) {
	f, err := os.CreateTemp(dir, "fsync-")
	if err != nil {
		return 0, fmt.Errorf("fsync: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	block := make([]byte, 4096)
	took := make([]time.Duration, 200)
	for i := range took {
		began := time.Now()
		if _, err := f.Write(block); err != nil {
			return 0, fmt.Errorf("fsync: %w", err)
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return 0, fmt.Errorf("fsync: %w", err)
		}
		took[i] = time.Since(began)
	}
	return Median(took), nil
}
