package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"
)

// redial is the wait between two attempts to connect.
const redial = 10 * time.Millisecond

// Device publishes at QoS 1 with many messages in flight and remembers which
// were acknowledged. It never publishes a number twice, so that what arrives
// twice was doubled on the way.
type Device struct {
	Index   uint32
	Address string // of the broker on site
	Topic   string
	Size    int           // of a payload, at least HeaderBytes
	Window  int           // in flight
	Pace    time.Duration // between two publishes; zero means as fast as it goes

	mu     sync.Mutex
	next   uint32
	acked  []bool // by number
	count  int    // of acked
	failed error  // what the broker did against the protocol
}

// Acked returns how many messages were acknowledged.
func (d *Device) Acked() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.count
}

// Sent returns how many numbers were used.
func (d *Device) Sent() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return int(d.next)
}

// Err is what the broker did against the protocol, such as a PUBACK out of
// order, or nil.
func (d *Device) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed
}

// Missing returns the acknowledged numbers that seen does not know.
func (d *Device) Missing(seen func(ID) bool) []uint32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	var missing []uint32
	for n, acked := range d.acked {
		if acked && !seen(ID{d.Index, uint32(n)}) {
			missing = append(missing, uint32(n))
		}
	}
	return missing
}

// Run publishes until ctx ends, over as many connections as it takes.
func (d *Device) Run(ctx context.Context) {
	for ctx.Err() == nil {
		if p, err := Dial(ctx, d.Address, fmt.Sprintf("device-%d", d.Index), true); err == nil {
			_ = d.over(ctx, p, -1) // connections end all the time here
		}
		wait(ctx, redial)
	}
}

// Publish sends n messages over one connection and waits for their
// acknowledgements.
func (d *Device) Publish(ctx context.Context, p *Peer, n int) error {
	if err := d.over(ctx, p, n); err != nil {
		return err
	}
	return d.Err()
}

// over publishes n messages over one connection, or without end if n is
// negative, and closes it.
func (d *Device) over(ctx context.Context, p *Peer, n int) error {
	stop := context.AfterFunc(ctx, func() { _ = p.Close() }) // ends a read or write that waits
	defer stop()
	flying := make(chan uint32, d.Window)
	lost := make(chan struct{})
	acked := make(chan error, 1)
	go func() {
		err := d.acks(p, flying)
		close(lost)
		acked <- err
	}()
	err := d.send(ctx, p, n, flying, lost)
	close(flying)
	if err != nil || n < 0 {
		_ = p.Close() // wakes acks
		return errors.Join(err, <-acked)
	}
	return errors.Join(<-acked, p.Close())
}

// send writes publishes while the window has room. The channel has one place
// for each message in flight but the one that acks looks at.
func (d *Device) send(ctx context.Context, p *Peer, n int, flying chan<- uint32, lost <-chan struct{}) error {
	for i := 0; n < 0 || i < n; i++ {
		if d.Pace > 0 {
			if err := p.out.Flush(); err != nil {
				return err
			}
			wait(ctx, d.Pace)
		}
		d.mu.Lock()
		number := d.next
		d.next++
		d.acked = append(d.acked, false)
		d.mu.Unlock()
		select {
		case flying <- number:
		default: // the window is full: what is buffered must leave first
			if err := p.out.Flush(); err != nil {
				return err
			}
			select {
			case flying <- number:
			case <-lost:
				return errors.New("the connection ended")
			}
		}
		if err := p.publish(d.Topic, ID{d.Index, number}, d.Size); err != nil {
			return err
		}
	}
	return p.out.Flush()
}

// acks reads a PUBACK for each message in flight, in their order, which is
// what section 4.6 of the specification asks of the broker.
func (d *Device) acks(p *Peer, flying <-chan uint32) error {
	for number := range flying {
		kind, body, err := p.packet()
		if err != nil {
			return err
		}
		if kind == packetDisconnect { // not in 3.1.1 from a server, but some tell why they close the connection
			return errors.New("the broker ended the connection")
		}
		if kind != packetPuback || len(body) != 2 || binary.BigEndian.Uint16(body) != packetID(number) {
			err := fmt.Errorf("device %d: expected the PUBACK %d, got packet %#x % x", d.Index, packetID(number), kind, body)
			d.mu.Lock()
			d.failed = err
			d.mu.Unlock()
			return err
		}
		d.mu.Lock()
		d.acked[number] = true
		d.count++
		d.mu.Unlock()
	}
	return nil
}

// wait returns after t, or when ctx ends.
func wait(ctx context.Context, t time.Duration) {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
