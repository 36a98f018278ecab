package socket

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"outstation/uplink"
	"outstation/uplink/wire"
)

const device = "dev-1"

// rig is a server with a real queue.
type rig struct {
	t     testing.TB
	s     *Server
	q     *uplink.Queue
	path  string
	stop  context.CancelFunc
	ended chan struct{}
	// before, if set, is called with each event and what stores it.
	before atomic.Pointer[func(d wire.Detection, store func() error) error]
}

// run starts a server; change may be nil.
func run(t testing.TB, change func(*Options, map[string]uplink.Policy)) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "s") // the name of a test is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, path: filepath.Join(dir, "vision.sock"), ended: make(chan struct{})}
	opt := Options{Path: r.path, MaxConnections: DefaultConnections, DeviceID: device, Store: r.store, Logger: slog.New(slog.DiscardHandler)}
	policies := map[string]uplink.Policy{}
	if change != nil {
		change(&opt, policies)
	}
	r.q, err = uplink.Open(uplink.Options{Dir: filepath.Join(dir, "queue"), MinFreeBytes: 1, Policies: policies, Logger: opt.Logger})
	if err != nil {
		t.Fatal(err)
	}
	r.s = New(opt)
	if err := r.s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() {
		r.s.Serve(ctx)
		close(r.ended)
	}()
	t.Cleanup(func() {
		stop()
		<-r.ended
		if err := r.q.Close(); err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) store(_ context.Context, d wire.Detection, payload []byte, done func(error)) error {
	enqueue := func() error {
		return r.q.Enqueue(uplink.Message{Route: "detection", Lane: 8, QoS: 1, Topic: "vision/r/s/" + d.CameraID + "/detection", Payload: payload}, done)
	}
	if before := r.before.Load(); before != nil {
		return (*before)(d, enqueue)
	}
	return enqueue()
}

// intercept has f called instead of storing.
func (r *rig) intercept(f func(d wire.Detection, store func() error) error) { r.before.Store(&f) }

// stored are the payloads in the queue.
func (r *rig) stored() (out []string) {
	r.t.Helper()
	var after uint64
	for {
		entries, err := r.q.Peek("detection", after, 1000)
		if err != nil {
			r.t.Fatal(err)
		}
		if len(entries) == 0 {
			return out
		}
		for _, e := range entries {
			out, after = append(out, string(e.Payload)), e.Seq
		}
	}
}

// sender is a program on the other end.
type sender struct {
	t    testing.TB
	conn *net.UnixConn
	from *bufio.Reader
}

func (r *rig) dial() *sender {
	r.t.Helper()
	c, err := net.Dial("unix", r.path)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		r.t.Fatal(err)
	}
	return &sender{r.t, c.(*net.UnixConn), bufio.NewReader(c)}
}

func (s *sender) send(text string) {
	s.t.Helper()
	if _, err := io.WriteString(s.conn, text); err != nil {
		s.t.Fatal(err)
	}
}

// answer reads the next one.
func (s *sender) answer() wire.SocketReply {
	s.t.Helper()
	var r wire.SocketReply
	line, err := s.from.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &r)
	}
	if err != nil {
		s.t.Fatalf("answer %q: %v", line, err)
	}
	return r
}

// expectOK reads the next answer.
func (s *sender) expectOK(id string) {
	s.t.Helper()
	if a := s.answer(); a != (wire.SocketReply{EventID: id, OK: true}) {
		s.t.Fatalf("got %+v, expected ok of %s", a, id)
	}
}

// expectRefusal reads the next answer.
func (s *sender) expectRefusal(id, says string) {
	s.t.Helper()
	if a := s.answer(); a.OK || a.EventID != id || !strings.Contains(a.Error, says) {
		s.t.Fatalf("got %+v, expected the refusal of %q with %q", a, id, says)
	}
}

// expectEnd reads the end of the connection.
func (s *sender) expectEnd() {
	s.t.Helper()
	if b, err := s.from.ReadByte(); err == nil {
		s.t.Fatalf("got %q, expected the end", b)
	}
}

// id is the nth event id.
func id(n int) string { return fmt.Sprintf("0190b3c4-8f6e-4a3b-9c2d-%012d", n) }

// line is an event without its newline; more stands before its end, such as
// `,"seq":1`.
func line(n int, more string) string {
	return fmt.Sprintf(`{"schema_version":"detection.v1","event_id":%q,"device_id":%q,%s%s}`, id(n), device, body, more)
}

// body is what a line cannot leave out.
const body = `"camera_id":"cam-7","captured_at":"2026-11-21T01:00:00.123Z","inferred_at":"2026-11-21T01:00:00.2Z",` +
	`"model_name":"m","frame_width":640,"frame_height":480,"detections":[{"class":"person","confidence":0.91,"box":{"x":1,"y":2,"w":3,"h":4}}]`

// long is an event of n bytes.
func long(n, bytes int) string {
	const more = `,"note":""`
	return line(n, `,"note":"`+strings.Repeat("x", bytes-len(line(n, more)))+`"`)
}

// eventually polls until ok holds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within two minutes: %s", what)
		}
	}
}
