package broker

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

const (
	// WebSocketPath is where a WebSocket listener speaks MQTT.
	WebSocketPath = "/mqtt"
	// maxFrames bounds a WebSocket message; a packet may be in many, and many
	// in one (section 6 of both specifications).
	maxFrames = 2 * MaxPacketBytes
	// maxHeader bounds the HTTP request before it, in bytes.
	maxHeader = 8 << 10
)

// errText says that a device sent text where MQTT is binary.
var errText = errors.New("a WebSocket message of MQTT is binary")

// overWebSocket is a listener whose connections speak WebSocket. Its Accept
// returns those that have shaken hands.
type overWebSocket struct {
	*listening
	server   *http.Server
	upgrader websocket.Upgrader
	ready    chan net.Conn
	serving  sync.WaitGroup
}

type connectionKey struct{}

func newWebSocket(l *listening, log *slog.Logger) *overWebSocket {
	w := &overWebSocket{listening: l, ready: make(chan net.Conn)}
	w.upgrader = websocket.Upgrader{
		Subprotocols: []string{"mqtt"}, ReadBufferSize: 4 << 10, WriteBufferSize: 4 << 10,
		CheckOrigin: func(r *http.Request) bool { return originAllowed(r, l.config.Origins) },
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+WebSocketPath, w.upgrade)
	w.server = &http.Server{
		Handler: mux, ReadHeaderTimeout: connectTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connectionKey{}, c)
		},
	}
	w.server.SetKeepAlivesEnabled(false)
	w.serving.Go(func() { _ = w.server.Serve(l) }) // until Close
	return w
}

// upgrade makes a device's connection of a request.
func (w *overWebSocket) upgrade(rw http.ResponseWriter, r *http.Request) {
	if !slices.Contains(websocket.Subprotocols(r), "mqtt") {
		http.Error(rw, `expected the subprotocol "mqtt"`, http.StatusBadRequest)
		return
	}
	below, ok := r.Context().Value(connectionKey{}).(*connection)
	if !ok {
		http.Error(rw, "no connection", http.StatusInternalServerError)
		return
	}
	ws, err := w.upgrader.Upgrade(rw, r, nil)
	if err != nil {
		return // it has answered
	}
	ws.SetReadLimit(maxFrames)
	below.overHTTP = true
	s := &stream{Conn: below.Conn, ws: ws}
	out := &connection{Conn: s, socket: below.socket, tls: below.tls}
	if err := s.SetDeadline(time.Now().Add(connectTimeout)); err != nil {
		_ = out.Close() // it is of no use
		return
	}
	select {
	case w.ready <- out:
	case <-w.stop:
		_ = out.Close() // the broker ends
	}
}

// Accept returns the next connection that has shaken hands.
func (w *overWebSocket) Accept() (net.Conn, error) {
	select {
	case c := <-w.ready:
		return c, nil
	case <-w.stop:
		return nil, net.ErrClosed
	}
}

// Close ends the listener and the handshakes.
func (w *overWebSocket) Close() error {
	err := w.listening.Close()
	_ = w.server.Close() // it closes the listener once more
	w.serving.Wait()
	return err
}

// stream is a WebSocket as the bytes in its messages. One goroutine may read
// while another writes.
type stream struct {
	net.Conn // below the WebSocket
	ws       *websocket.Conn
	message  io.Reader // that is being read, or nil
	ended    atomic.Bool
}

// Read reads on, from one message to the next. After CloseWrite it reads what
// nobody will look at, from any goroutine.
func (s *stream) Read(p []byte) (int, error) {
	if s.ended.Load() {
		return s.Conn.Read(p)
	}
	for {
		if s.message == nil {
			kind, r, err := s.ws.NextReader()
			if err != nil {
				return 0, err
			}
			if kind != websocket.BinaryMessage {
				why := websocket.FormatCloseMessage(websocket.CloseUnsupportedData, errText.Error())
				return 0, errors.Join(errText, s.ws.WriteControl(websocket.CloseMessage, why, time.Now().Add(closeFlush)))
			}
			s.message = r
		}
		n, err := s.message.Read(p)
		if errors.Is(err, io.EOF) {
			s.message, err = nil, nil
		}
		if n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
	}
}

// Write writes one message.
func (s *stream) Write(p []byte) (int, error) {
	if err := s.ws.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// originAllowed reports whether a browser's page may connect. Programs that
// are no browsers send no Origin. A page is of the same site if it came from
// the host that it connects to; a name is not enough for that, since anybody's
// name can point to this machine (DNS rebinding), so named sites have to be
// configured.
func originAllowed(r *http.Request, allowed []string) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	if slices.ContainsFunc(allowed, func(a string) bool { return strings.EqualFold(strings.TrimSuffix(a, "/"), origin) }) {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil {
		return false
	}
	host := (&url.URL{Host: r.Host}).Hostname()
	return host == u.Hostname() && (host == "localhost" || net.ParseIP(host) != nil)
}

// CloseWrite says that nothing more comes, as WebSocket does.
func (s *stream) CloseWrite() error {
	s.ended.Store(true)
	bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	if err := s.ws.WriteControl(websocket.CloseMessage, bye, time.Now().Add(closeFlush)); err != nil {
		return err
	}
	return closeWrite(s.Conn)
}
