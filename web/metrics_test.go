package web

import (
	"math"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// registryOf returns a registry with the metrics of the appliance alone.
func registryOf(s Snapshot) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collector{func() Snapshot { return s }})
	return r
}

func TestMetricsPassTheLinter(t *testing.T) {
	families, err := registryOf(line()).Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestMetricsAreTheSnapshot(t *testing.T) {
	got := ask(t, serverOf(line()), "GET", "/metrics", "")
	if got.code != 200 {
		t.Fatalf("got %d %s", got.code, got.body)
	}
	var ours strings.Builder
	for l := range strings.Lines(got.body) {
		if strings.HasPrefix(l, "outstation_") {
			ours.WriteString(l)
		}
	}
	golden(t, "metrics.txt", ours.String())
	for _, name := range []string{"go_goroutines ", "process_resident_memory_bytes "} {
		if !strings.Contains(got.body, name) {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestMetricsSurviveAHostileSnapshot(t *testing.T) {
	s := line()
	s.Cameras[0].ID = "\xff\"\n}"
	s.Cameras = append(s.Cameras, s.Cameras[1]) // two cameras of one name
	got := ask(t, serverOf(s), "GET", "/metrics", "")
	if got.code != 200 || !strings.Contains(got.body, `camera="`+"\uFFFD"+`\"\n}"`) {
		t.Errorf("got %d without the camera of a strange name", got.code)
	}
	if !strings.Contains(got.body, `outstation_queue_records{lane="8"} 2500`) {
		t.Error("the other metrics are gone")
	}
}

func TestMetricsOfAnEmptySnapshot(t *testing.T) {
	families, err := registryOf(Snapshot{}).Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if name := f.GetName(); strings.Contains(name, "timestamp") || strings.Contains(name, "demo") {
			t.Errorf("%s is there without anything known", name)
		}
	}
}

// TestMetricsAreWhatPrometheusReads parses an answer with Prometheus' own parser, and looks at what that lets pass.
func TestMetricsAreWhatPrometheusReads(t *testing.T) {
	got := ask(t, serverOf(line()), "GET", "/metrics", "")
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(got.body))
	if err != nil {
		t.Fatal(err)
	}
	histograms := 0
	for name, f := range families {
		if !strings.HasPrefix(name, "outstation_") {
			continue
		}
		kind := f.GetType().String()
		if strings.HasSuffix(name, "_total") != (kind == "COUNTER") || f.GetHelp() == "" {
			t.Errorf("%s is a %s with the help %q", name, kind, f.GetHelp())
		}
		seen := map[string]bool{}
		for _, m := range f.GetMetric() {
			series := ""
			for _, l := range m.GetLabel() {
				series += l.String()
			}
			if seen[series] {
				t.Errorf("%s has %s twice", name, series)
			}
			seen[series] = true
			if kind != "HISTOGRAM" {
				continue
			}
			histograms++
			h, below, bound := m.GetHistogram(), uint64(0), 0.0
			for _, b := range h.GetBucket() {
				if b.GetCumulativeCount() < below || b.GetUpperBound() <= bound {
					t.Errorf("%s: %d up to %g after %d up to %g", name, b.GetCumulativeCount(), b.GetUpperBound(), below, bound)
				}
				below, bound = b.GetCumulativeCount(), b.GetUpperBound()
			}
			if !math.IsInf(bound, 1) || below != h.GetSampleCount() || h.GetSampleSum() <= 0 || len(h.GetBucket()) != 4 {
				t.Errorf("%s: %d up to %g, %d in all with the sum %g", name, below, bound, h.GetSampleCount(), h.GetSampleSum())
			}
		}
	}
	if histograms != 3 {
		t.Errorf("got %d histograms, expected 3", histograms)
	}
}

func TestMetricsSayInfinityOfABacklogThatDoesNotShrink(t *testing.T) {
	s := line()
	s.Queue.ClearsInS = nil
	got := ask(t, serverOf(s), "GET", "/metrics", "")
	if !strings.Contains(got.body, "outstation_queue_clearing_seconds +Inf\n") {
		t.Errorf("got %s", got.body)
	}
}
