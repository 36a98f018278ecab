package acceptance

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"strings"
)

//go:embed report.html
var page string

var pageTemplate = template.Must(template.New("report").Funcs(template.FuncMap{
	"lines": func(s string) []string { return strings.Split(s, "\n") },
}).Parse(page))

// view is what the template is given.
type view struct {
	*Report
	Sentence string
	Deed     string
	Where    string // the centre
	Groups   []group
	About    []row
	Latency  []latencyRow
	Faults   []row
	Plots    []plot
}

type latencyRow struct{ Name, P50, P99, Note string }

// HTML writes the report as one page that needs nothing beside it.
func (r *Report) HTML(out io.Writer) error {
	v := view{Report: r, Sentence: r.sentence(), Deed: r.deed(), Where: r.centre(), Groups: r.groups(), About: r.about()}
	for _, l := range r.Latency {
		v.Latency = append(v.Latency, latencyRow{l.title(), l.p50(), l.p99(), l.note()})
	}
	for _, f := range r.Faults {
		v.Faults = append(v.Faults, row{Name: f.Kind, Value: f.words()})
	}
	v.Plots = []plot{r.queuePlot(), r.flowPlot(), r.latencyPlot()}
	if err := pageTemplate.Execute(out, v); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// JSON writes the report for programs.
func (r *Report) JSON(out io.Writer) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}
