package vision

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Defaults and bounds of TrackOptions.
const (
	DefaultTrackLow     = 0.1
	DefaultTrackLost    = time.Second
	DefaultTrackConfirm = 2

	// maxTracks and maxTracked bound a camera's tracks and the boxes of a frame
	// that are offered to them, so that the assignment, which is cubic, stays
	// within milliseconds.
	maxTracks  = 128
	maxTracked = 128
)

// The largest costs of a pair, 1 minus the intersection over union of a box
// and of where its track should be, and the overlap of two tracks from which
// they are one. ByteTrack has 0.8 for all strong boxes (section 4.1). Here that
// is kept for what was seen once, whose velocity is not known yet; with 0.7 for
// the others fewer neighbours on the simulated line take each other's track.
// The second is that of ByteTrack's published program.
const (
	firstLimit  = 0.7
	secondLimit = 0.5
	newLimit    = 0.8
	sameTrack   = 0.85
)

// TrackOptions configures the tracking of one camera.
type TrackOptions struct {
	On bool

	// Low is the least confidence of a box that continues a track, in (0, 1),
	// below the least confidence of an event; 0 means DefaultTrackLow. The model
	// has to return boxes as weak as this, and to say what counts; see DetectorInfo.
	Low float64

	// Lost is how long a track is remembered after it was last seen, and at
	// least for two inspected frames; 0 means DefaultTrackLost.
	Lost time.Duration

	// Confirm is in how many frames in a row something has to be seen to be a
	// track, 1 to 100; 0 means DefaultTrackConfirm.
	Confirm int
}

func (o TrackOptions) withDefaults() TrackOptions {
	if o.Low == 0 {
		o.Low = DefaultTrackLow
	}
	if o.Lost == 0 {
		o.Lost = DefaultTrackLost
	}
	if o.Confirm == 0 {
		o.Confirm = DefaultTrackConfirm
	}
	return o
}

func (o TrackOptions) validate() error {
	var errs []error
	if !(o.Low >= 0 && o.Low < 1) {
		errs = append(errs, fmt.Errorf("tracking: low %v: want 0 (the default) or a confidence below 1", o.Low))
	}
	if o.Lost < 0 || o.Confirm < 0 || o.Confirm > 100 {
		errs = append(errs, fmt.Errorf("tracking: lost %v and confirm %d: want 0 or more, and at most 100 frames", o.Lost, o.Confirm))
	}
	return errors.Join(errs...)
}

// track is one object that is followed.
type track struct {
	id     uint64 // 0 until it is confirmed
	class  string
	motion motion
	at     Box       // where it should be in the present frame
	hits   int       // frames in which it was seen
	missed int       // frames since
	seen   time.Time // arrival of the last of them
	box    int       // index of its box in that frame

	story story // what was told of it; see policy.go
}

// tracker follows the objects of one camera as ByteTrack does (Zhang et al.
// 2022, arXiv:2110.06864, algorithm 1): boxes of high confidence are matched
// first, then those of low confidence with the tracks that are left. Steps and
// the memory of lost tracks are measured by the frames' arrival, since cameras'
// rates vary. Only boxes of one class make a track. A camera that itself moves,
// or that is inspected so rarely that an object does not overlap its last
// place, loses tracks.
//
// It keeps its memory; one goroutine uses it at a time.
type tracker struct {
	opts   TrackOptions
	number func() uint64 // the next track's id
	last   time.Time     // arrival of the last frame
	tracks []track
	ended  []track // by the last update

	assigner  assigner
	cost      []float64
	rows      []int // indices into tracks
	strong    []int // indices into the boxes
	weak      []int
	unmatched []int // of strong, after a stage
	refused   uint64
}

func newTracker(o TrackOptions, number func() uint64) *tracker {
	return &tracker{opts: o.withDefaults(), number: number}
}

// update takes in what one frame shows and sets the Track of each box that
// belongs to a confirmed track. strong tells which boxes may begin one.
// t.ended are the confirmed tracks that this frame ended.
func (t *tracker) update(at time.Time, found []Detection, strong []bool) {
	t.ended = t.ended[:0]
	t.predict(at.Sub(t.last))
	t.last = at
	t.split(found, strong)

	t.rows = t.choose(func(k *track) bool { return k.id != 0 })
	t.match(at, found, t.strong, firstLimit)
	t.strong = append(t.strong[:0], t.unmatched...)
	t.rows = t.choose(func(k *track) bool { return k.id != 0 && k.missed == 1 })
	t.match(at, found, t.weak, secondLimit)
	t.rows = t.choose(func(k *track) bool { return k.id == 0 })
	t.match(at, found, t.strong, newLimit)
	t.forget(at)
	t.begin(at, found, t.unmatched)
}

// predict moves every track on. missed counts this frame until a box is found.
func (t *tracker) predict(dt time.Duration) {
	for i := range t.tracks {
		k := &t.tracks[i]
		if k.missed > 0 {
			k.motion.w.v, k.motion.h.v = 0, 0 // a lost object keeps its size
		}
		k.motion.predict(dt)
		k.at = k.motion.box()
		k.missed++
	}
}

// split sorts the boxes into strong and weak ones, the first maxTracked of all.
func (t *tracker) split(found []Detection, strong []bool) {
	t.strong, t.weak = t.strong[:0], t.weak[:0]
	for i := range found {
		found[i].Track = 0
		switch {
		case i >= maxTracked:
		case strong[i]:
			t.strong = append(t.strong, i)
		default:
			t.weak = append(t.weak, i)
		}
	}
}

// choose lists the tracks that no box was found for yet and that want allows.
func (t *tracker) choose(want func(*track) bool) []int {
	rows := t.rows[:0]
	for i := range t.tracks {
		if k := &t.tracks[i]; k.missed > 0 && want(k) {
			rows = append(rows, i)
		}
	}
	return rows
}

// match pairs the chosen tracks with boxes, and leaves the other boxes in
// t.unmatched.
func (t *tracker) match(at time.Time, found []Detection, boxes []int, limit float64) {
	t.cost = resize(t.cost, len(t.rows)*len(boxes))
	for r, i := range t.rows {
		for c, j := range boxes {
			cost := 1.0
			if d := &found[j]; d.Class == t.tracks[i].class {
				cost -= overlap(t.tracks[i].at, d.Box)
			}
			t.cost[r*len(boxes)+c] = cost
		}
	}
	pairs := t.assigner.assign(t.cost, len(t.rows), len(boxes), limit)
	for r, c := range pairs {
		if c >= 0 {
			k := &t.tracks[t.rows[r]]
			k.box = boxes[c]
			t.observe(k, at, &found[boxes[c]])
		}
	}
	t.unmatched = t.unmatched[:0]
	for c, j := range boxes {
		if !slices.Contains(pairs, c) {
			t.unmatched = append(t.unmatched, j)
		}
	}
}

// observe takes in a box of the track.
func (t *tracker) observe(k *track, at time.Time, d *Detection) {
	k.motion.correct(d.Box)
	k.hits, k.missed, k.seen = k.hits+1, 0, at
	t.confirm(k, d)
}

// confirm gives the track its id once it was seen often enough, and marks the box with it.
func (t *tracker) confirm(k *track, d *Detection) {
	if k.id == 0 && k.hits >= t.opts.Confirm {
		k.id = t.number()
	}
	d.Track = k.id
}

// begin makes a track of each box that belongs to none.
func (t *tracker) begin(at time.Time, found []Detection, boxes []int) {
	for _, j := range boxes {
		if len(t.tracks) == maxTracks {
			t.refused++
			continue
		}
		d := &found[j]
		t.tracks = append(t.tracks, track{class: d.Class, motion: newMotion(d.Box), at: d.Box, hits: 1, seen: at, box: j})
		t.confirm(&t.tracks[len(t.tracks)-1], d)
	}
}

// forget removes tracks that were not seen for too long, those that were never
// confirmed and not seen again, and one of two that are the same.
func (t *tracker) forget(at time.Time) {
	t.tracks = slices.DeleteFunc(t.tracks, func(k track) bool {
		gone := k.missed > 0 && k.id == 0 || k.missed > 1 && at.Sub(k.seen) > t.opts.Lost
		if gone && k.id != 0 {
			t.ended = append(t.ended, k)
		}
		return gone
	})
	for i := 0; i < len(t.tracks); i++ {
		if lost := t.tracks[i]; lost.missed > 0 && t.doubled(i) {
			t.tracks = slices.Delete(t.tracks, i, i+1)
			t.ended = append(t.ended, lost)
			i--
		}
	}
}

// doubled reports whether a lost track is where one that is seen is.
func (t *tracker) doubled(i int) bool {
	lost := &t.tracks[i]
	return slices.ContainsFunc(t.tracks, func(k track) bool {
		return k.missed == 0 && k.id != 0 && k.class == lost.class && overlap(k.motion.box(), lost.at) > sameTrack
	})
}

// endAll ends every confirmed track and forgets the others.
func (t *tracker) endAll() {
	t.ended = t.ended[:0]
	for _, k := range t.tracks {
		if k.id != 0 {
			t.ended = append(t.ended, k)
		}
	}
	t.tracks = t.tracks[:0]
}
