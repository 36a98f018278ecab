package broker

import (
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"strings"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
)

// errPanic ends the connection of a device whose packet the server cannot
// read without a panic.
var errPanic = errors.New("the server panicked on what the device sent")

// contained is a listener whose devices cannot take the process down: the
// server's decoder panics on some packets that are cut short.
type contained struct {
	*listeners.Net
	hook *hook
}

// Serve establishes connections until the listener is closed.
func (l contained) Serve(establish listeners.EstablishFn) {
	kind, _, _ := strings.Cut(l.ID(), "-")
	l.Net.Serve(l.hook.contain(kind+" "+l.Address(), establish))
}

// Close closes the listener and disconnects its devices. The server's own way
// takes a read lock twice, and hangs for good when a device comes or goes in
// between.
func (l contained) Close(listeners.CloseFn) {
	l.Net.Close(func(id string) {
		for _, cl := range l.hook.server.Clients.GetAll() {
			if cl.Net.Listener == id && !cl.Closed() {
				_ = l.hook.server.DisconnectClient(cl, packets.ErrServerShuttingDown) // it returns the reason that it was given
			}
		}
	})
}

// contain makes a panic the end of one connection. listener is the type and
// the address of where they come in.
func (h *hook) contain(listener string, establish listeners.EstablishFn) listeners.EstablishFn {
	return func(id string, accepted net.Conn) (err error) {
		c := &peer{Conn: accepted, hook: h, listener: listener, since: time.Now(), traffic: &traffic{}, over: make(chan struct{})}
		defer func() {
			defer close(c.over)
			known, _ := h.clients.LoadAndDelete(c)
			if cl, ok := known.(*mqtt.Client); ok {
				defer h.presence.leave(cl)
			}
			p := recover()
			if p == nil {
				return
			}
			err = fmt.Errorf("%w: %v", errPanic, p)
			n := h.stats.panics.Add(1)
			if h.panicWarned.due(time.Now()) {
				h.opt.Logger.Error("a device's connection ended in a panic", "remote", c.RemoteAddr(), "error", err, "total", n, "stack", string(debug.Stack()))
			}
			if cl, ok := known.(*mqtt.Client); ok {
				h.bury(cl, err)
			}
			_ = c.Close() // the server may not have known it
		}()
		if !h.enter() {
			return c.Close()
		}
		defer h.server.Listeners.ClientsWg.Done()
		return establish(id, c)
	}
}

// enter lets a connection in unless the broker closes: the server counts it
// only after it was let in, and so might not wait for its end.
func (h *hook) enter() bool {
	h.entering.Lock()
	defer h.entering.Unlock()
	if h.shut {
		return false
	}
	h.server.Listeners.ClientsWg.Add(1)
	return true
}

// shutDoors lets nobody in any more.
func (h *hook) shutDoors() {
	h.entering.Lock()
	defer h.entering.Unlock()
	h.shut = true
}

// bury does what the server does when a connection ends.
func (h *hook) bury(cl *mqtt.Client, err error) {
	p := cl.Properties
	expire := (p.ProtocolVersion == 5 && p.Props.SessionExpiryInterval == 0) || (p.ProtocolVersion < 5 && p.Clean)
	h.OnDisconnect(cl, err, expire)
	if expire && !cl.IsTakenOver() {
		cl.ClearInflights()
		h.server.UnsubscribeClient(cl)
		h.server.Clients.Delete(cl.ID)
	}
}
