package main

import (
	"outstation/vision"
	"outstation/web"
)

// webRules is what a camera's rules made of what its model found.
func webRules(c vision.CameraStats) web.Rules {
	f := c.Filtered
	out := web.Rules{Tracks: c.Tracks, TracksRefused: c.TracksRefused, TrackEndsLost: c.EndsLost}
	if c.Model == "" {
		return out
	}
	out.Filtered = []web.Filtered{
		{Reason: "class", Boxes: f.Class}, {Reason: "confidence", Boxes: f.Confidence}, {Reason: "area", Boxes: f.Area},
		{Reason: "mask", Boxes: f.Mask}, {Reason: "zone", Boxes: f.Zone},
	}
	return out
}
