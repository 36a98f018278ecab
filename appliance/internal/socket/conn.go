package socket

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"outstation/uplink/wire"
)

// conn is one connection: a goroutine that reads lines, and one that writes
// answers.
type conn struct {
	server  *Server
	net     net.Conn
	answers *answers
	lines   lineReader

	mu       sync.Mutex
	stopping bool // the deadline of reads is over for good
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{server: s, net: nc}
	c.answers = newAnswers(nc, func(n int) { s.dropped.Add(uint64(n)) })
	c.lines = lineReader{from: bufio.NewReaderSize(nc, readBuffer), limit: c.limit, places: s.places}
	return c
}

// turnAway says why a connection is not served.
func (c *conn) turnAway(why error) {
	// There is room for one line in a socket that is new; without it there is no answer.
	if c.net.SetWriteDeadline(time.Now().Add(patience)) == nil {
		_, _ = c.net.Write(appendReply(nil, wire.SocketReply{Error: why.Error()}))
	}
	c.close()
}

// serve returns when the sender has ended, or ctx has, and what it sent has
// been answered.
func (c *conn) serve(ctx context.Context) {
	var writing sync.WaitGroup
	writing.Go(c.answers.write)
	c.read(ctx)
	c.lines.letGo()
	c.answers.end()
	writing.Wait()
	c.close()
}

func (c *conn) close() { _ = c.net.Close() } // twice where a stop is late

// limit sets the deadline of reads; zero means none.
func (c *conn) limit(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopping {
		_ = c.net.SetReadDeadline(t) // where it fails, so does the read
	}
}

// stopReading ends a read that waits, and all further ones.
func (c *conn) stopReading() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopping = true
	_ = c.net.SetReadDeadline(time.Unix(1, 0)) // where it fails, so does the read
}

// read takes lines until there are none.
func (c *conn) read(ctx context.Context) {
	for c.waitForRoom(ctx) {
		line, err := c.lines.next(ctx)
		ended := errors.Is(err, io.EOF)
		switch {
		case errors.Is(err, errTooLong):
			c.refuse("", CauseTooLong, err)
		case errors.Is(err, errTooSlow):
			c.refuse("", CauseCutOff, err)
		case err != nil && !ended:
			return // the sender is gone, or we are
		case len(bytes.Trim(line, blanks)) > 0:
			c.take(ctx, line, ended)
		}
		c.lines.letGo()
		if ended {
			return
		}
	}
}

// waitForRoom waits while too many lines are not answered, and reports
// whether a line may be read.
func (c *conn) waitForRoom(ctx context.Context) bool {
	for c.answers.full() {
		select {
		case <-c.answers.room:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return false
		}
	}
	return true
}

// take stores one line. unended says that its newline is missing.
func (c *conn) take(ctx context.Context, line []byte, unended bool) {
	s := c.server
	d, payload, err := readEvent(line, s.opt.DeviceID)
	if err != nil {
		cause := CauseInvalid
		if unended {
			cause, err = CauseCutOff, fmt.Errorf("the connection ended in the middle of a line: %w", err)
		}
		c.refuse(d.EventID, cause, err)
		return
	}
	s.inspected(d.CameraID)
	ans := c.answers.add(d.EventID)
	size := len(payload) + lineOverhead
	if s.budget.acquire(ctx, size) != nil {
		s.refused(CauseNotStored, errStopping)
		c.answers.settle(ans, errStopping)
		return
	}
	c.lines.letGo() // the payload is a copy, and has its place in the budget
	done := func(err error) {
		s.budget.release(size)
		s.stored(err)
		c.answers.settle(ans, err)
	}
	if err := s.opt.Store(ctx, d, payload, done); err != nil {
		done(err)
	}
}

// refuse answers a line that is not stored.
func (c *conn) refuse(id string, cause Cause, err error) {
	c.server.refused(cause, err)
	c.answers.settle(c.answers.add(id), err)
}
