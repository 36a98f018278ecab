package wire

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"
)

// Envelope is a normalised device event, version 2.1.
type Envelope struct {
	SchemaVersion string `json:"schema_version"`
	EventID       string `json:"event_id"`
	// IdempotencyKey is the same for every delivery of one event; see
	// KeyWithTime and KeyWithoutTime.
	IdempotencyKey string          `json:"idempotency_key"`
	EventType      string          `json:"event_type"`
	Timestamp      Time            `json:"timestamp"`
	DeviceID       string          `json:"device_id"`
	Site           string          `json:"site"`
	Source         string          `json:"source"`
	Payload        json.RawMessage `json:"payload"`
}

// Names that the appliance itself uses in envelopes.
const (
	// SourceAppliance is the source of what happens to the appliance itself.
	SourceAppliance = "outstation"
	// TypeUnparsed is the event_type of a message that no rule could read.
	TypeUnparsed = "unparsed"
)

// Unparsed is the payload of an event of type unparsed.
type Unparsed struct {
	Topic  string `json:"topic"` // that the device published on, or the path that it posted to
	Reason string `json:"reason"`
	Bytes  int    `json:"bytes"`  // of the message
	SHA256 string `json:"sha256"` // of the message, in hex
	// Raw is the message, or its beginning where it is too large for an event;
	// then it has less than Bytes.
	Raw []byte `json:"raw_base64"`
}

// NewUnparsed describes a message of which at most limit bytes are kept.
func NewUnparsed(topic, reason string, raw []byte, limit int) Unparsed {
	sum := sha256.Sum256(raw)
	kept := append([]byte{}, raw[:min(len(raw), limit)]...) // null is no base64
	return Unparsed{Topic: topic, Reason: reason, Bytes: len(raw), SHA256: hex.EncodeToString(sum[:]), Raw: kept}
}

// KeyWithTime is the idempotency key of an event whose device gave a time.
func KeyWithTime(site, source, subject string, at time.Time) string {
	return site + "-" + source + "-" + subject + "-" + at.UTC().Format(time.RFC3339Nano)
}

// KeyWithoutTime is the idempotency key of an event without a time of its
// device's own: raw are its bytes and received the time of its first
// acceptance, which must be kept with the event.
func KeyWithoutTime(site, source, subject string, raw []byte, received time.Time) string {
	sum := sha256.Sum256(raw)
	return site + "-" + source + "-" + subject + "-" + hex.EncodeToString(sum[:8]) + "-" +
		received.UTC().Format(time.RFC3339Nano)
}

// Encode returns the JSON of a valid envelope, with schema_version set.
func (e Envelope) Encode() ([]byte, error) {
	e.SchemaVersion = EnvelopeV21
	if len(e.Payload) == 0 {
		e.Payload = json.RawMessage("{}")
	}
	if err := e.Validate(); err != nil {
		return nil, err
	}
	return json.Marshal(e)
}

// ParseEnvelope reads an envelope.
func ParseEnvelope(b []byte) (Envelope, error) {
	var e Envelope
	if err := parse(b, "event envelope", &e); err != nil {
		return e, err
	}
	return e, e.Validate()
}

// Validate checks the rules of envelope 2.1.
func (e Envelope) Validate() error {
	if err := checkSchema(e.SchemaVersion, EnvelopeV21); err != nil {
		return err
	}
	if e.Timestamp.IsZero() {
		return invalid("timestamp is missing")
	}
	return required("event_id", e.EventID, "idempotency_key", e.IdempotencyKey, "event_type", e.EventType,
		"device_id", e.DeviceID, "site", e.Site, "source", e.Source)
}
