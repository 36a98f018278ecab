package web

import (
	"fmt"
	"time"
)

// modelNote is a line below a model's name.
type modelNote struct {
	Text string
	Loss bool // somebody should look at it
}

// modelNotes says which version of a model runs, and what became of others.
func modelNotes(d Detector) []modelNote {
	var out []modelNote
	if d.ModelSHA256 != "" {
		out = append(out, modelNote{"version " + shortHash(d.ModelSHA256), false})
	}
	for _, said := range []string{d.Inference.Hung, d.Inference.Failing} {
		if said != "" {
			out = append(out, modelNote{said, true})
		}
	}
	s := d.Stored
	if s == nil {
		return out
	}
	if s.Version == "" {
		out = append(out, modelNote{"no version of " + s.Name + " is active", true})
	}
	if !s.TrialUntil.IsZero() {
		out = append(out, modelNote{"on trial until " + stamp(s.TrialUntil) + " at least", false})
	}
	if s.Gate == "skipped" {
		out = append(out, modelNote{"activated without golden frames", true})
	}
	if s.RolledBackFrom != "" {
		out = append(out, modelNote{"rolled back from " + shortHash(s.RolledBackFrom) + " at " + stamp(s.RolledBackAt) + ": " + s.RolledBackWhy, !s.RolledBackByHand})
	}
	if s.Problem != "" {
		out = append(out, modelNote{s.Problem, true})
	}
	return out
}

// Activating is the version of a model of the store that is being activated, which may take minutes.
type Activating struct {
	Name      string    `json:"name"`             // in the store
	Version   string    `json:"version"`          // SHA-256
	Before    string    `json:"before,omitempty"` // SHA-256 of the version that is active meanwhile; "" where none is
	Since     time.Time `json:"since"`
	Step      string    `json:"step"` // what is done just now
	StepSince time.Time `json:"step_since"`
}

// String says all of it in a sentence without its end.
func (a Activating) String() string {
	return fmt.Sprintf("Activating %s@%s since %s: %s since %s; meanwhile %s",
		a.Name, shortHash(a.Version), stamp(a.Since), a.Step, stamp(a.StepSince), a.Meanwhile())
}

// Meanwhile says what serves until the version does.
func (a Activating) Meanwhile() string {
	if a.Before == "" {
		return "no version of it is active"
	}
	return "version " + shortHash(a.Before) + " stays active"
}

// shortHash is as much of a hash as tells versions apart.
func shortHash(sum string) string { return sum[:min(12, len(sum))] }
