package main

import (
	"strings"
	"testing"

	"outstation/uplink/wire"
	"outstation/vision"
)

func TestHealthWhenNoCameraIsOnline(t *testing.T) {
	camera := func(state vision.State, reason string) vision.CameraStats {
		return vision.CameraStats{ID: "a", Model: "m", State: state, Reason: reason}
	}
	online, lost := camera(vision.Online, ""), camera(vision.Offline, vision.ReasonUnreachable)
	ended, starting := camera(vision.Offline, vision.ReasonEnded), camera(vision.Offline, vision.ReasonStarting)
	failed, stalled := camera(vision.Degraded, vision.ReasonDetector), camera(vision.Blind, vision.ReasonStalled)
	waits, undetected := camera(vision.Blind, vision.ReasonUninspected), camera(vision.Blind, vision.ReasonNoDetector)
	lost.Detail = "connection refused"
	beat := online
	beat.ID = heartbeatID

	ready, loading := vision.ModelStats{Name: "m", Ready: true}, vision.ModelStats{Name: "m"}
	unloadable := vision.ModelStats{Name: "m", Error: "no such file"}
	const one = "no camera is online: camera a: offline, unreachable: connection refused"
	for name, tt := range map[string]struct {
		cameras []vision.CameraStats
		model   vision.ModelStats
		state   string
		detail  string // its beginning
	}{
		"none is there":           {nil, ready, wire.Healthy, "no cameras"},
		"the only one is lost":    {[]vision.CameraStats{lost}, ready, wire.Unhealthy, one},
		"all of three are dark":   {[]vision.CameraStats{lost, stalled, lost}, ready, wire.Unhealthy, one + "; and 2 more"},
		"one of two is online":    {[]vision.CameraStats{lost, online}, ready, wire.Impaired, "camera a: offline, unreachable"},
		"one begins":              {[]vision.CameraStats{lost, starting}, ready, wire.Impaired, "camera a: offline, unreachable"},
		"one failed once":         {[]vision.CameraStats{lost, failed}, ready, wire.Impaired, "camera a: offline, unreachable"},
		"one is over, one lost":   {[]vision.CameraStats{ended, lost}, ready, wire.Unhealthy, one},
		"all are over":            {[]vision.CameraStats{ended, ended}, ready, wire.Impaired, "camera a: offline, ended"},
		"the heartbeat is left":   {[]vision.CameraStats{lost, beat}, ready, wire.Unhealthy, one},
		"the model is loading":    {[]vision.CameraStats{waits}, loading, wire.Impaired, "model m: loading"},
		"the model cannot load":   {[]vision.CameraStats{undetected}, unloadable, wire.Unhealthy, "no camera is online: camera a: blind, no detector"},
		"the model does not look": {[]vision.CameraStats{waits}, ready, wire.Unhealthy, "no camera is online: camera a: blind, uninspected"},
		"the model is at fault": {[]vision.CameraStats{waits}, vision.ModelStats{Name: "m", Ready: true, Failing: 99, Failure: "CUDA error 700"},
			wire.Unhealthy, "model m: "},
	} {
		f := facts{vision: vision.Stats{Cameras: tt.cameras, Models: []vision.ModelStats{tt.model}}, heartbeat: &heartbeatStats{}}
		got := visionCheck(f)
		if got.State != tt.state || !strings.HasPrefix(got.Detail, tt.detail) {
			t.Errorf("%s: got %s, %q; expected %s, %q", name, got.State, got.Detail, tt.state, tt.detail)
		}
	}
}

func TestHealthSaysHowManyFramesAreInspected(t *testing.T) {
	c := vision.CameraStats{ID: "a", State: vision.Online, FPS: 15, InspectedFPS: 5}
	if got := cameraCheck(c).Detail; got != "15.0 frames a second" {
		t.Errorf("without a model: got %q", got)
	}
	c.Model = "m"
	if got := cameraCheck(c).Detail; got != "5.0 of 15.0 frames a second inspected" {
		t.Errorf("with a model: got %q", got)
	}
}
