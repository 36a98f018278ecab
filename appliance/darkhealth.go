package main

import (
	"fmt"

	"outstation/vision"
)

// darkText says that no camera works any more, with the first one's reason; it
// is empty while one does. The heartbeat is no camera, and a recording that is
// over is no fault: neither counts.
func darkText(f facts) string {
	first, dark := "", 0
	for _, cam := range f.vision.Cameras {
		if isHeartbeat := f.heartbeat != nil && cam.ID == heartbeatID; isHeartbeat || isOver(cam) {
			continue
		}
		if seesOrBegins(cam, f.vision.Models) {
			return ""
		}
		if dark++; dark == 1 {
			c := cameraCheck(cam)
			first = c.Name + ": " + c.Detail
		}
	}
	switch dark {
	case 0:
		return ""
	case 1:
		return "no camera is online: " + first
	}
	return fmt.Sprintf("no camera is online: %s; and %d more", first, dark-1)
}

// isOver says that a camera looks no more, and is not meant to.
func isOver(c vision.CameraStats) bool {
	return c.State == vision.Offline && (c.Reason == vision.ReasonEnded || c.Reason == vision.ReasonStopped)
}

// seesOrBegins says that a camera's frames arrive and are inspected, if not
// every one, or that this is still to begin: its first frame is awaited, or its
// model, whose engine may take minutes to build.
func seesOrBegins(c vision.CameraStats, models []vision.ModelStats) bool {
	switch c.State {
	case vision.Online, vision.Degraded:
		return true
	case vision.Offline:
		return c.Reason == vision.ReasonStarting
	}
	if c.Reason != vision.ReasonUninspected {
		return false
	}
	for _, m := range models {
		if m.Name == c.Model {
			return !m.Ready && m.Error == ""
		}
	}
	return false
}
