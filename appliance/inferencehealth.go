package main

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"outstation/uplink/wire"
	"outstation/vision"
	"outstation/web"
)

// modelCheck says what a model runs on. It is unhealthy on another provider
// than it was meant for; asked says that somebody chose the providers.
func modelCheck(m vision.ModelStats, asked bool, now time.Time) wire.Check {
	name := "model " + m.Name
	on := "runs on " + m.Provider
	missed, fallback := unmet(m.Refused, asked)
	switch {
	case m.Hung:
		return check(name, wire.Unhealthy, hungText(m, now))
	case failingText(m) != "":
		return check(name, wire.Unhealthy, cmp.Or(m.Error, failingText(m)))
	case m.Error != "" && m.NoProvider && asked:
		return check(name, wire.Unhealthy, m.Error)
	case m.Error != "":
		return check(name, wire.Impaired, m.Error)
	case !m.Ready && !m.LoadingSince.IsZero():
		return check(name, wire.Impaired, fmt.Sprintf("loading for %v so far", now.Sub(m.LoadingSince).Round(time.Second)))
	case !m.Ready:
		return check(name, wire.Impaired, "loading")
	case m.Upgrade.Error != "":
		return check(name, wire.Unhealthy, fmt.Sprintf("%s; %s could not be made: %s", on, m.Upgrade.What, m.Upgrade.Error))
	case m.Upgrade.What != "":
		return check(name, wire.Impaired, on+" while "+upgradeText(m.Upgrade, now))
	case fallback:
		return check(name, wire.Unhealthy, fmt.Sprintf("%s, not on %s: %s; if that is all there is here, set vision.providers: [%s]", on, missed.Provider, missed.Reason, m.Provider))
	case m.Unproven != "":
		return check(name, wire.Impaired, on+"; "+unproven(m))
	case m.Batch.Stopped != "":
		return check(name, wire.Impaired, on+" without batches: "+m.Batch.Stopped)
	}
	for _, r := range m.Refused {
		on += fmt.Sprintf("; not on %s, which nobody asked for: %s", r.Provider, r.Reason)
	}
	return check(name, wire.Healthy, strings.Join(append([]string{on}, inference(m)...), "; "))
}

// unmet is the provider that a model was meant for and does not run on: the
// first of a list that somebody wrote, else the first that somebody installed.
func unmet(refused []vision.Refusal, asked bool) (vision.Refusal, bool) {
	for _, r := range refused {
		if asked || r.Installed {
			return r, true
		}
	}
	return vision.Refusal{}, false
}

// inference is what a healthy model's check says besides its provider.
func inference(m vision.ModelStats) (parts []string) {
	if text := nodesText(m.Nodes); text != "" {
		parts = append(parts, text)
	}
	if text := ratesText(m.Batch); text != "" {
		parts = append(parts, text)
	}
	return parts
}

// unproven says that the proof of where the nodes run could not be made; "" where
// it was, or was not asked for.
func unproven(m vision.ModelStats) string {
	if m.Unproven == "" {
		return ""
	}
	return "where its nodes run was not recorded: " + m.Unproven + "; it needs a little room below data_dir or in the temporary directory"
}

// nodesText is which provider ran the nodes: "213 of its 215 nodes; 2 on cpu:
// Shape, Gather".
func nodesText(nodes []vision.NodeCount) string {
	total := 0
	for _, n := range nodes {
		total += n.Nodes
	}
	if total == 0 {
		return ""
	}
	if nodes[0].Nodes == total {
		return fmt.Sprintf("all its %d nodes", total)
	}
	text := fmt.Sprintf("%d of its %d nodes", nodes[0].Nodes, total)
	for _, n := range nodes[1:] {
		text += fmt.Sprintf("; %d on %s: %s", n.Nodes, n.Provider, strings.Join(n.Ops, ", "))
	}
	return text
}

// ratesText is how many frames a run takes, and why: "one frame a run
// (measured: 84 img/s with 1, 80 img/s with 8)".
func ratesText(b vision.BatchStats) string {
	var rates []string
	for _, r := range b.Rates {
		if r.Error != "" {
			rates = append(rates, fmt.Sprintf("%s with %d", r.Error, r.Batch))
			continue
		}
		rates = append(rates, fmt.Sprintf("%.0f img/s with %d", r.PerSecond, r.Batch))
	}
	if len(rates) == 0 && b.Max <= 1 {
		return ""
	}
	text := "one frame a run"
	if b.Max > 1 {
		text = fmt.Sprintf("up to %d frames a run", b.Max)
	}
	if len(rates) > 0 {
		text += " (measured: " + strings.Join(rates, ", ") + ")"
	}
	return text
}

// upgradeText is what is being made and since when.
func upgradeText(u vision.UpgradeStats, now time.Time) string {
	return fmt.Sprintf("making %s: %v so far", u.What, now.Sub(u.Since).Round(time.Second))
}

// webInference is what the page shows of how a model runs.
func webInference(m vision.ModelStats, now time.Time) web.Inference {
	out := web.Inference{
		Nodes: cmp.Or(nodesText(m.Nodes), unproven(m)), Rates: ratesText(m.Batch), MaxBatch: m.Batch.Max, MeanBatch: m.Batch.Mean, Runs: m.Batch.Runs,
		WaitP50MS: ms(m.Batch.Wait.P50), WaitP99MS: ms(m.Batch.Wait.P99), FailedBatches: m.Batch.Failed, Stopped: m.Batch.Stopped,
		Upgrade: m.Upgrade.What, UpgradeError: m.Upgrade.Error,
		Hung: hungText(m, now), Failing: failingText(m), Reopened: m.Reopened,
	}
	if m.Upgrade.What != "" {
		out.UpgradeS = now.Sub(m.Upgrade.Since).Seconds()
	}
	for i, name := range vision.BatchSizes() {
		out.Sizes = append(out.Sizes, web.BatchSize{Frames: name, Runs: m.Batch.Sizes[i]})
	}
	return out
}
