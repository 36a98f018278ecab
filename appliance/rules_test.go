package main

import (
	"reflect"
	"testing"

	"outstation/vision"
	"outstation/web"
)

func TestEveryReasonOfTheRulesIsShown(t *testing.T) {
	c := vision.CameraStats{Model: "m", Tracks: 6, TracksRefused: 7, EndsLost: 8}
	f := reflect.ValueOf(&c.Filtered).Elem()
	for i := range f.NumField() {
		f.Field(i).SetUint(uint64(i + 1))
	}
	got := webRules(c)
	want := web.Rules{Tracks: 6, TracksRefused: 7, TrackEndsLost: 8, Filtered: []web.Filtered{
		{Reason: "class", Boxes: 1}, {Reason: "confidence", Boxes: 2}, {Reason: "area", Boxes: 3}, {Reason: "mask", Boxes: 4}, {Reason: "zone", Boxes: 5},
	}}
	if !reflect.DeepEqual(got, want) || len(got.Filtered) != f.NumField() {
		t.Errorf("got %+v, want %+v, one for each of %d reasons", got, want, f.NumField())
	}
	if got := webRules(vision.CameraStats{}); got.Filtered != nil {
		t.Errorf("a camera without a model leaves out %+v", got.Filtered)
	}
}
