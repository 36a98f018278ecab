package main

import (
	"errors"
	"fmt"
	"slices"

	"outstation/vision"
	"outstation/vision/capture"
)

// sourceForms are what a camera can be read from.
const sourceForms = "a file, rtsp://…, v4l2:///dev/videoN, csi://N, dir:///PATH, gst:… or sim://line"

// source checks what a camera is read from.
func (c *checker) source(key string, cam CameraConfig) {
	sub, err := checkSource(cam)
	c.err(key+"."+sub, err)
}

// checkSource says what is wrong with a source or its decoder, and under which
// of a camera's keys. It does no I/O.
func checkSource(cam CameraConfig) (key string, err error) {
	kind := vision.Kind(cam.Source)
	switch {
	case kind == "":
		return "source", fmt.Errorf("expected %s, got %q", sourceForms, redact(cam.Source))
	case cam.Decoder != "" && kind != vision.KindRTSP:
		return "decoder", errors.New("only an rtsp:// camera has a choice; leave it out")
	case cam.Decoder != "" && !slices.Contains(capture.Decoders, capture.Decoder(cam.Decoder)):
		return "decoder", fmt.Errorf("expected one of %v, got %q", capture.Decoders, cam.Decoder)
	}
	_, err = newSource(cam, nil)
	return "source", err
}
