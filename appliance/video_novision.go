//go:build novision

package main

import "errors"

// errNoVideo says what this binary cannot do.
var errNoVideo = errors.New("this outstation was built without vision (tag novision): it writes frames and labels, but no --video")

// noVideo is what cannot be written.
type noVideo struct{}

func createVideo(string, float64, int, int) (noVideo, error) { return noVideo{}, errNoVideo }

// Write fails.
func (noVideo) Write([]byte) error { return errNoVideo }

// Close does nothing.
func (noVideo) Close() error { return nil }
