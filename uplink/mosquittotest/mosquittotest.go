// Package mosquittotest runs a real Mosquitto on loopback, as the centre of
// tests and benchmarks.
package mosquittotest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// startTimeout bounds the start and the stop of the server.
const startTimeout = 10 * time.Second

// Server is one Mosquitto. It keeps its port and its directory over Stop and
// Start, so that it can be cut and come back.
type Server struct {
	Dir    string // configuration, log and persistence
	Port   int
	Listen string // lines that configure the listener on Port; by default plain TCP for anybody
	Extra  string // further lines

	cmd  *exec.Cmd
	done chan struct{ err error } // how the process ended
}

// New prepares a server in dir on a free loopback port.
func New(dir string) (*Server, error) {
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	return &Server{
		Dir: dir, Port: port, Listen: fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\n", port),
	}, nil
}

// Binary is the path of mosquitto, or an error that says how to get it.
func Binary() (string, error) {
	for _, path := range []string{"mosquitto", "/usr/sbin/mosquitto"} {
		if found, err := exec.LookPath(path); err == nil {
			return found, nil
		}
	}
	return "", errors.New("mosquitto is not installed; make test installs it")
}

// Address is host:port.
func (s *Server) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)) }

// URL is the address as a client of the centre names it.
func (s *Server) URL() string { return "tcp://" + s.Address() }

// PID is the process of a server that was started.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Start runs the server and waits until it listens.
func (s *Server) Start() error {
	binary, err := Binary()
	if err != nil {
		return err
	}
	file := filepath.Join(s.Dir, "mosquitto.conf")
	if err := os.WriteFile(file, s.config(), 0o600); err != nil {
		return fmt.Errorf("mosquitto: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(s.Dir, "mosquitto.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("mosquitto: %w", err)
	}
	defer log.Close()
	s.cmd = exec.Command(binary, "-c", file)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // it never outlives a test that is killed
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("mosquitto: %w", err)
	}
	s.done = make(chan struct{ err error }, 1)
	cmd, done := s.cmd, s.done
	go func() { done <- struct{ err error }{cmd.Wait()} }()
	return s.awaitListening()
}

func (s *Server) config() []byte {
	return fmt.Appendf(nil, "%spersistence true\npersistence_location %s/\nmax_queued_messages 0\nuser root\n%s", s.Listen, s.Dir, s.Extra)
}

func (s *Server) awaitListening() error {
	for deadline := time.Now().Add(startTimeout); ; {
		c, err := net.DialTimeout("tcp", s.Address(), time.Second)
		if err == nil {
			return c.Close()
		}
		select {
		case end := <-s.done:
			log, _ := os.ReadFile(filepath.Join(s.Dir, "mosquitto.log")) // it only explains the error
			return fmt.Errorf("mosquitto ended: %w: %s", end.err, log)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("mosquitto does not listen on %s: %w", s.Address(), err), s.Stop())
		}
	}
}

// Stop ends the server in order, writing its persistence. It is safe to call
// on a server that does not run.
func (s *Server) Stop() error { return s.end(syscall.SIGTERM) }

// Kill ends the server at once.
func (s *Server) Kill() error { return s.end(syscall.SIGKILL) }

// Freeze stops the server's process without closing its connections; Thaw
// lets it go on.
func (s *Server) Freeze() error { return s.cmd.Process.Signal(syscall.SIGSTOP) }

// Thaw ends a Freeze.
func (s *Server) Thaw() error { return s.cmd.Process.Signal(syscall.SIGCONT) }

func (s *Server) end(sig os.Signal) error {
	if s.cmd == nil {
		return nil
	}
	defer func() { s.cmd = nil }()
	if err := s.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("mosquitto: %w", err)
	}
	select {
	case <-s.done: // it was told to end, so how it did is of no interest
		return nil
	case <-time.After(startTimeout):
		return errors.Join(errors.New("mosquitto does not stop"), s.cmd.Process.Kill())
	}
}

// FreePort returns a loopback port that nobody listens on now. It lies below
// the range that the kernel gives to outgoing connections: a client that
// tries again and again to reach a server that is down could otherwise be
// given the server's own port, connect to itself, and keep the server out.
func FreePort() (int, error) {
	var ln net.Listener
	var err error
	for range 100 {
		if ln, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 12000+rand.IntN(20000))); err == nil {
			break
		}
	}
	if err != nil {
		return 0, fmt.Errorf("free port: %w", err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	if err := ln.Close(); err != nil {
		return 0, fmt.Errorf("free port: %w", err)
	}
	return port, nil
}
