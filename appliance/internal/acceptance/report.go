package acceptance

import (
	"time"

	"outstation/web"
)

// Verdicts of a run.
const (
	Passed      = "passed"
	Failed      = "failed"
	Interrupted = "interrupted"
)

// Report is the outcome of a run. Counts are over all cameras.
type Report struct {
	Verdict string   `json:"verdict"`
	Reasons []string `json:"reasons"` // why it is not Passed
	Notes   []string `json:"notes"`   // what a reader should know besides

	Lost       int64 `json:"lost"`       // accepted, and not at the centre
	Duplicates int   `json:"duplicates"` // arrivals at the centre after the first; its readers drop them by event_id
	SeqGaps    int   `json:"seq_gaps"`   // numbers missing at the centre

	PartsShown     int `json:"parts_shown"`    // wholly in view in at least one frame
	PartsUnseen    int `json:"parts_unseen"`   // of those, only while the process was dead
	PartsDetected  int `json:"parts_detected"` // of those shown, found by at least one event at the centre
	PartsMissed    int `json:"parts_missed"`   // shown to a living process, and not found
	DefectsShown   int `json:"defects_shown"`
	DefectsUnseen  int `json:"defects_unseen"`
	DefectsFound   int `json:"defects_found"`
	Detections     int `json:"detections"`      // boxes in all events
	DetectionsVain int `json:"detections_vain"` // of those, with nothing behind them

	EventsMade     int64 `json:"events_made"` // as the appliance was last heard in each life
	EventsAccepted int64 `json:"events_accepted"`
	EventsAtCentre int64 `json:"events_at_centre"`
	EventsLeft     int64 `json:"events_left"` // accepted, and still in the queue

	Latency       []Latency        `json:"latency"`
	Frames        Frames           `json:"frames"`
	FramesDropped map[string]int64 `json:"frames_dropped"`
	Temperature   []Temperature    `json:"temperature"`
	Ledger        web.RouteLedger  `json:"ledger"`

	Start  time.Time `json:"start"`
	End    time.Time `json:"end"`
	DrainS float64   `json:"drain_s"` // from the stop of the cameras until everything was at the centre
	Seed   uint64    `json:"seed"`
	Faults []Fault   `json:"faults"` // as they were carried out

	Device  string   `json:"device_id"`
	Region  string   `json:"region"`
	Site    string   `json:"site"`
	Centre  string   `json:"centre"`
	StandIn bool     `json:"centre_stand_in"` // it was none
	Cameras []Camera `json:"cameras"`
	Model   string   `json:"model"`
	SHA256  string   `json:"model_sha256"`
	Version string   `json:"version"`
	Go      string   `json:"go"`
	Machine Machine  `json:"machine"`

	// Samples and Flow are what the plots show.
	Samples []Sample `json:"samples"`
	Flow    Flow     `json:"flow"`

	arrivals []arrival
}

// Fault is what was done to the appliance, in seconds since the start.
type Fault struct {
	Kind       string  `json:"kind"`
	FromS      float64 `json:"from_s"`
	ToS        float64 `json:"to_s"`        // the line was mended, or the process started again
	RecoveredS float64 `json:"recovered_s"` // the link stood again, or all cameras showed frames; 0: it was not seen
}

// Sample is one look at the appliance.
type Sample struct {
	AtS       float64 `json:"at_s"`
	Alive     bool    `json:"alive"`     // the page answered
	Queued    uint64  `json:"queued"`    // records; 0 where it did not
	Connected bool    `json:"connected"` // to the centre
}

// Flow counts events by time.
type Flow struct {
	WidthS   float64 `json:"width_s"` // of one bin; the first begins at the start
	Captured []int   `json:"captured"`
	Arrived  []int   `json:"arrived"`
}

// maxBins bounds a plot.
const maxBins = 300

// flow sorts arrivals into bins.
func flow(arrivals []arrival, start, end time.Time) Flow {
	f := Flow{WidthS: 1}
	length := end.Sub(start).Seconds()
	for length/f.WidthS > maxBins {
		f.WidthS *= 2
	}
	n := max(int(length/f.WidthS)+1, 1)
	f.Captured, f.Arrived = make([]int, n), make([]int, n)
	count := func(bins []int, at time.Time) {
		if i := int(at.Sub(start).Seconds() / f.WidthS); at.After(start) && i < n {
			bins[i]++
		}
	}
	for _, a := range arrivals {
		count(f.Captured, a.captured)
		count(f.Arrived, a.captured.Add(a.arrived))
	}
	return f
}
