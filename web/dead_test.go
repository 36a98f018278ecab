package web

import (
	"slices"
	"testing"
	"time"
)

func TestQueueStageSaysWhenDeadLettersAreRetried(t *testing.T) {
	for want, d := range map[string]DeadLetters{
		"retried in 14\u00a0h":        {Letters: 1, NextRetryAt: noon.Add(14 * time.Hour)},
		"retried when the link is up": {Letters: 2, NextRetryAt: noon.Add(-time.Minute)},
		"being retried":               {Letters: 2, Retrying: true, NextRetryAt: noon.Add(time.Hour)},
		"not retried by the clock":    {Letters: 2},
	} {
		st := queueStage(Snapshot{Now: noon, Dead: d, Ledger: []RouteLedger{{Dead: Amount{Records: d.Letters}}}})
		if !slices.Contains(st.Notes, want) || st.Tone != toneWarn {
			t.Errorf("got %q with the tone %s, expected %q", st.Notes, st.Tone, want)
		}
	}
	if st := queueStage(Snapshot{Now: noon}); st.Tone != toneOK {
		t.Errorf("tone %s without dead letters", st.Tone)
	}
}
