package main

import (
	"fmt"
	"time"

	"outstation/vision"
	"outstation/vision/models"
)

// trialRecent is how long ago the last inspection may be when a version is
// trusted: one that has stopped to answer proves nothing.
const trialRecent = time.Minute

// leaveHung rolls back a version on trial whose detector does not answer. The
// detector cannot be replaced before the program ends, so only what the next
// start loads is changed. Nothing is opened: where a driver hangs, that would
// hang too. It does not wait for an activation, which may wait for that detector.
func (k *modelKeeper) leaveHung(name string) {
	if k.vision == nil {
		return
	}
	for _, m := range k.statsOf(name) {
		if !m.Hung {
			continue
		}
		st, err := k.store.State(name)
		if err != nil || st.Trial == nil {
			return // what cannot be read is said in health
		}
		if m.ModelSHA256 == st.Current {
			k.goBack(name, st.Current, hungReason(m))
			return
		}
	}
}

func hungReason(m vision.ModelStats) string {
	return fmt.Sprintf("in its trial the detector of model %s does not answer since %s", m.Name, m.RunningSince.UTC().Format(time.RFC3339))
}

// answers reports whether what shows a name inspects frames now: one of them
// has done so lately, and none is in a call for longer.
func (k *modelKeeper) answers(name string) bool {
	some := false
	for _, m := range k.statsOf(name) {
		if !m.RunningSince.IsZero() && time.Since(m.RunningSince) > k.recent {
			return false
		}
		some = some || time.Since(m.LastInspected) <= k.recent // of the pipeline's clock, whatever k.now is
	}
	return some
}

// failingText is what health and the page say of a detector that only fails;
// "" while there are too few failures to say that.
func failingText(m vision.ModelStats) string {
	if m.Failing < models.TrialErrors {
		return ""
	}
	text := fmt.Sprintf("the last %d inspections failed, the last: %s", m.Failing, m.Failure)
	if m.Reopened > 0 {
		text += fmt.Sprintf("; opened anew so far: %d", m.Reopened)
	}
	return text
}

// hungText is what health and the page say of a detector that does not answer;
// "" while it does.
func hungText(m vision.ModelStats, now time.Time) string {
	if !m.Hung {
		return ""
	}
	return fmt.Sprintf("the detector does not answer since %s (%v)", m.RunningSince.UTC().Format(time.RFC3339), now.Sub(m.RunningSince).Round(time.Second))
}
