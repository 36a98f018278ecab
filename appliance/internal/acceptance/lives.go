package acceptance

import (
	"maps"
	"time"

	"outstation/web"
)

// life is one process of the appliance, from its start to its end, as its
// page told it.
type life struct {
	first map[string]int64 // index of the first frame of each camera, once it is known
	last  web.Snapshot     // the newest
	seen  bool             // whether there is one
	ended time.Time        // when it was told to end
}

// look takes what the page says.
func (l *life) look(s web.Snapshot, cameras map[string]*cameraAccount) {
	l.last, l.seen = s, true
	for _, c := range s.Cameras {
		scene := cameras[c.ID]
		if _, known := l.first[c.ID]; known || scene == nil || c.Frames == 0 || c.Reconnects > 0 {
			continue
		}
		// A source reads every frame, so the first follows from the last.
		l.first[c.ID] = scene.scene.index(c.LastFrameAt) - int64(c.Frames) + 1
	}
}

// sees reports whether all cameras have shown a frame.
func (l *life) sees(cameras map[string]*cameraAccount) bool { return len(l.first) == len(cameras) }

// Frames is what became of the frames of all cameras, over all lives.
type Frames struct {
	Due       int64 `json:"due"`       // from the first that was read to the end of the run
	Read      int64 `json:"read"`      // by the appliance, as it was last heard in each life
	Inspected int64 `json:"inspected"` // of those
}

// Reasons for which a frame is not inspected, or its event not made.
const (
	whyBusy      = "detector_busy"   // a newer one came before the detector was free
	whyThrottled = "throttled"       // above the camera's fps
	whyError     = "detector_error"  // the detector failed
	whyDead      = "process_dead"    // nobody was there to read it, or it was starting
	whyFull      = "event_not_taken" // inspected, but the buffer of events was full
)

// spent adds up all lives.
func spent(lives []*life) (f Frames, made int64, dropped map[string]int64) {
	dropped = map[string]int64{whyBusy: 0, whyThrottled: 0, whyError: 0, whyFull: 0, whyDead: 0}
	for _, l := range lives {
		for _, c := range l.last.Cameras {
			f.Read += int64(c.Frames)
			f.Inspected += int64(c.Inspected)
			made += int64(c.Events)
			dropped[whyBusy] += int64(c.Dropped)
			dropped[whyThrottled] += int64(c.Throttled)
			dropped[whyError] += int64(c.DetectorErrors)
			dropped[whyFull] += int64(c.EventsDropped)
		}
	}
	return f, made, dropped
}

// span is a range of frames, from and to included.
type span struct{ from, to int64 }

// spans are what a camera was shown while the appliance lived and while it did
// not, up to the end of its last life.
func spans(lives []*life, camera string, s *scene) (alive, dead []span) {
	next := int64(-1) // the first frame that nobody has read
	for _, l := range lives {
		first, known := l.first[camera]
		if !known {
			continue // it saw nothing
		}
		if next >= 0 && first > next {
			dead = append(dead, span{next, first - 1})
		}
		next = s.next(l.ended)
		alive = append(alive, span{first, next - 1})
	}
	return alive, dead
}

// shown is what a camera was shown.
type shown struct {
	all    seen
	unseen seen  // of those, what only fell into the time when nobody was there to see it
	due    int64 // frames
	dead   int64 // frames that fell into that time
}

func (c *cameraAccount) shown(lives []*life, camera string) shown {
	alive, dead := spans(lives, camera, c.scene)
	out := shown{all: newSeen()}
	out.due += c.scene.showAll(alive, out.all)
	could := seen{maps.Clone(out.all.parts), maps.Clone(out.all.flaws)}
	out.dead = c.scene.showAll(dead, out.all)
	out.due += out.dead
	out.unseen = seen{without(out.all.parts, could.parts), without(out.all.flaws, could.flaws)}
	return out
}

func (s *scene) showAll(list []span, to seen) (frames int64) {
	for _, sp := range list {
		for i := sp.from; i <= sp.to; i++ {
			s.show(i, to)
			frames++
		}
	}
	return frames
}

// without is a without b.
func without[K comparable](a, b map[K]bool) map[K]bool {
	out := map[K]bool{}
	for k := range a {
		if !b[k] {
			out[k] = true
		}
	}
	return out
}
