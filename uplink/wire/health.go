package wire

import (
	"encoding/json"
	"slices"
)

// States of a health check.
const (
	Healthy   = "healthy"
	Impaired  = "degraded"
	Unhealthy = "unhealthy"
)

// Health is the appliance's health tree. FirstCause is the sentence that a
// person should read first.
type Health struct {
	DeviceID   string  `json:"device_id"`
	At         Time    `json:"at"`
	State      string  `json:"state"`
	FirstCause string  `json:"first_cause"`
	Checks     []Check `json:"checks"`
}

// Check is one node of the tree; it is as bad as the worst of its Checks.
type Check struct {
	Name   string  `json:"name"`
	State  string  `json:"state"`
	Detail string  `json:"detail"`
	Since  Time    `json:"since"`
	Checks []Check `json:"checks"`
}

// Encode returns the JSON of a valid tree, with empty lists for no checks.
func (h Health) Encode() ([]byte, error) {
	h.Checks = withLists(h.Checks)
	if err := h.Validate(); err != nil {
		return nil, err
	}
	return json.Marshal(h)
}

// ParseHealth reads a health message.
func ParseHealth(b []byte) (Health, error) {
	var h Health
	if err := parse(b, "health tree", &h); err != nil {
		return h, err
	}
	return h, h.Validate()
}

// Validate checks the states of the whole tree.
func (h Health) Validate() error {
	if err := required("device_id", h.DeviceID); err != nil {
		return err
	}
	if err := checkHealthState("state", h.State); err != nil {
		return err
	}
	return validateChecks(h.Checks)
}

func validateChecks(checks []Check) error {
	for _, c := range checks {
		if err := required("check name", c.Name); err != nil {
			return err
		}
		if err := checkHealthState(c.Name, c.State); err != nil {
			return err
		}
		if err := validateChecks(c.Checks); err != nil {
			return err
		}
	}
	return nil
}

func checkHealthState(name, got string) error {
	if !slices.Contains([]string{Healthy, Impaired, Unhealthy}, got) {
		return invalid("%s: got %q, expected healthy, degraded or unhealthy", name, got)
	}
	return nil
}

func withLists(checks []Check) []Check {
	out := make([]Check, len(checks))
	for i, c := range checks {
		c.Checks = withLists(c.Checks)
		out[i] = c
	}
	return out
}
