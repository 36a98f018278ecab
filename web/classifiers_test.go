package web

import (
	"strings"
	"testing"
)

// TestThePageShowsTheSecondStage, and nothing of it where there is none.
func TestThePageShowsTheSecondStage(t *testing.T) {
	s := line()
	s.Detectors[0].Fallback = false // which would be the word of the stage
	s.Classifiers[0].Error = "a score is not a number"
	body := words(t, s)
	for _, want := range []string{"Second stage", "colour a score is not a number 90 412 71 3 1.25 4.50", "without labels", "colour labels: 90 412"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page does not say %q:\n%s", want, body)
		}
	}
	s.Classifiers = []Classifier{{Name: "colour"}}
	if body := words(t, s); !strings.Contains(body, "colour not loaded 0 0 0") || strings.Contains(body, "without labels") {
		t.Errorf("one that is being loaded:\n%s", body)
	}
	s.Classifiers = nil
	if body := words(t, s); strings.Contains(body, "Second stage") {
		t.Error("the page shows a second stage that there is not")
	}
}
