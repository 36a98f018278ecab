package main

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// demoDevice is an on-site device of the demo: a thermometer that publishes
// at QoS 1 to the local broker, as any device does.
type demoDevice struct {
	address string
	log     *slog.Logger
}

const (
	demoTopic = "sensors/demo/temperature"
	demoEvery = 200 * time.Millisecond
)

// run publishes until ctx ends. The client waits for the broker by itself.
func (d demoDevice) run(ctx context.Context) {
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + d.address).SetClientID("demo-thermometer").
		SetConnectRetry(true).SetConnectRetryInterval(demoEvery).SetMaxReconnectInterval(time.Second))
	c.Connect()
	defer c.Disconnect(0)
	tick := time.NewTicker(demoEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if !c.IsConnectionOpen() {
			continue
		}
		reading := fmt.Sprintf(`{"celsius":%.2f,"n":%d}`, 21+2*math.Sin(float64(n)/50), n)
		tok := c.Publish(demoTopic, 1, false, reading)
		select {
		case <-tok.Done():
			if err := tok.Error(); err != nil {
				d.log.Warn("the demo's thermometer was not heard", "error", err)
			}
		case <-ctx.Done():
			return
		}
	}
}
