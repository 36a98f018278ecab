package broker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// connectTimeout is how long a connection may take until its CONNECT, with
	// the handshakes before it.
	connectTimeout = 10 * time.Second
	// acceptRetry is the wait after an accept that failed.
	acceptRetry = 50 * time.Millisecond
	// maxUnproven is how many connections of one listener may not be logged in.
	maxUnproven = 4096
)

// listening is an open listener. It survives what passes by itself, such as a
// process that is out of file descriptors: the server gives a listener up on
// the first error. Neither a TLS handshake nor a silent connection holds
// Accept.
type listening struct {
	net.Listener
	config Listener
	certs  *certificates // nil without TLS
	stop   chan struct{}
	once   sync.Once

	silent     sync.Map     // *socket of connections that are not logged in
	open       atomic.Int64 // connections
	unproven   atomic.Int64 // of them, those that are not logged in
	accepted   atomic.Int64
	turnedAway atomic.Int64
}

// listen opens l.
func listen(l Listener, log *slog.Logger) (*listening, error) {
	out := &listening{config: l, stop: make(chan struct{})}
	var err error
	if l.encrypted() {
		if out.certs, err = newCertificates(l, log); err != nil {
			return nil, err
		}
	}
	if l.Type == TypeUnix {
		out.Listener, err = ListenUnix(l.Address, -1)
	} else {
		out.Listener, err = net.Listen("tcp", l.Address)
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, wrong("%s is in use; is another broker running on this machine? Stop it or change broker.listeners: %w", l.Address, err)
	}
	if err != nil {
		return nil, wrong("%w", err)
	}
	if tcp, ok := out.Addr().(*net.TCPAddr); ok && l.local() && !tcp.IP.IsLoopback() {
		return nil, errors.Join(wrong("%s is %v on this machine, which the network reaches; write 127.0.0.1", l.Address, tcp.IP), out.Close())
	}
	return out, nil
}

// Close ends the listener and the connections that are not logged in; the
// server knows only the others.
func (l *listening) Close() error {
	l.once.Do(func() { close(l.stop) })
	err := l.Listener.Close()
	l.silent.Range(func(s, _ any) bool {
		_ = s.(*socket).Close() // there is nothing to say before CONNECT
		return true
	})
	return err
}

// Accept returns the next connection, a *connection.
func (l *listening) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil, err
		}
		if err != nil {
			select {
			case <-l.stop:
				return nil, net.ErrClosed
			case <-time.After(acceptRetry):
				continue
			}
		}
		if out := l.take(c); out != nil {
			return out, nil
		}
	}
}

// take makes a connection of a socket, or closes it and returns nil.
func (l *listening) take(c net.Conn) *connection {
	if l.unproven.Load() >= maxUnproven {
		l.turnedAway.Add(1)
		_ = c.Close() // there is nothing to say before CONNECT
		return nil
	}
	if err := c.SetDeadline(time.Now().Add(connectTimeout)); err != nil { // that of reads is set anew after CONNECT
		_ = c.Close() // it is of no use
		return nil
	}
	l.accepted.Add(1)
	l.open.Add(1)
	l.unproven.Add(1)
	s := &socket{Conn: c, from: l}
	l.silent.Store(s, nil)
	select {
	case <-l.stop: // Close may have looked before
		_ = s.Close()
		return nil
	default:
	}
	out := &connection{Conn: s, socket: s}
	if l.certs != nil {
		out.tls = tls.Server(s, l.certs.base)
		out.Conn = out.tls
	}
	return out
}

// socket is what was accepted; it counts.
type socket struct {
	net.Conn
	from   *listening
	proven sync.Once
	closed sync.Once
}

// prove says that the connection is logged in.
func (s *socket) prove() {
	s.proven.Do(func() {
		s.from.unproven.Add(-1)
		s.from.silent.Delete(s)
	})
}

// Close closes the socket.
func (s *socket) Close() error {
	s.prove()
	s.closed.Do(func() { s.from.open.Add(-1) })
	return s.Conn.Close()
}

// connection is what the server reads and writes, with what is known of it.
type connection struct {
	net.Conn
	socket *socket
	tls    *tls.Conn // or nil
	// overHTTP: the WebSocket library is below the server, and sets deadlines
	// of its own that would undo those of the gate.
	overHTTP bool
}

// SetWriteDeadline sets the deadline of writes.
func (c *connection) SetWriteDeadline(t time.Time) error {
	if c.overHTTP {
		return nil
	}
	return c.Conn.SetWriteDeadline(t)
}

// certificate is the device's own, which the handshake has verified, or nil.
func (c *connection) certificate() *x509.Certificate {
	if c.tls == nil {
		return nil
	}
	state := c.tls.ConnectionState()
	if len(state.VerifiedChains) == 0 {
		return nil
	}
	return state.VerifiedChains[0][0]
}

// address is where the device connects from, for the limits of logins: of
// IPv6 its network, since a device has a whole one. It is the zero value for a
// Unix socket.
func (c *connection) address() netip.Addr {
	tcp, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	a := tcp.AddrPort().Addr().Unmap().WithZone("")
	if a.Is6() && !a.IsLoopback() {
		if p, err := a.Prefix(64); err == nil {
			a = p.Addr()
		}
	}
	return a
}

// ListenerStats are the figures of one listener.
type ListenerStats struct {
	Type       string
	Address    string
	Open       int64 // connections now
	Unproven   int64 // of them, those that are not logged in
	Accepted   int64
	TurnedAway int64 // because too many were not logged in
	// CertExpires is when the certificate does, or the zero time without TLS.
	CertExpires time.Time
	// CertError says why a changed certificate is not used, or is nil.
	CertError error
}

func (l *listening) stats() ListenerStats {
	s := ListenerStats{
		Type: l.config.Type, Address: l.Addr().String(),
		Open: l.open.Load(), Unproven: l.unproven.Load(), Accepted: l.accepted.Load(), TurnedAway: l.turnedAway.Load(),
	}
	if l.certs != nil {
		s.CertExpires, s.CertError = l.certs.state()
	}
	return s
}

// closeWriter is a connection that can be ended in one direction.
type closeWriter interface{ CloseWrite() error }

// CloseWrite tells the device that nothing more comes.
func (c *connection) CloseWrite() error { return closeWrite(c.Conn) }

// CloseWrite ends the socket in one direction.
func (s *socket) CloseWrite() error { return closeWrite(s.Conn) }

func closeWrite(c net.Conn) error {
	if w, ok := c.(closeWriter); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}
