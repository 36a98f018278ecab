package load

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Filter matches what every edge of this package brings to the centre.
const Filter = "sensors/#"

// Consumer counts what arrives at the centre. Its session there is kept, so
// that it may be disconnected, and the centre restarted, without a loss.
type Consumer struct {
	Address string
	ID      string

	mu         sync.Mutex
	seen       map[uint32][]bool // by device and number
	unique     int
	duplicates int       // arrivals after the first
	again      int       // of those, what the centre itself delivered twice
	last       time.Time // newest arrival
}

// Tally is what a Consumer has counted.
type Tally struct {
	Unique     int       // different messages
	Duplicates int       // that came to the centre more than once
	Again      int       // that the centre delivered to the consumer again
	Last       time.Time // newest arrival
}

// Subscribe makes the session at the centre and its one subscription.
func (c *Consumer) Subscribe(ctx context.Context) error {
	p, err := Dial(ctx, c.Address, c.ID, false)
	if err != nil {
		return err
	}
	defer p.Close()
	return p.Subscribe(Filter, 1)
}

// Run counts until ctx ends, over as many connections as it takes.
func (c *Consumer) Run(ctx context.Context) {
	for ctx.Err() == nil {
		if p, err := Dial(ctx, c.Address, c.ID, false); err == nil {
			c.read(ctx, p)
		}
		wait(ctx, redial)
	}
}

func (c *Consumer) read(ctx context.Context, p *Peer) {
	stop := context.AfterFunc(ctx, func() { _ = p.Close() })
	defer stop()
	defer p.Close()
	for {
		a, err := p.receive()
		if err != nil {
			return // the centre was cut
		}
		c.count(a)
	}
}

func (c *Consumer) count(a arrival) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = time.Now()
	if c.seen == nil {
		c.seen = map[uint32][]bool{}
	}
	counts := c.seen[a.Device]
	if missing := int(a.Number) + 1 - len(counts); missing > 0 {
		counts = append(counts, make([]bool, missing)...)
		c.seen[a.Device] = counts
	}
	switch {
	case !counts[a.Number]:
		c.unique++
	case a.again:
		c.again++
	default:
		c.duplicates++
	}
	counts[a.Number] = true
}

// Seen reports whether a message has arrived.
func (c *Consumer) Seen(id ID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := c.seen[id.Device]
	return int(id.Number) < len(counts) && counts[id.Number]
}

// Tally returns what was counted so far.
func (c *Consumer) Tally() Tally {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Tally{c.unique, c.duplicates, c.again, c.last}
}

// Collect reads messages from p until n different ones have arrived, and
// returns the time of the last. Silence for longer than the given time is an
// error.
func Collect(p *Peer, n int, silence time.Duration) (time.Time, error) {
	c := Consumer{}
	for {
		if err := p.conn.SetReadDeadline(time.Now().Add(silence)); err != nil {
			return time.Time{}, err
		}
		a, err := p.receive()
		if err != nil {
			return time.Time{}, fmt.Errorf("%d of %d messages are missing, the run is void: %w", n-c.unique, n, err)
		}
		if a.Device == probeDevice {
			continue
		}
		if c.count(a); c.unique == n {
			return c.last, nil
		}
	}
}
