package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"outstation/web"
)

// hangup writes a configuration and asks the process to read it.
func (p *process) hangup(cfg Config) {
	p.t.Helper()
	writeConfig(p.t, p.file, cfg)
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		p.t.Fatal(err)
	}
}

// reload writes a configuration and runs the command.
func (p *process) reload(cfg Config) (code int, out string) {
	p.t.Helper()
	writeConfig(p.t, p.file, cfg)
	return runOnce(p.t, "reload", "--web="+p.cfg.Web.Listen)
}

// healthOf is a check of the health tree.
func healthOf(s web.Snapshot, name string) web.Check {
	for _, c := range s.Health.Checks {
		if c.Name == name {
			return c
		}
	}
	return web.Check{}
}

// load is a device that publishes until its end.
func load(t *testing.T, p *process) (dev *device, end func()) {
	t.Helper()
	dev = &device{acked: map[string]bool{}}
	stop := make(chan struct{})
	var publishing sync.WaitGroup
	publishing.Go(func() { dev.publish(p.cfg.Broker.Listeners[0].Address, stop) })
	var once sync.Once
	end = func() { once.Do(func() { close(stop) }); publishing.Wait() }
	t.Cleanup(end)
	return dev, end
}

// awaitAll waits until every acknowledged message is at one of the consumers.
func (p *process) awaitAll(dev *device, at ...*consumer) {
	p.t.Helper()
	p.eventually("every acknowledged message at the centre", func() bool {
		seen := map[string]bool{}
		for _, c := range at {
			for _, m := range c.on("") {
				seen[string(m.Payload())] = true
			}
		}
		dev.mu.Lock()
		defer dev.mu.Unlock()
		for payload := range dev.acked {
			if !seen[payload] {
				return false
			}
		}
		return true
	})
}

// more waits until the device got n more acknowledgements.
func (p *process) more(dev *device, n int) {
	p.t.Helper()
	goal := dev.count() + n
	p.eventually("acknowledgements", func() bool { return dev.count() >= goal })
}

func TestReloadUnderLoadLosesNothingAndKeepsTheLink(t *testing.T) {
	centre := startMosquitto(t)
	seen := consume(t, centre.URL(), "sensors/#", "moved/#")
	cfg := testConfig(t, t.TempDir(), centre.URL())
	p := start(t, cfg, nil, binary(t))
	dev, end := load(t, p)
	p.more(dev, 1000)

	cfg.Uplink.Routes = []RouteConfig{{Name: "sensors/#", Match: "sensors/#", To: "moved/{rest}", QoS: 1, Priority: 7, MaxBytes: 100 << 20}}
	cfg.Uplink.Queue.MaxBytes = 123 << 20
	cfg.Uplink.AckTimeout, cfg.Uplink.Backfill.Rate, cfg.Uplink.Backoff.Ceiling = 7*time.Second, 1<<20, time.Second
	cfg.Log.Level = "debug"
	cfg.Uplink.DeadLetters.Retry = "30 4 * * *"
	p.hangup(cfg)
	p.eventually("the new destination", func() bool { return len(seen.on("moved/line/x")) > 0 })
	p.more(dev, 1000)
	end()
	p.awaitAll(dev, seen)
	s := p.until("an empty queue", func(s web.Snapshot) bool { return s.Queue.Records == 0 })
	if s.Uplink.Reconnects != 0 || s.Queue.MaxBytes != 123<<20 {
		t.Errorf("reconnects: got %d, expected none; bound: got %d", s.Uplink.Reconnects, s.Queue.MaxBytes)
	}
	if at := s.Dead.NextRetryAt; at.Hour() != 4 || at.Minute() != 30 {
		t.Errorf("dead letters are retried at %v, expected 04:30", at)
	}
	var last int
	for _, m := range seen.on("line/x") { // order is kept over the change of the route's lane
		var n int
		if _, err := fmt.Sscanf(string(m.Payload()), "device-%d", &n); err != nil || n < last {
			t.Fatalf("%q after number %d", m.Payload(), last)
		}
		last = n
	}
	if code := p.stop(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	if !strings.Contains(p.out.String(), "level=DEBUG") {
		t.Error("the log's level did not change")
	}
}

func TestReloadMovesTheLinkToAnotherCentre(t *testing.T) {
	first, second := startMosquitto(t), startMosquitto(t)
	at1, at2 := consume(t, first.URL(), "#"), consume(t, second.URL(), "#")
	cfg := testConfig(t, t.TempDir(), first.URL())
	p := start(t, cfg, nil, binary(t))
	dev, end := load(t, p)
	p.more(dev, 1000)

	cfg.Uplink.Brokers = []string{second.URL()}
	if code, out := p.reload(cfg); code != 0 || !strings.Contains(out, "uplink.brokers") || !strings.Contains(out, "made anew") {
		t.Fatalf("reload: %d %s", code, out)
	}
	p.eventually("messages at the second", func() bool { return len(at2.on("line/x")) > 0 })
	p.more(dev, 1000)
	end()
	p.awaitAll(dev, at1, at2)
	s := p.until("an empty queue", func(s web.Snapshot) bool { return s.Queue.Records == 0 })
	if s.Uplink.Reconnects != 1 || s.Uplink.Broker != second.URL() {
		t.Errorf("reconnects: got %d, expected 1; broker %s", s.Uplink.Reconnects, s.Uplink.Broker)
	}
	for _, l := range s.Ledger {
		if l.Route == "sensors/#" && (l.Accepted != l.Delivered || l.Accepted.Records < uint64(dev.count())) {
			t.Errorf("ledger %+v for %d acknowledged", l, dev.count())
		}
	}
	p.eventually("the appliance's presence at the second", func() bool { return strings.Contains(string(at2.last("dev-1/status")), "online") })
	p.eventually("its last word at the first", func() bool { return strings.Contains(string(at1.last("dev-1/status")), "offline") })
}

// TestWhatIsQueuedUnderARemovedRouteGoesOut takes a route away, and the lane
// of another, while the centre is away.
func TestWhatIsQueuedUnderARemovedRouteGoesOut(t *testing.T) {
	centre := startMosquitto(t)
	seen := consume(t, centre.URL(), "old/#", "new/#", "lane/#")
	if err := centre.Stop(); err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(t, t.TempDir(), centre.URL())
	cfg.Uplink.Routes = []RouteConfig{{Match: "a/#", To: "old/{rest}", QoS: 1}, {Match: "b/#", To: "lane/{rest}", QoS: 1, Priority: 8}}
	p := start(t, cfg, nil, binary(t))
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + cfg.Broker.Listeners[0].Address).SetClientID("dev"))
	if tok := c.Connect(); tok.Wait() && tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	defer c.Disconnect(0)
	publish := func(topic, payload string) {
		t.Helper()
		if tok := c.Publish(topic, 1, false, payload); tok.Wait() && tok.Error() != nil {
			t.Fatal(tok.Error())
		}
	}
	publish("a/x", "1")
	publish("b/x", "1")
	cfg.Uplink.Routes = []RouteConfig{{Name: "c", Match: "a/#", To: "new/{rest}", QoS: 1}, {Match: "b/#", To: "lane/{rest}", QoS: 1, Priority: 9}}
	if code, out := p.reload(cfg); code != 0 || !strings.Contains(out, "reloaded: uplink.routes\n") {
		t.Fatalf("reload: %d %s", code, out)
	}
	publish("a/x", "2")
	publish("b/x", "2")
	if err := centre.Start(); err != nil {
		t.Fatal(err)
	}
	p.until("an empty queue", func(s web.Snapshot) bool { return s.Uplink.State == web.UplinkConnected && s.Queue.Records == 0 })
	p.eventually("all four", func() bool { return len(seen.on("")) == 4 })
	if string(seen.last("old/x")) != "1" || string(seen.last("new/x")) != "2" || string(seen.last("lane/x")) != "2" {
		t.Errorf("old %s, new %s, lane %s", seen.last("old/x"), seen.last("new/x"), seen.last("lane/x"))
	}
}

// TestABrokenFileIsNotApplied reloads what cannot be used, in three ways, and
// then the good one again.
func TestABrokenFileIsNotApplied(t *testing.T) {
	centre := startMosquitto(t)
	cfg := testConfig(t, t.TempDir(), centre.URL())
	p := start(t, cfg, nil, binary(t))
	p.until("health", func(s web.Snapshot) bool { return s.Health.State == web.Healthy })
	good, err := os.ReadFile(p.file)
	if err != nil {
		t.Fatal(err)
	}
	at := "--web=" + cfg.Web.Listen
	refused := func(text string, want ...string) {
		t.Helper()
		if err := os.WriteFile(p.file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		code, out := runOnce(t, "reload", at)
		detail := healthOf(p.until("degraded", func(s web.Snapshot) bool {
			return healthOf(s, "configuration").State == web.Degraded
		}), "configuration").Detail
		for _, w := range want {
			if code != 1 || !strings.Contains(out, w) || !strings.Contains(detail, w) {
				t.Errorf("exit status %d, expected %q in the answer %q and in health %q", code, w, out, detail)
			}
		}
		if s, err := p.status(); err != nil || s.Queue.MaxBytes != uint64(cfg.Uplink.Queue.MaxBytes) || s.Uplink.Reconnects != 0 {
			t.Errorf("something was applied: %+v, %v", s.Queue, err)
		}
	}
	refused(strings.Replace(string(good), "window: 256", "window: none\n    no_such: 1", 1), "uplink.window", "no_such")
	refused("{", p.file+":1")

	change := cfg
	change.Uplink.Queue.MaxBytes = 77 << 20 // may change, but not with the rest
	change.DeviceID, change.Web.Listen, change.DataDir = "other", freeLoopback(t), t.TempDir()
	change.Vision.Cameras = []CameraConfig{{ID: "c", Source: "sim://pattern", StallAfter: time.Second}}
	writeConfig(t, p.file, change)
	text, err := os.ReadFile(p.file)
	if err != nil {
		t.Fatal(err)
	}
	refused(string(text), "restart", "device_id", "data_dir", "web.listen", "vision.cameras")
	if _, out := runOnce(t, "reload", at); strings.Contains(out, "max_bytes") {
		t.Errorf("what may change is named too: %s", out)
	}

	p.hangup(cfg)
	p.until("health again", func(s web.Snapshot) bool { return s.Health.State == web.Healthy })
	if code, out := runOnce(t, "reload", at); code != 0 || !strings.Contains(out, "nothing has changed") {
		t.Errorf("%d %s", code, out)
	}
}

// TestEveryReloadableKeyIsAKey finds what the list names in a configuration.
func TestEveryReloadableKeyIsAKey(t *testing.T) {
	keys, err := keysOf(defaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range reloadable {
		found := false
		for _, k := range keys {
			found = found || k.key == want || (strings.HasSuffix(want, ".") && strings.HasPrefix(k.key, want))
		}
		if !found {
			t.Errorf("no key is called %s", want)
		}
	}
	for _, fixed := range []string{"device_id", "data_dir", "broker.listeners", "vision.cameras", "demo.centre", "uplink.routesx", "log.file"} {
		if isReloadable(fixed) {
			t.Errorf("%s counts as reloadable", fixed)
		}
	}
}

func TestThePagesAddressOnThisMachine(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:8080": "127.0.0.1:8080", "0.0.0.0:8080": "localhost:8080", ":8080": "localhost:8080", "[::]:80": "localhost:80", "10.0.0.5:80": "10.0.0.5:80", "box:80": "box:80",
	} {
		if got := pageOf(listen); got != want {
			t.Errorf("%s: got %s, expected %s", listen, got, want)
		}
	}
}
