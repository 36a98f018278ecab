package main

import (
	"fmt"
	"slices"
	"strings"

	"outstation/uplink/wire"
)

// validate judges what a device publishes where the appliance speaks: a
// detection must be one, and of the camera that its topic names.
func validate(topic string, payload []byte) error {
	level := strings.Split(topic, "/")
	if len(level) != 5 || level[0] != "vision" || level[4] != "detection" {
		return nil
	}
	for _, name := range level[1:4] {
		if err := wire.CheckLevel(name); err != nil {
			return err
		}
	}
	d, err := wire.ParseDetection(payload)
	if err != nil {
		return err
	}
	if camera := level[3]; d.CameraID != camera {
		return fmt.Errorf("camera_id: got %q, expected %q as in the topic", d.CameraID, camera)
	}
	return nil
}

// neverRetained reports whether a topic is one of the appliance's own whose
// messages are events: only states are retained.
func neverRetained(topic string) bool {
	if !slices.ContainsFunc(wire.ReservedPrefixes, func(p string) bool { return strings.HasPrefix(topic, p) }) {
		return false
	}
	return !strings.HasSuffix(topic, "/status") && !strings.HasSuffix(topic, "/health")
}
