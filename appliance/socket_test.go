package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/google/uuid"

	"outstation/appliance/internal/socket"
	"outstation/uplink"
	"outstation/uplink/wire"
	"outstation/web"
)

// socketConfig is a testConfig with a local socket.
func socketConfig(t testing.TB, brokers ...string) Config {
	t.Helper()
	dir, err := os.MkdirTemp("", "s") // the name of a test is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cfg := testConfig(t, t.TempDir(), brokers...)
	cfg.Vision.Socket.Path = filepath.Join(dir, "vision.sock")
	return cfg
}

// lineOf is a line of the local socket without what is filled in; more stands
// before its end, such as `,"event_id":"…"`.
func lineOf(camera, more string) string {
	return fmt.Sprintf(`{"camera_id":%q,"captured_at":"2026-11-21T01:00:00Z","inferred_at":"2026-11-21T01:00:00.1Z","model_name":"m",`+
		`"frame_width":640,"frame_height":480,"detections":[]%s}`, camera, more)
}

// sendLine sends one line and returns the answer.
func sendLine(t testing.TB, cfg Config, line string) (r wire.SocketReply) {
	t.Helper()
	c, err := net.Dial("unix", cfg.Vision.Socket.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(c).Decode(&r); err != nil {
		t.Fatal(err)
	}
	return r
}

// gate is a local subscriber to detections.
func gate(t testing.TB, cfg Config) <-chan mqtt.Message {
	t.Helper()
	local := make(chan mqtt.Message, 10)
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + cfg.Broker.Listeners[0].Address).SetClientID("gate"))
	if tok := c.Connect(); !tok.WaitTimeout(10*time.Second) || tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	t.Cleanup(func() { c.Disconnect(0) })
	tok := c.Subscribe("vision/+/+/+/detection", 1, func(_ mqtt.Client, m mqtt.Message) { local <- m })
	if !tok.WaitTimeout(10*time.Second) || tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	return local
}

// expectMessage is the next message at a gate.
func expectMessage(t testing.TB, local <-chan mqtt.Message) mqtt.Message {
	t.Helper()
	select {
	case m := <-local:
		return m
	case <-time.After(time.Minute):
		t.Fatal("local subscribers got nothing")
		return nil
	}
}

// TestLinesGoWhereDetectionsGo follows a line to a local subscriber and to the
// centre, and looks for it in what the appliance says of itself.
func TestLinesGoWhereDetectionsGo(t *testing.T) {
	centre := startMosquitto(t)
	seen := consume(t, centre.URL(), "vision/#")
	cfg := socketConfig(t, centre.URL())
	a := startApp(t, cfg)
	local := gate(t, cfg)
	line := lineOf("cam-7", `, "event_id":"`+uuid.NewString()+`","device_id":"dev-1", "schema_version":"detection.v1","mine":[1,  2]`)
	if r := sendLine(t, cfg, line); !r.OK {
		t.Fatalf("got %+v", r)
	}
	const topic = "vision/reg/site-1/cam-7/detection"
	if m := expectMessage(t, local); m.Topic() != topic || string(m.Payload()) != line || m.Retained() {
		t.Errorf("local subscribers got %s %s", m.Topic(), m.Payload())
	}
	eventually(t, "the line at the centre", func() bool { return len(seen.on(topic)) == 1 })
	if got := string(seen.last(topic)); got != line {
		t.Errorf("the centre got %s, expected %s", got, line)
	}

	if r := sendLine(t, cfg, lineOf(heartbeatID, "")); r.OK || r.EventID == "" || !strings.Contains(r.Error, "camera_id") {
		t.Errorf("got %+v for the id of the heartbeat", r)
	}
	expectFigures(t, a, map[string]float64{
		`outstation_socket_accepted_lines_total`:                                       1,
		`outstation_socket_refused_lines_total{cause="invalid"}`:                       1,
		`outstation_socket_refused_lines_total{cause="not_stored"}`:                    0,
		`outstation_socket_connections`:                                                0,
		`outstation_ledger_accepted_records_total{route="detection"}`:                  1,
		`outstation_ledger_settled_records_total{fate="delivered", route="detection"}`: 1,
	})
	if s := a.snapshot().Socket; !s.Listening || s.Path != cfg.Vision.Socket.Path || s.Accepted != 1 || !strings.Contains(s.LastRefusal, heartbeatID) {
		t.Errorf("the page says %+v", s)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(cfg.Vision.Socket.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after a clean stop: %v", err)
	}
}

// TestLinesWaitForABusyQueue has a route that makes room for each message by
// eviction, and says that it is busy meanwhile.
func TestLinesWaitForABusyQueue(t *testing.T) {
	cfg := socketConfig(t, "tcp://127.0.0.1:1")
	cfg.Uplink.Routes = []RouteConfig{{Name: "detection", QoS: 1, MaxRecords: 3, Overflow: uplink.DropOldest}}
	startApp(t, cfg)
	for n := range 30 {
		if r := sendLine(t, cfg, lineOf("cam-7", "")); !r.OK {
			t.Fatalf("line %d: got %+v", n, r)
		}
	}
}

// TestAFullQueueRefusesLines at once, and tells local subscribers all the same.
func TestAFullQueueRefusesLines(t *testing.T) {
	cfg := socketConfig(t, "tcp://127.0.0.1:1")
	cfg.Uplink.Routes = []RouteConfig{{Name: "detection", QoS: 1, MaxRecords: 1, Overflow: uplink.Reject}}
	a := startApp(t, cfg)
	local := gate(t, cfg)
	if r := sendLine(t, cfg, lineOf("cam-7", "")); !r.OK {
		t.Fatalf("got %+v", r)
	}
	expectMessage(t, local)
	r := sendLine(t, cfg, lineOf("cam-7", ""))
	if r.OK || r.EventID == "" || !strings.Contains(r.Error, "queue is full") {
		t.Fatalf("got %+v", r)
	}
	if m := expectMessage(t, local); !strings.Contains(string(m.Payload()), r.EventID) {
		t.Errorf("local subscribers got %s", m.Payload())
	}
	if s := a.socket.Stats(); s.Refused[socket.CauseNotStored] != 1 {
		t.Errorf("got %+v", s)
	}
}

// TestSocketThatCannotBeMade: the path that somebody chose is an error, the
// default one is not.
func TestSocketThatCannotBeMade(t *testing.T) {
	cfg := socketConfig(t, "tcp://127.0.0.1:1")
	cfg.Vision.Socket.Path = filepath.Join(filepath.Dir(cfg.Vision.Socket.Path), "no", "v.sock")
	a, err := openApp(cfg, slog.New(slog.DiscardHandler), appOptions{})
	if err == nil || !strings.Contains(err.Error(), cfg.Vision.Socket.Path) {
		t.Errorf("got %v", err)
		a.Close()
	}
	const path = socket.DefaultPath
	cfg.Vision.Socket.Path = path
	startApp(t, cfg) // whatever this machine has there
	for _, c := range []struct {
		stats socket.Stats
		state string
		says  string
	}{
		{socket.Stats{}, wire.Healthy, "off, as vision.socket.path is empty"},
		{socket.Stats{Path: path, Error: fmt.Errorf("x: %w", fs.ErrNotExist)}, wire.Healthy, "directory is not there"},
		{socket.Stats{Path: path, Error: fmt.Errorf("x: %w", fs.ErrPermission)}, wire.Healthy, "may not"},
		{socket.Stats{Path: path, Error: errors.New("another process")}, wire.Impaired, "another process"},
		{socket.Stats{Path: "/x", Error: fmt.Errorf("x: %w", fs.ErrNotExist)}, wire.Impaired, "nobody can connect"},
		{socket.Stats{Path: path, Listening: true, Connections: 8, MaxConnections: 8}, wire.Impaired, "all 8 connections"},
		{socket.Stats{Path: path, Listening: true, Connections: 7, MaxConnections: 8, Accepted: 5, Refused: [4]uint64{1, 0, 0, 2}}, wire.Healthy, "connections: 7, lines stored: 5, refused: 3"},
		{socket.Stats{Path: path, Listening: true, MaxConnections: 8, Inspected: 2, LastInspected: "cam-1"}, wire.Healthy, "of cameras that are inspected here as well: 2, the last: cam-1"},
	} {
		if got := socketCheck(c.stats); got.State != c.state || !strings.Contains(got.Detail, c.says) {
			t.Errorf("%+v: got %+v", c.stats, got)
		}
	}
}

// TestLinesOfTheAppliancesOwnCameras are counted for those with a model.
func TestLinesOfTheAppliancesOwnCameras(t *testing.T) {
	cfg := socketConfig(t, "tcp://127.0.0.1:1")
	cfg.Vision.Models = []ModelConfig{{Name: "line", Path: builtinLine}}
	cfg.Vision.Cameras = []CameraConfig{{ID: "seen", Source: "sim://line", Model: "line", FPS: 1}, {ID: "blank", Source: "sim://line"}}
	a := startApp(t, cfg)
	for _, id := range []string{"seen", "blank", "cam-7"} {
		if r := sendLine(t, cfg, lineOf(id, "")); !r.OK {
			t.Fatalf("%s: got %+v", id, r)
		}
	}
	if s := a.socket.Stats(); s.Inspected != 1 || s.LastInspected != "seen" {
		t.Errorf("got %+v", s)
	}
	expectFigures(t, a, map[string]float64{"outstation_socket_inspected_camera_lines_total": 1})
}

func TestSocketOfTheConfiguration(t *testing.T) {
	for text, want := range map[string]string{
		`{path: v.sock}`: "vision.socket.path",
		`{path: /` + strings.Repeat("x", 100) + `}`:               "at most 90 bytes",
		`{max_connections: 0}`:                                    "vision.socket.max_connections: expected 1 to",
		`{max_connections: 20000}`:                                "vision.socket.max_connections: expected 1 to",
		`{path: "", max_connections: 0}`:                          "",
		`{path: /run/x/v.sock, group: video, max_connections: 3}`: "",
	} {
		_, err := parseConfig("o.yaml", []byte(minimal+"vision: {socket: "+text+"}\n"), nil)
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, expected %q", text, err, want)
		}
	}
}

// TestExamplesOfTheSocket runs those of the README as they are, but for the
// path.
func TestExamplesOfTheSocket(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	centre := startMosquitto(t)
	seen := consume(t, centre.URL(), "vision/#")
	cfg := socketConfig(t, centre.URL())
	startApp(t, cfg)
	for n, c := range []struct {
		language string
		argv     []string
	}{{"python", []string{"python3", "-c"}}, {"sh", []string{"sh", "-c"}}} {
		block := regexp.MustCompile("(?s)```" + c.language + "\n([^`]*vision\\.sock[^`]*)```").FindSubmatch(text)
		if block == nil {
			t.Fatalf("there is no example in %s", c.language)
		}
		program := strings.ReplaceAll(string(block[1]), socket.DefaultPath, cfg.Vision.Socket.Path)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		out, err := exec.CommandContext(ctx, c.argv[0], append(c.argv[1:], program)...).CombinedOutput()
		var r wire.SocketReply
		if err == nil {
			err = json.Unmarshal(out, &r)
		}
		if err != nil || !r.OK {
			t.Fatalf("%s: %v: %s", c.language, err, out)
		}
		eventually(t, "the event at the centre", func() bool { return len(seen.on("cam-7/detection")) == n+1 })
		if d, err := wire.ParseDetection(seen.last("cam-7/detection")); err != nil || d.EventID != r.EventID || d.DeviceID != cfg.DeviceID {
			t.Errorf("%s: the centre got %+v, %v", c.language, d, err)
		}
	}
}

// TestKillUnderALoadOfLines kills the program with -9 while senders send all
// they can, and expects every line that was answered at the centre.
func TestKillUnderALoadOfLines(t *testing.T) {
	centre := startMosquitto(t)
	seen := consume(t, centre.URL(), "vision/#")
	cfg := socketConfig(t, centre.URL())
	answered := map[string]bool{}
	for round := range 3 {
		p := start(t, cfg, nil, binary(t))
		var mu sync.Mutex
		var senders sync.WaitGroup
		before := len(answered)
		for range 4 {
			c, err := net.Dial("unix", cfg.Vision.Socket.Path)
			if err != nil {
				t.Fatal(err)
			}
			senders.Go(func() {
				for err := error(nil); err == nil; {
					_, err = io.WriteString(c, lineOf("cam-7", `,"event_id":"`+uuid.NewString()+`"`)+"\n")
				}
			})
			senders.Go(func() {
				defer c.Close()
				for lines := bufio.NewScanner(c); lines.Scan(); {
					var r wire.SocketReply
					if json.Unmarshal(lines.Bytes(), &r) == nil && r.OK {
						mu.Lock()
						answered[r.EventID] = true
						mu.Unlock()
					}
				}
			})
		}
		count := func() int {
			mu.Lock()
			defer mu.Unlock()
			return len(answered)
		}
		p.eventually("answers", func() bool { return count() >= before+500*(round+1) })
		p.kill()
		senders.Wait()
	}
	p := start(t, cfg, nil, binary(t))
	p.until("an empty queue", func(s web.Snapshot) bool {
		for _, l := range s.Ledger {
			if l.Route == "detection" {
				return l.Queued.Records == 0
			}
		}
		return false
	})
	var lost int
	eventually(t, "all that was answered at the centre", func() bool {
		there := map[string]bool{}
		for _, m := range seen.on("cam-7/detection") {
			if d, err := wire.ParseDetection(m.Payload()); err == nil {
				there[d.EventID] = true
			}
		}
		lost = 0
		for id := range answered {
			if !there[id] {
				lost++
			}
		}
		return lost == 0
	})
	t.Logf("%d lines were answered over 3 kills, %d were lost", len(answered), lost)
	if code := p.stop(); code != 0 {
		t.Errorf("exit status %d:\n%s", code, p.out.String())
	}
}
