package broker

import (
	"bytes"
	"encoding/binary"
	"net"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// gate is the write side of a device's connection. The server acknowledges a
// publish as soon as its hook returns; the gate holds the bytes of that
// acknowledgement back until the message is durable, so that the device's
// read loop goes on meanwhile and one sync serves many publishes.
//
// Everything that is not a PUBACK or PUBREC passes at once. Acknowledgements
// leave in the order in which their publishes were expected.
type gate struct {
	net.Conn
	stats *counters

	// writing serialises writes to Conn; it is taken before mu. Nothing that
	// holds mu blocks, so that resolve never waits for a device's socket.
	writing sync.Mutex

	mu      sync.Mutex
	held    []*ack        // in the order of the publishes
	storing int           // publishes whose fate is still open
	running bool          // the releaser is at work
	changed chan struct{} // closed and replaced whenever held or storing shrinks
	closed  bool

	// current is the publish that the server is fanning out, if it is being
	// stored, and refused says that the sink did not take it. Only the
	// device's read goroutine touches them.
	current *ack
	refused *refusal
}

// ack is the acknowledgement of one publish.
type ack struct {
	id      uint16
	bytes   []byte // what the server wrote, or nil so far
	settled bool   // durable, or refused
	failed  bool   // refused
	refusal []byte // sent instead of bytes, if the publish was refused
}

func newGate(c net.Conn, stats *counters) *gate {
	return &gate{Conn: c, stats: stats, changed: make(chan struct{})}
}

// expect registers a publish before the server writes its acknowledgement.
func (g *gate) expect(id uint16) *ack {
	a := &ack{id: id}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held = append(g.held, a)
	g.storing++
	g.stats.held.Add(1)
	return a
}

// expectLocal registers a publish that waits for nothing itself, but whose
// acknowledgement must not overtake those of earlier publishes.
func (g *gate) expectLocal(id uint16) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.held) > 0 {
		g.held = append(g.held, &ack{id: id, settled: true})
		g.stats.held.Add(1)
	}
}

// resolve settles an acknowledgement: the one that the server wrote is sent,
// or, for a publish that failed, refusal in its place. It does not block.
func (g *gate) resolve(a *ack, failed bool, refusal []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	a.settled, a.failed, a.refusal = true, failed, refusal
	g.storing--
	g.release()
	if g.storing == 0 {
		g.notify()
	}
}

// failed reports whether a publish was refused.
func (g *gate) failed(a *ack) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return a.failed
}

// release starts the releaser if the oldest acknowledgement can go; mu is
// held.
func (g *gate) release() {
	if g.running || g.closed || len(g.held) == 0 || !g.held[0].ready() {
		return
	}
	g.running = true
	go g.releaser()
}

// ready needs the server's bytes too when there is a refusal: they must not
// turn up after it.
func (a *ack) ready() bool { return a.settled && a.bytes != nil }

// releaser sends what is ready, many acknowledgements in one write, until
// nothing is.
func (g *gate) releaser() {
	for {
		g.writing.Lock()
		out, more := g.collect()
		if more {
			if _, err := g.Conn.Write(out); err != nil {
				_ = g.Close() // the server notices by reading; it sends the session's state again on the next connection
			}
		}
		g.writing.Unlock()
		if !more {
			return
		}
	}
}

// collect takes the acknowledgements that can go from the front.
func (g *gate) collect() ([]byte, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []byte
	n := 0
	for n < len(g.held) && g.held[n].ready() {
		if a := g.held[n]; a.refusal != nil {
			out = append(out, a.refusal...)
		} else {
			out = append(out, a.bytes...)
		}
		n++
	}
	if n == 0 || g.closed {
		g.running = false
		return nil, false
	}
	g.drop(n)
	return out, true
}

// drop forgets the n oldest; mu is held.
func (g *gate) drop(n int) {
	clear(g.held[:n])
	g.held = g.held[n:]
	g.stats.held.Add(-int64(n))
	g.notify()
}

// notify wakes those who watch the gate; mu is held.
func (g *gate) notify() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// Write takes whole packets, as the server writes them, and keeps the
// acknowledgements that may not leave yet.
func (g *gate) Write(p []byte) (int, error) {
	g.writing.Lock()
	defer g.writing.Unlock()
	pass := g.sift(p)
	if len(pass) == 0 {
		return len(p), nil
	}
	if _, err := g.Conn.Write(pass); err != nil {
		return 0, err
	}
	return len(p), nil
}

// sift splits p into packets and returns those that pass now.
func (g *gate) sift(p []byte) []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.held) == 0 {
		return p
	}
	var pass []byte
	for rest := p; len(rest) > 0; {
		n := packetLen(rest)
		if !g.hold(rest[:n]) {
			pass = append(pass, rest[:n]...)
		}
		rest = rest[n:]
	}
	g.release()
	return pass
}

// hold keeps a packet if it is an acknowledgement; mu is held.
func (g *gate) hold(packet []byte) bool {
	kind := packet[0] >> 4
	if kind != packets.Puback && kind != packets.Pubrec {
		return false
	}
	_, width := binary.Uvarint(packet[1:])
	if width <= 0 || len(packet) < 1+width+2 {
		return false
	}
	id := binary.BigEndian.Uint16(packet[1+width:])
	for i := len(g.held) - 1; i >= 0; i-- { // nearly always the newest
		if a := g.held[i]; a.id == id && a.bytes == nil {
			a.bytes = bytes.Clone(packet)
			return true
		}
	}
	if len(g.held) == 0 {
		return false
	}
	// The server refused or repeated this one by itself: it keeps its place.
	g.held = append(g.held, &ack{id: id, bytes: bytes.Clone(packet), settled: true})
	g.stats.held.Add(1)
	return true
}

// Close closes the connection and forgets what is held.
func (g *gate) Close() error {
	g.mu.Lock()
	g.closed = true
	if len(g.held) > 0 {
		g.drop(len(g.held))
	}
	g.mu.Unlock()
	return g.Conn.Close()
}

// await blocks until free holds, stop is closed or the time is over; free is
// called with mu held.
func (g *gate) await(timeout time.Duration, stop <-chan struct{}, free func() bool) bool {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		g.mu.Lock()
		ok, changed := free(), g.changed
		g.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-stop:
			return false
		case <-timer.C:
			return false
		}
	}
}

// packetLen is the length of the first packet in p, which the server wrote
// and which is therefore well formed.
func packetLen(p []byte) int {
	n, width := binary.Uvarint(p[1:]) // MQTT's variable byte integer is a base-128 varint
	if width <= 0 || n > uint64(len(p)-1-width) {
		return len(p)
	}
	return 1 + width + int(n)
}
