package broker

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"
)

// patient is a listener that survives what passes by itself, such as a
// process that is out of file descriptors: the server gives a listener up on
// the first error. It also bounds the wait for a device's first packet.
type patient struct{ net.Listener }

// connectTimeout is how long a connection may be silent before its CONNECT.
const connectTimeout = 10 * time.Second

// acceptRetry is the wait after an accept that failed.
const acceptRetry = 50 * time.Millisecond

func (l patient) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err == nil {
			if err = c.SetReadDeadline(time.Now().Add(connectTimeout)); err == nil { // the server sets its own after CONNECT
				return c, nil
			}
			_ = c.Close() // it is of no use
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return nil, err
		}
		time.Sleep(acceptRetry)
	}
}

// quiet lowers the server's warnings to debug: it warns of every connection
// that ends, and what matters of them is counted.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, l slog.Level) bool {
	return q.Handler.Enabled(ctx, lower(l))
}

func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	r.Level = lower(r.Level)
	return q.Handler.Handle(ctx, r)
}

func (q quiet) WithAttrs(a []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(a)} }
func (q quiet) WithGroup(name string) slog.Handler   { return quiet{q.Handler.WithGroup(name)} }

func lower(l slog.Level) slog.Level {
	if l < slog.LevelError {
		return slog.LevelDebug
	}
	return l
}
