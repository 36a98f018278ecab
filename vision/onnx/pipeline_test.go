//go:build !novision

package onnx

import (
	"context"
	"testing"
	"time"

	"outstation/vision"
	"outstation/vision/capture"
	"outstation/vision/testfiles"
)

// TestPipelineOnRealInput runs the whole package on the recording without
// losing a frame: the nth event is the nth frame, so golden frames are known.
func TestPipelineOnRealInput(t *testing.T) {
	const frames = 201
	g := readGolden(t)
	source, err := capture.Factory(capture.Options{URL: testfiles.Video().Need(t)})
	if err != nil {
		t.Fatal(err)
	}
	events := make(chan vision.Event)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p, err := vision.New(vision.Options{
		Models: []vision.ModelOptions{{Name: "yolox-nano", Open: Opener(options(t))}},
		Sink: func(e vision.Event) {
			select {
			case events <- e:
			case <-ctx.Done():
			}
		},
		Cameras: []vision.CameraOptions{{
			ID: "cam", Kind: vision.KindFile, NewSource: source, Model: "yolox-nano", Lossless: true, Judge: vision.JudgeOptions{Policy: vision.PolicyEveryFrame},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- p.Serve(ctx) }()
	var got []vision.Event
	for len(got) < frames {
		select {
		case e := <-events:
			got = append(got, e)
		case <-ctx.Done():
			t.Fatalf("%d events after a minute; %+v", len(got), p.Stats())
		}
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	for _, want := range g.Frames {
		if want.Index >= frames {
			continue
		}
		for _, w := range want.People {
			if !matched(got[want.Index].Detections, w, g) {
				t.Errorf("event %d: no person near %+v", want.Index, w)
			}
		}
	}
	if s := p.Stats(); s.Cameras[0].Width != 768 || s.Models[0].Provider != ProviderCPU || s.Models[0].Run.P50 <= 0 {
		t.Errorf("stats %+v", s)
	}
	for i, e := range got[1:] {
		if e.CapturedAt.Before(got[i].CapturedAt) || e.InferredAt.Before(e.CapturedAt) {
			t.Fatalf("event %d: captured %v, inferred %v", i+1, e.CapturedAt, e.InferredAt)
		}
	}
}
