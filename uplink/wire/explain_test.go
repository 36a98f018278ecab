package wire

import (
	"errors"
	"strings"
	"testing"
)

// TestWrongTypesAreSaidInPlainWords, with their key and nothing of Go.
func TestWrongTypesAreSaidInPlainWords(t *testing.T) {
	for part, want := range map[string]string{
		`"detections":[{"box":[1,2,3,4]}]`:       "detections[].box: expected an object {x, y, w, h}, got an array",
		`"detections":[{"box":{"x":"1"}}]`:       "detections[].box.x: expected a number, got a string",
		`"detections":[{"zones":[1]}]`:           "detections[].zones[]: expected a string, got a number",
		`"detections":[{"zones":"gate"}]`:        "detections[].zones: expected an array, got a string",
		`"detections":[1]`:                       "detections[]: expected an object {class, confidence, box}, got a number",
		`"detections":{}`:                        "detections: expected an array, got an object",
		`"detections":[{"confidence":true}]`:     "detections[].confidence: expected a number, got true or false",
		`"frame_width":640.5`:                    "frame_width: expected a whole number, got the number 640.5",
		`"seq":-1`:                               "seq: expected a whole number from 0, got the number -1",
		`"camera_id":7`:                          "camera_id: expected a string, got a number",
		`"captured_at":"yesterday"`:              `captured_at: expected RFC 3339 such as "2026-11-21T12:00:00.000Z", got "yesterday"`,
		`"inferred_at":1790000000`:               `inferred_at: expected RFC 3339 such as "2026-11-21T12:00:00.000Z", got 1790000000`,
		`"captured_at":"2026-11-21T01:00:00Z"`:   "is missing",
		`"inferred_at":null`:                     `inferred_at: expected RFC 3339 such as "2026-11-21T12:00:00.000Z", got null`,
		`"inferred_at":"2026-11-21 01:00:00.1Z"`: `inferred_at: expected RFC 3339 such as "2026-11-21T12:00:00.000Z", got "2026-11-21 01:00:00.1Z"`,
	} {
		_, err := ParseDetection([]byte(`{"schema_version":"detection.v1",` + part + `}`))
		if !errors.Is(err, ErrInvalid) || !strings.HasSuffix(err.Error(), want) || strings.Contains(err.Error(), "Go ") {
			t.Errorf("%s: got %v, expected %s", part, err, want)
		}
	}
	_, err := ParsePresence([]byte(`[]`))
	if want := "invalid message: expected an object {device_id, "; !errors.Is(err, ErrInvalid) || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, expected %s", err, want)
	}
	_, err = ParseHealth([]byte(`{"checks":[{"checks":[{"since":"x"}]}]}`))
	if want := "invalid message: expected RFC 3339"; !errors.Is(err, ErrInvalid) || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, expected %s", err, want)
	}
}

// TestBoxesBeyondTheFrame are no fault: the contract bounds no box, and many
// detectors see beyond the edge.
func TestBoxesBeyondTheFrame(t *testing.T) {
	d, err := ParseDetection([]byte(`{"schema_version":"detection.v1","event_id":"0190b3c4-8f6e-4a3b-9c2d-5e6f7a8b9c0d","device_id":"d","camera_id":"c",` +
		`"captured_at":"2026-11-21T01:00:00Z","inferred_at":"2026-11-21T01:00:00.1Z","model_name":"m","frame_width":640,"frame_height":480,` +
		`"detections":[{"class":"person","confidence":1,"box":{"x":-10,"y":470,"w":700,"h":40}}]}`))
	if err != nil || d.Detections[0].Box != (Box{-10, 470, 700, 40}) {
		t.Errorf("got %+v, %v", d.Detections, err)
	}
}
