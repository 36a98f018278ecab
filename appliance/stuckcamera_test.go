package main

import (
	"strings"
	"testing"
	"time"

	"outstation/uplink/wire"
	"outstation/vision"
)

// TestOneStuckCameraIsAReasonToo, but not soon, not often, and not again and
// again where a start does not mend it.
func TestOneStuckCameraIsAReasonToo(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	stuck := func(frames uint64, ago time.Duration) vision.Stats {
		return vision.Stats{MaxStuck: 8, StuckReaders: 3, Cameras: []vision.CameraStats{
			{ID: "fine", State: vision.Online, Frames: 9, Since: now.Add(-2 * time.Hour)},
			{ID: "north", State: vision.Blind, Reason: vision.ReasonStuck, Frames: frames, StuckReaders: 3, Since: now.Add(-ago)},
		}}
	}
	all := stuck(0, time.Minute)
	all.StuckReaders = 8
	silent := stuck(9, 2*time.Hour)
	silent.Cameras[1].Reason = vision.ReasonStalled
	for name, c := range map[string]struct {
		stats  vision.Stats
		up     time.Duration
		due    bool
		detail string
	}{
		"one, for long":            {stuck(9, 10*time.Minute), time.Hour, true, "restarts itself for it in 0s"},
		"one, not yet for long":    {stuck(9, 9*time.Minute), 2 * time.Hour, false, "restarts itself for it in 1m0s"},
		"one, soon after a start":  {stuck(9, 50*time.Minute), 59 * time.Minute, false, "restarts itself for it in 1m0s"},
		"one that was never there": {stuck(0, 5*time.Hour), 5 * time.Hour, false, "another start would not help"},
		"one that is silent":       {silent, 2 * time.Hour, false, ""},
		"all":                      {all, 10 * time.Minute, true, ""},
		"all, soon after a start":  {all, 9 * time.Minute, false, ""},
	} {
		err := restartDue(c.stats, restartUptime, c.up, now)
		if (err != nil) != c.due {
			t.Errorf("%s: got %v, want due %v", name, err, c.due)
		}
		f := facts{vision: c.stats, now: now, started: now.Add(-c.up)}
		got := stuckDetail(wire.Check{Detail: "blind, stuck"}, c.stats.Cameras[1], f).Detail
		if added, _ := strings.CutPrefix(got, "blind, stuck"); !strings.Contains(added, c.detail) || (c.detail == "") != (added == "") {
			t.Errorf("%s: health adds %q, want %q", name, added, c.detail)
		}
		if got := stuckDetail(wire.Check{Detail: "fine"}, c.stats.Cameras[0], f).Detail; got != "fine" {
			t.Errorf("%s: health says of the other camera: %q", name, got)
		}
	}
}
