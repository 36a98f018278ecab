package vision

import (
	"strconv"
	"time"
)

// Event is what a camera's policy tells of one inspected frame. It owns its
// Detections.
type Event struct {
	Camera      string
	CapturedAt  time.Time // the frame's arrival
	Clock       string    // the frame's
	InferredAt  time.Time // the end of the model's run
	Model       string
	ModelSHA256 string      // of the file of the model that inspected this frame; "" where it is not known
	Detections  []Detection // may be empty with PolicyEveryFrame and PolicyOnChange
	FrameWidth  int         // pixels
	FrameHeight int         // pixels
	Snapshot    *Snapshot   // nil without a picture

	// Run begins the ids of tracks, so that those of two processes differ.
	Run string

	// TrackEvent is set with PolicyTrack, whose events have one detection.
	TrackEvent TrackEvent

	// Zones are the names of the camera's zones, which its detections refer to.
	// The events of a camera share them.
	Zones []string

	// Picture says that the event is about the frame that was just inspected,
	// and that a picture of it would be of use. Of the events of PolicyTrack
	// that is the start: best and end are told when their frames are gone.
	Picture bool

	// What a Sink may hand to the next; the Pipeline leaves it zero. ID is the
	// event's, "" for a new one. Before is called, from any goroutine, before
	// the event becomes durable, and waits for the disk. Stored is called, from
	// any goroutine, once it is known whether the event is durable. Recovered
	// says that it tells of an earlier run of the process.
	ID        string
	Before    func()
	Stored    func(error)
	Recovered bool
}

// ZoneNames are the names of the zones that a detection is in, nil for none.
func (e Event) ZoneNames(d Detection) []string {
	var names []string
	for i, name := range e.Zones {
		if d.Zones&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// TrackID is the id of a detection's track, unique over restarts, or "".
func (e Event) TrackID(d Detection) string {
	if d.Track == 0 {
		return ""
	}
	return e.Run + "-" + strconv.FormatUint(d.Track, 10)
}

// Sink consumes events. It is called by one goroutine, in the order in which
// the frames of a camera were inspected, and may block: only that goroutine
// waits for it.
type Sink func(Event)
