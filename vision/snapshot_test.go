package vision

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// shot is an image that can be encoded.
type shot struct {
	fakeImage
	encode func(crop image.Rectangle, maxSide, quality int) ([]byte, error)
}

func (s *shot) AppendJPEG(dst []byte, crop image.Rectangle, maxSide, quality int) ([]byte, error) {
	if s.closed {
		return dst, errors.New("encoded after it was closed")
	}
	b, err := s.encode(crop, maxSide, quality)
	return append(dst, b...), err
}

// shots is a source like every, whose images take cost to encode; their JPEG
// is the text "camera n".
func (i *images) shots(camera string, interval, cost time.Duration) func() Source {
	plain, n := i.every(interval), 0
	return func() Source {
		src := plain().(*fakeSource)
		read := src.read
		src.read = func() (Frame, error) {
			f, err := read()
			n++
			name := fmt.Sprintf("%s %d", camera, n)
			if err == nil {
				f.Image = &shot{fakeImage{of: i}, func(image.Rectangle, int, int) ([]byte, error) {
					time.Sleep(cost) // the work of the encoder, not synchronisation
					return []byte(name), nil
				}}
			}
			return f, err
		}
		return src
	}
}

// TestASlowPictureHoldsUpOnlyItsCamera encodes for longer than five frames
// take.
func TestASlowPictureHoldsUpOnlyItsCamera(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		img, got := &images{}, &collector{}
		late := map[string]time.Duration{} // only the emitter's goroutine writes it
		at := map[string][]time.Time{}
		s := serve(t, Options{
			Models: model(person(0)),
			Cameras: []CameraOptions{
				{ID: "slow", Model: "m", NewSource: img.shots("slow", 10*time.Millisecond, 55*time.Millisecond), Snapshot: SnapshotOptions{Of: SnapshotFrame, Quality: 85, MaxSide: 1280}},
				{ID: "other", Model: "m", NewSource: img.every(10 * time.Millisecond)},
			},
			Sink: func(e Event) {
				got.sink(e)
				late[e.Camera] = max(late[e.Camera], time.Since(e.CapturedAt))
				at[e.Camera] = append(at[e.Camera], e.CapturedAt)
			},
		})
		time.Sleep(time.Second)
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
		if late["other"] > time.Millisecond {
			t.Errorf("an event of another camera was late by %v", late["other"])
		}
		for id, times := range at {
			if !slices.IsSortedFunc(times, time.Time.Compare) || len(times) < 90 {
				t.Errorf("%s: %d events, in order: %v", id, len(times), slices.IsSortedFunc(times, time.Time.Compare))
			}
		}
		pictures := 0
		for _, e := range got.events {
			if e.Snapshot == nil {
				continue
			}
			pictures++
			sum := sha256.Sum256(e.Snapshot.JPEG)
			if want := fmt.Sprintf("%s %d", e.Camera, frameNumber(at[e.Camera][0], e.CapturedAt)); string(e.Snapshot.JPEG) != want || e.Snapshot.SHA256 != hex.EncodeToString(sum[:]) {
				t.Errorf("the event of %q has the picture %q, sha256 %s", want, e.Snapshot.JPEG, e.Snapshot.SHA256)
			}
		}
		c := s.camera("slow")
		if pictures < 15 || c.Snapshots != uint64(pictures) || c.SnapshotsFailed != 0 || c.Snapshots+c.SnapshotsSkipped != c.Events {
			t.Errorf("%d pictures: %+v", pictures, c)
		}
		balanced(t, c)
		if n := img.open.Load(); n != 0 {
			t.Errorf("%d images are open", n)
		}
	})
}

// frameNumber is that of a frame every 10 ms after the first.
func frameNumber(first, at time.Time) int { return int(at.Sub(first)/(10*time.Millisecond)) + 1 }

// TestSnapshotsAreTakenNoMoreOftenThanAsked, and only of what was detected.
func TestSnapshotsAreTakenNoMoreOftenThanAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		img, got, n := &images{}, &collector{}, 0
		d := &fakeDetector{detect: func(Frame) ([]Detection, Timing, error) {
			if n++; n <= 20 {
				return nil, Timing{}, nil
			}
			return []Detection{{Class: "person"}}, Timing{}, nil
		}}
		s := serve(t, Options{
			Models: model(d), Sink: got.sink,
			Cameras: []CameraOptions{{ID: "a", Model: "m", Judge: JudgeOptions{Policy: PolicyEveryFrame}, NewSource: img.shots("a", 100*time.Millisecond, 0),
				Snapshot: SnapshotOptions{Of: SnapshotFrame, Every: time.Second, Quality: 85, MaxSide: 1280}}},
		})
		time.Sleep(5*time.Second + 50*time.Millisecond)
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
		var with []int
		for i, e := range got.events {
			if e.Snapshot != nil {
				with = append(with, i+1)
			}
		}
		if want := []int{21, 31, 41}; !slices.Equal(with, want) {
			t.Errorf("events with a picture: %v, want %v", with, want)
		}
		if c := s.camera("a"); c.SnapshotsSkipped != 0 {
			t.Errorf("%d skipped; none was asked for in between", c.SnapshotsSkipped)
		}
	})
}

// TestADroppedEventGivesItsPictureBack has a Sink that never returns.
func TestADroppedEventGivesItsPictureBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		img, stuck := &images{}, make(chan struct{})
		s := serve(t, Options{
			Models: model(person(0)), EventBuffer: 2, ShutdownTimeout: time.Second,
			Cameras: []CameraOptions{{ID: "a", Model: "m", NewSource: img.shots("a", 10*time.Millisecond, 15*time.Millisecond),
				Snapshot: SnapshotOptions{Of: SnapshotFrame, Every: 95 * time.Millisecond, Quality: 85, MaxSide: 1280}}},
			Sink: func(Event) { <-stuck },
		})
		time.Sleep(time.Second)
		if n := s.Stats().EventsWaiting; n > 4 {
			t.Errorf("%d events wait, the bound is 2 and 2 behind a picture", n)
		}
		if err := s.stop(); !errors.Is(err, ErrAbandoned) {
			t.Fatalf("got %v", err)
		}
		c := s.camera("a")
		if c.Events != 1 || c.Events+c.EventsDropped != c.Inspected {
			t.Errorf("%+v: one event is in the Sink", c)
		}
		close(stuck)
		synctest.Wait()
		if n := img.open.Load(); n != 0 {
			t.Errorf("%d images are open", n)
		}
	})
}

// TestPicturesThatWaitForSinkAreGivenBack when it never returns: the first
// event, which Sink has, is without a picture, and the second has one.
func TestPicturesThatWaitForSinkAreGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		img, stuck, n := &images{}, make(chan struct{}), 0
		d := &fakeDetector{detect: func(Frame) ([]Detection, Timing, error) {
			if n++; n == 1 {
				return nil, Timing{}, nil
			}
			return []Detection{{Class: "person"}}, Timing{}, nil
		}}
		s := serve(t, Options{
			Models: model(d), ShutdownTimeout: time.Second, Sink: func(Event) { <-stuck },
			Cameras: []CameraOptions{{ID: "a", Model: "m", Judge: JudgeOptions{Policy: PolicyEveryFrame}, NewSource: img.shots("a", 10*time.Millisecond, 0),
				Snapshot: SnapshotOptions{Of: SnapshotFrame, Quality: 85, MaxSide: 1280}}},
		})
		time.Sleep(55 * time.Millisecond)
		if n := img.open.Load(); n != 1 {
			t.Errorf("%d images are open, want that of the picture", n)
		}
		if err := s.stop(); !errors.Is(err, ErrAbandoned) {
			t.Fatalf("got %v", err)
		}
		if n := img.open.Load(); n != 0 {
			t.Errorf("%d images are open", n)
		}
		if c := s.camera("a"); c.Events != 1 || c.EventsDropped != c.Inspected-1 {
			t.Errorf("%+v", c)
		}
		close(stuck)
	})
}

// TestWhatWaitsBehindAPictureIsBounded encodes for a second.
func TestWhatWaitsBehindAPictureIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		img, got := &images{}, &collector{}
		s := serve(t, Options{
			Models: model(person(0)), EventBuffer: 8, Sink: got.sink,
			Cameras: []CameraOptions{{ID: "a", Model: "m", NewSource: img.shots("a", 10*time.Millisecond, time.Second),
				Snapshot: SnapshotOptions{Of: SnapshotFrame, Every: time.Hour, Quality: 85, MaxSide: 1280}}},
		})
		time.Sleep(905 * time.Millisecond)
		if n := s.Stats().EventsWaiting; n != 16 {
			t.Errorf("%d events wait, the bound is 8 and 8 behind a picture", n)
		}
		time.Sleep(time.Second)
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
		c := s.camera("a")
		if c.EventsDropped < 70 || c.Events != uint64(len(got.events)) || c.Events+c.EventsDropped != c.Inspected {
			t.Errorf("%+v, %d came", c, len(got.events))
		}
	})
}

// TestAnImageThatCannotBeEncodedCostsNoEvent, neither one that fails.
func TestAnImageThatCannotBeEncodedCostsNoEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		img, got := &images{}, &collector{}
		s := serve(t, Options{
			Models: model(person(0)), Sink: got.sink,
			Cameras: []CameraOptions{{ID: "a", Model: "m", NewSource: img.every(10 * time.Millisecond),
				Snapshot: SnapshotOptions{Of: SnapshotFrame, Quality: 85, MaxSide: 1280}}},
		})
		time.Sleep(105 * time.Millisecond)
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
		if c := s.camera("a"); c.Events != 10 || c.SnapshotsFailed != 10 || c.Snapshots != 0 || img.open.Load() != 0 {
			t.Errorf("%+v, %d images open", c, img.open.Load())
		}
	})
}

// TestAPictureIsMadeToFit has an encoder whose bytes go with the area.
func TestAPictureIsMadeToFit(t *testing.T) {
	type attempt struct{ side, quality int }
	for _, c := range []struct {
		most int
		want []attempt
	}{
		{1280 * 1280 * 90, []attempt{{1280, 90}}},
		{1280 * 1280 * 60, []attempt{{1280, 90}, {1280, 50}}},
		{640 * 640 * 50, []attempt{{1280, 90}, {1280, 50}, {576, 50}}},
		{100, []attempt{{1280, 90}, {1280, 50}}},
	} {
		var tried []attempt
		s := &shot{fakeImage{of: &images{}}, func(_ image.Rectangle, side, quality int) ([]byte, error) {
			tried = append(tried, attempt{side, quality})
			return make([]byte, side*side*quality), nil
		}}
		p := &picture{s, &film{opts: SnapshotOptions{Of: SnapshotFrame, Quality: 90, MaxSide: 1280, MaxBytes: func() int { return c.most }}}}
		b, err := p.encode(&Event{FrameWidth: 1920, FrameHeight: 1080})
		if !slices.Equal(tried, c.want) || len(b) > c.most || (err != nil) != (c.most == 100) || (err != nil && !errors.Is(err, errTooLarge)) {
			t.Errorf("at most %d: tried %v, want %v; %d bytes, %v", c.most, tried, c.want, len(b), err)
		}
	}
}

func TestAround(t *testing.T) {
	for _, c := range []struct {
		box  Box
		want image.Rectangle
	}{
		{Box{100, 100, 200, 50}, image.Rect(60, 84, 340, 166)},
		{Box{0, 0, 10, 10}, image.Rect(0, 0, 26, 26)},
		{Box{630.5, 470.5, 9.5, 9.5}, image.Rect(614, 454, 640, 480)},
		{Box{0, 0, 640, 480}, image.Rect(0, 0, 640, 480)},
	} {
		if got := around(c.box, 640, 480); got != c.want {
			t.Errorf("%v: got %v, want %v", c.box, got, c.want)
		}
	}
	if d := best([]Detection{{Class: "a", Confidence: 0.4}, {Class: "b", Confidence: 0.9}, {Class: "c", Confidence: 0.5}}); d.Class != "b" {
		t.Errorf("the best is %v", d)
	}
}

// TestAppendJPEG draws a red square on blue and looks at the decoded picture.
func TestAppendJPEG(t *testing.T) {
	const w, h = 160, 120
	bgr := bytes.Repeat([]byte{200, 0, 0}, w*h)
	for y := 40; y < 80; y++ {
		for x := 32; x < 96; x++ {
			copy(bgr[(y*w+x)*3:], []byte{0, 0, 220})
		}
	}
	red := func(m image.Image, x, y int) bool {
		r, _, b, _ := m.At(x, y).RGBA()
		return r>>8 > 150 && b>>8 < 80
	}
	for _, c := range []struct {
		crop      image.Rectangle
		side      int
		w, h      int
		in, outOf image.Point
	}{
		{image.Rectangle{}, 0, 160, 120, image.Pt(60, 60), image.Pt(110, 60)},
		{image.Rectangle{}, 80, 80, 60, image.Pt(30, 30), image.Pt(55, 30)},
		{image.Rect(24, 32, 104, 88), 0, 80, 56, image.Pt(16, 16), image.Pt(76, 20)},
		{image.Rect(24, 32, 104, 88), 40, 40, 28, image.Pt(20, 14), image.Pt(38, 14)},
		{image.Rect(90, 70, 300, 300), 0, 70, 50, image.Pt(2, 4), image.Pt(30, 30)},
	} {
		b, err := AppendJPEG([]byte("x"), bgr, w, h, c.crop, c.side, 90)
		if err != nil || b[0] != 'x' {
			t.Fatal(err)
		}
		m, err := jpeg.Decode(bytes.NewReader(b[1:]))
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Bounds(); got.Dx() != c.w || got.Dy() != c.h {
			t.Errorf("crop %v, side %d: %v, want %d×%d", c.crop, c.side, got, c.w, c.h)
		}
		if !red(m, c.in.X, c.in.Y) || red(m, c.outOf.X, c.outOf.Y) {
			t.Errorf("crop %v, side %d: the square is not where it should be", c.crop, c.side)
		}
	}
	for _, crop := range []image.Rectangle{{}, image.Rect(500, 500, 600, 600)} {
		short := bgr
		if crop.Empty() {
			short = bgr[:100]
		}
		if _, err := AppendJPEG(nil, short, w, h, crop, 0, 90); err == nil {
			t.Errorf("%d bytes, crop %v: no error", len(short), crop)
		}
	}
}

func TestSnapshotOptions(t *testing.T) {
	good := SnapshotOptions{Of: SnapshotCrop, Quality: 1, MaxSide: MinSnapshotSide}
	for _, c := range []struct {
		change func(*SnapshotOptions)
		ok     bool
	}{
		{func(*SnapshotOptions) {}, true},
		{func(o *SnapshotOptions) { *o = SnapshotOptions{} }, true},
		{func(o *SnapshotOptions) { o.Of = "all" }, false},
		{func(o *SnapshotOptions) { o.Every = -1 }, false},
		{func(o *SnapshotOptions) { o.Quality = 0 }, false},
		{func(o *SnapshotOptions) { o.Quality = 101 }, false},
		{func(o *SnapshotOptions) { o.MaxSide = MinSnapshotSide - 1 }, false},
	} {
		o := good
		c.change(&o)
		_, err := New(Options{Cameras: []CameraOptions{{ID: "a", NewSource: func() Source { return nil }, Snapshot: o}}})
		if (err == nil) != c.ok {
			t.Errorf("%+v: got %v", o, err)
		}
	}
}
