package acceptance

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"outstation/web"
)

func TestWritten(t *testing.T) {
	r := testRun(t)
	r.o.Device = "dev"
	arrive(t, r, 7)
	r.notes = []string{"a <b>note</b>"}
	r.faults = []Fault{{Outage, 3, 5, 6}, {Kill, 10, 11, 12}}
	r.samples = []Sample{{0, true, 0, true}, {1, true, 40, false}, {2, false, 0, false}, {3, true, 2, true}}
	p := r.report()
	var page, text, doc bytes.Buffer
	if err := p.HTML(&page); err != nil {
		t.Fatal(err)
	}
	if err := p.Table(&text); err != nil {
		t.Fatal(err)
	}
	if err := p.JSON(&doc); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Failed", "1 of 272 accepted events are not at the centre", "signature", "<path class=\"curve one\" d=\"M", "a &lt;b&gt;note", "shade kill"} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, bad := range []string{"http://", "https://", "NaN", "Inf", "ZgotmplZ", "src=", "url("} {
		if strings.Contains(page.String(), bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	for _, want := range []string{"parts detected", "lost", "Failed", "the link was cut once, the process was killed once"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, text.String())
		}
	}
	var keys map[string]any
	if err := json.Unmarshal(doc.Bytes(), &keys); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"lost", "duplicates", "parts_shown", "parts_detected", "events_made", "events_accepted", "events_at_centre", "seq_gaps", "latency", "frames_dropped", "verdict"} {
		if _, ok := keys[key]; !ok {
			t.Errorf("the document lacks %s", key)
		}
	}
	if keys["faults"] == nil || keys["notes"] == nil || keys["temperature"] == nil {
		t.Error("the document has a null for a list")
	}
	if keys["lost"] != 1.0 || keys["seq_gaps"] != 1.0 || keys["verdict"] != Failed {
		t.Errorf("lost %v, gaps %v, verdict %v", keys["lost"], keys["seq_gaps"], keys["verdict"])
	}
}

// TestEmptyReport draws what has no data.
func TestEmptyReport(t *testing.T) {
	r := testRun(t)
	r.end = r.start
	var page bytes.Buffer
	if err := r.report().HTML(&page); err != nil || strings.Contains(page.String(), "NaN") || strings.Contains(page.String(), "Inf") {
		t.Errorf("error %v:\n%s", err, page.String())
	}
}

func TestBuckets(t *testing.T) {
	h := func(counts ...uint64) web.Histogram {
		out := web.Histogram{Count: counts[2]}
		for i, le := range []float64{0.001, 0.01} {
			out.Buckets = append(out.Buckets, web.Bucket{LeS: le, Count: counts[i]})
		}
		return out
	}
	l := bucketed("n", "w", []web.Histogram{h(50, 60, 60), {}, h(10, 40, 40)})
	if l.Count != 100 || l.P50MS != 1 || l.P99MS != 10 || !l.AtMost {
		t.Errorf("%+v", l)
	}
}

func TestDisturbed(t *testing.T) {
	faults := []Fault{{Outage, 10, 12, 14}, {Kill, 30, 31, 0}}
	for at, want := range map[float64]bool{5: false, 9.5: true, 13: true, 15: false, 35: true} {
		if got := disturbed(time.Duration(at*float64(time.Second)), faults); got != want {
			t.Errorf("at %v s: %v", at, got)
		}
	}
}

func TestThermometer(t *testing.T) {
	dir := t.TempDir()
	zone := filepath.Join(dir, "thermal_zone0")
	th := thermometer{dir: dir}
	th.read()
	if err := os.Mkdir(zone, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(zone, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("type", "cpu-thermal\n")
	for _, milli := range []string{"41500\n", "not now", "39000", "52000\n"} {
		write("temp", milli)
		th.read()
	}
	if len(th.zones) != 1 || *th.zones[0] != (Temperature{"thermal_zone0 (cpu-thermal)", 39, 52}) {
		t.Errorf("%+v", th.zones)
	}
}
