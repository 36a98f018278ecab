package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"outstation/uplink"
	"outstation/web"
)

// device publishes with many messages in flight and remembers which were
// acknowledged.
type device struct {
	mu    sync.Mutex
	acked map[string]bool
	next  int
}

// publish sends until the connection ends or stop is closed.
func (d *device) publish(address string, stop <-chan struct{}) {
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + address).SetClientID("dev").
		SetAutoReconnect(false).SetWriteTimeout(time.Second).SetConnectTimeout(time.Second))
	if tok := c.Connect(); tok.Wait() && tok.Error() != nil {
		return
	}
	defer c.Disconnect(0)
	window := make(chan struct{}, 256)
	var acks sync.WaitGroup
	defer acks.Wait()
	for c.IsConnected() {
		select {
		case <-stop:
			return
		case window <- struct{}{}:
		}
		payload := fmt.Sprintf("device-%06d", d.next)
		d.next++
		tok := c.Publish("sensors/line/x", 1, false, payload)
		acks.Go(func() {
			defer func() { <-window }()
			select {
			case <-tok.Done():
				if tok.Error() == nil {
					d.mu.Lock()
					d.acked[payload] = true
					d.mu.Unlock()
				}
			case <-stop:
			}
		})
	}
}

func (d *device) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.acked)
}

// TestWhatADeviceWasToldIsSafeArrives kills the program under load, several
// times, with the centre cut in between, and expects every acknowledged
// message at the centre and a ledger that agrees.
func TestWhatADeviceWasToldIsSafeArrives(t *testing.T) {
	centre := startMosquitto(t)
	seen := consume(t, centre.URL(), "sensors/#")
	cfg := testConfig(t, t.TempDir(), centre.URL())
	dev := &device{acked: map[string]bool{}}
	rnd := rand.New(rand.NewPCG(7, 7))
	for round := range 4 {
		p := start(t, cfg, nil, binary(t))
		stop := make(chan struct{})
		var publishing sync.WaitGroup
		publishing.Go(func() { dev.publish(cfg.Broker.Listeners[0].Address, stop) })
		goal := dev.count() + 500 + rnd.IntN(3000)
		p.eventually("acknowledgements", func() bool { return dev.count() >= goal })
		if round%2 == 1 {
			if err := centre.Stop(); err != nil {
				t.Fatal(err)
			}
			goal += 1000 + rnd.IntN(1000)
			p.eventually("acknowledgements without a centre", func() bool { return dev.count() >= goal })
		}
		p.kill()
		close(stop)
		publishing.Wait()
		if round%2 == 1 {
			if err := centre.Start(); err != nil {
				t.Fatal(err)
			}
		}
	}
	p := start(t, cfg, nil, binary(t))
	p.until("an empty queue", func(s web.Snapshot) bool { return s.Queue.Records == 0 && s.Uplink.State == web.UplinkConnected })
	if code := p.stop(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	at := map[string]bool{}
	messages := seen.on("sensors/reg/site-1/line/x")
	for _, m := range messages {
		at[string(m.Payload())] = true
	}
	lost := 0
	for payload := range dev.acked {
		if !at[payload] {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d acknowledged messages are lost", lost, len(dev.acked))
	}
	q, err := uplink.Open(uplink.Options{Dir: filepath.Join(cfg.DataDir, "queue"), MinFreeBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if a := q.Ledger()["sensors/#"]; !a.Balanced() || a.Accepted != a.Delivered || a.Accepted.Records < int64(len(dev.acked)) {
		t.Errorf("ledger %+v for %d acknowledged messages", a, len(dev.acked))
	} else {
		t.Logf("%d acknowledged, %d accepted, %d at the centre, %d duplicates", len(dev.acked), a.Accepted.Records, len(at), len(messages)-len(at))
	}
}

// TestLocalSubscribersNeedNeitherDiskNorCentre publishes while the centre is
// away and the disk refuses, and expects the message at a local subscriber.
func TestLocalSubscribersNeedNeitherDiskNorCentre(t *testing.T) {
	cfg := testConfig(t, t.TempDir(), "tcp://127.0.0.1:1")
	cfg.Uplink.Queue.MinFreeBytes = 1 << 60 // the disk counts as full
	p := start(t, cfg, nil, binary(t))
	address := "tcp://" + cfg.Broker.Listeners[0].Address
	local := consume(t, address, "sensors/#")
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(address).SetClientID("dev").SetAutoReconnect(false))
	if tok := c.Connect(); tok.Wait() && tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	defer c.Disconnect(0)
	tok := c.Publish("sensors/x", 1, false, "gate")
	p.eventually("local delivery", func() bool { return string(local.last("sensors/x")) == "gate" })
	select {
	case <-tok.Done():
		if tok.Error() == nil {
			t.Error("a publish was acknowledged that could not be stored")
		}
	default:
	}
	s := p.until("unhealthy", func(s web.Snapshot) bool { return s.Health.State == web.Unhealthy })
	if s.Health.FirstCause == "" {
		t.Error("no first cause")
	}
	p.until("the refusal to be counted", func(s web.Snapshot) bool { return s.Broker.Refused == 1 })
}

// TestSecondProcessIsRefused starts the program twice on one data directory.
func TestSecondProcessIsRefused(t *testing.T) {
	cfg := testConfig(t, t.TempDir(), "tcp://127.0.0.1:1")
	start(t, cfg, nil, binary(t))
	cfg.Web.Listen, cfg.Broker.Listeners[0].Address = freeLoopback(t), freeLoopback(t)
	file := filepath.Join(t.TempDir(), "second.yaml")
	writeConfig(t, file, cfg)
	code, out := runOnce(t, "run", "--config", file)
	if code != 1 {
		t.Errorf("exit status %d, expected 1: %s", code, out)
	}
	if _, err := os.Stat(filepath.Join(cfg.DataDir, "queue", "store")); err != nil {
		t.Errorf("the store of the first: %v", err)
	}
}

// TestWhatTheCentreWouldNotTakeIsADeadLetter publishes a message that is too
// large for the centre, and works with it.
func TestWhatTheCentreWouldNotTakeIsADeadLetter(t *testing.T) {
	centre := startMosquitto(t)
	seen := consume(t, centre.URL(), "sensors/#")
	cfg := testConfig(t, t.TempDir(), centre.URL())
	cfg.Uplink.MaxPacketBytes = 2000
	p := start(t, cfg, nil, binary(t))
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + cfg.Broker.Listeners[0].Address).SetClientID("dev"))
	if tok := c.Connect(); tok.Wait() && tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	defer c.Disconnect(0)
	for _, payload := range []string{strings.Repeat("x", 3000), "small"} {
		if tok := c.Publish("sensors/a", 1, false, payload); tok.Wait() && tok.Error() != nil {
			t.Fatal(tok.Error())
		}
	}
	p.eventually("the one behind it", func() bool { return string(seen.last("/a")) == "small" })
	s := p.until("the dead letter in health", func(s web.Snapshot) bool { return s.Health.State == web.Degraded })
	if !strings.Contains(s.Health.FirstCause, "dead letters") {
		t.Errorf("first cause: %s", s.Health.FirstCause)
	}
	at := "--web=" + cfg.Web.Listen
	_, list := runOnce(t, "dlq", "ls", at)
	if !strings.Contains(list, "next retry: ") || s.Dead.Letters != 1 || s.Dead.NextRetryAt.Hour() != 2 || time.Until(s.Dead.NextRetryAt) > 26*time.Hour {
		t.Errorf("next retry: %s\n%+v", list, s.Dead)
	}
	if !strings.Contains(list, "oversize") || !strings.Contains(list, "sensors/reg/site-1/a") {
		t.Errorf("dlq ls: %s", list)
	}
	for _, args := range [][]string{{"dlq", "retry", "all"}, {"dlq", "drop", "all"}} {
		p.until("the letter to be there", func(s web.Snapshot) bool { return s.Health.State == web.Degraded })
		eventually(t, "one letter", func() bool { _, l := runOnce(t, "dlq", "ls", at); return strings.Contains(l, "oversize") })
		if code, out := runOnce(t, append(args, at)...); code != 0 || !strings.Contains(out, ": 1") {
			t.Errorf("%v: %d %s", args, code, out)
		}
	}
	p.until("health again", func(s web.Snapshot) bool { return s.Health.State == web.Healthy })
	if _, out := runOnce(t, "ledger", at); !strings.Contains(out, "sensors/#") {
		t.Errorf("ledger: %s", out)
	}
}
