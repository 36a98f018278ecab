package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"outstation/uplink/wire"
	"outstation/vision"
)

// maxOpenTracks bounds the file of open tracks, of all cameras; a camera has at
// most 128.
const maxOpenTracks = 4096

// Times of a trackLog.
const (
	trackRefresh = 10 * time.Second // between two looks at the last boxes of open tracks
	trackRetry   = 10 * time.Second // before an end that was refused is told again
)

// openTrack is what the end of a track will say if the process does not live
// to see it, and the id that its event has in any case.
type openTrack struct {
	EventID    string     `json:"event_id"`
	Run        string     `json:"run"`
	Number     uint64     `json:"number"`
	Camera     string     `json:"camera"`
	Model      string     `json:"model"`
	SHA256     string     `json:"model_sha256,omitempty"`
	Class      string     `json:"class"`
	Confidence float64    `json:"confidence"`
	Label      string     `json:"label,omitempty"`
	LabelConf  float64    `json:"label_confidence,omitempty"`
	Box        vision.Box `json:"box"`
	Zones      []string   `json:"zones,omitempty"`
	Captured   time.Time  `json:"captured_at"`
	Inferred   time.Time  `json:"inferred_at"`
	Clock      string     `json:"clock,omitempty"`
	Width      int        `json:"width"`
	Height     int        `json:"height"`
}

// tracksFile is tracks.json.
type tracksFile struct {
	Version int         `json:"version"` // 1
	Open    []openTrack `json:"open"`
}

// trackLog makes sure that each track whose start reaches the centre is told
// to end. It is a Sink between the pipeline and the recorder, and tells the
// ends that are missing itself.
//
// It hands events on at once, so that local subscribers have them whatever the
// disk does. The start of a track becomes durable once the track is in
// data_dir/tracks.json, synced; its entry goes when its end is durable in the
// queue. So whatever a crash leaves in the file is told to end at the next
// start, with the event id that the entry has had from the beginning: an end
// may be sent twice, and is never missing at the centre. Starts that wait
// together share a write.
type trackLog struct {
	path string
	next vision.Sink           // safe for concurrent use
	live func() []vision.Event // the ends of what is open, as it is now
	log  *slog.Logger

	owed    []openTrack   // what load found
	settled chan struct{} // woken when an end is durable

	writing sync.Mutex // held over a write of the file, and taken before mu

	mu     sync.Mutex            // held over no I/O
	open   map[string]*openTrack // by track id
	failed map[string]time.Time  // ends that were refused, and when
	begun  uint64                // tracks listed so far
	listed uint64                // of those, how many were when the last write began
	dirty  bool
	fresh  time.Time // when the last boxes were last brought up to date
	stats  trackStats
}

// trackStats is what the file of open tracks is worth.
type trackStats struct {
	Recovered  uint64 // ends told for an earlier run
	Unlisted   uint64 // starts told although there was no room in the file
	Error      error  // of the last write
	Quarantine string // where a file that could not be read went
}

// newTrackLog does no I/O.
func newTrackLog(dataDir string, next vision.Sink, log *slog.Logger) *trackLog {
	return &trackLog{
		path: filepath.Join(dataDir, "tracks.json"), next: next, log: log, live: func() []vision.Event { return nil },
		settled: make(chan struct{}, 1), open: map[string]*openTrack{}, failed: map[string]time.Time{},
	}
}

// load reads what the last run left. A file that cannot be read is set aside
// under a dated name.
func (t *trackLog) load() error {
	b, err := os.ReadFile(t.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var f tracksFile
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	if err == nil && f.Version != 1 {
		err = fmt.Errorf("version %d, expected 1", f.Version)
	}
	if err != nil {
		aside := t.path + ".broken-" + time.Now().UTC().Format("20060102T150405Z")
		t.log.Error("the file of open tracks cannot be read; tracks of the last run get no end", "error", err, "kept", aside)
		t.note(func(s *trackStats) { s.Quarantine = aside })
		if err := os.Rename(t.path, aside); err != nil {
			return fmt.Errorf("tracks: %w", err)
		}
		return nil
	}
	for _, k := range f.Open {
		t.open[k.id()] = &k
	}
	t.owed = t.list()
	return nil
}

// sink hands an event on, with what has to happen before and after it becomes
// durable; see vision.Sink. It does not wait for the disk itself.
func (t *trackLog) sink(e vision.Event) {
	switch e.TrackEvent {
	case vision.TrackStart:
		if n := t.begin(e); n > 0 {
			e.Before = func() { t.secure(n) }
		}
	case vision.TrackEnd:
		e = t.ending(e)
	}
	t.next(e)
}

// serve tells the ends that the last run owes, and then does what can wait until
// ctx ends.
func (t *trackLog) serve(ctx context.Context) {
	for _, k := range t.owed {
		t.sink(k.event())
		t.note(func(s *trackStats) { s.Recovered++ })
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			t.tend(now)
		case <-ctx.Done():
			t.finish()
			return
		}
	}
}

// finish waits a moment to hear of the ends, so that a clean stop leaves
// nothing open.
func (t *trackLog) finish() {
	late := time.After(time.Second)
	for waiting := true; waiting && len(t.list()) > 0; {
		select {
		case <-t.settled:
		case <-late:
			waiting = false
		}
	}
	t.tidy()
}

// begin lists a track and returns its number among those that were, or 0 where
// there is no room.
func (t *trackLog) begin(e vision.Event) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.open) >= maxOpenTracks {
		t.stats.Unlisted++
		return 0
	}
	k := track(e, uuid.NewString())
	t.open[k.id()] = &k
	t.begun++
	return t.begun
}

// secure returns when the nth track is in the file, or could not be written:
// health says so then, and its events are durable nonetheless.
func (t *trackLog) secure(n uint64) {
	t.writing.Lock()
	defer t.writing.Unlock()
	t.mu.Lock()
	covered := t.listed >= n // by the write of another
	t.mu.Unlock()
	if !covered {
		t.write()
	}
}

// list are the open tracks, those first that were seen first.
func (t *trackLog) list() []openTrack {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sorted()
}

// sorted is list; the caller holds t.mu.
func (t *trackLog) sorted() []openTrack {
	list := make([]openTrack, 0, len(t.open))
	for _, k := range t.open {
		list = append(list, *k)
	}
	slices.SortFunc(list, func(a, b openTrack) int {
		return cmp.Or(a.Captured.Compare(b.Captured), cmp.Compare(a.Number, b.Number))
	})
	return list
}

// ending gives an end the id that it has in any case. Of the end of a track
// that is listed the trackLog wants to hear.
func (t *trackLog) ending(e vision.Event) vision.Event {
	t.mu.Lock()
	defer t.mu.Unlock()
	id := e.TrackID(e.Detections[0])
	k := t.open[id]
	if k == nil {
		return e
	}
	e.ID = k.EventID
	e.Stored = func(err error) { t.settle(id, err) }
	if !e.Recovered {
		*k = track(e, k.EventID) // for another attempt
	}
	delete(t.failed, id)
	return e
}

// settle takes in what became of an end.
func (t *trackLog) settle(id string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.open[id] == nil:
	case err != nil:
		t.failed[id] = time.Now()
	default:
		delete(t.open, id)
		t.dirty = true
		select {
		case t.settled <- struct{}{}:
		default:
		}
	}
}

// tend does what can wait: the removal of tracks from the file, their last
// boxes, and ends that were refused.
func (t *trackLog) tend(now time.Time) {
	for _, e := range t.due(now) {
		t.sink(e)
	}
	t.refresh(now)
	t.tidy()
}

// due are the ends that are to be told again.
func (t *trackLog) due(now time.Time) (ends []vision.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, at := range t.failed {
		if now.Sub(at) >= trackRetry {
			ends = append(ends, t.open[id].event())
		}
	}
	return ends
}

// refresh brings the last boxes up to date.
func (t *trackLog) refresh(now time.Time) {
	t.mu.Lock()
	due := len(t.open) > 0 && now.Sub(t.fresh) >= trackRefresh
	t.mu.Unlock()
	if !due {
		return
	}
	ends := t.live() // not under t.mu: it takes the locks of the cameras
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fresh = now
	for _, e := range ends {
		if k := t.open[e.TrackID(e.Detections[0])]; k != nil && e.CapturedAt.After(k.Captured) {
			*k = track(e, k.EventID)
			t.dirty = true
		}
	}
}

// tidy writes the file where it is not up to date.
func (t *trackLog) tidy() {
	t.writing.Lock()
	defer t.writing.Unlock()
	t.mu.Lock()
	dirty := t.dirty
	t.mu.Unlock()
	if dirty {
		t.write()
	}
}

// write makes the file durable; the caller holds t.writing. While it cannot,
// tracks are told nonetheless, and health says that their ends are not safe.
func (t *trackLog) write() {
	t.mu.Lock()
	f, listed := tracksFile{Version: 1, Open: t.sorted()}, t.begun
	t.dirty = false
	t.mu.Unlock()
	b, err := json.Marshal(f)
	if err == nil {
		err = replaceFile(t.path, append(b, '\n'), func(*os.File) error { return nil })
	}
	if err != nil {
		t.log.Error("open tracks cannot be stored", "error", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.listed, t.stats.Error = listed, err
	t.dirty = t.dirty || err != nil
}

func (t *trackLog) note(change func(*trackStats)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(&t.stats)
}

// snapshot is safe for concurrent use; nil has no tracks.
func (t *trackLog) snapshot() trackStats {
	if t == nil {
		return trackStats{}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stats
}

// track is what an event tells of its track.
func track(e vision.Event, eventID string) openTrack {
	d := e.Detections[0]
	return openTrack{
		EventID: eventID, Run: e.Run, Number: d.Track, Camera: e.Camera, Model: e.Model, SHA256: e.ModelSHA256,
		Class: d.Class, Confidence: d.Confidence, Label: d.Label, LabelConf: d.LabelConfidence, Box: d.Box, Zones: e.ZoneNames(d),
		Captured: e.CapturedAt, Inferred: e.InferredAt, Clock: e.Clock, Width: e.FrameWidth, Height: e.FrameHeight,
	}
}

func (k *openTrack) id() string {
	return vision.Event{Run: k.Run}.TrackID(vision.Detection{Track: k.Number})
}

// event is the end of the track, as far as it is known.
func (k *openTrack) event() vision.Event {
	return vision.Event{
		Camera: k.Camera, Model: k.Model, ModelSHA256: k.SHA256, CapturedAt: k.Captured, InferredAt: k.Inferred, Clock: k.Clock, FrameWidth: k.Width, FrameHeight: k.Height,
		TrackEvent: vision.TrackEnd, Run: k.Run, Zones: k.Zones, Recovered: true,
		Detections: []vision.Detection{{
			Class: k.Class, Confidence: k.Confidence, Label: k.Label, LabelConfidence: k.LabelConf, Box: k.Box, Track: k.Number, Zones: 1<<len(k.Zones) - 1,
		}},
	}
}

// followed puts a trackLog before next where a camera tells of tracks, or did
// so in the last run.
func (a *app) followed(next vision.Sink) (vision.Sink, error) {
	t := newTrackLog(a.cfg.DataDir, next, a.log.With("part", "tracks"))
	if err := t.load(); err != nil {
		return nil, err
	}
	if len(t.open) == 0 && t.stats.Quarantine == "" && !slices.ContainsFunc(a.cfg.Vision.Cameras, func(c CameraConfig) bool {
		return vision.Policy(c.Policy) == vision.PolicyTrack
	}) {
		return next, nil
	}
	a.tracks = t
	return t.sink, nil
}

// serveTracks starts the trackLog; it stops after the pipeline.
func (a *app) serveTracks() {
	if a.tracks != nil {
		a.tracks.live = a.vision.OpenTracks
		a.background(a.tracks.serve)
	}
}

// tracksCheck says when the end of a track could be missing.
func tracksCheck(s trackStats) []wire.Check {
	switch {
	case s.Error != nil:
		return []wire.Check{check("tracks", wire.Impaired, "a crash now would leave tracks without an end: "+s.Error.Error())}
	case s.Quarantine != "":
		return []wire.Check{check("tracks", wire.Impaired, "tracks that were open in the last run get no end; their file could not be read and is kept as "+s.Quarantine)}
	case s.Unlisted > 0:
		return []wire.Check{check("tracks", wire.Impaired, fmt.Sprintf("%d tracks began while %d were open, the bound; a crash would leave them without an end", s.Unlisted, maxOpenTracks))}
	}
	return nil
}
