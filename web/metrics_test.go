package web

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
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
	if !strings.Contains(got.body, "outstation_queue_records 3120") {
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
