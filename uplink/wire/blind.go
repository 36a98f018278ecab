package wire

import (
	"encoding/json"
	"slices"
)

// BlindReasons are those for which a camera was not inspected.
var BlindReasons = []string{"stalled", "dropped", "throttled", "masked", "off"}

// Blind is an interval in which a camera was not inspected. It is sent when
// the interval opens, with To nil, and again with the same EventID when it
// closes.
type Blind struct {
	SchemaVersion string `json:"schema_version"`
	EventID       string `json:"event_id"`
	DeviceID      string `json:"device_id"`
	CameraID      string `json:"camera_id"`
	From          Time   `json:"from"`
	To            *Time  `json:"to"`
	Reason        string `json:"reason"`

	// Clock is ClockSynchronised or ClockFreeRunning when the interval opened
	// or, once it is closed, the worse of then and the end. To is never before
	// From, also where the clock was set back between the two.
	Clock string `json:"clock,omitempty"`
}

// Encode returns the JSON of a valid interval, with schema_version set.
func (b Blind) Encode() ([]byte, error) {
	b.SchemaVersion = BlindV1
	if err := b.Validate(); err != nil {
		return nil, err
	}
	return json.Marshal(b)
}

// ParseBlind reads a blind.v1 message.
func ParseBlind(p []byte) (Blind, error) {
	var b Blind
	if err := parse(p, "blind interval", &b); err != nil {
		return b, err
	}
	return b, b.Validate()
}

// Validate checks the rules of blind.v1.
func (b Blind) Validate() error {
	if err := checkSchema(b.SchemaVersion, BlindV1); err != nil {
		return err
	}
	if err := required("event_id", b.EventID, "device_id", b.DeviceID, "camera_id", b.CameraID); err != nil {
		return err
	}
	if !slices.Contains(BlindReasons, b.Reason) {
		return invalid("reason: got %q, expected one of %v", b.Reason, BlindReasons)
	}
	if err := checkClock(b.Clock); err != nil {
		return err
	}
	if b.To != nil && b.To.Before(b.From.Time) {
		return invalid("to %v is before from %v", b.To, b.From)
	}
	return nil
}
