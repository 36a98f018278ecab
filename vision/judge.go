package vision

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// JudgeOptions says which of a camera's detections count, and what of them
// becomes an event. The zero value makes an event of every inspected frame in
// which the model found something.
type JudgeOptions struct {
	Limits  Limits            // of every class
	Classes map[string]Limits // of single ones; what is 0 there is as above
	Only    []string          // the classes that count; empty: all

	Zones    []Zone
	Required []string  // zones, in one of which a detection has to be; empty: anywhere
	Masks    []Polygon // in which nothing counts
	Anchor   Anchor    // "" means AnchorBottom

	Tracking TrackOptions
	Policy   Policy // "" means PolicyDetections; PolicyTrack turns tracking on
	Debounce int    // frames in a row that show a change before PolicyOnChange tells it, 1 to 1000; 0 means DefaultDebounce
}

// Limits are what a detection has to meet. Areas are parts of the frame's
// area, in [0, 1], so that they hold for any resolution.
type Limits struct {
	Confidence float64 // least, in [0, 1); 0 leaves it to the model, see DetectorInfo
	MinArea    float64
	MaxArea    float64 // 0 means 1
}

// over returns l with what it leaves open taken from the general limits.
func (l Limits) over(general Limits) Limits {
	if l.Confidence == 0 {
		l.Confidence = general.Confidence
	}
	if l.MinArea == 0 {
		l.MinArea = general.MinArea
	}
	if l.MaxArea == 0 {
		l.MaxArea = general.MaxArea
	}
	return l
}

func (l Limits) validate() error {
	var errs []error
	if !(l.Confidence >= 0 && l.Confidence < 1) {
		errs = append(errs, fmt.Errorf("confidence %v: want 0 (the model's) or a number below 1", l.Confidence))
	}
	if !(l.MinArea >= 0 && l.MinArea <= 1 && l.MaxArea >= 0 && l.MaxArea <= 1) || (l.MaxArea > 0 && l.MaxArea < l.MinArea) {
		errs = append(errs, fmt.Errorf("areas of %v to %v: want parts of the frame, 0 to 1, the largest not below the smallest", l.MinArea, l.MaxArea))
	}
	return errors.Join(errs...)
}

// Check reports every impossible option at once.
func (o JudgeOptions) Check() error {
	errs := []error{o.Limits.validate(), checkZones(o.Zones, o.Masks, o.Required), o.Tracking.validate(), o.Policy.validate()}
	for class, l := range o.Classes {
		if err := l.over(o.Limits).validate(); err != nil {
			errs = append(errs, fmt.Errorf("class %q: %w", class, err))
		}
	}
	if o.Anchor != "" && o.Anchor != AnchorBottom && o.Anchor != AnchorCentre {
		errs = append(errs, fmt.Errorf("anchor %q: want bottom or centre", o.Anchor))
	}
	if o.Debounce < 0 || o.Debounce > 1000 {
		errs = append(errs, fmt.Errorf("debounce %d: want 0 (the default) to 1000 frames", o.Debounce))
	}
	return errors.Join(errs...)
}

// Filtered counts boxes that a model found and that count for nothing, each
// under the first reason.
type Filtered struct {
	Class      uint64 // not one of Only
	Confidence uint64 // too little, and of no track or not asked for by the policy
	Area       uint64 // too small or too large
	Mask       uint64 // in a mask
	Zone       uint64 // in none of the required zones
}

// judge stands between a camera's detector and its events: it filters what
// was found, places it in zones, follows it, and decides what is an event.
//
// Its lock is held for microseconds and over no I/O: by the detector twice for
// each frame, and once a second by the watchdog, which ends the tracks of a
// camera that is not inspected any more.
type judge struct {
	opts     JudgeOptions
	limits   map[string]Limits
	names    []string // of the zones
	required ZoneSet
	run      string        // of the process, for ids
	silence  time.Duration // without inspection, after which every track has ended

	// Of the frame that is looked at; only the detector's goroutine uses these.
	stage  stage
	found  []Detection
	strong []bool
	toName []int // places in found of what will be in an event
	due    bool  // with another policy than PolicyTrack: the frame is an event

	mu       sync.Mutex
	closed   bool
	model    DetectorInfo // of the detector whose frames are looked at
	last     time.Time    // end of the last inspection
	tracker  *tracker     // nil without tracking
	change   change
	about    Event   // the camera and model of the last frame
	owed     []Event // bests and ends that found no place in the buffer
	filtered Filtered
	lost     uint64 // of those, what was owed for too long
}

// maxOwed bounds the bests and ends that wait for a place in the buffer.
const maxOwed = 4 * maxTracks

// newJudge expects options that were checked. run and what number makes are
// the ids of tracks.
func newJudge(o JudgeOptions, silence time.Duration, run string, number func() uint64) *judge {
	if o.Limits.MaxArea == 0 {
		o.Limits.MaxArea = 1
	}
	if o.Policy == "" {
		o.Policy = PolicyDetections
	}
	if o.Debounce == 0 {
		o.Debounce = DefaultDebounce
	}
	j := &judge{opts: o, limits: map[string]Limits{}, silence: silence, run: run}
	for class, l := range o.Classes {
		j.limits[class] = l.over(o.Limits)
	}
	for i, z := range o.Zones {
		j.names = append(j.names, z.Name)
		if slices.Contains(o.Required, z.Name) {
			j.required |= 1 << i
		}
	}
	if o.Tracking.On || o.Policy == PolicyTrack {
		j.tracker = newTracker(o.Tracking, number)
	}
	return j
}

// look judges one inspected frame and hands its events to emit, which must
// not block and returns false for one that it could not take. What e, its
// detections and the image point to is not kept. The second stage names what
// will be in an event, and nothing else; it takes its time without the lock.
// Only the detector's goroutine may call it.
func (j *judge) look(e Event, img Image, emit func(Event) bool) {
	if !j.sift(&e, emit) {
		return
	}
	j.stage.classify(Frame{Image: img, Width: e.FrameWidth, Height: e.FrameHeight}, j.found, j.toName)
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return
	}
	if j.opts.Policy == PolicyTrack {
		j.tellStarts(e, emit)
		j.report()
		return
	}
	e.Detections = j.found
	j.tell(e, emit)
}

// sift finds out what an inspected frame has to tell, and tells which tracks
// have ended. It returns false where nothing is told any more.
func (j *judge) sift(e *Event, emit func(Event) bool) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return false
	}
	j.repay(emit)
	j.last = time.Now()
	e.Zones, e.Run = j.names, j.run
	j.filter(e)
	e.Detections = nil
	j.about = *e
	if j.tracker != nil {
		if e.CapturedAt.Sub(j.tracker.last) > j.silence {
			j.endAll(emit)
		}
		j.tracker.update(e.CapturedAt, j.found, j.strong)
	}
	j.toName = j.toName[:0]
	if j.opts.Policy == PolicyTrack {
		j.tellEnds(*e, emit)
		j.inSight()
		return true
	}
	j.report()
	if j.due = j.tells(); j.due {
		for i := range j.found {
			j.toName = append(j.toName, i)
		}
	}
	return true
}

// filter copies into j.found what meets the limits, or could continue a track.
func (j *judge) filter(e *Event) {
	j.found, j.strong = j.found[:0], j.strong[:0]
	area := float64(e.FrameWidth) * float64(e.FrameHeight)
	for _, d := range e.Detections {
		l := j.limitsOf(d.Class)
		least := l.Confidence
		if j.tracker != nil {
			least = min(least, j.tracker.opts.Low)
		}
		at := j.opts.Anchor.of(d.Box, e.FrameWidth, e.FrameHeight)
		share := d.Box.W * d.Box.H / area
		switch {
		case len(j.opts.Only) > 0 && !slices.Contains(j.opts.Only, d.Class):
			j.filtered.Class++
		case d.Confidence < least:
			j.filtered.Confidence++
		case share < l.MinArea || share > l.MaxArea:
			j.filtered.Area++
		case masked(j.opts.Masks, at):
			j.filtered.Mask++
		default:
			d.Zones, d.Track = zonesOf(j.opts.Zones, d.Class, at), 0
			j.found = append(j.found, d)
			j.strong = append(j.strong, d.Confidence >= l.Confidence)
		}
	}
}

// limitsOf are those of a class, where the camera does not say it with the
// confidence of the model that serves. The caller holds j.mu.
func (j *judge) limitsOf(class string) Limits {
	l, special := j.limits[class]
	if !special {
		l = j.opts.Limits
	}
	if l.Confidence == 0 {
		own, differs := j.model.ClassConfidence[class]
		if !differs {
			own = j.model.Confidence
		}
		l.Confidence = own
	}
	return l
}

// follow takes over what the detector of the next frames says of itself.
func (j *judge) follow(model DetectorInfo) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.model = model
}

// within reports whether a detection is where it has to be.
func (j *judge) within(d *Detection) bool { return j.required == 0 || d.Zones&j.required != 0 }

// report leaves in j.found what the policy may tell: what is confident enough
// and, where tracks are told rather than boxes, all that continues a track.
func (j *judge) report() {
	weak := j.opts.Policy == PolicyOnChange || j.opts.Policy == PolicyTrack
	kept := j.found[:0]
	for i, d := range j.found {
		switch {
		case !j.strong[i] && (!weak || d.Track == 0):
			j.filtered.Confidence++
		case !j.within(&d):
			j.filtered.Zone++
		default:
			kept = append(kept, d)
		}
	}
	j.found = kept
}

// expire ends every track of a camera that was not inspected for long. It may
// be called from any goroutine.
func (j *judge) expire(now time.Time, emit func(Event) bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.repay(emit)
	if j.tracker != nil && len(j.tracker.tracks) > 0 && now.Sub(j.last) > j.silence {
		j.endAll(emit)
	}
}

// close ends every track; what is looked at later is ignored.
func (j *judge) close(emit func(Event) bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.repay(emit)
	if j.tracker != nil {
		j.endAll(emit)
	}
	j.closed = true
}

// open returns the ends of the tracks that are open, as they would be if these
// ended now, as far as they were told to have begun.
func (j *judge) open() []Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.tracker == nil {
		return nil
	}
	var ends []Event
	for i := range j.tracker.tracks {
		if s := &j.tracker.tracks[i].story; s.begun {
			ends = append(ends, j.about.of(&s.last, TrackEnd))
		}
	}
	return ends
}

// stats returns what was filtered, the tracks that are open, those that there
// was no place for, and the bests and ends that were lost.
func (j *judge) stats() (f Filtered, open int, refused, lost uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.tracker == nil {
		return j.filtered, 0, 0, 0
	}
	for i := range j.tracker.tracks {
		if j.tracker.tracks[i].id != 0 {
			open++
		}
	}
	return j.filtered, open, j.tracker.refused, j.lost
}
