package wire

import (
	"encoding/json"
	"slices"
)

// States of an appliance or a camera, in presence messages.
const (
	Online   = "online"
	Degraded = "degraded"
	BlindNow = "blind"
	Offline  = "offline"
)

// Presence is the retained state of an appliance, or of one of its cameras.
// A will is fixed at CONNECT and so carries no Since; for a reader, Offline of
// the current Session wins, whatever the times say.
type Presence struct {
	DeviceID string `json:"device_id"`
	CameraID string `json:"camera_id,omitempty"` // empty for the appliance itself
	State    string `json:"state"`
	Reason   string `json:"reason"`
	Session  string `json:"session"` // UUID of the connection that holds the will
	Since    *Time  `json:"since,omitempty"`
}

// Encode returns the JSON of a valid presence.
func (p Presence) Encode() ([]byte, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	return json.Marshal(p)
}

// ParsePresence reads a presence message.
func ParsePresence(b []byte) (Presence, error) {
	var p Presence
	if err := parse(b, "presence", &p); err != nil {
		return p, err
	}
	return p, p.Validate()
}

// Validate checks that the state is known and the identity is there.
func (p Presence) Validate() error {
	if err := required("device_id", p.DeviceID, "session", p.Session); err != nil {
		return err
	}
	if !slices.Contains([]string{Online, Degraded, BlindNow, Offline}, p.State) {
		return invalid("state: got %q, expected online, degraded, blind or offline", p.State)
	}
	return nil
}
