package main

import (
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"outstation/broker"
	"outstation/uplink"
	"outstation/uplink/wire"
	"outstation/vision"
)

// watched is an appliance of which only the events of its own are real.
type watched struct {
	t     *testing.T
	s     *service
	queue *uplink.Queue
	clock time.Time
	facts facts
}

// newWatched has a queue that takes maxEvents events, or all for 0.
func newWatched(t *testing.T, maxEvents int64) *watched {
	t.Helper()
	cfg := testConfig(t, t.TempDir())
	cfg.Uplink.Routes = []RouteConfig{{Name: "event", QoS: 1, MaxRecords: maxEvents, Overflow: uplink.Reject}}
	router, err := uplink.NewRouter(cfg.origin(), cfg.Uplink.routes())
	if err != nil {
		t.Fatal(err)
	}
	q, err := uplink.Open(uplink.Options{
		Dir: filepath.Join(cfg.DataDir, "queue"), MinFreeBytes: 1, Policies: router.Policies(), Unsynced: true, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	engine, err := cfg.forwardEngine()
	if err != nil {
		t.Fatal(err)
	}
	var current atomic.Pointer[uplink.Router]
	current.Store(router)
	out := &publisher{broker: broker.New(broker.Options{}), router: &current, queue: q, log: slog.New(slog.DiscardHandler)}
	w := &watched{t: t, queue: q, clock: time.Date(2026, 11, 21, 1, 0, 0, 0, time.UTC)}
	w.s = newService(newForwarder(engine, out), "dev-1", w.clock)
	w.s.now = func() time.Time { return w.clock }
	w.facts.link.State, w.facts.link.Generation = uplink.LinkConnected, 1
	w.facts.queue.MaxBytes = 1000
	return w
}

// after looks again after a while.
func (w *watched) after(d time.Duration) {
	w.clock = w.clock.Add(d)
	w.s.look(w.facts)
}

// events waits for the queue to have n events and returns them.
func (w *watched) events(n int) []wire.Envelope {
	w.t.Helper()
	var entries []uplink.Entry
	eventually(w.t, "the events", func() bool {
		var err error
		if entries, err = w.queue.Peek("event", 0, 1000); err != nil {
			w.t.Fatal(err)
		}
		return len(entries) >= n
	})
	var out []wire.Envelope
	for _, e := range entries {
		env, err := wire.ParseEnvelope(e.Payload)
		if err != nil {
			w.t.Fatal(err)
		}
		if env.Source != wire.SourceAppliance || !strings.HasSuffix(e.Topic, "/outstation/"+env.EventType) {
			w.t.Errorf("%s: %+v", e.Topic, env)
		}
		out = append(out, env)
	}
	if len(out) != n {
		w.t.Errorf("%d events, expected %d", len(out), n)
	}
	return out
}

// expect compares the events with "type field=value" texts.
func (w *watched) expect(want ...string) {
	w.t.Helper()
	keys := map[string]bool{}
	for i, e := range w.events(len(want)) {
		words := strings.Fields(want[i])
		for _, part := range words[1:] {
			if !strings.Contains(string(e.Payload), part) {
				w.t.Errorf("event %d has the payload %s, expected %s", i, e.Payload, part)
			}
		}
		if e.EventType != words[0] {
			w.t.Errorf("event %d is %s, expected %s", i, e.EventType, words[0])
		}
		if keys[e.IdempotencyKey] {
			w.t.Errorf("two events have the key %s", e.IdempotencyKey)
		}
		keys[e.IdempotencyKey] = true
	}
}

func TestServiceEvents(t *testing.T) {
	w := newWatched(t, 0)
	w.facts.vision.Cameras = []vision.CameraStats{{ID: "cam", State: vision.Blind, Reason: vision.ReasonStarting}}
	cam := &w.facts.vision.Cameras[0]
	w.after(time.Second)
	w.facts.link.State, w.facts.link.Reason = uplink.LinkDown, "EOF"
	w.after(time.Second)
	cam.State, cam.Reason = vision.Online, ""
	w.after(time.Minute)
	w.facts.link.State, w.facts.link.Generation = uplink.LinkConnected, 2
	cam.State, cam.Reason = vision.Offline, vision.ReasonDisconnected
	w.after(time.Minute)
	w.facts.link.Generation = 3 // it was away between two looks
	w.facts.queue.Queued.Bytes = 850
	w.after(time.Second)
	cam.State, cam.Reason = vision.Degraded, vision.ReasonDetector // there are frames again
	w.facts.queue.Queued.Bytes = 750                               // not yet over
	w.after(9 * time.Second)
	w.facts.queue.Queued.Bytes = 600
	w.facts.queue.Refusing = errors.New("low disk")
	w.after(time.Second)
	w.facts.queue.Refusing = nil
	w.facts.queue.Quarantined, w.facts.queue.Salvaging = "store.quarantine-1", true
	w.after(4 * time.Second)
	w.facts.queue.Salvaging, w.facts.queue.Salvaged = false, []uplink.Salvage{{Dir: "store.quarantine-1", Queued: uplink.Tally{Records: 7}}}
	w.after(time.Second)
	w.after(time.Second)
	cam.State, cam.Reason = vision.Offline, vision.ReasonStopped // we stop it ourselves
	w.after(time.Second)
	w.expect(
		`link_lost "reason":"EOF"`, `link_found "lost_s":120`, `camera_lost "camera_id":"cam" "reason":"disconnected"`,
		`link_lost`, `link_found "lost_s":0`, `queue_pressure_begin "queued_bytes":850`, `camera_found "lost_s":10`,
		`queue_pressure_end "lasted_s":10`, `disk_floor_begin`, `disk_floor_end "lasted_s":4`,
		`store_quarantined "salvaging":true`, `store_salvaged "records":7`,
	)
}

// TestAFirstConnectionThatTakesLongIsALostLink starts without a centre.
func TestAFirstConnectionThatTakesLongIsALostLink(t *testing.T) {
	w := newWatched(t, 0)
	w.facts.link.State, w.facts.link.Generation = uplink.LinkConnecting, 0
	w.after(linkGrace - time.Second)
	w.after(2 * time.Second)
	w.facts.link.State, w.facts.link.Generation = uplink.LinkConnected, 1
	w.after(time.Second)
	w.expect("link_lost", "link_found")
}

// TestAFlappingLinkDoesNotStorm lets the link go up and down for an hour.
func TestAFlappingLinkDoesNotStorm(t *testing.T) {
	w := newWatched(t, 0)
	w.after(time.Second)
	for range 100 {
		w.facts.link.State = uplink.LinkDown
		w.after(10 * time.Second)
		w.facts.link.State = uplink.LinkConnected
		w.after(10 * time.Second)
	}
	w.facts.queue.Refusing = errors.New("low disk") // something else is told all the same
	w.after(time.Second)
	w.after(time.Hour)
	w.facts.link.State = uplink.LinkDown
	w.after(time.Second)
	events := w.events(maxPerHour + 3)
	kinds := make([]string, len(events))
	for i, e := range events {
		kinds[i] = e.EventType
	}
	if got := kinds[maxPerHour:]; !slices.Equal(got, []string{eventDiskBegin, eventLeftOut, eventLinkLost}) {
		t.Errorf("got %v after %d", got, maxPerHour)
	}
	var left leftOut
	if err := json.Unmarshal(events[maxPerHour+1].Payload, &left); err != nil {
		t.Fatal(err)
	}
	if left.About != "link" || left.LeftOut != 200-maxPerHour || left.Last != eventLinkFound {
		t.Errorf("got %+v", left)
	}
}

// TestEventsWaitForTheQueue tells of something while the queue takes nothing.
func TestEventsWaitForTheQueue(t *testing.T) {
	w := newWatched(t, 1)
	w.facts.queue.Refusing = errors.New("low disk")
	w.after(time.Second)
	w.facts.queue.Refusing = nil
	w.after(time.Second)
	w.facts.queue.Refusing = errors.New("low disk")
	w.after(time.Second)
	w.expect("disk_floor_begin")
	first := w.events(1)[0].EventID
	for i, want := range []string{eventDiskEnd, eventDiskBegin} {
		if gone, err := w.queue.Purge(t.Context(), "event", time.Time{}); err != nil || gone.Records != 1 {
			t.Fatalf("purged %v, %v", gone, err)
		}
		eventually(t, "the event that waited", func() bool {
			w.after(time.Second)
			return w.queue.Ledger()["event"].Accepted.Records == int64(i)+2
		})
		if e := w.events(1)[0]; e.EventType != want || e.EventID == first {
			t.Errorf("got %s, expected %s", e.EventType, want)
		}
	}
	eventually(t, "nothing to wait", func() bool {
		w.after(time.Second)
		w.s.mu.Lock()
		defer w.s.mu.Unlock()
		return len(w.s.unstored) == 0
	})
	for range maxUnstored + 10 {
		w.s.emit("x", eventBoot, nil, w.clock)
		w.clock = w.clock.Add(time.Second)
	}
	if n := w.s.forward.out.refused.Load(); n != 10 {
		t.Errorf("%d events were given up, expected 10", n)
	}
}

func TestBoots(t *testing.T) {
	w := newWatched(t, 0)
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	run := func(version, bootID string, stopped bool) {
		t.Helper()
		was := readLastRun(dir, log)
		w.clock = w.clock.Add(time.Second)
		w.s.quotas = map[string]*quota{}
		r := w.s.boot(was, lastRun{Version: version, BootID: bootID, StartedAt: w.clock})
		if stopped {
			r.StoppedAt = w.clock
		}
		if err := r.write(dir); err != nil {
			t.Fatal(err)
		}
	}
	run("1", "a", true)
	run("1", "a", false)
	run("1", "b", true)
	run("2", "b", true)
	w.expect(
		`boot "reason":"first "clean_stop":false`, `boot "reason":"restart" "clean_stop":true`, `boot "reason":"machine "clean_stop":false`,
		`boot "reason":"update" "clean_stop":true "previous_version":"1"`, `update "from":"1","to":"2"`,
	)
	for range 50 { // a program that ends as soon as it has started
		run("2", "b", false)
	}
	w.events(maxPerHour)
	w.clock = w.clock.Add(time.Hour)
	run("2", "b", false)
	if e := w.events(maxPerHour + 2); e[maxPerHour].EventType != eventLeftOut || e[maxPerHour+1].EventType != eventBoot {
		t.Errorf("got %s and %s after an hour of restarts", e[maxPerHour].EventType, e[maxPerHour+1].EventType)
	}

	if err := os.WriteFile(lastRunFile(dir), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := readLastRun(dir, log); r != nil {
		t.Errorf("got %+v from a file that is cut off", r)
	}
	w.s.noteRun(lastRun{}.write(filepath.Join(dir, "gone")))
	if c := queueCheck(facts{runError: w.s.failure(), queue: uplink.QueueStats{MaxBytes: 1}}); c.State != wire.Impaired {
		t.Errorf("health says %+v", c)
	}
}
