//go:build !novision

package main

import "outstation/vision/capture"

// errNoVideo is nil: this binary can write videos.
var errNoVideo error

// createVideo begins a recording in Motion JPEG.
func createVideo(path string, fps float64, width, height int) (*capture.Video, error) {
	return capture.CreateVideo(path, fps, width, height)
}
