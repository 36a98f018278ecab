package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"outstation/appliance/internal/snapshots"
	"outstation/broker"
	"outstation/uplink"
	"outstation/uplink/wire"
	"outstation/vision"
)

// darkroom is a recorder with a real queue and a real store. Nothing is kept
// before its run is called.
type darkroom struct {
	t        *testing.T
	cfg      Config
	queue    *uplink.Queue
	keeper   *keeper
	recorder *recorder
	n        int
	purged   bool // pictures left the queue by hand
}

func newDarkroom(t *testing.T, routes ...RouteConfig) *darkroom {
	t.Helper()
	cfg := testConfig(t, t.TempDir())
	cfg.Uplink.Routes = routes
	cfg.Vision.Cameras = []CameraConfig{{ID: "a", Snapshot: &SnapshotConfig{}}, {ID: "b"}, {ID: "c", Snapshot: &SnapshotConfig{}, Lossless: true}}
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
	var current atomic.Pointer[uplink.Router]
	current.Store(router)
	out := &publisher{broker: broker.New(broker.Options{}), router: &current, queue: q, log: slog.New(slog.DiscardHandler)}
	a := &app{cfg: cfg, log: out.log, out: out}
	k := a.newKeeper()
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	return &darkroom{t: t, cfg: cfg, queue: q, keeper: k, recorder: newRecorder(cfg, out, k)}
}

// run keeps what is published until the test ends.
func (d *darkroom) run() {
	done := make(chan struct{})
	ctx := d.t.Context()
	go func() { defer close(done); d.keeper.run(ctx) }()
	d.t.Cleanup(func() { <-done }) // Context ends before
}

// event records one of a camera, with a picture or without.
func (d *darkroom) event(camera string, picture bool) {
	d.n++
	at := time.Date(2026, 11, 21, 1, 0, d.n, 0, time.UTC)
	e := vision.Event{
		Camera: camera, CapturedAt: at, InferredAt: at, Model: "m", FrameWidth: 640, FrameHeight: 480,
		Detections: []vision.Detection{{Class: "part", Confidence: 0.5, Box: vision.Box{X: 1, Y: 1, W: 5, H: 5}}},
	}
	if picture {
		jpeg := []byte(fmt.Sprintf("picture %d", d.n))
		sum := sha256.Sum256(jpeg)
		e.Snapshot = &vision.Snapshot{JPEG: jpeg, SHA256: hex.EncodeToString(sum[:])}
	}
	d.recorder.record(e)
}

// queued waits for n events in the queue and returns a word for each in their
// order: the camera, its seq, and whether it has a picture. A picture that an
// event names has to be before it.
func (d *darkroom) queued(n int) string {
	d.t.Helper()
	var events []uplink.Entry
	eventually(d.t, fmt.Sprintf("%d events", n), func() bool {
		var err error
		if events, err = d.queue.Peek("detection", 0, 1000); err != nil {
			d.t.Fatal(err)
		}
		return len(events) >= n
	})
	pictures, err := d.queue.Peek("snapshot", 0, 1000)
	if err != nil {
		d.t.Fatal(err)
	}
	before := map[string]uint64{}
	for _, p := range pictures {
		sum := sha256.Sum256(p.Payload)
		if want := "/snapshot/" + hex.EncodeToString(sum[:]); !strings.HasSuffix(p.Topic, want) {
			d.t.Errorf("picture on %s, want …%s", p.Topic, want)
		}
		before[p.Topic] = p.Seq
	}
	var words []string
	for _, e := range events {
		m, err := wire.ParseDetection(e.Payload)
		if err != nil {
			d.t.Fatal(err)
		}
		word := fmt.Sprint(m.CameraID, m.Seq)
		if m.SnapshotSHA256 != "" {
			word += "+"
			if seq, ok := before[d.recorder.origin.Snapshot(m.CameraID, m.SnapshotSHA256)]; (!d.purged && (!ok || seq > e.Seq)) || !d.keeper.store.Has(m.SnapshotSHA256) {
				d.t.Errorf("%s names a picture that is not there before it", word)
			}
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

func (d *darkroom) expect(n int, want string) {
	d.t.Helper()
	if got := d.queued(n); got != want {
		d.t.Errorf("queued\n%s, want\n%s", got, want)
	}
}

// TestEventsWaitOnlyForPicturesOfTheirCamera has a disk that does nothing at
// first.
func TestEventsWaitOnlyForPicturesOfTheirCamera(t *testing.T) {
	d := newDarkroom(t)
	d.event("a", false)
	d.event("a", true)
	d.event("a", false)
	d.event("a", true) // goes without: the one before is not stored yet
	d.event("b", false)
	d.expect(2, "a1 b1")
	if s := d.keeper.stats(); s.Cameras["a"].skipped != 1 || s.Cameras["a"].kept != 0 {
		t.Errorf("%+v", s.Cameras["a"])
	}
	d.run()
	d.expect(5, "a1 b1 a2+ a3 a4")
	d.event("a", true)
	d.expect(6, "a1 b1 a2+ a3 a4 a5+")
	if s := d.keeper.stats(); s.Cameras["a"].kept != 2 || s.Cameras["a"].last == "" || s.Store.Stored != 2 || s.Failing != nil {
		t.Errorf("%+v", s)
	}
}

// TestAnEventGoesWithoutAPictureThatIsNotKept because the queue takes none, or
// the disk.
func TestAnEventGoesWithoutAPictureThatIsNotKept(t *testing.T) {
	d := newDarkroom(t, RouteConfig{Name: "snapshot", QoS: 1, MaxRecords: 1, Overflow: uplink.Reject})
	d.run()
	d.event("a", true)
	d.expect(1, "a1+")
	d.event("a", true)
	d.expect(2, "a1+ a2")
	if s := d.keeper.stats(); s.Cameras["a"].failed != 1 || s.Failing == nil || snapshotsCheck(facts{snapshots: s})[0].State != wire.Impaired {
		t.Errorf("%+v", s)
	}
	if _, err := d.queue.Purge(t.Context(), "snapshot", time.Time{}); err != nil {
		t.Fatal(err)
	}
	d.purged = true
	dir := filepath.Join(d.cfg.DataDir, "snapshots")
	if err := os.Rename(dir, dir+".gone"); err != nil {
		t.Fatal(err)
	}
	d.event("a", true)
	d.expect(3, "a1+ a2 a3")
	if err := os.Rename(dir+".gone", dir); err != nil {
		t.Fatal(err)
	}
	eventually(t, "room in the queue", func() bool { return d.queue.Stats().LaneQueued[1].Records == 0 })
	d.event("a", true)
	eventually(t, "a picture that is kept", func() bool { return d.keeper.stats().Cameras["a"].kept == 2 })
	if s := d.keeper.stats(); s.Cameras["a"].failed != 2 || s.Failing != nil || snapshotsCheck(facts{snapshots: s})[0].State != wire.Healthy {
		t.Errorf("%+v", s)
	}
}

// TestWhatWaitsBehindAPictureIsBounded by a disk that never answers.
func TestWhatWaitsBehindAPictureIsBounded(t *testing.T) {
	d := newDarkroom(t)
	d.event("a", true)
	for range maxKeeping + 9 {
		d.event("a", false)
	}
	if n := d.recorder.out.refused.Load(); n != 10 {
		t.Errorf("%d events were given up and counted, want 10", n)
	}
	s := d.keeper.stats()
	health := visionCheck(facts{snapshots: s, vision: vision.Stats{Cameras: []vision.CameraStats{{ID: "a", State: vision.Online}, {ID: "b", State: vision.Online}}}})
	if a, b := health.Checks[0], health.Checks[1]; s.Cameras["a"].refused != 10 || a.State != wire.Impaired || !strings.Contains(a.Detail, "10 events were not stored for the centre") || b.State != wire.Healthy {
		t.Errorf("%+v, health %+v", s.Cameras["a"], health)
	}
	d.run()
	d.queued(maxKeeping)
	d.event("a", false) // waits for nothing any more
	d.queued(maxKeeping + 1)
}

// fill sends nine events of a lossless camera more than the keeper has room
// for, and returns once it waits. The channel is closed when all are taken.
func (d *darkroom) fill(camera string) (told <-chan struct{}) {
	d.t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range maxKeeping + 9 {
			d.event(camera, false)
		}
	}()
	eventually(d.t, "a camera that waits", func() bool { return d.keeper.stats().Cameras[camera].waiting == maxKeeping+1 })
	return done
}

// TestALosslessCameraWaitsForTheDisk instead of losing events, until a stop.
func TestALosslessCameraWaitsForTheDisk(t *testing.T) {
	d := newDarkroom(t)
	d.event("c", true)
	told := d.fill("c")
	d.run()
	<-told
	var want []string
	for i := range maxKeeping + 10 {
		want = append(want, fmt.Sprint("c", i+1))
	}
	want[0] += "+"
	d.expect(len(want), strings.Join(want, " "))
	if s := d.keeper.stats(); d.recorder.out.refused.Load() != 0 || s.Cameras["c"].refused != 0 {
		t.Errorf("%d refused, %+v", d.recorder.out.refused.Load(), s.Cameras["c"])
	}
}

// TestAStopEndsTheWaitForTheDisk: what then has no room is counted.
func TestAStopEndsTheWaitForTheDisk(t *testing.T) {
	d := newDarkroom(t)
	told := d.fill("c")
	d.keeper.hurry()
	<-told
	if s := d.keeper.stats().Cameras["c"]; s.refused != 9 || s.waiting != maxKeeping {
		t.Errorf("%+v", s)
	}
}

// TestALosslessCameraWaitsForABusyQueue: one that makes room at its bound.
func TestALosslessCameraWaitsForABusyQueue(t *testing.T) {
	d := newDarkroom(t, RouteConfig{Name: "detection", QoS: 1, MaxRecords: 5, Overflow: uplink.DropOldest})
	d.run()
	t.Cleanup(d.keeper.hurry)
	for range 50 {
		d.event("c", false)
	}
	eventually(t, "the last event", func() bool {
		events, err := d.queue.Peek("detection", 0, 1000)
		if err != nil || len(events) == 0 {
			return false
		}
		m, err := wire.ParseDetection(events[len(events)-1].Payload)
		return err == nil && m.Seq == 50
	})
	if s := d.keeper.stats(); d.recorder.out.refused.Load() != 0 || s.Cameras["c"].refused != 0 {
		t.Errorf("%d refused, %+v", d.recorder.out.refused.Load(), s.Cameras["c"])
	}
}

// TestAStoreThatCannotBeOpenedCostsOnlyPictures finds a file in its place.
func TestAStoreThatCannotBeOpenedCostsOnlyPictures(t *testing.T) {
	d := newDarkroom(t)
	d.keeper.store, d.keeper.unusable = nil, snapshots.ErrNoRoom
	d.event("a", true)
	d.expect(1, "a1")
	if c := d.keeper.stats().Cameras["a"]; c.failed != 1 {
		t.Errorf("%+v", c)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "snapshots"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d.cfg.DataDir = dir
	k := (&app{cfg: d.cfg, log: slog.New(slog.DiscardHandler)}).newKeeper()
	if c := snapshotsCheck(facts{snapshots: k.stats()}); k.store != nil || len(c) != 1 || c[0].State != wire.Impaired {
		t.Errorf("%+v", c)
	}
	d.cfg.Vision.Cameras = nil
	k = (&app{cfg: d.cfg, log: slog.New(slog.DiscardHandler)}).newKeeper()
	if c := snapshotsCheck(facts{snapshots: k.stats()}); c != nil {
		t.Errorf("without cameras: %+v", c)
	}
}

// TestThePacketOfAPictureFits at the bound of the centre.
func TestThePacketOfAPictureFits(t *testing.T) {
	d := newDarkroom(t)
	topic := d.recorder.origin.Snapshot("a", strings.Repeat("f", 64))
	for _, most := range []int64{64 << 10, 1 << 20, 16 << 20} {
		d.keeper.maxPacket.Store(most)
		// MQTT 3.1.1: fixed header of up to 5 bytes, topic with its length, packet id.
		if n := int64(d.keeper.maxBytes("a")); n+int64(len(topic))+2+2+5 > min(most, uplink.MaxMessageBytes) || n < min(most, uplink.MaxMessageBytes)-400 {
			t.Errorf("of %d bytes %d are for the picture", most, n)
		}
	}
}
