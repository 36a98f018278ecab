package vision

import (
	"image"
	"slices"
	"testing"
)

// namedBy is a court whose second stage is a namer.
func namedBy(t *testing.T, o JudgeOptions, most int) (*court, *namer) {
	n := &namer{}
	c := newCourt(t, o)
	c.stage = stage{opts: ClassifyOptions{Max: most}, model: &second{model: n}}
	return c, n
}

// named looks at a frame and returns the left edges of what was classified in
// it, in their order, and the labels of what was told.
func (c *court) named(n *namer, found ...Detection) (classified []int, labels []string) {
	c.at, c.told, n.seen = c.at.Add(step), nil, nil
	c.look(Event{CapturedAt: c.at, Detections: found, FrameWidth: 1000, FrameHeight: 1000}, &cut{at: image.Rect(0, 0, 1000, 1000)}, c.emit)
	for _, r := range n.seen {
		classified = append(classified, r.Min.X)
	}
	for _, e := range c.told {
		labels = append(labels, e.Detections[0].Label)
	}
	return classified, labels
}

// TestTheSecondStageSeesWhatWillBeInTheEvent: the camera's rules go first, so
// that what they leave out takes no place of the few.
func TestTheSecondStageSeesWhatWillBeInTheEvent(t *testing.T) {
	c, n := namedBy(t, JudgeOptions{
		Limits: Limits{Confidence: 0.5, MaxArea: 0.1}, Only: []string{"a"}, Masks: []Polygon{left}, Required: []string{"right"},
		Zones: []Zone{{Name: "right", Area: Polygon{{0.5, 0.5}, {1, 0.5}, {1, 1}, {0.5, 1}}}},
	}, 2)
	large := Detection{Class: "a", Confidence: 0.95, Box: Box{500, 500, 499, 499}}
	got, labels := c.named(n,
		thing("a", 0.99, 100, 600), thing("b", 0.98, 600, 600), large, thing("a", 0.97, 600, 100), thing("a", 0.4, 600, 600),
		thing("a", 0.6, 700, 700), thing("a", 0.7, 800, 700), thing("a", 0.8, 900, 700))
	if !slices.Equal(got, []int{880, 780}) || len(c.told) != 1 || !slices.Equal(labels, []string{""}) {
		t.Errorf("classified %v, told %+v", got, c.told)
	}
	var names []string
	for _, d := range c.told[0].Detections {
		names = append(names, d.Label)
	}
	if !slices.Equal(names, []string{"", "at 780", "at 880"}) {
		t.Errorf("labels %q", names)
	}
	if got, _ := c.named(n, thing("a", 0.99, 100, 600)); got != nil {
		t.Errorf("classified %v of a frame without an event", got)
	}
}

// TestTheSecondStageSeesOnlyFramesThatAreTold, by the policy.
func TestTheSecondStageSeesOnlyFramesThatAreTold(t *testing.T) {
	c, n := namedBy(t, JudgeOptions{Policy: PolicyOnChange, Debounce: 2}, 1)
	for i, want := range [][]int{nil, {580}, nil, nil} {
		if got, labels := c.named(n, thing("a", 0.9, 600, 600)); !slices.Equal(got, want) || (want != nil && !slices.Equal(labels, []string{"at 580"})) {
			t.Errorf("frame %d: classified %v, told %q; want %v", i, got, labels, want)
		}
	}

	c, n = namedBy(t, JudgeOptions{Policy: PolicyTrack, Tracking: TrackOptions{Confirm: 2}}, 1)
	for i, want := range [][]int{nil, {580}, {580}} { // any frame may be the track's last
		if got, labels := c.named(n, thing("a", 0.9, 600, 600)); !slices.Equal(got, want) || (i == 1 && !slices.Equal(labels, []string{"at 580"})) {
			t.Errorf("frame %d: classified %v, told %q; want %v", i, got, labels, want)
		}
	}
	c.told = nil
	c.close(c.emit)
	if len(c.told) != 2 || c.told[0].Detections[0].Label != "at 580" || c.told[1].Detections[0].Label != "at 580" {
		t.Errorf("best and end: %+v", c.told)
	}
}

// TestTheWatchdogDoesNotWaitForTheSecondStage, which may take long.
func TestTheWatchdogDoesNotWaitForTheSecondStage(t *testing.T) {
	c, n := namedBy(t, JudgeOptions{Policy: PolicyTrack, Tracking: TrackOptions{Confirm: 1}}, 1)
	n.during = func() { c.expire(c.last.Add(c.silence*2), c.emit) }
	c.named(n, thing("a", 0.9, 600, 600)) // its track ends before it was told
	c.named(n, thing("a", 0.9, 600, 600))
	if c.told != nil {
		t.Errorf("told %s of a track that had ended", tell(c.told))
	}
	n.during = nil
	c.named(n, thing("a", 0.9, 600, 600))
	if told := tell(c.told); told != "start a#3" {
		t.Errorf("told %q", told)
	}
}
