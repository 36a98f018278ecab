package acceptance

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
)

// group is a part of the report as people read it.
type group struct {
	Title string
	Rows  []row
}

type row struct {
	Name, Value, Note string

	Main bool // what the verdict rests on
}

// entry is a row; one that is about the run has no note.
func entry(name, value string, note ...string) row {
	return row{Name: name, Value: value, Note: strings.Join(note, " ")}
}

// groups are the numbers of the report.
func (r *Report) groups() []group {
	return []group{
		{"What was made and what arrived", []row{
			entry("events made", count(r.EventsMade), "by the appliance, as it was last heard in each life"),
			entry("events accepted", count(r.EventsAccepted), "on disk: the ledger of route detection, over all lives"),
			entry("events at the centre", count(r.EventsAtCentre), "different event ids at a subscriber"),
			{Name: "lost", Value: count(r.Lost), Note: "accepted, and not at the centre", Main: true},
			entry("duplicates", count(r.Duplicates), "arrivals after the first; readers drop them by event_id"),
			entry("gaps in seq", count(r.SeqGaps), "numbers missing at the centre, over all kills"),
		}},
		{"What there was to see", []row{
			entry("parts shown", count(r.PartsShown), "wholly in view in at least one frame of the run"),
			entry("parts detected", count(r.PartsDetected), "by at least one event at the centre, IoU 0.5"),
			entry("parts nobody could see", count(r.PartsUnseen), "in view only while the process was dead or starting"),
			entry("parts missed", count(r.PartsMissed), "in view of a living process, and not detected"),
			entry("defects shown", count(r.DefectsShown), "on those parts"),
			entry("defects found", count(r.DefectsFound), "with their class, IoU 0.5"),
			entry("defects nobody could see", count(r.DefectsUnseen), "in view only while the process was dead or starting"),
			entry("boxes with nothing behind", fmt.Sprintf("%s of %s", count(r.DetectionsVain), count(r.Detections)), "in all events; how well the model finds things is not judged here, only whether anything is lost"),
		}},
		{"Frames", r.frameRows()},
	}
}

func (r *Report) frameRows() []row {
	rows := []row{
		entry("due", count(r.Frames.Due), "from the first that was read to the end of the run"),
		entry("read", count(r.Frames.Read), "by the appliance, as it was last heard in each life"),
		entry("inspected", count(r.Frames.Inspected)),
	}
	for _, d := range []struct{ why, note string }{
		{whyBusy, "a newer frame came before the detector was free"},
		{whyThrottled, "above the camera's fps"},
		{whyError, "the detector failed"},
		{whyFull, "inspected, but the buffer of events was full"},
		{whyDead, "due while the process was dead or starting: nobody saw it"},
	} {
		rows = append(rows, entry("dropped: "+strings.ReplaceAll(d.why, "_", " "), count(r.FramesDropped[d.why]), d.note))
	}
	return rows
}

// about says what was run, where and when.
func (r *Report) about() []row {
	var temperatures []string
	for _, t := range r.Temperature {
		temperatures = append(temperatures, fmt.Sprintf("%s %.1f to %.1f °C", t.Zone, t.Min, t.Max))
	}
	var cameras []string
	for _, c := range r.Cameras {
		cameras = append(cameras, c.ID+" "+c.Source)
	}
	at := func(t time.Time) string { return t.Format("2006-01-02 15:04:05 -07:00") }
	return []row{
		entry("appliance", fmt.Sprintf("%s at %s, %s", r.Device, r.Site, r.Region)),
		entry("centre", r.centre()),
		entry("time", fmt.Sprintf("%s to %s", at(r.Start), at(r.End))),
		entry("everything at the centre", fmt.Sprintf("%.1f s after the cameras stopped", r.DrainS)),
		entry("cameras", strings.Join(cameras, "\n")),
		entry("model", fmt.Sprintf("%s, sha256 %s", cmp.Or(r.Model, "unknown"), cmp.Or(r.SHA256, "unknown"))),
		entry("program", fmt.Sprintf("outstation %s, %s", r.Version, r.Go)),
		entry("machine", fmt.Sprintf("%s: %s, %d cores, %s, %s", r.Machine.Host, r.Machine.CPU, r.Machine.Cores, r.Machine.Arch, r.Machine.Kernel)),
		entry("temperature", cmp.Or(strings.Join(temperatures, ", "), "the machine shows none")),
		entry("seed of the plan", fmt.Sprint(r.Seed)),
	}
}

func (r *Report) centre() string {
	if r.StandIn {
		return "a stand-in on this machine: nothing was proved about the way to a real one"
	}
	return r.Centre
}

// deed says what was done.
func (r *Report) deed() string {
	n := map[string]int{}
	for _, f := range r.Faults {
		n[f.Kind]++
	}
	return fmt.Sprintf("A simulated line before %d cameras for %.3g min; the link was cut %s, the process was killed %s.",
		len(r.Cameras), r.End.Sub(r.Start).Minutes(), times(n[Outage]), times(n[Kill]))
}

func times(n int) string {
	switch n {
	case 0:
		return "never"
	case 1:
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// sentence is the verdict in words.
func (r *Report) sentence() string {
	switch r.Verdict {
	case Passed:
		return fmt.Sprintf("Passed: all %s accepted events are at the centre.", count(r.EventsAccepted))
	case Interrupted:
		return "Interrupted: this proves nothing."
	}
	return "Failed: see the reasons."
}

// Table writes the report as text.
func (r *Report) Table(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\n%s\n", r.deed())
	for _, g := range r.groups() {
		fmt.Fprintf(w, "\n%s\n", g.Title)
		for _, row := range g.Rows {
			fmt.Fprintf(w, "  %s\t%s\t%s\n", row.Name, row.Value, row.Note)
		}
	}
	fmt.Fprintf(w, "\nLatency\n  \tp50\tp99\t\n")
	for _, l := range r.Latency {
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", l.title(), l.p50(), l.p99(), l.note())
	}
	fmt.Fprintf(w, "\nOutages and kills, in seconds since the start\n")
	for _, f := range r.Faults {
		fmt.Fprintf(w, "  %s\t%s\n", f.Kind, f.words())
	}
	fmt.Fprintf(w, "\nAbout\n")
	for _, row := range r.about() {
		fmt.Fprintf(w, "  %s\t%s\n", row.Name, strings.ReplaceAll(row.Value, "\n", "\n  \t"))
	}
	fmt.Fprintf(w, "\n%s\n", r.sentence())
	for _, reason := range r.Reasons {
		fmt.Fprintf(w, "  %s\n", reason)
	}
	for _, note := range r.Notes {
		fmt.Fprintf(w, "  note: %s\n", note)
	}
	return w.Flush()
}

func (l Latency) title() string { name, _, _ := strings.Cut(l.What, ":"); return name }
func (l Latency) note() string  { _, note, _ := strings.Cut(l.What, ": "); return note }
func (l Latency) p50() string   { return l.words(l.P50MS) }
func (l Latency) p99() string   { return l.words(l.P99MS) }

func (l Latency) words(ms float64) string {
	if l.Count == 0 {
		return "–"
	}
	if l.AtMost {
		return "≤ " + duration(ms)
	}
	return duration(ms)
}

// duration writes milliseconds with three digits or so.
func duration(ms float64) string {
	switch {
	case ms >= 10_000:
		return fmt.Sprintf("%.1f s", ms/1000)
	case ms >= 100:
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.3g ms", ms)
}

func (f Fault) words() string {
	end := fmt.Sprintf("%.1f to %.1f", f.FromS, f.ToS)
	if f.ToS == 0 {
		end = fmt.Sprintf("%.1f, not ended", f.FromS)
	}
	what := "the link stood again"
	if f.Kind == Kill {
		what = "all cameras showed frames again"
	}
	if f.RecoveredS == 0 {
		return end + "; it was not seen to recover"
	}
	return fmt.Sprintf("%s; %s at %.1f", end, what, f.RecoveredS)
}

func count[N int | int64](n N) string { return humanize.Comma(int64(n)) }
