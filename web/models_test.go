package web

import (
	"strings"
	"testing"
	"time"
)

func TestPageShowsWhatBecameOfAModel(t *testing.T) {
	s := line()
	sum := strings.Repeat("ab", 32)
	s.Detectors[0].ModelSHA256 = sum
	plain := words(t, s)
	if !strings.Contains(plain, "version abababababab") || strings.Contains(plain, "rolled back") {
		t.Errorf("a model of no store: got %s", plain)
	}
	s.Detectors[0].Stored = &StoredModel{
		Name: "press", Version: sum, Gate: "skipped", TrialUntil: time.Date(2026, 11, 21, 12, 4, 5, 0, time.UTC),
		RolledBackFrom: strings.Repeat("cd", 32), RolledBackAt: time.Date(2026, 11, 21, 11, 0, 0, 0, time.UTC), RolledBackWhy: "10 inferences failed",
		Problem: "active.json is damaged",
	}
	body := words(t, s)
	for _, want := range []string{"version abababababab", "on trial until 2026-11-21 12:04:05 UTC", "activated without golden frames",
		"rolled back from cdcdcdcdcdcd at 2026-11-21 11:00:00 UTC: 10 inferences failed", "active.json is damaged"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if d := s.Detectors[0]; !lossOf(d, "rolled back from") {
		t.Error("a model that was rolled back by itself is shown calmly")
	}
	s.Detectors[0].Stored.RolledBackByHand = true
	if d := s.Detectors[0]; lossOf(d, "rolled back from") || !lossOf(d, "active.json") {
		t.Error("a rollback that somebody asked for is shown as a fault, or all is shown calmly")
	}
	s.Detectors[0].Stored = &StoredModel{Name: "press"}
	if body := words(t, s); !strings.Contains(body, "no version of press is active") {
		t.Error("the page does not say that no version is active")
	}
}

// TestPageShowsAnActivation, which may take minutes.
func TestPageShowsAnActivation(t *testing.T) {
	s := line()
	if body := words(t, s); strings.Contains(body, "Activating") {
		t.Error("nothing is being activated")
	}
	s.Activating = &Activating{Name: "press", Version: strings.Repeat("ab", 32), Before: strings.Repeat("cd", 32), Step: "making an engine",
		Since: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC), StepSince: time.Date(2026, 11, 21, 12, 0, 5, 0, time.UTC)}
	want := "Activating press@abababababab since 2026-11-21 12:00:00 UTC: making an engine since 2026-11-21 12:00:05 UTC; meanwhile version cdcdcdcdcdcd stays active."
	if body := words(t, s); !strings.Contains(body, want) {
		t.Errorf("the page does not say %q", want)
	}
	s.Activating.Before = ""
	if body := words(t, s); !strings.Contains(body, "meanwhile no version of it is active") {
		t.Error("the page does not say that nothing serves")
	}
}

// lossOf says whether the note that begins with text is one to look at.
func lossOf(d Detector, text string) bool {
	for _, n := range modelNotes(d) {
		if strings.HasPrefix(n.Text, text) {
			return n.Loss
		}
	}
	return false
}
