package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	"outstation/uplink"
)

// queueDir is where the queue lies below the data directory.
const queueDir = "queue"

// minFree is the disk's floor for a tool, in bytes: what Badger's mapped files
// may still take. The appliance's own may be higher.
const minFree = 64 << 20

// target is a queue: that of a running appliance, or one in the directory of
// a stopped one.
type target struct {
	remote
	Dir string `placeholder:"DIR" type:"path" help:"Data directory of a stopped appliance, to be asked instead of a running one."`
}

var (
	_ client = remote{}
	_ client = target{}
)

func (t target) do(ctx context.Context, r request, read func(io.Reader) error) error {
	if t.Dir == "" {
		return t.remote.do(ctx, r, read)
	}
	q, err := openStopped(uplink.Options{Dir: filepath.Join(t.Dir, queueDir), Inspect: true})
	if err != nil {
		return err
	}
	a := &app{queue: q, log: slog.Default()}
	mux := http.NewServeMux()
	a.queueCalls(mux)
	var h handlerTransport
	h.handler = mux
	err = exchange(ctx, &http.Client{Transport: &h}, "http://"+queueDir, r, read, func(err error) error { return err })
	h.serving.Wait() // nobody may read a store that is closed
	return errors.Join(err, q.Close())
}

// openStopped opens the queue of a stopped appliance.
func openStopped(opt uplink.Options) (*uplink.Queue, error) {
	if _, err := os.Stat(filepath.Join(opt.Dir, "store")); err != nil {
		return nil, usageError{fmt.Errorf("--dir: expected the data_dir of an appliance, which has %s: %w", filepath.Join(queueDir, "store"), err)}
	}
	opt.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	opt.MinFreeBytes = minFree
	opt.MaxBytes = maxBytes // what is there stays there
	q, err := uplink.Open(opt)
	switch {
	case errors.Is(err, uplink.ErrLocked) && !opt.Inspect:
		return nil, fmt.Errorf("the appliance is running; it salvages by itself when it starts: %w", err)
	case errors.Is(err, uplink.ErrLocked):
		return nil, fmt.Errorf("the appliance is running; ask it without --dir: %w", err)
	case err != nil && opt.Inspect:
		return nil, fmt.Errorf("%w\nwhat is readable in it can be saved with: outstation queue salvage --dir", err)
	}
	return q, err
}

// handlerTransport serves requests by a handler of this process.
type handlerTransport struct {
	handler http.Handler
	serving sync.WaitGroup
}

// RoundTrip returns as soon as the handler begins to answer.
func (t *handlerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	in, out := io.Pipe()
	w := &pipeWriter{out: out, began: make(chan struct{}), resp: &http.Response{
		StatusCode: http.StatusOK, Status: http.StatusText(http.StatusOK), Header: http.Header{}, Body: in, Request: r, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}}
	t.serving.Go(func() {
		t.handler.ServeHTTP(w, r)
		w.WriteHeader(http.StatusOK)
		_ = out.Close() // it never fails
	})
	select {
	case <-w.began:
		return w.resp, nil
	case <-r.Context().Done():
		_ = in.Close() // so that the handler does not wait for a reader
		return nil, r.Context().Err()
	}
}

// pipeWriter is the answer that a handler writes.
type pipeWriter struct {
	resp  *http.Response
	out   *io.PipeWriter
	began chan struct{}
	wrote bool
}

// Header is that of the answer.
func (w *pipeWriter) Header() http.Header { return w.resp.Header }

// WriteHeader begins the answer.
func (w *pipeWriter) WriteHeader(status int) {
	if w.wrote {
		return
	}
	w.wrote = true
	w.resp.StatusCode, w.resp.Status = status, http.StatusText(status)
	close(w.began)
}

// Write hands the bytes to whoever reads the answer.
func (w *pipeWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.out.Write(b)
}
