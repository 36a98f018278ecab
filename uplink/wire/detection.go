package wire

import (
	"encoding/json"
	"math"

	"github.com/google/uuid"
)

// Clock states of the appliance when it stamped an event.
const (
	ClockSynchronised = "synchronised"
	ClockFreeRunning  = "free-running"
)

// What an event tells of its track. Best tells of the frame that showed it
// best, end of the last; both are sent when the track is over, also after a
// crash. A reader may see an end without its start, if that was lost.
const (
	TrackStart = "start"
	TrackBest  = "best"
	TrackEnd   = "end"
)

// Detection is a detection.v1 event: what one model found in one frame.
type Detection struct {
	SchemaVersion string `json:"schema_version"`
	// EventID is made once, when the event is made; every later stage
	// deduplicates on it.
	EventID  string `json:"event_id"`
	DeviceID string `json:"device_id"`
	CameraID string `json:"camera_id"`
	// CapturedAt is the frame's arrival, InferredAt the model's end.
	CapturedAt  Time     `json:"captured_at"`
	InferredAt  Time     `json:"inferred_at"`
	ModelName   string   `json:"model_name"`
	Detections  []Object `json:"detections"`
	FrameWidth  int      `json:"frame_width"`
	FrameHeight int      `json:"frame_height"`

	// The rest is optional; a reader may ignore it.

	// Seq counts the camera's events from 1 without gaps; 0 means unknown.
	Seq            uint64 `json:"seq,omitempty"`
	ModelSHA256    string `json:"model_sha256,omitempty"`
	SnapshotSHA256 string `json:"snapshot_sha256,omitempty"`
	// Clock is ClockSynchronised or ClockFreeRunning.
	Clock string `json:"clock,omitempty"`
	// BootID and MonoNS let a reader repair times taken before the clock was
	// set: MonoNS is CLOCK_MONOTONIC, in ns, at CapturedAt.
	BootID string `json:"boot_id,omitempty"`
	MonoNS int64  `json:"mono_ns,omitempty"`
	// TrackEvent is TrackStart, TrackBest or TrackEnd in an event that tells of
	// one track; its detection has the track_id.
	TrackEvent string `json:"track_event,omitempty"`
}

// Object is one thing found in a frame.
type Object struct {
	Class      string   `json:"class"`
	Confidence float64  `json:"confidence"` // in [0, 1]
	Box        Box      `json:"box"`
	TrackID    string   `json:"track_id,omitempty"`
	Zones      []string `json:"zones,omitempty"`
	// Label is what a second model called this object, with its probability.
	Label           string  `json:"label,omitempty"`
	LabelConfidence float64 `json:"label_confidence,omitempty"`
}

// Box is in pixels of the original frame; X, Y is its top-left corner.
type Box struct {
	X float64 `json:"x"`
	Y float64 `json:"y"`
	W float64 `json:"w"`
	H float64 `json:"h"`
}

// Encode returns the event's JSON, with schema_version set. An event without
// detections has an empty list, never null.
func (d Detection) Encode() ([]byte, error) {
	d.SchemaVersion = DetectionV1
	if d.Detections == nil {
		d.Detections = []Object{}
	}
	if err := d.Validate(); err != nil {
		return nil, err
	}
	return json.Marshal(d)
}

// ParseDetection reads one event. The error is ErrSchema for another
// schema_version and ErrInvalid for anything else that is wrong.
func ParseDetection(b []byte) (Detection, error) {
	var d Detection
	var head struct {
		SchemaVersion string `json:"schema_version"`
	}
	if err := parse(b, "detection", &head); err != nil {
		return d, err
	}
	if err := checkSchema(head.SchemaVersion, DetectionV1); err != nil {
		return d, err
	}
	if err := parse(b, "detection", &d); err != nil {
		return d, err
	}
	return d, d.Validate()
}

// Validate checks the rules of detection.v1.
func (d Detection) Validate() error {
	if err := checkSchema(d.SchemaVersion, DetectionV1); err != nil {
		return err
	}
	if err := required("device_id", d.DeviceID, "camera_id", d.CameraID, "model_name", d.ModelName); err != nil {
		return err
	}
	if _, err := uuid.Parse(d.EventID); err != nil {
		return invalid("event_id: got %q, expected a UUID", d.EventID)
	}
	if d.CapturedAt.IsZero() {
		return invalid("captured_at is missing")
	}
	if d.InferredAt.IsZero() {
		return invalid("inferred_at is missing")
	}
	if d.FrameWidth <= 0 || d.FrameHeight <= 0 {
		return invalid("frame_width and frame_height: got %d×%d, expected positive sides", d.FrameWidth, d.FrameHeight)
	}
	if d.Detections == nil {
		return invalid("detections is missing; an empty list says that nothing was found")
	}
	if err := checkClock(d.Clock); err != nil {
		return err
	}
	switch d.TrackEvent {
	case "", TrackStart, TrackBest, TrackEnd:
	default:
		return invalid("track_event: got %q, expected %s, %s or %s", d.TrackEvent, TrackStart, TrackBest, TrackEnd)
	}
	for i, o := range d.Detections {
		if err := o.validate(i); err != nil {
			return err
		}
	}
	return nil
}

func (o Object) validate(i int) error {
	if o.Class == "" {
		return invalid("detections[%d].class is missing", i)
	}
	if !(o.Confidence >= 0 && o.Confidence <= 1) {
		return invalid("detections[%d].confidence: got %v, expected [0, 1]", i, o.Confidence)
	}
	if !(o.LabelConfidence >= 0 && o.LabelConfidence <= 1) {
		return invalid("detections[%d].label_confidence: got %v, expected [0, 1]", i, o.LabelConfidence)
	}
	for _, v := range []float64{o.Box.X, o.Box.Y, o.Box.W, o.Box.H} {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return invalid("detections[%d].box: got %v, expected finite pixels", i, o.Box)
		}
	}
	if o.Box.W < 0 || o.Box.H < 0 {
		return invalid("detections[%d].box: got %v×%v, expected no negative side", i, o.Box.W, o.Box.H)
	}
	return nil
}

// checkClock checks the state of a clock, which may be left out.
func checkClock(state string) error {
	switch state {
	case "", ClockSynchronised, ClockFreeRunning:
		return nil
	}
	return invalid("clock: got %q, expected %q or %q", state, ClockSynchronised, ClockFreeRunning)
}
