package socket

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"outstation/uplink"
	"outstation/uplink/wire"
)

// TestASenderThatNeverReads is stored all the same, delays nobody, and finds
// the place where answers are missing when it reads after all.
func TestASenderThatNeverReads(t *testing.T) {
	r := run(t, nil)
	deaf, other := r.dial(), r.dial()
	const lines = 8000
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for n := range lines {
			if _, err := deaf.conn.Write([]byte(line(n, "") + "\n")); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for n := range 100 {
		other.send(line(lines+n, "") + "\n")
		other.expectOK(id(lines + n))
	}
	<-sent
	eventually(t, "all lines", func() bool { return r.s.Stats().Accepted == lines+100 })
	dropped := r.s.Stats().AnswersDropped
	if dropped == 0 {
		t.Fatal("no answer was dropped")
	}
	if got := len(r.stored()); got != lines+100 {
		t.Errorf("%d records are queued", got)
	}
	n, left := 0, 0
	for n+left < lines {
		a := deaf.answer()
		if a.EventID == "" {
			if _, err := fmt.Sscanf(a.Error, "answers left out here, as they were not read: %d", &left); err != nil {
				t.Fatalf("got %+v", a)
			}
			continue
		}
		if !a.OK || a.EventID != id(n+left) {
			t.Fatalf("got %+v as answer %d after %d left out", a, n, left)
		}
		n++
	}
	if uint64(left) != dropped {
		t.Errorf("%d answers were left out, %d are counted", left, dropped)
	}
	deaf.send(line(lines, "") + "\n")
	deaf.expectOK(id(lines))
}

// TestASenderThatEndsWithoutReading does not keep its connection, whether it
// ends before or after it was found out.
func TestASenderThatEndsWithoutReading(t *testing.T) {
	for _, lines := range []int{3000, 8000} {
		r := run(t, nil)
		s := r.dial()
		for n := range lines {
			s.send(line(n, "") + "\n")
		}
		if err := s.conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "no connection", func() bool { return r.s.Stats().Connections == 0 })
		if st := r.s.Stats(); st.Accepted != uint64(lines) || lines == 8000 && st.AnswersDropped == 0 {
			t.Errorf("got %+v", st)
		}
	}
}

// TestAThousandConnections are served at once, and one more is told why it is
// not.
func TestAThousandConnections(t *testing.T) {
	const most = 1000
	r := run(t, func(o *Options, _ map[string]uplink.Policy) { o.MaxConnections = most })
	before := memory()
	senders := make([]*sender, most)
	for n := range senders {
		senders[n] = r.dial()
	}
	eventually(t, "all connections", func() bool { return r.s.Stats().Connections == most })
	// The senders' own ends are in this, with 4 KiB of buffer each.
	if each := (memory() - before) / most; each > 64<<10 {
		t.Errorf("a connection that is idle costs %d bytes", each)
	} else {
		t.Logf("a connection that is idle costs %d bytes, with the sender's end", each)
	}
	refused := r.dial()
	refused.expectRefusal("", "too many connections: 1000 are open")
	refused.expectEnd()
	for n, s := range senders {
		s.send(line(n, "") + "\n")
	}
	for n, s := range senders {
		s.expectOK(id(n))
	}
	senders[0].conn.Close()
	eventually(t, "a place", func() bool { return r.s.Stats().Connections == most-1 })
	s := r.dial()
	s.send(line(most, "") + "\n")
	s.expectOK(id(most))
	if st := r.s.Stats(); st.ConnectionsRefused != 1 || st.Accepted != most+1 {
		t.Errorf("got %+v", st)
	}
}

// memory is what the heap and the stacks hold.
func memory() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// TestLinesThatDoNotEnd has many connections in the middle of a line of 1 MiB:
// few of them are held, and others are served.
func TestLinesThatDoNotEnd(t *testing.T) {
	r := run(t, nil)
	const stuck = 200
	text := []byte(strings.Repeat("x", 1000<<10))
	before := memory()
	for range stuck {
		s := r.dial()
		go s.conn.Write(text) // it ends with the test
	}
	eventually(t, "all places taken", func() bool { return len(r.s.places) == maxLong })
	s := r.dial()
	for n := range 200 {
		s.send(line(n, "") + "\n")
		s.expectOK(id(n))
	}
	if held := memory() - before; held > maxLong*3<<20+stuck*(shortLine+32<<10) {
		t.Errorf("%d MiB are held", held>>20)
	}
}

// TestAByteAtATime sends a line like a person does.
func TestAByteAtATime(t *testing.T) {
	r := run(t, nil)
	s := r.dial()
	for _, b := range []byte(line(1, "") + "\n") {
		s.send(string(b))
	}
	s.expectOK(id(1))
}

// TestALongLineHasToCome lets one end too late.
func TestALongLineHasToCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		l := lineReader{
			from: bufio.NewReaderSize(ours, readBuffer), places: make(chan struct{}, 1),
			limit: func(at time.Time) {
				if err := ours.SetReadDeadline(at); err != nil {
					t.Error(err)
				}
			},
		}
		write := func(text string) {
			if _, err := theirs.Write([]byte(text)); err != nil {
				t.Error(err)
			}
		}
		go func() {
			for range shortLine - 1 { // as slowly as it likes
				write("x")
				time.Sleep(time.Second)
			}
			write(strings.Repeat("x", 2*readBuffer))
			time.Sleep(time.Hour)
			write("the rest\nnext\n")
		}()
		began := time.Now()
		if got, err := l.next(t.Context()); !errors.Is(err, errTooSlow) {
			t.Fatalf("got %.20q, %v", got, err)
		}
		if took := time.Since(began) - (shortLine-1)*time.Second; took != longPatience {
			t.Errorf("refused after %v", took)
		}
		if len(l.places) != 0 || l.line != nil {
			t.Error("the line is held")
		}
		if got, err := l.next(t.Context()); err != nil || string(got) != "next" {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

// TestAFloodStarvesNobody has connections that send all they can, and one
// that sends a line at a time.
func TestAFloodStarvesNobody(t *testing.T) {
	r := run(t, nil)
	var stop atomic.Bool
	var flood sync.WaitGroup
	for f := range 4 {
		s := r.dial()
		flood.Go(func() {
			buf := make([]byte, 1<<16)
			for {
				if _, err := s.conn.Read(buf); err != nil {
					return
				}
			}
		})
		text := []byte(long(f, 2<<10) + "\n")
		flood.Go(func() {
			defer s.conn.Close()
			for !stop.Load() {
				if _, err := s.conn.Write(text); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	eventually(t, "a flood", func() bool { return r.s.Stats().Accepted > 1000 })
	s := r.dial()
	for n := range 10 {
		s.send(line(1000+n, "") + "\n")
		s.expectOK(id(1000 + n))
	}
	stop.Store(true)
	flood.Wait()
}

// TestTheBudgetIsServedInTurn has some wait, one of whom gives up.
func TestTheBudgetIsServedInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := budget{free: 10}
		var order []int
		wait := func(ctx context.Context, who, n int) {
			go func() {
				if b.acquire(ctx, n) == nil {
					order = append(order, who)
				}
			}()
			synctest.Wait()
		}
		release := func(n int, want string) {
			t.Helper()
			b.release(n)
			synctest.Wait()
			if fmt.Sprint(order) != want {
				t.Errorf("let in were %v, expected %s", order, want)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		wait(ctx, 0, 10)
		wait(ctx, 1, 8)
		wait(ctx, 2, 1)
		wait(t.Context(), 3, 2)
		release(7, "[0]") // a small one does not pass a large one
		cancel()          // two give up
		synctest.Wait()
		if fmt.Sprint(order) != "[0 3]" || b.free != 5 || len(b.waiting) != 0 {
			t.Errorf("let in were %v, %d are free", order, b.free)
		}
		wait(t.Context(), 4, 6)
		wait(t.Context(), 5, 1)
		release(1, "[0 3 4]")
		release(1, "[0 3 4 5]")
	})
}

// TestBytesInFlightAreBounded withholds every outcome.
func TestBytesInFlightAreBounded(t *testing.T) {
	r := run(t, nil)
	var mu sync.Mutex
	var held []func() error
	var bytes int
	r.intercept(func(d wire.Detection, store func() error) error {
		mu.Lock()
		defer mu.Unlock()
		held = append(held, store)
		bytes += 500 << 10
		return nil
	})
	const conns, each = 8, 2
	for c := range conns {
		s := r.dial()
		go func() {
			for n := range each {
				s.conn.Write([]byte(long(c*each+n, 500<<10) + "\n"))
			}
		}()
	}
	waiting := func() bool {
		r.s.budget.mu.Lock()
		defer r.s.budget.mu.Unlock()
		return len(r.s.budget.waiting) == conns
	}
	eventually(t, "all to wait", waiting)
	mu.Lock()
	if bytes > maxInFlight {
		t.Errorf("%d bytes are in flight", bytes)
	}
	first := held
	held = nil
	mu.Unlock()
	r.intercept(func(_ wire.Detection, store func() error) error { return store() })
	for _, store := range first {
		if err := store(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all lines", func() bool { return r.s.Stats().Accepted == conns*each })
}
