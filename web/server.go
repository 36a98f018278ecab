// Package web serves the status page of the appliance, its health, metrics and status as JSON.
//
// It owns the HTTP server and everything that a browser or a scraper sees. It reads one [Snapshot] a request through a
// function and never reaches back into the parts that the snapshot describes; all it can do is to cut the demonstration's
// stand-in centre and to hand the buttons of devices to the API. It promises a page without external resources that works without JavaScript, and
// that what a device names itself is never run by the browser. It refuses requests addressed to a foreign host name and
// posts from other sites, because there is no login.
package web

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"
)

// Bounds of the server.
const (
	maxConnections  = 128
	maxHeaderBytes  = 16 << 10
	maxBodyBytes    = 4 << 10
	headerTimeout   = 5 * time.Second
	readTimeout     = 10 * time.Second
	writeTimeout    = 30 * time.Second
	idleTimeout     = 60 * time.Second
	shutdownTimeout = 3 * time.Second
)

//go:embed assets
var assets embed.FS

// Options configure a [Server].
type Options struct {
	// Listen is the TCP address, such as "127.0.0.1:8080"; port 0 takes a free one.
	Listen string
	// Hosts are further names that the server answers to, beside localhost, IP addresses and the host of Listen.
	Hosts []string
	// Snapshot returns the state of the appliance. It is called once a request, from many goroutines, and must be quick.
	Snapshot func() Snapshot
	// DemoOutage cuts the stand-in centre for a duration from 1 s to 10 min. Nil says that there is none.
	DemoOutage func(time.Duration) error
	// Clients returns all devices, for the page of devices; its buttons use the API. It is called from many goroutines. Nil
	// says that there is no such page.
	Clients func() ClientList
	// API serves what is below /api/v1/ and not the demonstration's. It stands behind the guards, and posts reach it from
	// this machine only, because there is no login. Nil says that there is none.
	API http.Handler
	// Ingest serves POST /api/v1/events and POST /hooks/{source}. Other machines reach it, so it must ask for credentials
	// itself. Nil says that there is none.
	Ingest http.Handler
	// Logger gets what fails; nil discards it.
	Logger *slog.Logger
}

// Server serves the page. Its life is New → Listen → Serve → Close; only Addr, Serve and Close may be called at the same
// time.
type Server struct {
	options  Options
	log      *slog.Logger
	page     *template.Template
	build    string // names the version of the embedded assets
	metrics  *prometheus.Registry
	http     *http.Server
	listener net.Listener
	closing  sync.Once
	closeErr error
}

// New returns a server that does no I/O yet. It panics where the embedded page is broken, which the tests exclude.
func New(o Options) *Server {
	s := &Server{options: o, log: o.Logger, build: assetsHash()}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.page = template.Must(template.New("page.html").Funcs(pageFuncs()).ParseFS(assets, "assets/*.html"))
	s.metrics = newRegistry(o.Snapshot)
	s.http = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	return s
}

// Listen opens the address. After it returns nil, connections are accepted by the system and wait for Serve.
func (s *Server) Listen() error {
	if s.options.Snapshot == nil {
		return errors.New("web: expected a Snapshot function, got none")
	}
	l, err := net.Listen("tcp", s.options.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("web: %s is in use; is another appliance running on this machine? Stop it or change web.listen: %w", s.options.Listen, err)
	}
	if err != nil {
		return fmt.Errorf("web: listen on %q: %w", s.options.Listen, err)
	}
	s.listener = netutil.LimitListener(l, maxConnections)
	return nil
}

// Addr returns the address that the server listens on, nil before Listen.
func (s *Server) Addr() net.Addr {
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}

// Serve answers requests until ctx ends or Close is called, and then returns nil, or until the listener fails. When ctx
// ends, requests in progress have 3 s to finish.
func (s *Server) Serve(ctx context.Context) error {
	if s.listener == nil {
		return errors.New("web: Serve was called before Listen")
	}
	stopped := make(chan struct{})
	var shutdown sync.WaitGroup
	shutdown.Go(func() {
		select {
		case <-ctx.Done():
			grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
			defer cancel()
			if err := s.http.Shutdown(grace); err != nil {
				s.log.Warn("requests were cut off at shutdown", "error", err)
			}
		case <-stopped:
		}
	})
	err := s.http.Serve(s.listener)
	close(stopped)
	shutdown.Wait()
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("web: serve on %s: %w", s.listener.Addr(), err)
	}
	return nil
}

// Close stops listening and cuts all connections. A second call returns what the first did.
func (s *Server) Close() error {
	s.closing.Do(func() {
		errs := []error{s.http.Close()}
		if s.listener != nil {
			if err := s.listener.Close(); !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
		if err := errors.Join(errs...); err != nil {
			s.closeErr = fmt.Errorf("web: close: %w", err)
		}
	})
	return s.closeErr
}

// assetsHash names the content of the embedded files, so that browsers may keep them for ever.
func assetsHash() string {
	h := sha256.New()
	for _, name := range []string{"page.css", "page.js", "icon.svg", "page.html", "devices.html"} {
		b, err := assets.ReadFile("assets/" + name)
		if err != nil {
			panic(fmt.Sprintf("web: embedded file is missing: %v", err))
		}
		_, _ = io.WriteString(h, name)
		_, _ = h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}
