package socket

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"outstation/uplink/wire"
)

// blanks are what JSON allows around an object, in a line.
const blanks = " \t\r"

// Keys that a line may leave out.
const (
	keySchema = "schema_version"
	keyEvent  = "event_id"
	keyDevice = "device_id"
)

// needed are the keys that a line may not leave out.
var needed = []string{"camera_id", "captured_at", "inferred_at", "model_name", "detections", "frame_width", "frame_height"}

// required are the keys of detection.v1 that every reader looks for. Go reads
// them in any case; readers in other languages do not.
var required = append([]string{keySchema, keyEvent, keyDevice}, needed...)

// example has all that a line needs.
const example = `{"camera_id":"cam-7","captured_at":"2026-11-21T12:00:00.000Z","inferred_at":"2026-11-21T12:00:00.000Z","model_name":"m",` +
	`"frame_width":640,"frame_height":480,"detections":[]}`

// readEvent makes an event of one line, which it keeps nothing of. Of
// schema_version, event_id and device_id those that are absent are filled in,
// before all others; the rest of the payload is what the sender wrote. After
// an error the event has at most its EventID, for the answer.
func readEvent(line []byte, device string) (d wire.Detection, payload []byte, err error) {
	line = bytes.Trim(line, blanks)
	keys, err := keysOf(line)
	if err != nil {
		return d, nil, err
	}
	if err = complete(keys); err == nil {
		payload = fillIn(line, keys, device)
		d, err = wire.ParseDetection(payload)
	}
	if err == nil {
		err = check(d, device)
	}
	if err != nil {
		return wire.Detection{EventID: eventID(keys)}, nil, err
	}
	return d, payload, nil
}

// keysOf reads the keys of a line's object.
func keysOf(line []byte) (map[string]json.RawMessage, error) {
	if !utf8.Valid(line) {
		return nil, errors.New("expected UTF-8, got other bytes")
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(line, &keys); err != nil {
		if errors.As(err, new(*json.UnmarshalTypeError)) {
			return nil, fmt.Errorf("expected one JSON object, got %.20q", line)
		}
		return nil, fmt.Errorf("expected one JSON object: %w", err)
	}
	if keys == nil {
		return nil, errors.New("expected one JSON object, got null")
	}
	for key := range keys {
		for _, name := range required {
			if key != name && strings.EqualFold(key, name) {
				return keys, fmt.Errorf("expected %q, got %q: keys are written in lower case", name, key)
			}
		}
	}
	return keys, nil
}

// complete names the keys that are missing and cannot be filled in.
func complete(keys map[string]json.RawMessage) error {
	var missing []string
	for _, name := range needed {
		if _, found := keys[name]; !found {
			missing = append(missing, name)
		}
	}
	switch len(missing) {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("%s is missing; an example: %s", missing[0], example)
	}
	return fmt.Errorf("missing are %s; an example: %s", strings.Join(missing, ", "), example)
}

// fillIn returns the object with the keys that may be left out. It has at
// least one key of its own.
func fillIn(line []byte, keys map[string]json.RawMessage, device string) []byte {
	out := make([]byte, 0, len(line)+160)
	out = append(out, '{')
	add := func(key string, value func() string) {
		if _, ok := keys[key]; !ok {
			out = fmt.Appendf(out, "%q:%q,", key, value())
		}
	}
	add(keySchema, func() string { return wire.DetectionV1 })
	add(keyEvent, uuid.NewString)
	add(keyDevice, func() string { return device })
	return append(out, line[1:]...)
}

// check is what holds beyond detection.v1 for an event of this appliance.
func check(d wire.Detection, device string) error {
	if d.DeviceID != device {
		return fmt.Errorf("device_id: got %q, expected %q, this appliance, or none", d.DeviceID, device)
	}
	if err := wire.CheckLevel(d.CameraID); err != nil {
		return fmt.Errorf("camera_id: %w", err)
	}
	return nil
}

// eventID is the id that a refused line names, if it is one.
func eventID(keys map[string]json.RawMessage) string {
	var id string
	if json.Unmarshal(keys[keyEvent], &id) != nil || uuid.Validate(id) != nil {
		return ""
	}
	return id
}
