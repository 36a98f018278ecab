package vision

import (
	"fmt"
	"slices"
	"time"
)

// Stats is a snapshot of a Pipeline, cameras and models in configured order.
type Stats struct {
	Cameras            []CameraStats
	Models             []ModelStats
	Classifiers        []ClassifierStats
	EventsWaiting      int // for Sink, in the buffer or behind a picture that is being encoded
	EventBuffer        int // its capacity; as many again may wait for pictures
	AbandonedReaders   int // still blocked in a source when shutdown ended
	AbandonedDetectors int // still blocked in a model when shutdown ended
	Heat               Heat

	StuckReaders int // calls into sources that are silent beyond StallAfter now
	MaxStuck     int // of them; see Options.MaxStuck
}

// Stuck returns an error that wraps ErrStuck when so many calls never returned
// that no connection is replaced any more: only a new process helps.
func (s Stats) Stuck() error {
	if s.MaxStuck == 0 || s.StuckReaders < s.MaxStuck {
		return nil
	}
	return fmt.Errorf("%w: %d of at most %d", ErrStuck, s.StuckReaders, s.MaxStuck)
}

// Heat is what ShedOptions.Temperature said last.
type Heat struct {
	Known   bool
	Celsius float64
	Sensor  string
	Hot     bool // cameras are reduced until it has cooled down
}

// CameraStats is one camera. Counters start with the process. Once nothing is
// in flight, for a camera with a model,
// Frames = Inspected + Dropped + Throttled + Masked + DetectorErrors. Frames that
// never came are no frames: Stalled counts their time.
type CameraStats struct {
	ID, Kind, Model string
	State           State
	Reason, Detail  string
	Since           time.Time

	Width, Height int     // pixels of the last frame; 0 before the first
	FPS           float64 // frames a second that arrive, over the last 32
	InspectedFPS  float64 // frames a second that the model has finished, over the last 32

	Frames         uint64 // that arrived
	Inspected      uint64 // that the model has finished
	Dropped        uint64 // that a newer one replaced, or that shutdown overtook
	Throttled      uint64 // that arrived sooner than FPS, or ReducedTo, allows
	Masked         uint64 // in which nothing moved, for a camera with Motion
	Events         uint64 // handed to the buffer before Sink
	EventsDropped  uint64 // that found that buffer full, or were in it when shutdown ended; of a lossless camera only the latter
	DetectorErrors uint64
	Reconnects     uint64 // connections tried after the first
	Abandoned      uint64 // connections that were given up for their silence
	StuckReaders   int    // calls into its sources that have not returned now
	LastFrame      time.Time

	// Stalled is the time in which frames were expected and none came for
	// StallAfter or longer, whole silences, the present one included.
	Stalled time.Duration

	// The account of inspection. Without a model there is none.
	Watched                 bool
	BlindAfter              time.Duration
	BlindSince              time.Time // of the open interval; zero when there is none
	BlindReason             BlindReason
	BlindFor                map[BlindReason]time.Duration // in intervals since the start, the open one included
	CoveredHour, CoveredDay float64                       // see Coverage.Shares
	WatchedSince            time.Time                     // the earliest time that Covered… tell of
	Filtered                Filtered                      // boxes that the camera's rules left out
	Tracks                  int                           // that are open
	TracksRefused           uint64                        // times that a box found no place among a camera's tracks
	UnknownClasses          []string                      // that the camera's rules name and its model does not have: they never match
	EndsLost                uint64                        // bests and ends of tracks that waited too long for a place in the buffer

	Priority   int     // 0 without a model: there is nothing to reduce
	ReducedTo  float64 // frames a second to which inspection is reduced; 0: it is not
	ReducedFor string  // ReducedByHeat, ReducedByLoad or ""

	Snapshots        uint64 // pictures made
	SnapshotsSkipped uint64 // events without one, as the last was not encoded yet
	SnapshotsFailed  uint64 // events without one, as it could not be encoded, or not small enough
}

// ModelStats is one model.
type ModelStats struct {
	Name         string
	Ready        bool      // loaded
	Error        string    // of the last attempt to load it
	NoProvider   bool      // that error is an ErrNoProvider
	LoadingSince time.Time // of the attempt that is under way; zero when none is
	Provider     string
	Refused      []Refusal
	Nodes        []NodeCount // see DetectorInfo
	Unproven     string      // see DetectorInfo
	InputWidth   int
	InputHeight  int
	ModelSHA256  string    // of the model's file, "" where its detector does not say
	Runtime      string    // the library that runs it and its version, such as "onnxruntime 1.26.0"
	Inferences   uint64    // frames that were inspected
	Errors       uint64    // frames that the detector failed on
	Failing      uint64    // of them in a row, up to now; 0 once one succeeded
	Failure      string    // why the last inspection failed; "" once one succeeded
	Reopened     uint64    // times that a detector that only failed was closed, to be opened anew
	Swaps        uint64    // detectors that Swap put into the place of another
	Preprocess   Quantiles // of a run, whatever the size of its batch, as are the next two
	Run          Quantiles
	Postprocess  Quantiles
	Batch        BatchStats
	Upgrade      UpgradeStats

	LastInspected time.Time // end of the last inspection that succeeded; zero before it
	RunningSince  time.Time // of the call into the detector that is under way; zero when none is
	Hung          bool      // that call is longer than Options.HungAfter allows

	// Behind says that cameras are not inspected as often as they are
	// configured to be, or are reduced so that others are.
	Behind bool
}

// Quantiles of the last 512 durations; zero when there are none.
type Quantiles struct{ P50, P99 time.Duration }

// samples is a ring of the latest durations.
type samples struct {
	ring [512]time.Duration
	n    int
}

func (s *samples) add(d time.Duration) {
	s.ring[s.n%len(s.ring)] = d
	s.n++
}

func (s *samples) quantiles() Quantiles {
	n := min(s.n, len(s.ring))
	if n == 0 {
		return Quantiles{}
	}
	sorted := slices.Clone(s.ring[:n])
	slices.Sort(sorted)
	return Quantiles{P50: sorted[(n-1)/2], P99: sorted[(n-1)*99/100]}
}

// rate measures frames a second over its last arrivals.
type rate struct {
	ring [32]time.Time
	n    int
}

func (r *rate) add(t time.Time) {
	r.ring[r.n%len(r.ring)] = t
	r.n++
}

// fps is 0 when there are fewer than two arrivals, or when the silence since
// the last one is longer than all of them took together and than two seconds.
func (r *rate) fps(now time.Time) float64 {
	n := min(r.n, len(r.ring))
	if n < 2 {
		return 0
	}
	newest := r.ring[(r.n-1)%len(r.ring)]
	span := newest.Sub(r.ring[(r.n-n)%len(r.ring)])
	if silence := now.Sub(newest); span <= 0 || silence > max(span, 2*time.Second) {
		return 0
	}
	return float64(n-1) / span.Seconds()
}

// Stats returns a snapshot. It is safe for concurrent use and never waits for
// a source, a model or Sink.
func (p *Pipeline) Stats() Stats {
	now := time.Now()
	s := Stats{
		EventsWaiting:      p.emitter.waiting(),
		EventBuffer:        cap(p.emitter.buffer),
		AbandonedReaders:   int(p.abandonedReaders.Load()),
		AbandonedDetectors: int(p.abandonedDetectors.Load()),
		StuckReaders:       int(p.stuck.Load()),
		MaxStuck:           p.opts.MaxStuck,
	}
	if h := p.hottest.Load(); h != nil {
		s.Heat = *h
	}
	for _, c := range p.cameras {
		s.Cameras = append(s.Cameras, c.snapshot(now))
	}
	for _, w := range p.workers {
		s.Models = append(s.Models, w.snapshot())
	}
	for _, c := range p.seconds {
		s.Classifiers = append(s.Classifiers, c.snapshot())
	}
	return s
}
