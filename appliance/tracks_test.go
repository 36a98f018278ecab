package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"outstation/vision"
)

// tracked is a trackLog that is served, and what came out of it: events that
// are carried to the queue one after the other, as the keeper does.
type tracked struct {
	*trackLog
	mu   sync.Mutex
	out  []vision.Event
	stop func()
}

func startTracks(t *testing.T, dir string, see func(vision.Event)) *tracked {
	t.Helper()
	k, work := &tracked{}, make(chan vision.Event, 1000)
	k.trackLog = newTrackLog(dir, func(e vision.Event) { work <- e }, slog.New(slog.DiscardHandler))
	if err := k.load(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var served, carried sync.WaitGroup
	served.Go(func() { k.serve(ctx) })
	quit := make(chan struct{})
	carried.Go(func() {
		for {
			select {
			case e := <-work:
				k.carry(e, see)
			case <-quit:
				for len(work) > 0 {
					k.carry(<-work, see)
				}
				return
			}
		}
	})
	k.stop = sync.OnceFunc(func() { cancel(); served.Wait(); close(quit); carried.Wait() })
	return k
}

func (k *tracked) carry(e vision.Event, see func(vision.Event)) {
	if e.Before != nil {
		e.Before()
	}
	if see != nil {
		see(e)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.out = append(k.out, e)
}

// events is what came out so far.
func (k *tracked) events() []vision.Event {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.out)
}

// names are the events as "start run-1".
func (k *tracked) names() string {
	var s []string
	for _, e := range k.events() {
		s = append(s, string(e.TrackEvent)+" "+e.TrackID(e.Detections[0]))
	}
	return strings.Join(s, ", ")
}

func trackEvent(what vision.TrackEvent, n uint64, at time.Time) vision.Event {
	return vision.Event{
		Camera: "cam", Model: "m", CapturedAt: at, InferredAt: at, FrameWidth: 640, FrameHeight: 480, TrackEvent: what, Run: "run",
		Zones:      []string{"a", "b"},
		Detections: []vision.Detection{{Class: "part", Confidence: 0.5, Box: vision.Box{X: float64(n), Y: 2, W: 3, H: 4}, Track: n, Zones: 2}},
	}
}

// file is what a crash would leave.
func trackFile(dir string) string {
	b, _ := os.ReadFile(filepath.Join(dir, "tracks.json")) // none is none
	return string(b)
}

// TestAnEndAfterEachCrash copies the file at every step of a track's life, as
// a crash there would leave it, and starts anew from the copy.
func TestAnEndAfterEachCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, at := t.TempDir(), time.Now()
		left := map[string]string{} // the file, by step
		var mu sync.Mutex
		keep := func(what string) { mu.Lock(); defer mu.Unlock(); left[what] = trackFile(dir) }
		step := ""
		var endID string
		stored := map[string]func(error){}
		k := startTracks(t, dir, func(e vision.Event) {
			keep(step + " queued")
			if e.TrackEvent == vision.TrackEnd {
				endID = e.ID
				stored[e.TrackID(e.Detections[0])] = e.Stored
			}
		})
		defer k.stop()
		queue := k.next
		k.next = func(e vision.Event) { keep(step + " told here"); queue(e) }
		for _, step = range []string{"start", "best", "end"} {
			keep(step + " to come")
			k.sink(trackEvent(vision.TrackEvent(step), 7, at))
			synctest.Wait()
		}
		time.Sleep(time.Hour)
		keep("end not stored")
		stored["run-7"](nil)
		time.Sleep(2 * time.Second)
		keep("end stored")

		for step, file := range left {
			other := t.TempDir()
			if file != "" {
				if err := os.WriteFile(filepath.Join(other, "tracks.json"), []byte(file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			again := startTracks(t, other, nil)
			synctest.Wait()
			again.stop()
			want := "end run-7"
			if step == "start to come" || step == "start told here" || step == "end stored" {
				want = ""
			}
			if got := again.names(); got != want {
				t.Errorf("crash when %s: told %q, want %q", step, got, want)
			}
			for _, e := range again.events() {
				d := e.Detections[0]
				if e.ID != endID || !e.Recovered || !e.CapturedAt.Equal(at) || e.Camera != "cam" || e.FrameWidth != 640 ||
					d.Box.X != 7 || d.Class != "part" || !slices.Equal(e.ZoneNames(d), []string{"b"}) {
					t.Errorf("crash when %s: %+v", step, e)
				}
			}
		}
	})
}

// TestARefusedEndIsToldAgain, under its id, until it is durable.
func TestARefusedEndIsToldAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ids := map[string]int{}
		k := startTracks(t, t.TempDir(), func(e vision.Event) {
			if e.TrackEvent != vision.TrackEnd {
				return
			}
			if ids[e.ID]++; ids[e.ID] < 3 {
				e.Stored(errors.New("the disk is full"))
			} else {
				e.Stored(nil)
			}
		})
		k.sink(trackEvent(vision.TrackStart, 1, time.Now()))
		k.sink(trackEvent(vision.TrackEnd, 1, time.Now().Add(time.Second)))
		time.Sleep(time.Hour)
		k.stop()
		if got := k.names(); got != "start run-1, end run-1, end run-1, end run-1" || len(ids) != 1 {
			t.Errorf("told %s under %v", got, ids)
		}
		if last := k.events()[3]; last.CapturedAt.Equal(k.events()[0].CapturedAt) {
			t.Error("the end has the time of the start")
		}
	})
}

// TestLastBoxesAreKept: after a crash the end tells of where the track was
// some seconds before, not of its start.
func TestLastBoxesAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		k := startTracks(t, dir, nil)
		moved := trackEvent(vision.TrackEnd, 1, time.Now().Add(5*time.Second))
		moved.Detections[0].Box.X = 99
		k.sink(trackEvent(vision.TrackStart, 1, time.Now()))
		synctest.Wait()
		k.stop() // not to race with the field
		again := startTracks(t, dir, nil)
		again.stop()
		if got := again.names(); got != "end run-1" {
			t.Errorf("told %q", got)
		}
		third := newTrackLog(dir, func(vision.Event) {}, slog.New(slog.DiscardHandler))
		third.live = func() []vision.Event { return []vision.Event{moved} }
		if err := third.load(); err != nil {
			t.Fatal(err)
		}
		third.tend(time.Now().Add(trackRefresh))
		if file := trackFile(dir); !strings.Contains(file, `"X":99`) {
			t.Error(file)
		}
	})
}

// TestLastBoxesAreKeptOfABusyCamera: the file is written all the time for
// tracks that begin and end.
func TestLastBoxesAreKeptOfABusyCamera(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		k := newTrackLog(dir, func(e vision.Event) {
			if e.Before != nil {
				e.Before()
			}
			if e.Stored != nil {
				e.Stored(nil)
			}
		}, slog.New(slog.DiscardHandler))
		moved := trackEvent(vision.TrackEnd, 1, time.Now().Add(5*time.Second))
		moved.Detections[0].Box.X = 99
		k.live = func() []vision.Event { return []vision.Event{moved} }
		k.sink(trackEvent(vision.TrackStart, 1, time.Now()))
		for n := range uint64(2 * trackRefresh / time.Second) {
			time.Sleep(time.Second)
			k.sink(trackEvent(vision.TrackStart, n+2, time.Now()))
			k.sink(trackEvent(vision.TrackEnd, n+2, time.Now()))
			k.tend(time.Now())
		}
		if file := trackFile(dir); !strings.Contains(file, `"X":99`) {
			t.Error(file)
		}
	})
}

// TestStartsShareAWrite: while one is being queued others wait, and then
// have one write together.
func TestStartsShareAWrite(t *testing.T) {
	const starts = 64
	dir, gate := t.TempDir(), make(chan struct{})
	var writes []os.FileInfo
	k := startTracks(t, dir, func(e vision.Event) {
		<-gate
		file, err := os.Stat(filepath.Join(dir, "tracks.json"))
		if err != nil {
			t.Error(err)
			return
		}
		if n := len(writes); n == 0 || !file.ModTime().Equal(writes[n-1].ModTime()) || !os.SameFile(file, writes[n-1]) {
			writes = append(writes, file)
		}
		if !strings.Contains(trackFile(dir), `"number":`+strings.TrimPrefix(e.TrackID(e.Detections[0]), "run-")+",") {
			t.Errorf("%s is queued and not in the file", e.TrackID(e.Detections[0]))
		}
	})
	for n := range uint64(starts) {
		k.sink(trackEvent(vision.TrackStart, n+1, time.Now()))
	}
	close(gate)
	eventually(t, "all starts", func() bool { return len(k.events()) == starts })
	k.stop()
	if len(writes) > 3 {
		t.Errorf("%d writes for %d starts", len(writes), starts)
	}
}

func TestABrokenFileOfTracksIsKept(t *testing.T) {
	for _, bad := range []string{"{", `{"version":2}`} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "tracks.json"), []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		k := startTracks(t, dir, nil)
		k.sink(trackEvent(vision.TrackStart, 1, time.Now()))
		eventually(t, "the start", func() bool { return len(k.events()) == 1 })
		k.stop()
		kept, err := os.ReadFile(k.snapshot().Quarantine)
		if err != nil || string(kept) != bad {
			t.Errorf("kept %q (%v)", kept, err)
		}
		if c := tracksCheck(k.snapshot()); len(c) != 1 || !strings.Contains(c[0].Detail, k.snapshot().Quarantine) {
			t.Errorf("health says %v", c)
		}
	}
}

// TestTracksWithoutADisk are told, and health says that they are not safe.
func TestTracksWithoutADisk(t *testing.T) {
	k := startTracks(t, filepath.Join(t.TempDir(), "missing"), nil)
	k.sink(trackEvent(vision.TrackStart, 1, time.Now()))
	eventually(t, "the start", func() bool { return len(k.events()) == 1 })
	if c := tracksCheck(k.snapshot()); len(c) != 1 || !strings.Contains(c[0].Detail, "without an end") {
		t.Errorf("health says %v", c)
	}
	k.stop()
}

// wall is a camera that shows nothing, ten times a second.
type wall struct{ ctx context.Context }

func (w *wall) Open(ctx context.Context) error { w.ctx = ctx; return nil }
func (w *wall) Close() error                   { return nil }
func (w *wall) Read() (vision.Frame, error) {
	select {
	case <-time.After(100 * time.Millisecond):
		return vision.Frame{Arrived: time.Now(), Width: 640, Height: 480, Image: nowhere{}}, nil
	case <-w.ctx.Done():
		return vision.Frame{}, w.ctx.Err()
	}
}

type nowhere struct{}

func (nowhere) Letterbox([]byte, int, int, byte) (float64, error) { return 1, nil }
func (nowhere) Close()                                            {}

// TestAnEndThatAStopHadNoRoomForIsToldByTheNextStart: everything between the
// pipeline and the disk is full.
func TestAnEndThatAStopHadNoRoomForIsToldByTheNextStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, disk := t.TempDir(), make(chan struct{})
		first := startTracks(t, dir, nil)
		queue, begun := first.next, false
		first.next = func(e vision.Event) {
			begun = begun || e.Camera == "tracks"
			if begun && e.Camera == "floods" { // as if it were lossless
				<-disk
			}
			queue(e)
		}
		model := vision.ModelOptions{Name: "m", Open: func(context.Context) (vision.Detector, error) {
			return seesAPart{}, nil
		}}
		camera := func(id string, policy vision.Policy) vision.CameraOptions {
			return vision.CameraOptions{
				ID: id, Model: "m", NewSource: func() vision.Source { return &wall{} }, Judge: vision.JudgeOptions{Policy: policy, Tracking: vision.TrackOptions{Confirm: 1}},
			}
		}
		p, err := vision.New(vision.Options{
			Models: []vision.ModelOptions{model}, Sink: first.sink, EventBuffer: 1,
			Cameras: []vision.CameraOptions{camera("tracks", vision.PolicyTrack), camera("floods", vision.PolicyDetections)},
		})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- p.Serve(t.Context()) }()
		time.Sleep(time.Minute)
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; !errors.Is(err, vision.ErrAbandoned) {
			t.Fatalf("got %v", err)
		}
		if c := p.Stats().Cameras[0]; c.Events != 1 || c.EventsDropped < 2 {
			t.Errorf("the best and the end are not counted: %+v", c)
		}
		close(disk)
		synctest.Wait()
		first.stop()
		second := startTracks(t, dir, nil)
		synctest.Wait()
		second.stop()
		var told []string
		for _, e := range append(first.events(), second.events()...) {
			if e.Camera == "tracks" {
				told = append(told, string(e.TrackEvent)+" "+e.TrackID(e.Detections[0]))
			}
		}
		if len(told) != 2 || !strings.HasPrefix(told[0], "start ") || told[1] != "end "+strings.TrimPrefix(told[0], "start ") {
			t.Errorf("told %q", told)
		}
	})
}

// seesAPart is a detector that finds the same part in every frame.
type seesAPart struct{}

func (seesAPart) Info() vision.DetectorInfo { return vision.DetectorInfo{} }
func (seesAPart) Close() error              { return nil }
func (seesAPart) Detect(vision.Frame) ([]vision.Detection, vision.Timing, error) {
	return []vision.Detection{{Class: "part", Confidence: 0.9, Box: vision.Box{X: 10, Y: 10, W: 50, H: 50}}}, vision.Timing{}, nil
}
