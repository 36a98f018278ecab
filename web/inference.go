package web

import "time"

// Inference is how a model's frames are run.
type Inference struct {
	Nodes string `json:"nodes"` // which provider ran how many, in words; empty where it was not proven
	Rates string `json:"rates"` // what batches were measured, in words; empty where none were

	MaxBatch  int         `json:"max_batch"` // frames in one run; 1 is no batching
	Runs      uint64      `json:"runs"`
	MeanBatch float64     `json:"mean_batch"` // frames in a run, since the start
	Sizes     []BatchSize `json:"sizes"`
	WaitP50MS float64     `json:"wait_p50_ms"` // of recent batches, for further frames
	WaitP99MS float64     `json:"wait_p99_ms"`

	FailedBatches uint64 `json:"failed_batches"` // as a whole; their frames were inspected one by one
	Stopped       string `json:"stopped"`        // why there are no batches any more

	Upgrade      string  `json:"upgrade"`   // what is being made while the model serves
	UpgradeS     float64 `json:"upgrade_s"` // for how long
	UpgradeError string  `json:"upgrade_error"`

	Hung     string `json:"hung"`     // since when the detector does not answer, in words; empty while it does
	Failing  string `json:"failing"`  // that it only fails, in words; empty while it does not
	Reopened uint64 `json:"reopened"` // times that it was closed and opened anew, as it only failed
}

// BatchSize counts the runs of so many frames.
type BatchSize struct {
	Frames string `json:"frames"` // such as "3-4"
	Runs   uint64 `json:"runs"`
}

// noteInference says on the page how a model runs.
func noteInference(st *stage, i Inference) {
	if i.MaxBatch > 1 {
		st.note("%s frames a run, %s ms of waiting for them (p99 %s)", decimal(i.MeanBatch), decimal(i.WaitP50MS), decimal(i.WaitP99MS))
	}
	if i.FailedBatches > 0 {
		st.note("%s failed as a whole", many(i.FailedBatches, "batch", "batches"))
	}
	if i.Stopped != "" {
		st.Tone, st.Word = toneWarn, "without batches"
		st.note("%s", i.Stopped)
	}
	switch {
	case i.UpgradeError != "":
		st.Tone, st.Word = toneWarn, "on a fallback"
		st.note("%s could not be made: %s", i.Upgrade, i.UpgradeError)
	case i.Upgrade != "":
		st.Tone, st.Word = toneWarn, "on a fallback"
		st.note("making %s: %v so far", i.Upgrade, time.Duration(i.UpgradeS)*time.Second)
	}
	switch {
	case i.Hung != "":
		st.Tone, st.Word = toneBad, "hung"
		st.note("%s", i.Hung)
	case i.Failing != "":
		st.Tone, st.Word = toneBad, "failing"
		st.note("%s", i.Failing)
	case i.Reopened > 0:
		st.note("opened anew %s, as it only failed", many(i.Reopened, "time", "times"))
	}
}

// inference are the metrics of how a model's frames are run.
func (k sink) inference(i Inference, labels []string) {
	k.gauge("detector_max_batch_frames", "Frames that one run may have.", float64(i.MaxBatch), labels...)
	for _, s := range i.Sizes {
		k.counter("detector_runs_total", "Runs of the model, by how many frames they had.", s.Runs, append(labels[:len(labels):len(labels)], "frames", s.Frames)...)
	}
	k.gauge("detector_hung", "Whether a call into the detector does not return.", oneIf(i.Hung != ""), labels...)
	k.gauge("detector_failing", "Whether the detector only fails.", oneIf(i.Failing != ""), labels...)
	k.counter("detector_reopened_total", "Times that a detector that only failed was closed and opened anew.", i.Reopened, labels...)
	k.counter("detector_failed_batches_total", "Batches that failed as a whole.", i.FailedBatches, labels...)
	k.gauge("detector_batch_wait_seconds", "Median time that a recent batch waited for further frames.", seconds(i.WaitP50MS), labels...)
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
