package vision

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// court is a judge, its clock, and what it told.
type court struct {
	*judge
	at   time.Time
	next uint64
	told []Event
	full bool // the buffer takes nothing
}

func newCourt(t *testing.T, o JudgeOptions) *court {
	t.Helper()
	if err := o.Check(); err != nil {
		t.Fatal(err)
	}
	c := &court{at: time.Unix(1000, 0)}
	c.judge = newJudge(o, 10*time.Second, "run", func() uint64 { c.next++; return c.next })
	return c
}

func (c *court) emit(e Event) bool {
	if !c.full {
		c.told = append(c.told, e)
	}
	return !c.full
}

// see looks at one frame of 1000×1000 pixels, 100 ms after the last, and
// returns what was told of it.
func (c *court) see(found ...Detection) string {
	c.at = c.at.Add(step)
	c.told = nil
	c.look(Event{Camera: "cam", CapturedAt: c.at, Detections: found, FrameWidth: 1000, FrameHeight: 1000}, nil, c.emit)
	return tell(c.told)
}

// tell writes events as "start a#1[gate], …".
func tell(events []Event) string {
	var out []string
	for _, e := range events {
		var things []string
		for _, d := range e.Detections {
			s := d.Class
			if d.Track != 0 {
				s += fmt.Sprintf("#%d", d.Track)
			}
			if names := e.ZoneNames(d); names != nil {
				s += "[" + strings.Join(names, " ") + "]"
			}
			things = append(things, s)
		}
		if len(things) == 0 {
			things = []string{"nothing"}
		}
		out = append(out, strings.TrimSpace(string(e.TrackEvent)+" "+strings.Join(things, " ")))
	}
	return strings.Join(out, ", ")
}

func (c *court) expect(want string, found ...Detection) {
	if got := c.see(found...); got != want {
		panic(fmt.Sprintf("told %q of %v, want %q", got, found, want))
	}
}

// judged runs f and turns an unmet expectation into a failure with its place.
func judged(t *testing.T, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if r := recover(); r != nil {
			t.Fatal(r)
		}
	}()
	f()
}

var (
	left  = Polygon{{0, 0}, {0.5, 0}, {0.5, 1}, {0, 1}}
	right = Polygon{{0.5, 0}, {1, 0}, {1, 1}, {0.5, 1}}
)

func TestFiltersCountWhatTheyLeaveOut(t *testing.T) {
	c := newCourt(t, JudgeOptions{
		Limits:  Limits{Confidence: 0.5, MinArea: 0.001, MaxArea: 0.1},
		Classes: map[string]Limits{"b": {Confidence: 0.8, MaxArea: 1}},
		Only:    []string{"a", "b"},
		Zones:   []Zone{{Name: "left", Area: left}, {Name: "right", Area: right, Classes: []string{"b"}}}, Required: []string{"left", "right"},
		Masks: []Polygon{{{0, 0}, {0.2, 0}, {0.2, 0.2}, {0, 0.2}}},
	})
	at := func(class string, confidence, x, y, side float64) Detection {
		return Detection{Class: class, Confidence: confidence, Box: Box{x, y, side, side}}
	}
	judged(t, func() {
		c.expect("a[left]", at("a", 0.5, 300, 300, 100))
		c.expect("", at("c", 0.9, 300, 300, 100), at("a", 0.49, 300, 300, 100), at("b", 0.79, 300, 300, 100))
		c.expect("b[left]", at("a", 0.9, 300, 300, 400), at("a", 0.9, 300, 300, 30), at("b", 0.9, 250, 300, 400))
		c.expect("", at("a", 0.9, 50, 50, 100), at("a", 0.9, 700, 300, 100))
		c.expect("b[right] a[left]", at("b", 0.9, 700, 300, 100), at("a", 0.9, 50, 150, 100))
	})
	if want := (Filtered{Class: 1, Confidence: 2, Area: 2, Mask: 1, Zone: 1}); c.filtered != want {
		t.Errorf("%+v, want %+v", c.filtered, want)
	}
}

// TestLimitsHoldForAnyResolution: areas are parts of the frame.
func TestLimitsHoldForAnyResolution(t *testing.T) {
	c := newCourt(t, JudgeOptions{Limits: Limits{MinArea: 0.01}, Zones: []Zone{{Name: "right", Area: right}}})
	for _, scale := range []float64{0.5, 1, 3} {
		c.told = nil
		w, h := int(1000*scale), int(600*scale)
		c.look(Event{CapturedAt: c.at, FrameWidth: w, FrameHeight: h, Detections: []Detection{
			{Class: "a", Confidence: 0.9, Box: Box{600 * scale, 100 * scale, 80 * scale, 80 * scale}},
			{Class: "b", Confidence: 0.9, Box: Box{100 * scale, 100 * scale, 70 * scale, 80 * scale}},
		}}, nil, c.emit)
		if got := tell(c.told); got != "a[right]" {
			t.Errorf("scale %v: %s", scale, got)
		}
	}
}

func TestAnchors(t *testing.T) {
	tall := Detection{Class: "a", Confidence: 0.9, Box: Box{400, 100, 50, 500}}
	upper := []Zone{{Name: "upper", Area: Polygon{{0, 0}, {1, 0}, {1, 0.5}, {0, 0.5}}}}
	judged(t, func() {
		newCourt(t, JudgeOptions{Zones: upper}).expect("a", tall)
		newCourt(t, JudgeOptions{Zones: upper, Anchor: AnchorCentre}).expect("a[upper]", tall)
	})
}

func TestOnChange(t *testing.T) {
	a, b := thing("a", 0.9, 100, 100), thing("b", 0.9, 300, 300)
	far := thing("a", 0.9, 700, 100)
	c := newCourt(t, JudgeOptions{Policy: PolicyOnChange, Debounce: 2, Zones: []Zone{{Name: "left", Area: left}}})
	judged(t, func() {
		c.expect("") // nothing is what it begins with
		c.expect("", a)
		c.expect("a[left]", a)
		c.expect("", a)
		c.expect("") // one frame without is no change
		c.expect("", a)
		c.expect("", b, a)
		c.expect("") // nor are two different ones
		c.expect("", a, b)
		c.expect("a[left] b[left]", a, b)
		c.expect("", b, a) // whatever the order
		c.expect("", far, b)
		c.expect("a b[left]", far, b)
		c.expect("", a, a, b) // a count is a change, too
		c.expect("a[left] a[left] b[left]", a, a, b)
		c.expect("")
		c.full = true
		c.expect("")
		c.full = false
		if c.see(); len(c.told) != 1 || len(c.told[0].Detections) != 0 {
			t.Errorf("told %v, want one event without detections, once there was room", c.told)
		}
		c.expect("")
	})
}

// TestOnChangeOfTracks: with tracking it is the objects that count, and a box
// that is weak for a moment is still its object.
func TestOnChangeOfTracks(t *testing.T) {
	c := newCourt(t, JudgeOptions{Limits: Limits{Confidence: 0.5}, Policy: PolicyOnChange, Debounce: 1, Tracking: TrackOptions{On: true}})
	a := thing("a", 0.9, 100, 100)
	weak := thing("a", 0.2, 100, 100)
	judged(t, func() {
		c.expect("", a)
		c.expect("a#1", a)
		c.expect("", weak)
		c.expect("", a, thing("a", 0.9, 600, 600))
		c.expect("a#1 a#2", a, thing("a", 0.9, 600, 600))
	})
}

func TestTrackPolicy(t *testing.T) {
	c := newCourt(t, JudgeOptions{Limits: Limits{Confidence: 0.5}, Policy: PolicyTrack, Zones: []Zone{{Name: "left", Area: left}}, Required: []string{"left"}})
	judged(t, func() {
		c.expect("", thing("a", 0.6, 700, 100))
		c.expect("", thing("a", 0.6, 690, 100)) // confirmed, but not where it has to be
		for x := 680.0; x >= 480; x -= 10 {
			c.expect("", thing("a", 0.6, x, 100))
		}
		c.expect("start a#1[left]", thing("a", 0.6, 470, 100))
		c.expect("", thing("a", 0.8, 460, 100))
		c.expect("", thing("a", 0.2, 450, 100))
		for range 10 {
			c.expect("")
		}
		c.expect("best a#1[left], end a#1[left]")
	})
	best, end := c.told[0], c.told[1]
	if d := best.Detections[0]; d.Confidence != 0.8 || d.Box.X != 460 || !best.CapturedAt.Equal(c.at.Add(-12*step)) {
		t.Errorf("best %+v", best)
	}
	if d := end.Detections[0]; d.Confidence != 0.2 || !end.CapturedAt.Equal(c.at.Add(-11*step)) || end.Camera != "cam" || end.FrameWidth != 1000 {
		t.Errorf("end %+v", end)
	}
}

// TestTheBestIsWhole: a box that the edge cuts off is the best only while
// there is no other.
func TestTheBestIsWhole(t *testing.T) {
	c := newCourt(t, JudgeOptions{Policy: PolicyTrack})
	c.see(thing("a", 0.9, 0, 100))
	c.see(thing("a", 0.9, 0, 100))
	c.see(thing("a", 0.6, 5, 100))
	c.see(thing("a", 0.7, 20, 100))
	c.see(thing("a", 0.65, 30, 100))
	c.told = nil
	c.close(c.emit)
	if got := tell(c.told); got != "best a#1, end a#1" || c.told[0].Detections[0].Confidence != 0.7 {
		t.Errorf("%s: %+v", got, c.told)
	}
	for range 3 {
		if got := c.see(thing("a", 0.9, 500, 100)); got != "" {
			t.Errorf("told %q after close", got)
		}
	}
}

// TestAnEndWaitsForRoom in a full buffer.
func TestAnEndWaitsForRoom(t *testing.T) {
	c := newCourt(t, JudgeOptions{Policy: PolicyTrack})
	c.see(thing("a", 0.9, 100, 100))
	c.see(thing("a", 0.9, 100, 100))
	c.full = true
	for range 15 {
		c.see()
	}
	c.full = false
	if got := c.see(); got != "best a#1, end a#1" {
		t.Errorf("told %q", got)
	}
	if got := c.see(); got != "" {
		t.Errorf("told %q again", got)
	}
	c.see(thing("a", 0.9, 100, 100))
	c.see(thing("a", 0.9, 100, 100))
	c.told = nil
	refuse := true
	c.close(func(e Event) bool { // there is room right after a refusal
		refused := refuse
		refuse = false
		return !refused && c.emit(e)
	})
	c.repay(c.emit)
	if got := tell(c.told); got != "best a#2, end a#2" {
		t.Errorf("told %q", got)
	}
}

// TestTracksEndWhenACameraGoesBlind, through the pipeline: frames stop coming,
// and when it stops itself.
func TestTracksEndWhenACameraGoesBlind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var img images
		var got collector
		block := make(chan struct{})
		var n atomic.Int64 // read by a reader that was given up, and by the next
		camera := func(id string) CameraOptions {
			return CameraOptions{ID: id, Model: "m", Judge: JudgeOptions{Policy: PolicyTrack}, NewSource: img.every(100 * time.Millisecond)}
		}
		stalls := camera("stalls")
		stalls.NewSource = func() Source {
			return &fakeSource{read: func() (Frame, error) {
				if time.Sleep(100 * time.Millisecond); n.Load() >= 10 {
					<-block
				}
				n.Add(1)
				return img.frame(), nil
			}}
		}
		s := serve(t, Options{Models: model(person(0)), Cameras: []CameraOptions{stalls, camera("steady")}, Sink: got.sink})
		time.Sleep(15 * time.Second)
		seen := func(camera string) []Event {
			got.mu.Lock()
			defer got.mu.Unlock()
			return slices.DeleteFunc(slices.Clone(got.events), func(e Event) bool { return e.Camera != camera })
		}
		if a, b := tell(seen("stalls")), tell(seen("steady")); a != "start person#1, best person#1, end person#1" && a != "start person#2, best person#2, end person#2" || strings.Contains(b, "end") {
			t.Errorf("stalled: %s; steady: %s", a, b)
		}
		if at := seen("stalls")[2].CapturedAt; time.Since(at) < 13*time.Second {
			t.Errorf("the end is of %v ago", time.Since(at))
		}
		if open := s.camera("steady").Tracks; open != 1 {
			t.Errorf("%d tracks are open", open)
		}
		close(block)
		s.stop()
		if b := tell(seen("steady")); !strings.HasSuffix(b, ", end person#1") && !strings.HasSuffix(b, ", end person#2") {
			t.Errorf("steady: %s", b)
		}
		if c := s.camera("steady"); c.Events != 3 || c.EventsDropped != 0 {
			t.Errorf("%+v", c)
		}
	})
}

// TestALosslessCameraTellsEverything, also several events of one frame, with
// hardly any buffer.
func TestALosslessCameraTellsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var img images
		var got collector
		slow := func(e Event) { time.Sleep(time.Second); got.sink(e) }
		two := &fakeDetector{detect: func(Frame) ([]Detection, Timing, error) {
			return []Detection{thing("a", 0.9, 100, 100), thing("b", 0.9, 300, 300), thing("c", 0.9, 300, 100)}, Timing{}, nil
		}}
		s := serve(t, Options{
			Models: model(two), Sink: slow, EventBuffer: 1,
			Cameras: []CameraOptions{{ID: "a", Model: "m", Lossless: true, Judge: JudgeOptions{Policy: PolicyTrack}, NewSource: img.every(time.Millisecond)}},
		})
		time.Sleep(10 * time.Second)
		got.mu.Lock()
		if got := tell(got.events); got != "start a#1, start b#2, start c#3" {
			t.Error(got)
		}
		got.mu.Unlock()
		if c := s.camera("a"); c.EventsDropped != 0 || c.Events != 3 {
			t.Errorf("%+v", c)
		}
		s.stop()
		time.Sleep(10 * time.Second) // Sink may still have one
	})
}

// TestAStartWaitsForRoom: what was not told to have begun is not told to end.
func TestAStartWaitsForRoom(t *testing.T) {
	c := newCourt(t, JudgeOptions{Policy: PolicyTrack})
	seen := thing("a", 0.9, 100, 100)
	c.full = true
	c.see(seen)
	c.see(seen)
	if n := len(c.open()); n != 0 {
		t.Errorf("%d tracks are told to have begun, and there was no room to tell it", n)
	}
	c.full = false
	if got := c.see(seen); got != "start a#1" {
		t.Errorf("told %q", got)
	}
	c.full = true
	other := thing("b", 0.9, 500, 500)
	c.see(seen, other)
	c.see(seen, other)
	c.full = false
	var told []string
	for range 15 {
		if got := c.see(seen); got != "" {
			told = append(told, got)
		}
	}
	if told != nil {
		t.Errorf("told %q of a track that was not told to have begun", told)
	}
}

// TestARareLookKeepsItsTracks: between two frames of a slow camera its tracks
// have not been lost sight of.
func TestARareLookKeepsItsTracks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var img images
		var got collector
		s := serve(t, Options{Models: model(person(0)), Sink: got.sink, Cameras: []CameraOptions{{
			ID: "a", Model: "m", FPS: 0.05, Judge: JudgeOptions{Policy: PolicyTrack}, NewSource: img.every(time.Second),
		}}})
		time.Sleep(2 * time.Minute)
		got.mu.Lock()
		if told := tell(got.events); told != "start person#1" {
			t.Errorf("told %q", told)
		}
		got.mu.Unlock()
		s.stop()
	})
}

// TestACameraKeepsToTheModelThatServes: a model that returns more than counts
// says from where on it does, also the one that takes over.
func TestACameraKeepsToTheModelThatServes(t *testing.T) {
	weak, strong := thing("a", 0.35, 100, 100), thing("a", 0.65, 100, 100)
	person := thing("person", 0.35, 500, 500)
	c := newCourt(t, JudgeOptions{Classes: map[string]Limits{"special": {Confidence: 0.2}, "large": {MinArea: 0.1}}})
	judged(t, func() {
		c.expect("a", weak)
		c.follow(DetectorInfo{Confidence: 0.3, ClassConfidence: map[string]float64{"person": 0.4}})
		c.expect("a", weak, person)
		c.expect("special", thing("special", 0.25, 100, 100))
		c.follow(DetectorInfo{Confidence: 0.6, ClassConfidence: map[string]float64{"person": 0.3}})
		c.expect("a person", weak, strong, person)
	})
}

// saying is a detector that says from where on its detections count.
type saying struct {
	*fakeDetector
	confidence float64
}

func (s saying) Info() DetectorInfo {
	return DetectorInfo{Confidence: s.confidence, ModelSHA256: fmt.Sprint(s.confidence)}
}

// TestWhatCountsChangesWithTheModel, through the pipeline: person finds boxes
// of 0.9.
func TestWhatCountsChangesWithTheModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var img images
		var got collector
		s := serve(t, Options{Models: model(saying{person(0), 0.5}), Sink: got.sink,
			Cameras: []CameraOptions{{ID: "a", Model: "m", NewSource: img.every(100 * time.Millisecond)}}})
		time.Sleep(time.Second)
		if err := s.Swap(t.Context(), "m", func(context.Context) (Detector, error) { return saying{person(0), 0.95}, nil }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		s.stop()
		for _, e := range got.events {
			if e.ModelSHA256 != "0.5" {
				t.Errorf("an event of a model to which 0.9 does not count: %+v", e)
			}
		}
		if c := s.camera("a"); len(got.events) < 8 || c.Filtered.Confidence < 8 {
			t.Errorf("%d events, %+v", len(got.events), c.Filtered)
		}
	})
}
