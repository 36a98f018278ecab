package uplink

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

func TestBufferedConnGathersAndDelivers(t *testing.T) {
	near, far := net.Pipe() // every write waits for its reader
	b := newBufferedConn(near)
	for range 100 {
		if _, err := b.Write([]byte("0123456789")); err != nil {
			t.Fatal(err)
		}
	}
	if !b.busy() {
		t.Error("not busy, with 1,000 bytes that nobody has read")
	}
	got := make([]byte, 1000)
	if _, err := io.ReadFull(far, got); err != nil || string(got[990:]) != "0123456789" {
		t.Errorf("got %.20s… (%v)", got, err)
	}
	eventually(t, "all to have left", func() bool { return !b.busy() })
	go func() { _, _ = far.Write([]byte("back")) }()
	if n, err := b.Read(got); err != nil || string(got[:n]) != "back" {
		t.Errorf("read %q (%v)", got[:n], err)
	}
	if _, err := b.Write([]byte("last")); err != nil {
		t.Fatal(err)
	}
	go func() { _ = b.Close() }()
	if rest, err := io.ReadAll(far); err != nil || string(rest) != "last" {
		t.Errorf("before the end: got %q (%v)", rest, err)
	}
}

func TestBufferedConnTellsALostPeer(t *testing.T) {
	near, far := net.Pipe()
	b := newBufferedConn(near)
	if err := far.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a write to fail", func() bool { _, err := b.Write([]byte("x")); return err != nil })
	if _, err := b.Read(make([]byte, 1)); err == nil {
		t.Error("a read of a lost connection succeeds")
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

func TestBufferedConnIsBoundedAndClosesUnderAWriter(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	b := newBufferedConn(near)
	ended := make(chan error, 1)
	go func() {
		for {
			if _, err := b.Write(make([]byte, 16<<10)); err != nil {
				ended <- err
				return
			}
		}
	}()
	taken := func() int64 {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.taken
	}
	eventually(t, "a full buffer", func() bool { return taken() >= connBuffer })
	if got := taken(); got > 3*connBuffer {
		t.Errorf("%d bytes were taken from a writer whose peer reads nothing", got)
	}
	go func() { _ = b.Close() }()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("Close leaves a writer behind")
	}
}

// TestBufferedConnTellsItsReaderWhyItIsOver has a peer whose reset is seen by
// a write first.
func TestBufferedConnTellsItsReaderWhyItIsOver(t *testing.T) {
	near, far := net.Pipe()
	b := newBufferedConn(near)
	reset := errors.New("connection reset by peer")
	go b.fail(reset)
	if _, err := b.Read(make([]byte, 1)); !errors.Is(err, reset) {
		t.Errorf("got %v, expected the writer's error", err)
	}
	far.Close()
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}
