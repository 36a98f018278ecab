package socket

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"outstation/uplink/wire"
)

// Bounds of answers.
const (
	// maxUnanswered is how many lines of a connection may wait for their answer.
	maxUnanswered = 256
	// writeSize is about how many bytes of answers are written at once.
	writeSize = 8 << 10
	// patience is how long a write may take before the sender counts as one that
	// does not read.
	patience = time.Second
	// maxReason is what is told of an error, in bytes.
	maxReason = 400
)

// answers are those that a connection is owed, in the order of its lines. It
// is safe for concurrent use.
type answers struct {
	conn    net.Conn
	dropped func(int) // counts answers that were not read

	mu      sync.Mutex
	lines   []*answer // oldest first: in flight, or not written yet
	deaf    bool      // the sender does not read: what is settled is dropped
	gone    bool      // the sender cannot be written to any more
	over    bool      // no line follows
	cut     bool      // nothing is waited for any more
	leftOut int       // answers since the last one that was written

	wake chan struct{} // something to write
	room chan struct{} // a line may follow
}

// answer is that of one line.
type answer struct {
	wire.SocketReply
	settled bool
}

func newAnswers(conn net.Conn, dropped func(int)) *answers {
	return &answers{conn: conn, dropped: dropped, wake: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// full reports whether no further line may be read now; room tells when.
func (a *answers) full() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.lines) >= maxUnanswered
}

// add makes a place for the answer to the next line.
func (a *answers) add(id string) *answer {
	a.mu.Lock()
	defer a.mu.Unlock()
	ans := &answer{SocketReply: wire.SocketReply{EventID: id}}
	a.lines = append(a.lines, ans)
	return ans
}

// settle says what became of a line. It does not block.
func (a *answers) settle(ans *answer, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	ans.settled, ans.OK = true, err == nil
	if err != nil {
		ans.Error = reason(err)
	}
	if a.deaf {
		a.drop()
	}
	signal(a.wake)
}

// drop leaves out what is settled; mu is held.
func (a *answers) drop() {
	n := 0
	for n < len(a.lines) && a.lines[n].settled {
		n++
	}
	a.forget(n)
	a.leftOut += n
	a.dropped(n)
}

// forget removes the first n lines; mu is held.
func (a *answers) forget(n int) {
	clear(a.lines[:n])
	if a.lines = a.lines[n:]; len(a.lines) == 0 {
		a.lines = nil // an idle connection holds nothing
	}
	if n > 0 {
		signal(a.room)
	}
}

// take returns the n answers that can be written now. more is false when none
// can follow.
func (a *answers) take() (buf []byte, n int, more bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.deaf {
		if a.leftOut > 0 {
			buf = appendReply(buf, wire.SocketReply{Error: fmt.Sprintf("answers left out here, as they were not read: %d", a.leftOut)})
			a.leftOut = 0
		}
		for n < len(a.lines) && a.lines[n].settled && len(buf) < writeSize {
			buf = appendReply(buf, a.lines[n].SocketReply)
			n++
		}
		a.forget(n)
	}
	return buf, n, !a.cut && (!a.over || len(a.lines) > 0 || len(buf) > 0)
}

func appendReply(buf []byte, r wire.SocketReply) []byte {
	b, err := r.Encode()
	if err != nil { // it has only texts
		b = []byte("{\"event_id\":\"\",\"ok\":false}\n")
	}
	return append(buf, b...)
}

// write writes answers until the last one.
func (a *answers) write() {
	for {
		buf, n, more := a.take()
		if !more {
			return
		}
		if len(buf) == 0 {
			<-a.wake
			continue
		}
		if sent, err := a.send(buf); err != nil {
			a.dropped(min(n, bytes.Count(buf[sent:], []byte("\n"))))
			a.hear(false)
		}
	}
}

// send writes answers, for as long as it takes while lines may follow. After
// its patience is over, further answers are dropped until this is written.
func (a *answers) send(buf []byte) (n int, err error) {
	if err := a.conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	n, err = a.conn.Write(buf)
	if !errors.Is(err, os.ErrDeadlineExceeded) || !a.stopHearing() {
		return n, err
	}
	m, err := a.conn.Write(buf[n:])
	if err == nil {
		a.hear(true)
	}
	return n + m, err
}

// stopHearing drops answers from now on, and reports whether it is worth
// waiting for the sender.
func (a *answers) stopHearing() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.deaf = true
	a.drop()
	return !a.over && a.conn.SetWriteDeadline(time.Time{}) == nil
}

// hear says whether the sender reads again, or never will.
func (a *answers) hear(again bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if again && !a.gone {
		a.deaf = false
		return
	}
	a.deaf, a.gone = true, true
	a.drop()
}

// end says that no line follows. A sender that does not read is not waited for
// any longer than patience.
func (a *answers) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.over = true
	if a.deaf {
		_ = a.conn.SetWriteDeadline(time.Now().Add(patience)) // where it fails, so does the write
	}
	signal(a.wake)
}

// abandon ends write, whatever is owed.
func (a *answers) abandon() {
	a.hear(false)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cut = true
	signal(a.wake)
}

// reason is what a sender is told of an error.
func reason(err error) string {
	text := err.Error()
	if len(text) > maxReason {
		text = string(bytes.ToValidUTF8([]byte(text[:maxReason]), nil)) + "…"
	}
	return text
}

// signal wakes the one reader of a channel of capacity one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
