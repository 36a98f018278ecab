package web

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
		out = append(out, modelNote{"rolled back from " + shortHash(s.RolledBackFrom) + " at " + stamp(s.RolledBackAt) + ": " + s.RolledBackWhy, true})
	}
	if s.Problem != "" {
		out = append(out, modelNote{s.Problem, true})
	}
	return out
}

// shortHash is as much of a hash as tells versions apart.
func shortHash(sum string) string { return sum[:min(12, len(sum))] }
