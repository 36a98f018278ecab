package socket

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os/user"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"outstation/broker"
	"outstation/uplink/wire"
)

const (
	// DefaultPath is where the contract has the socket.
	DefaultPath = "/run/outstation/vision.sock"
	// DefaultConnections is how many may be open at once.
	DefaultConnections = 1024

	// maxInFlight bounds the bytes of all lines that wait for the disk, and with
	// them what others wait behind. Each line counts for lineOverhead more than
	// it has, which bounds their number.
	maxInFlight  = 2 << 20
	lineOverhead = 1 << 10
	// drainTimeout is how long a stop waits for the disk and for the senders.
	drainTimeout = 3 * time.Second
	// acceptAgain is the wait after a connection that could not be accepted.
	acceptAgain = 100 * time.Millisecond
)

// ErrInvalid says that an event may not be stored whatever the sender does.
// Errors of Options.Store that wrap it count as CauseInvalid.
var ErrInvalid = errors.New("invalid event")

// errStopping is told of lines that came too late.
var errStopping = errors.New("the appliance is stopping; send the line again")

// Options of a Server.
type Options struct {
	Path           string // absolute, at most 90 bytes
	Group          string // that may connect, by name or number; empty means the group of the process
	MaxConnections int
	DeviceID       string // of this appliance
	// Store is given each valid event, with the line that it came in but for
	// what was filled in. It may wait for room as long as ctx allows. A nil
	// result means that done will be called exactly once: with nil when the
	// event is durable, or with the error that prevented it. Any other result
	// is a refusal, and done is not called. It is called from many goroutines,
	// and keeps the payload.
	Store func(ctx context.Context, d wire.Detection, payload []byte, done func(error)) error
	// Inspected reports whether this appliance sends events of that camera
	// itself. Lines of such a camera are stored, since the contract does not
	// forbid them, and counted. Nil is for none. It is called from many goroutines.
	Inspected func(camera string) bool
	Logger    *slog.Logger
}

// Server is the local socket: New, then Listen, then Serve.
type Server struct {
	opt      Options
	budget   budget
	places   chan struct{} // of long lines
	dropped  atomic.Uint64 // answers
	listener net.Listener

	mu      sync.Mutex
	stats   Stats
	conns   map[*conn]struct{}
	told    map[string]bool // cameras that Inspected knows and the log was told of
	serving sync.WaitGroup
}

// New makes a server; it does no I/O.
func New(opt Options) *Server {
	return &Server{
		opt: opt, budget: budget{free: maxInFlight}, places: make(chan struct{}, maxLong), conns: map[*conn]struct{}{}, told: map[string]bool{},
		stats: Stats{Path: opt.Path, MaxConnections: opt.MaxConnections},
	}
}

// Listen makes the socket, of mode 0660 from its first moment. What a killed
// process left is replaced; a socket on which somebody listens is an error,
// and so is any other file. The error is in Stats too.
func (s *Server) Listen() error {
	ln, err := s.listen()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listener, s.stats.Error, s.stats.Listening = ln, err, err == nil
	return err
}

func (s *Server) listen() (net.Listener, error) {
	gid, err := groupID(s.opt.Group)
	if err != nil {
		return nil, err
	}
	ln, err := broker.ListenUnix(s.opt.Path, gid)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("another process listens on %s; stop it, or choose another vision.socket.path: %w", s.opt.Path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("local socket: %w", err)
	}
	return ln, nil
}

// groupID is the number of a group, or -1 for none.
func groupID(name string) (int, error) {
	if name == "" {
		return -1, nil
	}
	if n, err := strconv.ParseUint(name, 10, 31); err == nil {
		return int(n), nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, fmt.Errorf("group of the local socket: %w", err)
	}
	return strconv.Atoi(g.Gid)
}

// Serve takes lines until ctx ends, and then waits for the lines in flight,
// for a few seconds at most. The socket is gone when it returns. It is called
// once, after Listen has succeeded.
func (s *Server) Serve(ctx context.Context) {
	stopped := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(stopped)
		s.stop()
	})
	for ctx.Err() == nil {
		c, err := s.listener.Accept()
		s.accepted(err)
		if err != nil {
			select {
			case <-time.After(acceptAgain):
			case <-ctx.Done():
			}
			continue
		}
		s.admit(ctx, c)
	}
	<-stopped
	late := time.AfterFunc(drainTimeout, s.cut)
	defer late.Stop()
	s.serving.Wait()
}

// Close takes the socket away where Serve was not called, and else does
// nothing more than Serve did. It is called after Listen has succeeded, and
// never while Serve runs.
func (s *Server) Close() error {
	if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close the local socket: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Listening = false
	return nil
}

// accepted keeps why nobody can connect, until somebody does.
func (s *Server) accepted(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stats.Listening {
		s.stats.Error = err
	}
}

// admit serves a connection, or says why not.
func (s *Server) admit(ctx context.Context, nc net.Conn) {
	c := newConn(s, nc)
	s.mu.Lock()
	full := len(s.conns) >= s.opt.MaxConnections
	if full {
		s.stats.ConnectionsRefused++
	} else {
		s.conns[c] = struct{}{}
		s.serving.Add(1)
	}
	s.mu.Unlock()
	if full {
		c.turnAway(fmt.Errorf("too many connections: %d are open, as vision.socket.max_connections allows", s.opt.MaxConnections))
		return
	}
	if ctx.Err() != nil {
		c.stopReading() // stop may have come before it was there
	}
	go func() {
		defer s.serving.Done()
		c.serve(ctx)
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
}

// stop lets nobody in any more and ends reading. Answers still go out.
func (s *Server) stop() {
	if err := s.listener.Close(); err != nil {
		s.opt.Logger.Error("closing the local socket failed", "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Listening, s.stats.Error = false, nil
	for c := range s.conns {
		c.stopReading()
	}
}

// cut ends what did not end in time.
func (s *Server) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opt.Logger.Warn("connections of the local socket are cut while lines are in flight", "connections", len(s.conns))
	for c := range s.conns {
		c.close()
		c.answers.abandon()
	}
}
