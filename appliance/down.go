package main

import (
	"errors"
	"fmt"

	"outstation/uplink"
	"outstation/uplink/wire"
)

// DownConfig is one route from the centre.
type DownConfig struct {
	Match string `yaml:"match"`
	To    string `yaml:"to"`
}

func (c UplinkConfig) downRoutes() []uplink.DownRoute {
	out := make([]uplink.DownRoute, len(c.Down))
	for i, r := range c.Down {
		out[i] = uplink.DownRoute{Match: r.Match, To: r.To}
	}
	return out
}

// down checks each route by itself, so that each problem has its line.
func (c *checker) down(cfg UplinkConfig) {
	good := wire.Origin{Region: "r", Site: "s", DeviceID: "d"} // a bad name has been reported
	bad := false
	for i, route := range cfg.downRoutes() {
		_, err := uplink.NewDownRouter(good, []uplink.DownRoute{route})
		c.err(fmt.Sprintf("uplink.down[%d]", i), err)
		bad = bad || err != nil
	}
	if bad {
		return
	}
	_, err := uplink.NewDownRouter(good, cfg.downRoutes())
	c.err("uplink.down", err)
}

// errNoBroker says that the local broker has not started.
var errNoBroker = errors.New("the local broker does not run yet")

// comeDown hands a message from the centre to local subscribers, past the
// sink, so that it does not go up again. The link runs before the broker does.
func (a *app) comeDown(topic string, payload []byte, qos byte, retain bool) error {
	b := a.local.Load()
	if b == nil {
		return errNoBroker
	}
	return b.Publish(topic, payload, qos, retain)
}

// down says where a topic from the centre goes.
func (c *routeTestCommand) down(cfg Config, e *env) error {
	router, err := uplink.NewDownRouter(cfg.origin(), cfg.Uplink.downRoutes())
	if err != nil {
		return err
	}
	name, to, ok := router.Route(c.Topic)
	if !ok {
		fmt.Fprintf(e.out, "%s does not come down: no route matches\n", c.Topic)
		return nil
	}
	fmt.Fprintf(e.out, "route  %s\nto     %s\n", name, to)
	return nil
}
