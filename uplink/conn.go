package uplink

import (
	"bufio"
	"net"
	"sync"
	"time"
)

const (
	connBuffer = 64 << 10
	// writeStall ends a connection whose peer does not take writeChunk bytes
	// in this time.
	writeStall = 20 * time.Second
	writeChunk = 16 << 10
)

// bufferedConn gathers the many small writes of an MQTT client while a write
// to the socket is under way, and reads ahead. Without it every publish and
// every acknowledgement costs a system call of its own.
//
// Write returns once the bytes are in the buffer; an error of the socket
// comes with a later Write, Read or Close.
type bufferedConn struct {
	net.Conn
	in *bufio.Reader

	mu     sync.Mutex
	filled *sync.Cond // buf or closed changed
	buf    []byte     // waits to be written
	err    error      // of the socket
	closed bool
	taken  int64         // bytes that Write took
	gone   int64         // bytes that the socket took
	done   chan struct{} // closed when the writer has ended
}

func newBufferedConn(c net.Conn) *bufferedConn {
	b := &bufferedConn{Conn: c, in: bufio.NewReaderSize(c, 16<<10), done: make(chan struct{})}
	b.filled = sync.NewCond(&b.mu)
	go b.writer()
	return b
}

// Read tells the writer's error rather than that of the closed connection,
// which paho takes for a close of its own and keeps to itself.
func (b *bufferedConn) Read(p []byte) (int, error) {
	n, err := b.in.Read(p)
	if err != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.err != nil {
			err = b.err
		}
	}
	return n, err
}

// SetWriteDeadline does nothing: the writer sets its own, and one for each
// packet would say nothing of a buffered one.
func (b *bufferedConn) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline applies to reads; see SetWriteDeadline.
func (b *bufferedConn) SetDeadline(t time.Time) error { return b.SetReadDeadline(t) }

func (b *bufferedConn) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.buf) >= connBuffer && b.err == nil && !b.closed {
		b.filled.Wait()
	}
	if b.closed {
		return 0, net.ErrClosed
	}
	if b.err != nil {
		return 0, b.err
	}
	b.buf = append(b.buf, p...)
	b.taken += int64(len(p))
	b.filled.Broadcast()
	return len(p), nil
}

// busy reports whether something waits for the socket.
func (b *bufferedConn) busy() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.gone < b.taken
}

// Close writes what is buffered, waiting for the socket as long as one write
// may take, and closes it.
func (b *bufferedConn) Close() error {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		_ = b.Conn.SetWriteDeadline(time.Now().Add(time.Second)) // a dead peer must not hold a close
		b.filled.Broadcast()
	}
	b.mu.Unlock()
	<-b.done
	return b.Conn.Close()
}

func (b *bufferedConn) writer() {
	defer close(b.done)
	var spare []byte
	for {
		b.mu.Lock()
		for len(b.buf) == 0 && !b.closed && b.err == nil {
			b.filled.Wait()
		}
		if b.err != nil || len(b.buf) == 0 {
			b.mu.Unlock()
			return
		}
		out := b.buf
		b.buf = spare[:0]
		b.filled.Broadcast()
		b.mu.Unlock()

		spare = out
		if err := b.flush(out); err != nil {
			b.fail(err)
		}
	}
}

func (b *bufferedConn) flush(out []byte) error {
	for len(out) > 0 {
		n := min(len(out), writeChunk)
		b.mu.Lock()
		if !b.closed { // Close has set the deadline of what is left
			_ = b.Conn.SetWriteDeadline(time.Now().Add(writeStall)) // an error comes back from the write
		}
		b.mu.Unlock()
		if _, err := b.Conn.Write(out[:n]); err != nil {
			return err
		}
		b.mu.Lock()
		b.gone += int64(n)
		b.mu.Unlock()
		out = out[n:]
	}
	return nil
}

// fail ends the connection for its reader too: an MQTT client notices a lost
// connection by reading.
func (b *bufferedConn) fail(err error) {
	b.mu.Lock()
	b.err = err
	b.filled.Broadcast()
	b.mu.Unlock()
	_ = b.Conn.Close() // the write's error is the one that is told
}
