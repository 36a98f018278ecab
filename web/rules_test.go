package web

import (
	"strings"
	"testing"
)

func TestThePageSaysWhatTheRulesLeaveOut(t *testing.T) {
	got := words(t, line())
	want := "12 frames in which nothing moved; boxes left out: 1 204 of classes that do not count, 88 too unsure, " +
		"310 in a mask, 41 outside of the zones; 3 open tracks"
	if !strings.Contains(got, want) {
		t.Errorf("the page does not say %q:\n%s", want, got)
	}
	s := line()
	s.Cameras[0].Masked, s.Cameras[0].Rules = 1, Rules{Filtered: []Filtered{{"area", 7}, {"mask", 0}}, Tracks: 1}
	want = "1 frame in which nothing moved; boxes left out: 7 too small or too large; 1 open track"
	if got := words(t, s); !strings.Contains(got, want+" ") || strings.Contains(got, "in a mask") {
		t.Errorf("the page does not say %q alone:\n%s", want, got)
	}
	s.Cameras[0].Masked, s.Cameras[0].Rules = 0, Rules{}
	if got := words(t, s); strings.Contains(got, "left out") || strings.Contains(got, "nothing moved") {
		t.Errorf("of a camera without rules the page says:\n%s", got)
	}
}

func TestTheMetricsOfRulesAreOfInspectedCameras(t *testing.T) {
	s := line()
	s.Cameras[1].Looked = nil
	body := ask(t, serverOf(s), "GET", "/metrics", "").body
	for _, name := range []string{"filtered_boxes_total", "open_tracks", "refused_tracks_total", "lost_track_ends_total"} {
		if !strings.Contains(body, "outstation_camera_"+name+`{camera="`+s.Cameras[0].ID) ||
			strings.Contains(body, "outstation_camera_"+name+`{camera="`+s.Cameras[1].ID) {
			t.Errorf("%s is not of the inspected camera alone", name)
		}
	}
}
