package main

import (
	"slices"

	"outstation/vision"
	"outstation/vision/capture"
)

// source checks what a camera is read from.
func (c *checker) source(key string, cam CameraConfig) {
	kind := vision.Kind(cam.Source)
	switch {
	case kind == "":
		c.add(key+".source", "expected a file, rtsp://…, v4l2:///dev/videoN, csi://N, dir:///PATH, gst:… or sim://line, got %q", cam.Source)
	case cam.Decoder != "" && kind != vision.KindRTSP:
		c.add(key+".decoder", "only an rtsp:// camera has a choice; leave it out")
	case cam.Decoder != "" && !slices.Contains(capture.Decoders, capture.Decoder(cam.Decoder)):
		c.add(key+".decoder", "expected one of %v, got %q", capture.Decoders, cam.Decoder)
	default:
		_, err := newSource(cam, nil)
		c.err(key+".source", err)
	}
}
