package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"go.yaml.in/yaml/v3"

	"outstation/uplink/mosquittotest"
	"outstation/web"
)

// Variables that make this test binary the program itself.
const (
	beProgram  = "OUTSTATION_TEST_BE_PROGRAM"
	beUnsynced = "OUTSTATION_TEST_BE_UNSYNCED"
	beRestart  = "OUTSTATION_TEST_BE_RESTART" // uptime before it restarts itself
	beHung     = "OUTSTATION_TEST_BE_HUNG"    // vision.Options.HungAfter, and models are fakes
)

func TestMain(m *testing.M) {
	if os.Getenv(beProgram) != "" {
		restarts, _ := time.ParseDuration(os.Getenv(beRestart)) // absent: as always
		opt := appOptions{unsynced: os.Getenv(beUnsynced) != "", restarts: restarts}
		if hung, err := time.ParseDuration(os.Getenv(beHung)); err == nil {
			opt.hung, opt.newDetector = hung, openFake
		}
		os.Exit(mainCode(os.Args[1:], os.Stdout, os.Stderr, opt))
	}
	code := m.Run()
	if builtIn != "" {
		_ = os.RemoveAll(builtIn) // what is left is the temporary directory's business
	}
	os.Exit(code)
}

// buildTags are the tags of the binary that buildBinary makes.
const defaultTags = "gocv_specific_modules,gocv_videoio"

// builtIn is the directory of the binary, once buildOnce has made it.
var builtIn string

var buildOnce = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "outstation-test-")
	if err != nil {
		return "", err
	}
	builtIn = dir
	tags := os.Getenv("OUTSTATION_TEST_TAGS")
	if tags == "" {
		tags = defaultTags
	}
	path := filepath.Join(dir, "outstation")
	out, err := exec.Command("go", "build", "-buildvcs=false", "-tags", tags, "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return path, nil
})

// binary builds the real program, once for all tests.
func binary(t testing.TB) string {
	t.Helper()
	path, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// testConfig is a small appliance on free ports with its state in dir.
func testConfig(t testing.TB, dir string, brokers ...string) Config {
	t.Helper()
	cfg := defaultConfig()
	cfg.DeviceID, cfg.Region, cfg.Site, cfg.DataDir = "dev-1", "reg", "site-1", dir
	cfg.Broker.Listeners[0].Address = freeLoopback(t)
	cfg.Web.Listen = freeLoopback(t)
	cfg.Uplink.Brokers = brokers
	cfg.Uplink.Queue.MinFreeBytes = 1 << 20
	cfg.Uplink.Backoff = BackoffConfig{Floor: 50 * time.Millisecond, Ceiling: 200 * time.Millisecond, Stable: time.Minute}
	cfg.Vision.Providers = []string{"cpu"}
	cfg.Vision.Socket.Path = "" // the default is that of an appliance that is installed
	return cfg
}

func writeConfig(t testing.TB, file string, cfg Config) {
	t.Helper()
	text, err := yaml.Marshal(cfg)
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func freeLoopback(t testing.TB) string {
	t.Helper()
	port, err := mosquittotest.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}

func startMosquitto(t testing.TB) *mosquittotest.Server {
	t.Helper()
	s, err := mosquittotest.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// process is a running outstation.
type process struct {
	t    testing.TB
	cfg  Config
	file string // of the configuration
	cmd  *exec.Cmd
	out  bytes.Buffer
	done chan error
}

// start runs argv (the program, and what stands before its own arguments)
// with cfg and waits for the page.
func start(t testing.TB, cfg Config, environ []string, argv ...string) *process {
	t.Helper()
	file := filepath.Join(t.TempDir(), "outstation.yaml")
	writeConfig(t, file, cfg)
	args := append(argv[1:], "run", "--config", file)
	p := &process{t: t, cfg: cfg, file: file, cmd: exec.Command(argv[0], args...), done: make(chan error, 1)}
	p.cmd.Env = append(os.Environ(), environ...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.done <- p.cmd.Wait() }()
	t.Cleanup(func() { p.kill() })
	p.eventually("the page", func() bool { _, err := p.status(); return err == nil })
	return p
}

// kill ends the process with SIGKILL, if it still runs, and waits for it.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	select {
	case err := <-p.done:
		p.done <- err
	case <-time.After(10 * time.Second):
		p.t.Error("the process does not end")
	}
}

// stop ends the process in order and returns its exit status.
func (p *process) stop() int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	select {
	case err := <-p.done:
		p.done <- err
	case <-time.After(shutdownTimeout + 5*time.Second):
		p.t.Fatalf("not stopped within %v:\n%s", shutdownTimeout, p.out.String())
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) status() (web.Snapshot, error) {
	var s web.Snapshot
	resp, err := http.Get("http://" + p.cfg.Web.Listen + "/status.json")
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(b, &s)
}

// until polls the status until ok holds.
func (p *process) until(what string, ok func(web.Snapshot) bool) web.Snapshot {
	p.t.Helper()
	var last web.Snapshot
	p.eventually(what, func() bool {
		s, err := p.status()
		last = s
		return err == nil && ok(s)
	})
	return last
}

// eventually polls until ok holds, and fails at once if the process ends.
func (p *process) eventually(what string, ok func() bool) {
	p.t.Helper()
	eventually(p.t, what, func() bool {
		select {
		case err := <-p.done:
			p.done <- err
			p.t.Fatalf("the process ended while waiting for %s: %v\n%s", what, err, p.out.String())
		default:
		}
		return ok()
	})
}

// eventually polls until ok holds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within two minutes: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// consumer reads at the centre with a session that survives its restarts.
type consumer struct {
	mu   sync.Mutex
	seen []mqtt.Message
}

func consume(t testing.TB, url string, filters ...string) *consumer {
	t.Helper()
	c := &consumer{}
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(url).SetClientID("consumer-" + strings.ReplaceAll(t.Name(), "/", "-")).
		SetCleanSession(false).SetMaxReconnectInterval(100 * time.Millisecond).
		SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
			c.mu.Lock()
			c.seen = append(c.seen, m)
			c.mu.Unlock()
		}))
	if tok := client.Connect(); tok.Wait() && tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	for _, f := range filters {
		if tok := client.Subscribe(f, 1, nil); tok.Wait() && tok.Error() != nil {
			t.Fatal(tok.Error())
		}
	}
	t.Cleanup(func() { client.Disconnect(10) })
	return c
}

// on returns the messages on topics with the given end, in their order.
func (c *consumer) on(suffix string) []mqtt.Message {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []mqtt.Message
	for _, m := range c.seen {
		if strings.HasSuffix(m.Topic(), suffix) {
			out = append(out, m)
		}
	}
	return out
}

// last is the newest payload on such a topic.
func (c *consumer) last(suffix string) []byte {
	all := c.on(suffix)
	if len(all) == 0 {
		return nil
	}
	return all[len(all)-1].Payload()
}
