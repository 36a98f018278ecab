//go:build !novision

package main

import (
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"outstation/uplink/wire"
	"outstation/vision/testfiles"
	"outstation/web"
)

// TestLabelsOfTheSecondStageReachTheCentre runs the real program on the
// simulated line with a classifier that PyTorch exported: parts have a label at
// the centre, flaws have none, and the page and the metrics count the same.
func TestLabelsOfTheSecondStageReachTheCentre(t *testing.T) {
	centre := startMosquitto(t)
	seen := consume(t, centre.URL(), "vision/#")
	cfg := testConfig(t, t.TempDir(), centre.URL())
	cfg.Vision.ONNXRuntime = testfiles.Library().Need(t)
	cfg.Vision.Models = []ModelConfig{{Name: "line", Path: builtinLine}}
	colours := []string{"red", "green", "blue"}
	graph, err := filepath.Abs("../vision/onnx/testdata/classifier.onnx")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Vision.Classifiers = []ClassifierConfig{{Name: "colour", Path: graph, Labels: colours}, {Name: "missing", Path: graph + ".none", Labels: colours}}
	camera := CameraConfig{ID: "cam-1", Source: "sim://line?seed=3&fps=10", Model: "line"}
	camera.SetDefaults()
	camera.Classify = ClassifyConfig{Model: "colour", Classes: []string{"part"}}
	cfg.Vision.Cameras = []CameraConfig{camera}

	p := start(t, cfg, nil, binary(t))
	s := p.until("labels, and why there are none of the other", func(s web.Snapshot) bool {
		c := s.Classifiers
		return len(c) == 2 && c[0].Ready && c[0].Labels > 5 && c[1].Error != ""
	})
	if c := s.Classifiers; c[0].Name != "colour" || c[0].Failed != 0 || c[0].RunP50MS <= 0 || c[0].RunP99MS < c[0].RunP50MS || c[1].Ready {
		t.Errorf("got %+v", c)
	}
	p.until("health", func(s web.Snapshot) bool { return strings.Contains(s.Health.FirstCause, "classifier missing: ") })
	body := metricsOf(t, cfg)
	for _, want := range []string{`outstation_classifier_ready{classifier="colour"} 1`, `outstation_classifier_ready{classifier="missing"} 0`,
		`outstation_classifier_failed_total{classifier="colour"} 0`, `outstation_classifier_run_seconds{classifier="colour"}`} {
		if !strings.Contains(body, want) {
			t.Errorf("the metrics do not say %s", want)
		}
	}
	for _, name := range []string{"labels_total", "run_seconds"} {
		if strings.Contains(body, "outstation_classifier_"+name+`{classifier="colour"} 0`+"\n") {
			t.Errorf("the metrics say that nothing was named: %s is 0", name)
		}
	}
	p.eventually("labels at the centre", func() bool { return labelled(t, seen, colours) > 5 })
	if code := p.stop(); code != 0 {
		t.Errorf("exit status %d:\n%s", code, p.out.String())
	}
}

// labelled counts the parts at the centre that have a label.
func labelled(t *testing.T, seen *consumer, labels []string) (n int) {
	t.Helper()
	for _, m := range seen.on(detectionTopic) {
		d, err := wire.ParseDetection(m.Payload())
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range d.Detections {
			switch {
			case o.Label == "":
			case o.Class != "part", !slices.Contains(labels, o.Label), o.LabelConfidence < 0.33: // the best of three
				t.Fatalf("got %s", m.Payload())
			default:
				n++
			}
		}
	}
	return n
}

func metricsOf(t *testing.T, cfg Config) string {
	t.Helper()
	r, err := http.Get("http://" + cfg.Web.Listen + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
