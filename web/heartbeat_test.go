package web

import (
	"reflect"
	"strings"
	"testing"
)

// TestTheHeartbeatIsInNoSum adds a camera of known footage to a line: its row
// is there, and the stages say what they said before.
func TestTheHeartbeatIsInNoSum(t *testing.T) {
	s := line()
	before := stagesOf(s)
	s.Cameras = append(s.Cameras, Camera{
		ID: "heartbeat", Source: "sim://line?seed=1", Model: "yolox-nano", State: CameraOffline, FPS: 15, Frames: 1000,
		Inspected: 900, Dropped: 50, Events: 800, DetectorErrors: 7, Heartbeat: true,
	})
	s.Detectors[0].Inferences += 900
	if after := stagesOf(s); !reflect.DeepEqual(after, before) {
		t.Errorf("got %+v\nwant %+v", after, before)
	}
	body := ask(t, serverOf(s), "GET", "/", "").body
	if !strings.Contains(body, "known footage, in no sum") || strings.Contains(body, count(s.Detectors[0].Inferences)) {
		t.Error("the page has no row of the heartbeat, or counts its frames")
	}
	s.Detectors[0].Inferences = 3 // an older look than that at the camera
	if n := inspectedBy(s.Detectors[0], s.Cameras); n != 0 {
		t.Errorf("%d inspected", n)
	}
	s.Cameras = s.Cameras[2:]
	if got := camerasStage(s); got.Word != "none configured" {
		t.Errorf("a heartbeat alone is %+v", got)
	}
}
