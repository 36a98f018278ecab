//go:build !novision

package rtsptest

import (
	"net"
	"sync"
	"sync/atomic"
)

// mortalListener's connections die with the flag: what is written vanishes,
// nothing is read, and the peer is told nothing.
type mortalListener struct {
	net.Listener
	dead *atomic.Bool
}

// Accept returns a connection that can die.
func (l mortalListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &mortalConn{Conn: c, dead: l.dead, closed: make(chan struct{})}, nil
}

type mortalConn struct {
	net.Conn
	dead   *atomic.Bool
	died   atomic.Bool // for good, also when the flag is taken back
	once   sync.Once
	closed chan struct{}
}

func (c *mortalConn) gone() bool {
	if c.dead.Load() {
		c.died.Store(true)
	}
	return c.died.Load()
}

// Read reads, and does not return from a dead connection before Close.
func (c *mortalConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.gone() {
		<-c.closed
		return 0, net.ErrClosed
	}
	return n, err
}

// Write writes, or pretends to.
func (c *mortalConn) Write(p []byte) (int, error) {
	if c.gone() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// Close closes the connection, in death too: the process that holds it must
// not run out of files. A camera that lost its power sends nothing then, so
// tests look at their reader before they close the server.
func (c *mortalConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
