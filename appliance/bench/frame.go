//go:build !novision

package main

import (
	"context"
	"errors"
	"fmt"

	"outstation/vision/framebench"
	"outstation/vision/testfiles"
)

// frameLine is one inspected frame of vtest.avi, in medians, with one
// intra-op thread.
type frameLine struct {
	Bench    string  `json:"bench"`
	Frames   int     `json:"frames"`
	TotalMS  float64 `json:"total_ms"`
	OrtMS    float64 `json:"ort_ms"`
	PreMS    float64 `json:"pre_ms"`
	PostMS   float64 `json:"post_ms"`
	DecodeMS float64 `json:"decode_ms"` // of the video, not a part of total_ms
	Overhead float64 `json:"overhead"`  // all but ORT's run, as a share of it
}

// stageLine is one part of a frame's way through the same run.
type stageLine struct {
	Bench string  `json:"bench"`
	P50MS float64 `json:"p50_ms"`
	P99MS float64 `json:"p99_ms"`
}

func benchFrame(ctx context.Context, _ options, emit func(any) error) error {
	opt := framebench.Options{}
	for _, f := range []struct {
		file testfiles.File
		path *string
	}{{testfiles.Model(), &opt.Model}, {testfiles.Video(), &opt.Video}, {testfiles.Library(), &opt.Library}} {
		path, ok := f.file.Find()
		if !ok {
			return fmt.Errorf("%s is not at %s; put it there or set %s", f.file.What, path, f.file.Variable)
		}
		*f.path = path
	}
	r, err := framebench.Run(ctx, opt)
	if err != nil {
		return err
	}
	errs := []error{emit(frameLine{"frame", r.Frames, r.TotalMs, r.OrtMs, r.PreMs, r.PostMs, r.DecodeMs, r.Overhead})}
	for _, s := range r.Stages {
		errs = append(errs, emit(stageLine{"frame " + s.Name, s.P50, s.P99}))
	}
	return errors.Join(errs...)
}
