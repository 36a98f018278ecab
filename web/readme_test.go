package web

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestTheREADMEHasEveryMetric compares its table with what is printed and with the names in the source, so that neither
// a metric that the fixture does not show nor a name that is gone is missed.
func TestTheREADMEHasEveryMetric(t *testing.T) {
	described := metricsOfREADME(t)
	families, err := registryOf(line()).Gather()
	if err != nil {
		t.Fatal(err)
	}
	printed := map[string]bool{}
	for _, f := range families {
		name := strings.TrimPrefix(f.GetName(), "outstation_")
		printed[name] = true
		if !described[name] {
			t.Errorf("web/README.md does not have %s", name)
		}
	}
	for name := range described {
		if !printed[name] {
			t.Errorf("web/README.md has %s, which is not printed", name)
		}
	}
	for name := range metricsOfSource(t) {
		if !printed[name] {
			t.Errorf("the fixture does not show %s", name)
		}
	}
}

// metricsOfREADME are the names in the first column of the table, with what stands in braces taken apart.
func metricsOfREADME(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, chapter, found := strings.Cut(string(text), "\n## Metrics\n")
	chapter, _, ended := strings.Cut(chapter, "\n## ")
	if !found || !ended {
		t.Fatal("there is no chapter of metrics")
	}
	quoted, out := regexp.MustCompile("`([^`]+)`"), map[string]bool{}
	for row := range strings.Lines(chapter) {
		if cells := strings.Split(row, "|"); len(cells) > 2 {
			for _, name := range quoted.FindAllStringSubmatch(cells[1], -1) {
				for _, full := range unfold(name[1]) {
					out[full] = true
				}
			}
		}
	}
	return out
}

// unfold makes a_c and b_c of {a,b}_c.
func unfold(name string) (out []string) {
	before, rest, found := strings.Cut(name, "{")
	if !found {
		return []string{name}
	}
	inside, after, _ := strings.Cut(rest, "}")
	for part := range strings.SplitSeq(inside, ",") {
		out = append(out, unfold(before+part+after)...)
	}
	return out
}

// metricsOfSource are the names that are written out in calls of a sink.
func metricsOfSource(t *testing.T) map[string]bool {
	t.Helper()
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	call, out := regexp.MustCompile(`\bk\.(?:counter|gauge|seconds|states|time|histogram)\("([a-z0-9_]+)",`), map[string]bool{}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		text, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range call.FindAllSubmatch(text, -1) {
			out[string(m[1])] = true
		}
	}
	if len(out) < 80 {
		t.Errorf("only %d names in the source", len(out))
	}
	return out
}
