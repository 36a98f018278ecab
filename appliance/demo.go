package main

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"outstation/broker"
)

// demoCentre is a stand-in for the centre: a second broker in this process,
// whose outage anybody can try.
type demoCentre struct {
	log *slog.Logger

	mu      sync.Mutex
	address string
	broker  *broker.Broker // nil while cut
	before  int64          // messages that earlier brokers received
	until   time.Time      // end of the outage, or zero
	timer   *time.Timer
	closed  bool
}

// openDemo starts the stand-in centre on a loopback address; port 0 takes a
// free one, which stays the same after an outage.
func openDemo(address string, log *slog.Logger) (*demoCentre, error) {
	d := &demoCentre{address: address, log: log.With("part", "demo centre")}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.open(); err != nil {
		return nil, fmt.Errorf("demo centre: %w", err)
	}
	return d, nil
}

// open starts a broker; mu is held.
func (d *demoCentre) open() error {
	b := broker.New(broker.Options{
		Listeners: []broker.Listener{{Type: broker.TypeTCP, Address: d.address}}, Logger: d.log,
	})
	if err := b.Listen(); err != nil {
		return err
	}
	d.broker, d.address, d.until = b, b.Addresses()[0], time.Time{}
	return nil
}

// Outage cuts every connection and refuses new ones for that long.
func (d *demoCentre) Outage(length time.Duration) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return fmt.Errorf("demo centre: closed")
	}
	if d.broker != nil {
		d.before += d.broker.Stats().MessagesReceived
		if err := d.broker.Close(); err != nil {
			return fmt.Errorf("demo centre: %w", err)
		}
		d.broker = nil
	}
	if d.timer != nil {
		d.timer.Stop()
	}
	d.until = time.Now().Add(length)
	d.timer = time.AfterFunc(length, d.restore)
	d.log.Info("the stand-in centre is cut", "for_s", length.Seconds())
	return nil
}

// restore ends an outage, trying again while the port is taken.
func (d *demoCentre) restore() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || d.broker != nil {
		return
	}
	if err := d.open(); err != nil {
		d.log.Error("the stand-in centre does not come back; trying again", "error", err)
		d.timer = time.AfterFunc(time.Second, d.restore)
		return
	}
	d.log.Info("the stand-in centre is back")
}

// state is where the centre listens, how many messages it received and when
// its outage ends.
func (d *demoCentre) state() (address string, messages int64, until time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	messages = d.before
	if d.broker != nil {
		messages += d.broker.Stats().MessagesReceived
	}
	return d.address, messages, d.until
}

// Close ends the stand-in centre for good.
func (d *demoCentre) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	if d.timer != nil {
		d.timer.Stop()
	}
	if d.broker == nil {
		return nil
	}
	return d.broker.Close()
}
