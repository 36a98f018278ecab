package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"outstation/web"
)

// subscribeAndLeave leaves a session behind that is owed what is published.
func subscribeAndLeave(t testing.TB, url, id, filter string) {
	t.Helper()
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(url).SetClientID(id).SetCleanSession(false))
	if tok := c.Connect(); tok.Wait() && tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	if tok := c.Subscribe(filter, 1, nil); tok.Wait() && tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	c.Disconnect(100)
}

// TestAwayDeviceGetsWhatWasAcknowledged kills the program under load, several
// times, and expects every acknowledged message at a device that was away, in
// order, and the retained one.
func TestAwayDeviceGetsWhatWasAcknowledged(t *testing.T) {
	cfg := testConfig(t, t.TempDir(), "tcp://127.0.0.1:1")
	url := "tcp://" + cfg.Broker.Listeners[0].Address
	rnd := rand.New(rand.NewPCG(4, 4))
	var acked []string
	for round := range 3 {
		p := start(t, cfg, nil, binary(t))
		if round == 0 {
			subscribeAndLeave(t, url, "away", "local/#")
		}
		c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(url).SetClientID("dev").SetAutoReconnect(false).SetWriteTimeout(time.Second))
		if tok := c.Connect(); tok.Wait() && tok.Error() != nil {
			t.Fatal(tok.Error())
		}
		tokens := make(chan mqtt.Token, 100)
		var publishing sync.WaitGroup
		publishing.Go(func() {
			defer close(tokens)
			for i := 0; c.IsConnected(); i++ {
				tokens <- c.Publish("local/x", 1, i%100 == 0, fmt.Sprintf("%d-%06d", round, i))
			}
		})
		goal, i := 1000+rnd.IntN(2000), 0
		for tok := range tokens {
			if i < goal && tok.Wait() && tok.Error() == nil {
				acked = append(acked, fmt.Sprintf("%d-%06d", round, i))
			}
			if i++; i == goal {
				p.kill()
			}
		}
		publishing.Wait()
	}
	p := start(t, cfg, nil, binary(t))
	s := p.until("the sessions", func(s web.Snapshot) bool { return s.Broker.Sessions == 1 })
	if s.Broker.Owed < uint64(len(acked)) || s.Broker.Retained < 1 {
		t.Errorf("got %d owed and %d retained, expected at least %d and one", s.Broker.Owed, s.Broker.Retained, len(acked))
	}
	var mu sync.Mutex
	var got []string
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(url).SetClientID("away").SetCleanSession(false).
		SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
			mu.Lock()
			got = append(got, string(m.Payload()))
			mu.Unlock()
		}))
	if tok := c.Connect(); tok.Wait() && tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	defer c.Disconnect(0)
	p.until("nothing owed", func(s web.Snapshot) bool { return s.Broker.Owed == 0 })
	mu.Lock()
	defer mu.Unlock()
	next := 0
	for _, payload := range got {
		if next < len(acked) && payload == acked[next] {
			next++
		}
	}
	if next < len(acked) {
		t.Errorf("got %d messages; of %d acknowledged, %d came in their order, and not %s", len(got), len(acked), next, acked[next])
	}
	if code := p.stop(); code != 0 || strings.Contains(p.out.String(), "level=ERROR") {
		t.Errorf("exit status %d: %s", code, p.out.String())
	}
}
