package web

import (
	"strings"
	"testing"
	"time"
)

func TestThePageSaysWhenACameraDoesNotLook(t *testing.T) {
	got := words(t, line())
	for _, want := range []string{
		"looked 99.8 % of the last hour, 94.1 % of the last day", // never rounded up
		"not looking for 4 min: no picture comes looked 93.0 % of the last hour, 100 % of the last day 2 calls to it have never returned",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the page does not say %q:\n%s", want, got)
		}
	}
	for known, want := range map[time.Duration]string{
		39 * time.Minute: "looked 99.8 % of the 39 min since it is known",
		5 * time.Hour:    "looked 99.8 % of the last hour, 94.1 % of the 5 h since it is known",
		25 * time.Hour:   "looked 99.8 % of the last hour, 94.1 % of the last day",
	} {
		s := line()
		s.Cameras[0].Looked.KnownSince = noon.Add(-known)
		if got := words(t, s); !strings.Contains(got, want) {
			t.Errorf("known for %v: the page does not say %q:\n%s", known, want, got)
		}
	}
	s := line()
	s.Cameras[0].Looked, s.Cameras[1].Looked, s.Cameras[1].Stuck = nil, nil, 1
	if got := words(t, s); strings.Contains(got, "looked") || strings.Contains(got, "not looking") || !strings.Contains(got, "1 call to it has never returned") {
		t.Errorf("of cameras that are not inspected the page says:\n%s", got)
	}
	for reason, want := range map[string]string{
		"dropped": "the detector does not take the pictures", "throttled": "the appliance spares itself",
		"masked": "nothing moves in the picture", "off": "the pipeline is off",
	} {
		s := line()
		s.Cameras[1].Looked.BlindReason = reason
		if got := words(t, s); !strings.Contains(got, want) {
			t.Errorf("%s: the page does not say %q", reason, want)
		}
	}
}

func TestThePageSaysWhyACameraWasBlind(t *testing.T) {
	s := line()
	const want = "blind since the start and just before it: 31 s (no picture comes), 7 min (the pipeline is off)"
	if got := words(t, s); !strings.Contains(got, want) {
		t.Errorf("the page does not say %q", want)
	}
	if got := blindTimesOf(Camera{Looked: &Looked{Blind: []BlindTime{{"stalled", 0}, {"off", 0.4}}}}); got != "" {
		t.Errorf("of a camera that was never blind: %q", got)
	}
	if got := blindTimesOf(Camera{}); got != "" {
		t.Errorf("of a camera without a model: %q", got)
	}
	if got := words(t, s); !strings.Contains(got, "4.9 inspected, at most 10.0") {
		t.Error("the page does not say how many frames a second are inspected")
	}
}
