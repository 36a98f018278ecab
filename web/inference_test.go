package web

import (
	"strings"
	"testing"
)

// TestThePageSaysHowAModelRuns: what is wrong with it changes the stage.
func TestThePageSaysHowAModelRuns(t *testing.T) {
	for name, c := range map[string]struct {
		i          Inference
		tone, want string
	}{
		"batches":       {Inference{MaxBatch: 4, MeanBatch: 2.5, WaitP50MS: 3, WaitP99MS: 10}, toneOK, "2.5 frames a run, 3.0 ms of waiting for them (p99 10"},
		"bad batches":   {Inference{MaxBatch: 4, FailedBatches: 2}, toneOK, "2 batches failed as a whole"},
		"none any more": {Inference{MaxBatch: 1, Stopped: "3 batches in a row failed"}, toneWarn, "3 batches in a row failed"},
		"an upgrade":    {Inference{Upgrade: "the engine", UpgradeS: 250}, toneWarn, "making the engine: 4m10s so far"},
		"hung":          {Inference{Hung: "the detector does not answer since 12:00", Stopped: "x"}, toneBad, "does not answer since 12:00"},
		"failing":       {Inference{Failing: "the last 12 inspections failed", Reopened: 2}, toneBad, "the last 12 inspections failed"},
		"opened anew":   {Inference{Reopened: 2}, toneOK, "opened anew 2 times, as it only failed"},
		"no upgrade":    {Inference{Upgrade: "the engine", UpgradeError: "no memory"}, toneWarn, "the engine could not be made: no memory"},
	} {
		t.Run(name, func(t *testing.T) {
			st := detectorStage(Snapshot{Detectors: []Detector{{Model: "m", Provider: "cpu", Inference: c.i}}})
			if all := strings.Join(st.Notes, "\n"); st.Tone != c.tone || !strings.Contains(all, c.want) {
				t.Errorf("tone %s, notes\n%s\nwant %s and %q", st.Tone, all, c.tone, c.want)
			}
			if (st.Unit == "ms a run") != (c.i.MeanBatch > 1) {
				t.Errorf("the unit is %q for batches of %v", st.Unit, c.i.MeanBatch)
			}
		})
	}
}

func TestTheTableSaysWhatRunsAModel(t *testing.T) {
	want := "cpu 213 of its 215 nodes; 2 on cpu: Shape, Gather up to 4 frames a run (measured: 60 img/s with 1, 96 img/s with 4) not tensorrt:"
	if got := words(t, line()); !strings.Contains(got, want) {
		t.Errorf("the page does not say %q:\n%s", want, got)
	}
}
