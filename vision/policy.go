package vision

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Policy says what of a camera becomes an event.
type Policy string

// The policies.
const (
	PolicyDetections Policy = "detections"  // every inspected frame in which something counts; the default
	PolicyEveryFrame Policy = "every_frame" // every inspected frame
	PolicyOnChange   Policy = "on_change"   // a frame that shows other things, or in other zones, than the last event
	PolicyTrack      Policy = "track"       // three events for each object: start, best and end
)

// Policies lists them.
func Policies() []Policy {
	return []Policy{PolicyDetections, PolicyEveryFrame, PolicyOnChange, PolicyTrack}
}

// DefaultDebounce is how many frames in a row have to show a change.
const DefaultDebounce = 3

func (p Policy) validate() error {
	if p == "" || slices.Contains(Policies(), p) {
		return nil
	}
	return fmt.Errorf("policy %q: want detections, every_frame, on_change or track", string(p))
}

// TrackEvent says what an event tells of its one track.
type TrackEvent string

// The events of a track, in this order. Start is told when the track is
// confirmed. Best and end are told when the track is over: best is the frame
// in which it was seen with the highest confidence, preferably not cut off by
// the frame's edge, and end the last in which it was seen.
const (
	TrackStart TrackEvent = "start"
	TrackBest  TrackEvent = "best"
	TrackEnd   TrackEvent = "end"
)

// tells reports whether a frame becomes an event, with the policies that look
// at one frame.
func (j *judge) tells() bool {
	switch j.opts.Policy {
	case PolicyEveryFrame:
		return true
	case PolicyOnChange:
		return j.change.look(j.found, j.tracker != nil, j.opts.Debounce)
	}
	return len(j.found) > 0
}

// tell makes the event of a frame that is due.
func (j *judge) tell(e Event, emit func(Event) bool) {
	if !j.due {
		return
	}
	e.Picture = len(e.Detections) > 0 || j.opts.Policy == PolicyOnChange
	if emit(e.owned()) && j.opts.Policy == PolicyOnChange {
		j.change.accept()
	}
}

// owned returns the event with detections of its own.
func (e Event) owned() Event {
	if len(e.Detections) == 0 {
		e.Detections = nil
	}
	e.Detections = slices.Clone(e.Detections)
	return e
}

// presence is one thing as PolicyOnChange sees it.
type presence struct {
	class string
	track uint64
	zones ZoneSet
}

// change is the state of PolicyOnChange.
type change struct {
	told   []presence // with the last event
	seen   []presence // in the last frames that differed
	now    []presence
	streak int // how many of them
}

// look takes in a frame and reports whether it is to be told. Where objects
// are tracked, those that are not confirmed yet do not count.
func (c *change) look(found []Detection, tracked bool, debounce int) bool {
	c.now = c.now[:0]
	for _, d := range found {
		if !tracked || d.Track != 0 {
			c.now = append(c.now, presence{d.Class, d.Track, d.Zones})
		}
	}
	slices.SortFunc(c.now, func(a, b presence) int {
		return cmp.Or(strings.Compare(a.class, b.class), cmp.Compare(a.track, b.track), cmp.Compare(a.zones, b.zones))
	})
	switch {
	case slices.Equal(c.now, c.told):
		c.streak = 0
	case c.streak > 0 && slices.Equal(c.now, c.seen):
		c.streak++
	default:
		c.seen = append(c.seen[:0], c.now...)
		c.streak = 1
	}
	return c.streak >= debounce
}

// accept notes that the last frame was told.
func (c *change) accept() {
	c.told = append(c.told[:0], c.now...)
	c.streak = 0
}

// story is what PolicyTrack knows of a track.
type story struct {
	begun      bool
	last, best sight
}

// sight is one frame in which a track was seen.
type sight struct {
	captured, inferred time.Time
	clock, sha256      string
	detection          Detection
	width, height      int // of the frame
}

// whole reports whether the box is not cut off by the edge of the frame.
func (s *sight) whole() bool {
	const edge = 1 // pixels
	b := s.detection.Box
	return b.X > edge && b.Y > edge && b.X+b.W < float64(s.width)-edge && b.Y+b.H < float64(s.height)-edge
}

// better reports whether s shows more than o.
func (s *sight) better(o *sight) bool {
	if a, b := s.whole(), o.whole(); a != b {
		return a
	}
	return s.detection.Confidence > o.detection.Confidence
}

// shown reports whether the frame that is looked at is one of those that a
// track's events tell of.
func (j *judge) shown(k *track) bool {
	return k.id != 0 && k.missed == 0 && j.within(&j.found[k.box])
}

// inSight lists what the tracks' events may tell of a frame: each may be the best
// of its track, or the last.
func (j *judge) inSight() {
	for i := range j.tracker.tracks {
		if k := &j.tracker.tracks[i]; j.shown(k) {
			j.toName = append(j.toName, k.box)
		}
	}
}

// tellStarts takes a frame into the stories of its tracks, and tells those that
// begin. A start that finds no place is told with the next frame that shows the
// track.
func (j *judge) tellStarts(e Event, emit func(Event) bool) {
	for i := range j.tracker.tracks {
		k := &j.tracker.tracks[i]
		if !j.shown(k) {
			continue
		}
		s := sight{e.CapturedAt, e.InferredAt, e.Clock, e.ModelSHA256, j.found[k.box], e.FrameWidth, e.FrameHeight}
		k.story.last = s
		if k.story.best.captured.IsZero() || s.better(&k.story.best) {
			k.story.best = s
		}
		if !k.story.begun {
			start := e.of(&s, TrackStart)
			start.Picture = true
			k.story.begun = emit(start)
		}
	}
}

// tellEnds tells the tracks that have just ended, as far as they were told to
// have begun. What finds no place is owed.
func (j *judge) tellEnds(e Event, emit func(Event) bool) {
	for i := range j.tracker.ended {
		s := &j.tracker.ended[i].story
		if !s.begun {
			continue
		}
		for _, last := range []Event{e.of(&s.best, TrackBest), e.of(&s.last, TrackEnd)} {
			if len(j.owed) > 0 || !emit(last) { // what is owed goes first
				j.owe(last)
			}
		}
	}
}

// of is the event of one track, about the frame in which it was seen.
func (e Event) of(s *sight, what TrackEvent) Event {
	e.CapturedAt, e.InferredAt, e.TrackEvent = s.captured, s.inferred, what
	e.Clock, e.ModelSHA256, e.FrameWidth, e.FrameHeight = s.clock, s.sha256, s.width, s.height
	e.Detections = []Detection{s.detection}
	return e
}

// endAll ends every track.
func (j *judge) endAll(emit func(Event) bool) {
	j.tracker.endAll()
	if j.opts.Policy == PolicyTrack {
		j.tellEnds(j.about, emit)
	}
}

func (j *judge) owe(last Event) {
	if len(j.owed) == maxOwed {
		j.owed = slices.Delete(j.owed, 0, 1)
		j.lost++
	}
	j.owed = append(j.owed, last)
}

// repay tells what is owed, as far as there is room.
func (j *judge) repay(emit func(Event) bool) {
	n := 0
	for n < len(j.owed) && emit(j.owed[n]) {
		n++
	}
	j.owed = slices.Delete(j.owed, 0, n)
}
