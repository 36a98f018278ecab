package broker

import (
	"io"
	"net"
	"sync"
	"time"
)

// buffers are those of the writers at work. An idle connection has none.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// maxKept is the largest buffer that is used again.
const maxKept = 64 << 10

// line returns what waits for the socket, to be appended to; mu is held.
func (g *gate) line() []byte {
	if g.out == nil {
		g.out = *buffers.Get().(*[]byte)
	}
	return g.out
}

// giveBack lets a buffer be used again.
func giveBack(b []byte) {
	if cap(b) > 0 && cap(b) <= maxKept {
		b = b[:0]
		buffers.Put(&b)
	}
}

// kick starts the writer if there is something to write; mu is held.
func (g *gate) kick() {
	if !g.writing && len(g.out) > 0 {
		g.writing = true
		go g.writer()
	}
}

// writer writes until nothing waits, gathering what comes in meanwhile.
func (g *gate) writer() {
	var spare []byte
	asked := false // for more
	for {
		g.mu.Lock()
		if more := g.empty; len(g.out) == 0 && more != nil && !asked && !g.closed {
			g.mu.Unlock()
			more(g)
			asked = true
			continue
		}
		asked = false
		if len(g.out) == 0 {
			g.writing = false
			closed := g.closed
			giveBack(g.out)
			g.out = nil
			g.mu.Unlock()
			giveBack(spare)
			if closed {
				g.hangUp() // Close left it to us
			}
			return
		}
		out := g.out
		g.out = spare[:0]
		g.mu.Unlock()
		n, err := g.Conn.Write(out)
		g.traffic.bytesOut.Add(int64(n))
		g.stats.written.Add(int64(n))
		if err != nil {
			g.mu.Lock()
			g.out = nil
			g.shut()
			g.mu.Unlock()
		}
		spare = out
	}
}

// Read ends when the gate is closed, though hangUp may still read.
func (g *gate) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return 0, net.ErrClosed
	}
	return n, err
}

// hangUp closes the connection. A device that is still sending must be heard
// out for a while, or its system throws our last words away. The server has to
// have stopped reading by then: a new deadline would undo the one that ends its
// read.
func (g *gate) hangUp() {
	if c, ok := g.Conn.(interface{ CloseWrite() error }); ok && c.CloseWrite() == nil {
		timer := time.NewTimer(closeFlush)
		defer timer.Stop()
		select {
		case <-g.over:
		case <-timer.C:
		}
		_ = g.SetReadDeadline(time.Now().Add(closeFlush))
		_, _ = io.CopyN(io.Discard, g.Conn, maxUnread)
	}
	_ = g.Conn.Close() // it is over
}

// Close forgets what is held, lets the last words be written, without waiting
// for them, and closes the connection.
func (g *gate) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut()
	return nil
}

// shut closes the gate; mu is held.
func (g *gate) shut() {
	if g.closed {
		return
	}
	g.closed = true
	if len(g.held) > 0 {
		g.drop(len(g.held))
	}
	g.notify()
	now := time.Now()
	_ = g.SetReadDeadline(now)                  // ends the read loop
	_ = g.SetWriteDeadline(now.Add(closeFlush)) // a device that does not read must not hold the writer
	if !g.writing {
		go g.hangUp() // the writer may have written the last words just now
	}
}

// SetDeadline sets the deadline of reads. The server sets it on every packet,
// but in seconds of 16 bits, so that the longest keep-alives are none; writes
// have none, since what a device does not read is bounded.
func (g *gate) SetDeadline(t time.Time) error {
	if g.silence > 0 {
		t = time.Now().Add(g.silence)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return net.ErrClosed
	}
	return g.SetReadDeadline(t)
}
