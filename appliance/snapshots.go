package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"

	"outstation/appliance/internal/snapshots"
	"outstation/uplink"
	"outstation/uplink/wire"
	"outstation/vision"
	"outstation/web"
)

const (
	// maxKeeping bounds the events that wait for the disk, or behind one that
	// does.
	maxKeeping = 256
	// keeperTimeout is how long a stop waits for the disk.
	keeperTimeout = 3 * time.Second
	// packetRoom is what a PUBLISH needs beside its topic and payload.
	packetRoom = 16
	// busyRetry is how often an event of a lossless camera is offered to a queue
	// that is busy.
	busyRetry = 50 * time.Millisecond
	// tidyEvery is how often pictures that are too old are looked for.
	tidyEvery = time.Minute
)

// keeper stores pictures before the events that name them, and waits for what
// else has to be on disk before an event. Local subscribers get the picture
// and then the event at once. For the centre an event is queued when its
// picture is synced in the store and in the queue, and without the picture
// where that fails; later events of the camera wait their turn.
//
// Where the disk or the queue is too slow, events are refused and counted. But
// those of a lossless camera make publish wait, and so the pipeline, until
// hurry is called.
type keeper struct {
	origin    wire.Origin
	out       *publisher
	store     *snapshots.Store // nil where it cannot be used
	unusable  error            // why
	maxPacket atomic.Int64

	work    chan keeping
	hurried chan struct{}
	hurry   func() // ends every wait for room, now and later

	mu      sync.Mutex
	cameras map[string]*kept
	failing error // why the last picture was not kept, or nil
}

// kept is what a keeper knows of a camera.
type kept struct {
	lossless bool
	waiting  int    // events
	picture  bool   // one of them has one
	refused  uint64 // events that did not become durable, and that nobody offers again

	last    string // SHA-256 of the last picture that was kept since the start
	at      time.Time
	kept    uint64
	skipped uint64 // events without one, as the last was not stored yet
	failed  uint64 // events without one, as it could not be stored
}

// keeping is an event that waits for the disk, or behind one that does.
type keeping struct {
	camera  string
	picture *vision.Snapshot // or nil
	before  func()           // returns when the event may be queued; or nil
	topic   string
	with    []byte // the event that names the picture
	without []byte
	note    uplink.Note
	done    func(error) // called once it is known whether the event is durable
}

// newKeeper opens the store. A store that cannot be used costs the events
// their pictures and nothing else; health says why.
func (a *app) newKeeper() *keeper {
	k := &keeper{origin: a.cfg.origin(), out: a.out, work: make(chan keeping, maxKeeping), hurried: make(chan struct{}), cameras: map[string]*kept{}}
	k.hurry = sync.OnceFunc(func() { close(k.hurried) })
	k.maxPacket.Store(int64(a.cfg.Uplink.MaxPacketBytes))
	wanted := false
	for _, cam := range a.cfg.Vision.Cameras {
		k.cameras[cam.ID] = &kept{lossless: cam.Lossless}
		wanted = wanted || cam.Snapshot != nil
	}
	if !wanted {
		k.unusable = errors.New("no camera has snapshots")
		return k
	}
	s := a.cfg.Vision.Snapshots
	k.store, k.unusable = snapshots.Open(snapshots.Options{
		Dir: filepath.Join(a.cfg.DataDir, "snapshots"), MaxBytes: int64(s.MaxBytes), MaxAge: s.MaxAge,
		Floor: uint64(a.cfg.Uplink.Queue.MinFreeBytes),
	})
	if k.unusable != nil {
		a.log.Error("pictures cannot be kept", "error", k.unusable)
		k.failing = k.unusable
	}
	return k
}

// openSnapshots starts the keeper of pictures.
func (a *app) openSnapshots() error {
	a.keeper = a.newKeeper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); a.keeper.run(ctx) }()
	a.onClose(func() error {
		cancel()
		select {
		case <-ended:
			return nil
		case <-time.After(keeperTimeout):
			return fmt.Errorf("snapshots: the disk takes nothing within %v", keeperTimeout)
		}
	})
	return nil
}

// tune takes over what a reload changed.
func (k *keeper) tune(up UplinkConfig) {
	k.maxPacket.Store(int64(up.MaxPacketBytes))
	if k.store != nil {
		k.store.SetFloor(uint64(up.Queue.MinFreeBytes))
	}
}

// maxBytes is how large a picture of a camera may be: what the centre and the
// queue take in one message.
func (k *keeper) maxBytes(camera string) int {
	topic := len(k.origin.Snapshot(camera, "")) + 64
	return int(min(k.maxPacket.Load(), uplink.MaxMessageBytes)) - topic - packetRoom
}

// admit returns the picture of an event, or nil where it has none or where the
// camera's last one still waits for the disk.
func (k *keeper) admit(e vision.Event) *vision.Snapshot {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.cameras[e.Camera]
	switch {
	case e.Snapshot == nil || c == nil:
		return nil
	case k.store == nil:
		c.failed++
		return nil
	case c.picture:
		c.skipped++
		return nil
	}
	return e.Snapshot
}

// publish sends an event after those of its camera before it. It waits for the
// disk only where the camera is lossless, and never for the centre. It has one
// caller at a time.
func (k *keeper) publish(t keeping) {
	if t.picture == nil && t.before == nil && !k.waits(t.camera) {
		k.out.publishThen(t.topic, t.without, false, t.note, t.done)
		return
	}
	event := t.without
	if t.picture != nil {
		event = t.with
		k.out.local(k.origin.Snapshot(t.camera, t.picture.SHA256), t.picture.JPEG, false)
	}
	k.out.local(t.topic, event, false)
	k.begin(t)
	if !k.take(t) {
		k.end(t)
		t.done(uplink.ErrBusy)
	}
}

// take hands an event to run if there is room.
func (k *keeper) take(t keeping) bool {
	select {
	case k.work <- t:
		return true
	default:
	}
	if !k.lossless(t.camera) {
		return false
	}
	select {
	case k.work <- t:
		return true
	case <-k.hurried:
		return false
	}
}

// run stores what is published until ctx ends, and then what is left.
func (k *keeper) run(ctx context.Context) {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for {
		select {
		case t := <-k.work:
			k.carry(t)
		case <-tick.C:
			if k.store != nil {
				k.store.Tidy()
			}
		case <-ctx.Done():
			for {
				select {
				case t := <-k.work:
					k.carry(t)
				default:
					return
				}
			}
		}
	}
}

// carry queues an event, after what has to be on disk before it.
func (k *keeper) carry(t keeping) {
	defer k.end(t)
	if t.before != nil {
		t.before()
	}
	event := t.without
	if t.picture != nil {
		err := k.keep(t.camera, t.picture)
		if err == nil {
			event = t.with
		}
		k.note(t, err)
	}
	err := k.out.offer(t.topic, event, false, t.note, t.done)
	for errors.Is(err, uplink.ErrBusy) && k.lossless(t.camera) && k.pause() {
		err = k.out.offer(t.topic, event, false, t.note, t.done)
	}
	if err != nil {
		t.done(err)
	}
}

// pause waits before another offer, and reports whether there is to be one.
func (k *keeper) pause() bool {
	select {
	case <-time.After(busyRetry):
		return true
	case <-k.hurried:
		return false
	}
}

// keep returns when a picture is synced in the store and in the queue.
func (k *keeper) keep(camera string, p *vision.Snapshot) error {
	if err := k.store.Put(p.SHA256, p.JPEG); err != nil {
		return err
	}
	topic := k.origin.Snapshot(camera, p.SHA256)
	route, to, ok := k.out.router.Load().Route(topic)
	if !ok {
		return fmt.Errorf("no route for %s", topic)
	}
	stored := make(chan error, 1)
	if err := k.out.queue.Enqueue(message(route, to, 1, p.JPEG, false), func(err error) { stored <- err }); err != nil {
		return fmt.Errorf("queueing a picture: %w", err)
	}
	if err := <-stored; err != nil {
		return fmt.Errorf("queueing a picture: %w", err)
	}
	return nil
}

// note counts what became of a picture.
func (k *keeper) note(t keeping, err error) {
	k.mu.Lock()
	c, told := k.cameras[t.camera], k.failing != nil
	k.failing = err
	if err == nil {
		c.kept++
		c.last, c.at = t.picture.SHA256, time.Now()
	} else {
		c.failed++
	}
	k.mu.Unlock()
	if err != nil && !told { // a full disk is one line, not one for each picture
		k.out.log.Warn("an event goes without its picture", "camera", t.camera, "error", err)
	}
}

// waits reports whether an event of the camera without a picture has to take
// its turn.
func (k *keeper) waits(camera string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.cameras[camera]
	return c != nil && (c.lossless || c.waiting > 0)
}

func (k *keeper) lossless(camera string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.cameras[camera]
	return c != nil && c.lossless
}

// refuse counts an event that did not become durable.
func (k *keeper) refuse(camera string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if c := k.cameras[camera]; c != nil { // nil: it was configured when its track began
		c.refused++
	}
}

func (k *keeper) begin(t keeping) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.cameras[t.camera]
	c.waiting++
	c.picture = c.picture || t.picture != nil
}

func (k *keeper) end(t keeping) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.cameras[t.camera]
	c.waiting--
	if t.picture != nil {
		c.picture = false
	}
}

// keeperStats is a snapshot of a keeper.
type keeperStats struct {
	Wanted  bool // a camera has snapshots
	Store   snapshots.Stats
	Cameras map[string]kept
	Failing error // why the last picture was not kept, or nil
}

func (k *keeper) stats() keeperStats {
	k.mu.Lock()
	s := keeperStats{Wanted: k.store != nil || k.failing != nil, Cameras: make(map[string]kept, len(k.cameras)), Failing: k.failing}
	for id, c := range k.cameras {
		s.Cameras[id] = *c
	}
	k.mu.Unlock()
	if k.store != nil {
		s.Store = k.store.Stats()
	}
	return s
}

// webPictures are those of a camera: what the pipeline made, and what became
// of it.
func webPictures(c vision.CameraStats, s keeperStats) web.CameraPictures {
	k := s.Cameras[c.ID]
	return web.CameraPictures{
		Snapshots: k.kept, SnapshotsSkipped: c.SnapshotsSkipped + k.skipped, SnapshotsFailed: c.SnapshotsFailed + k.failed,
		LastSnapshot: k.last, LastSnapshotAt: k.at,
	}
}

func webSnapshots(s snapshots.Stats) web.SnapshotStore {
	return web.SnapshotStore{
		Pictures: s.Pictures, Bytes: uint64(max(0, s.Bytes)), MaxBytes: uint64(max(0, s.MaxBytes)), Stored: s.Stored, Evicted: s.Evicted,
		Expired: s.Expired, Failed: s.Failed, Damaged: s.Damaged, Foreign: s.Foreign,
	}
}

// snapshotsCheck says whether events have their pictures; none where no camera
// is to have any.
func snapshotsCheck(f facts) []wire.Check {
	s := f.snapshots
	if !s.Wanted {
		return nil
	}
	detail := fmt.Sprintf("pictures: %d, %s of at most %s", s.Store.Pictures, humanize.IBytes(uint64(s.Store.Bytes)), humanize.IBytes(uint64(s.Store.MaxBytes)))
	if s.Store.Foreign > 0 {
		detail += fmt.Sprintf("; files that are none of them were left alone: %d, such as %q", s.Store.Foreign, s.Store.Example)
	}
	state := wire.Healthy
	switch {
	case s.Failing != nil:
		state, detail = wire.Impaired, "events go without their pictures: "+s.Failing.Error()
	case s.Store.Failing != nil:
		state, detail = wire.Impaired, s.Store.Failing.Error()
	case s.Store.Damaged > 0:
		state, detail = wire.Impaired, fmt.Sprintf("files that do not hold the picture that they are named after were asked for %d times", s.Store.Damaged)
	}
	return []wire.Check{check("snapshots", state, detail)}
}

// serveSnapshot answers with a picture of the store.
func (a *app) serveSnapshot(w http.ResponseWriter, r *http.Request) {
	if a.keeper.store == nil {
		answer(w, http.StatusNotFound, apiError{a.keeper.unusable.Error()})
		return
	}
	b, at, err := a.keeper.store.Get(r.PathValue("sha256"))
	switch {
	case errors.Is(err, snapshots.ErrNone):
		answer(w, http.StatusNotFound, apiError{err.Error()})
	case err != nil:
		answer(w, http.StatusInternalServerError, apiError{err.Error()})
	default:
		h := w.Header()
		h.Set("Content-Type", "image/jpeg")
		h.Set("Last-Modified", at.UTC().Format(http.TimeFormat))
		h.Set("Cache-Control", "private, max-age=31536000, immutable") // its name is its content
		_, _ = w.Write(b)                                              // whoever asked is gone
	}
}
