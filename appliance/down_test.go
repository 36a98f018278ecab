package main

import (
	"fmt"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"outstation/web"
)

// publishTo sends one message at QoS 1 as a client of its own.
func publishTo(t *testing.T, url, id, topic, payload string) {
	t.Helper()
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(url).SetClientID(id))
	if tok := c.Connect(); tok.Wait() && tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	defer c.Disconnect(100)
	if tok := c.Publish(topic, 1, false, payload); tok.Wait() && tok.Error() != nil {
		t.Fatal(tok.Error())
	}
}

// TestCommandReachesALocalSubscriber sends commands while the program runs
// and while it does not.
func TestCommandReachesALocalSubscriber(t *testing.T) {
	centre := startMosquitto(t)
	seen := consume(t, centre.URL(), "#")
	cfg := testConfig(t, t.TempDir(), centre.URL())
	cfg.Uplink.Down = []DownConfig{{Match: "fleet/{site}/#", To: "set/{rest}"}}
	first := start(t, cfg, nil, binary(t))
	here := consume(t, "tcp://"+cfg.Broker.Listeners[0].Address, "cmd/#", "set/#")
	const command = "cmd/reg/site-1/dev-1/restart"
	n := 0
	first.eventually("a command", func() bool {
		n++
		publishTo(t, centre.URL(), "operator", command, fmt.Sprint(n))
		return len(here.on(command)) > 0
	})
	first.eventually("what the owner's route brings", func() bool {
		publishTo(t, centre.URL(), "operator", "fleet/site-1/speed", "7")
		return string(here.last("set/speed")) == "7"
	})
	first.until("the counts", func(s web.Snapshot) bool { return s.Uplink.Down.Delivered >= 2 && s.Uplink.Down.Refused == 0 })
	// Paused, so that the local subscriber is back before the command is.
	if code, out := runOnce(t, "uplink", "pause", "--web="+cfg.Web.Listen); code != 0 {
		t.Fatal(out)
	}
	if code := first.stop(); code != 0 {
		t.Errorf("exit status %d:\n%s", code, first.out.String())
	}
	publishTo(t, centre.URL(), "operator", command, "meanwhile")
	cfg.Broker.Listeners[0].Address = freeLoopback(t) // the first subscriber does not come back
	second := start(t, cfg, nil, binary(t))
	again := consume(t, "tcp://"+cfg.Broker.Listeners[0].Address, "cmd/#")
	if code, out := runOnce(t, "uplink", "resume", "--web="+cfg.Web.Listen); code != 0 {
		t.Fatal(out)
	}
	second.eventually("the command that was sent meanwhile", func() bool { return string(again.last(command)) == "meanwhile" })
	if code := second.stop(); code != 0 {
		t.Errorf("exit status %d:\n%s", code, second.out.String())
	}
	if got := seen.on(command); len(got) != n+1 {
		t.Errorf("%d commands at the centre, the operator sent %d", len(got), n+1)
	}
}

// TestMirroredRoutesMakeNoLoop has two appliances with the same routes up and
// down on one centre: each message passes everywhere once.
func TestMirroredRoutesMakeNoLoop(t *testing.T) {
	centre := startMosquitto(t)
	atCentre := consume(t, centre.URL(), "a/#")
	var local [2]*consumer
	var addresses [2]string
	for i := range local {
		cfg := testConfig(t, t.TempDir(), centre.URL())
		cfg.DeviceID = fmt.Sprintf("dev-%d", i+1)
		cfg.Uplink.Routes = []RouteConfig{{Match: "a/#", To: "{topic}", QoS: 1}}
		cfg.Uplink.Down = []DownConfig{{Match: "a/#", To: "{topic}"}}
		p := start(t, cfg, nil, binary(t))
		addresses[i] = "tcp://" + cfg.Broker.Listeners[0].Address
		local[i] = consume(t, addresses[i], "a/#")
		p.eventually("the subscription", func() bool {
			publishTo(t, centre.URL(), "operator", "a/hello", "hello")
			return len(local[i].on("a/hello")) > 0
		})
	}
	const n = 20
	for i := range n {
		publishTo(t, addresses[0], "device", "a/x", fmt.Sprintf("first-%d", i))
		publishTo(t, addresses[1], "device", "a/x", fmt.Sprintf("second-%d", i))
	}
	everywhere := map[string]*consumer{"centre": atCentre, "first": local[0], "second": local[1]}
	for name, c := range everywhere {
		eventually(t, "all of them at the "+name, func() bool { return len(c.on("a/x")) >= 2*n })
	}
	publishTo(t, centre.URL(), "operator", "a/x", "last") // whatever goes round has time until this one is through
	for name, c := range everywhere {
		eventually(t, "the last one at the "+name, func() bool { return string(c.last("a/x")) == "last" })
		if got := len(c.on("a/x")); got != 2*n+1 {
			t.Errorf("%d messages at the %s, expected %d", got, name, 2*n+1)
		}
	}
}
