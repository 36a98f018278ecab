package main

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"outstation/uplink/wire"
)

func TestAGrantedDetectionIsValidated(t *testing.T) {
	now := wire.At(time.Now())
	good, err := wire.Detection{
		EventID: uuid.NewString(), DeviceID: "smart-1", CameraID: "cam-1", CapturedAt: now, InferredAt: now, ModelName: "m", FrameWidth: 1, FrameHeight: 1,
	}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		topic, payload string
		ok             bool
	}{
		{"vision/r/s/cam-1/detection", string(good), true},
		{"vision/r/s/cam-2/detection", string(good), false},
		{"vision/R/s/cam-1/detection", string(good), false},
		{"vision/r/s/cam-1/detection", "{}", false},
		{"vision/r/s/cam-1/detection", "", false},
		{"vision/r/s/cam-1/status", "x", true},
		{"sensors/r/s/cam-1/detection", "x", true},
	} {
		if err := validate(c.topic, []byte(c.payload)); (err == nil) != c.ok {
			t.Errorf("%s %.20q: got %v", c.topic, c.payload, err)
		}
	}
	if err := validate("vision/r/s/cam-1/detection", []byte(`{"schema_version":"detection.v9"}`)); !errors.Is(err, wire.ErrSchema) {
		t.Errorf("got %v, expected ErrSchema", err)
	}
}

func TestOnlyStatesOfTheAppliancesOwnTopicsAreRetained(t *testing.T) {
	for topic, want := range map[string]bool{
		"vision/r/s/c/detection": true, "vision/r/s/c/blind": true, "vision/r/s/c/status": false, "appliance/r/s/d/health": false,
		"events/r/s/zigbee/door_access": true, "cmd/r/s/d/restart": true, "sensors/r/s/c/detection": false, "visions/detection": false,
	} {
		if got := neverRetained(topic); got != want {
			t.Errorf("%s: got %v", topic, got)
		}
	}
}
