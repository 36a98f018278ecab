package web

// Classifier is a model of the second stage, which names detections of the first.
type Classifier struct {
	Name  string `json:"name"`
	Ready bool   `json:"ready"`
	Error string `json:"error"` // why it is not loaded, or of the latest detection that it could not name; empty when all is well

	Labels  uint64 `json:"labels"`  // detections that it named
	Failed  uint64 `json:"failed"`  // that it could not
	Skipped uint64 `json:"skipped"` // beyond the most of a frame, or while it was being loaded

	RunP50MS float64 `json:"run_p50_ms"` // of recent detections, with the scaling of the picture
	RunP99MS float64 `json:"run_p99_ms"`
}

// noteClassifiers says on the page what the second stage does.
func noteClassifiers(st *stage, classifiers []Classifier) {
	for _, c := range classifiers {
		st.note("%s labels: %s", c.Name, count(c.Labels))
		if c.Error != "" {
			if st.Tone == toneOK {
				st.Tone, st.Word = toneWarn, "without labels"
			}
			st.note("%s: %s", c.Name, c.Error)
		}
	}
}

// classifiers are the metrics of the second stage.
func (k sink) classifiers(classifiers []Classifier) {
	for _, c := range classifiers {
		l := []string{"classifier", c.Name}
		ready := 0.0
		if c.Ready {
			ready = 1
		}
		k.gauge("classifier_ready", "Whether the classifier is loaded.", ready, l...)
		k.counter("classifier_labels_total", "Detections that the classifier named.", c.Labels, l...)
		k.counter("classifier_failed_total", "Detections that the classifier could not name.", c.Failed, l...)
		k.counter("classifier_skipped_total", "Detections that the classifier had no time for, or that came before it was loaded.", c.Skipped, l...)
		k.gauge("classifier_run_seconds", "Median time that a recent detection took.", seconds(c.RunP50MS), l...)
		k.gauge("classifier_run_slow_seconds", "Time within which 99 % of recent detections were named.", seconds(c.RunP99MS), l...)
	}
}
