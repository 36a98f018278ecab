package forward

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"

	"outstation/uplink/wire"
)

// maxName bounds the texts of a posted event, in bytes.
const maxName = 256

// ErrPosted says that a posted event cannot be used as it is.
var ErrPosted = errors.New("not an event")

// posted is an event as a program posts it: what the appliance knows by itself
// is left out.
type posted struct {
	EventID        string          `json:"event_id"`
	IdempotencyKey string          `json:"idempotency_key"`
	Source         string          `json:"source"`
	EventType      string          `json:"event_type"`
	Subject        string          `json:"subject"`
	Timestamp      json.RawMessage `json:"timestamp"`
	Payload        json.RawMessage `json:"payload"`
}

// Posted makes an event of the JSON that a program posted. Its event_id and
// idempotency_key are kept, if it has them. The error is ErrPosted or
// ErrTooLarge and says what to mend.
func (e *Engine) Posted(body []byte, received time.Time) (Event, error) {
	p, err := readPosted(body)
	if err != nil {
		return Event{}, fmt.Errorf("%w: %w", ErrPosted, err)
	}
	env := wire.Envelope{IdempotencyKey: p.IdempotencyKey, Source: p.Source, EventType: p.EventType}
	if err := p.fill(&env); err != nil {
		return Event{}, fmt.Errorf("%w: %w", ErrPosted, err)
	}
	return e.Finish(env, Subject(p.Subject), body, received)
}

func readPosted(body []byte) (posted, error) {
	var p posted
	doc := readJSON(body)
	if doc.err != nil {
		return p, doc.err
	}
	if _, object := doc.value.(map[string]any); !object {
		return p, fmt.Errorf("expected one JSON object, got %s", kindOf(doc.value))
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	err := d.Decode(&p)
	var field *json.UnmarshalTypeError
	switch {
	case errors.As(err, &field):
		return p, fmt.Errorf("%s: expected a text, got a value of another kind: %s", field.Field, field.Value)
	case err != nil: // a key that is not known
		return p, errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	return p, nil
}

// given reports whether a field is there, and not null.
func given(field json.RawMessage) bool { return len(field) > 0 && string(field) != "null" }

// fill checks the fields and puts into the envelope what needs reading.
func (p posted) fill(env *wire.Envelope) error {
	if err := CheckSource(p.Source); err != nil {
		return fmt.Errorf("source: %w", err)
	}
	if err := wire.CheckLevel(p.EventType); err != nil {
		return fmt.Errorf("event_type: %w", err)
	}
	if p.Subject == "" {
		return errors.New("subject: expected the name of the device, got nothing")
	}
	for _, f := range [][2]string{{"subject", p.Subject}, {"idempotency_key", p.IdempotencyKey}} {
		if len(f[1]) > maxName || strings.ContainsFunc(f[1], unicode.IsControl) {
			return fmt.Errorf("%s: expected at most %d bytes without control characters", f[0], maxName)
		}
	}
	if p.EventID != "" {
		id, err := uuid.Parse(p.EventID)
		if err != nil {
			return fmt.Errorf("event_id: expected a UUID: %w", err)
		}
		env.EventID = id.String()
	}
	if given(p.Timestamp) {
		t, ok := ParseTime(strings.Trim(string(p.Timestamp), `"`))
		if !ok {
			return fmt.Errorf("timestamp: got %.40s, expected RFC 3339, or seconds or milliseconds since 1970", p.Timestamp)
		}
		env.Timestamp = wire.At(t)
	}
	if given(p.Payload) {
		env.Payload = readJSON(p.Payload).json // it is a part of what was read
	}
	return nil
}
