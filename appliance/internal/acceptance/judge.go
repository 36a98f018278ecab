package acceptance

import (
	"fmt"
	"slices"
	"strings"

	"outstation/web"
)

// report draws up the account.
func (r *run) report() *Report {
	frames, made, dropped := spent(r.lives)
	out := &Report{
		Reasons: []string{}, Notes: append([]string{}, r.notes...), Temperature: []Temperature{}, // no reader of the JSON meets a null
		Start: r.start, End: r.end, Seed: r.o.Seed, DrainS: r.drained.Seconds(), Faults: append([]Fault{}, r.faults...),
		Device: r.o.Device, Region: r.o.Region, Site: r.o.Site, Centre: strings.Join(r.o.Centre.Brokers, " "), StandIn: r.o.StandIn, Cameras: r.o.Cameras,
		Version: r.o.Version, Go: goVersion(), Machine: thisMachine(),
		Samples: r.samples, Frames: frames, FramesDropped: dropped, Ledger: r.ledger,
	}
	for _, z := range r.heat.zones {
		out.Temperature = append(out.Temperature, *z)
	}
	r.compare(out)
	out.Notes = append(out.Notes, r.remarks()...)
	out.EventsAccepted = int64(r.ledger.Accepted.Records)
	out.EventsLeft = int64(r.ledger.Queued.Records)
	out.EventsMade = max(made, out.EventsAccepted) // a kill takes the last count with it
	if refused := out.EventsMade - out.EventsAccepted; refused > 0 {
		out.Notes = append(out.Notes, fmt.Sprintf("%d events were made and not accepted: a kill took them before they were on disk, or the queue refused them", refused))
	}
	out.Lost = max(0, out.EventsAccepted-out.EventsAtCentre)
	out.arrivals = r.account.latest()
	out.Latency = latencies(out.arrivals, r.faults, r.start, append(slices.Clone(r.lives), &r.drain))
	out.Flow = flow(out.arrivals, r.start, r.end.Add(r.drained))
	r.judge(out)
	return out
}

// compare lays the truth beside what arrived.
func (r *run) compare(out *Report) {
	a := r.account
	a.mu.Lock()
	defer a.mu.Unlock()
	out.EventsAtCentre, out.Duplicates = int64(len(a.ids)), a.duplicates
	out.Detections, out.DetectionsVain, out.Model, out.SHA256 = a.detections, a.wrong, a.model, a.sum
	for _, camera := range r.o.Cameras {
		c := a.cameras[camera.ID]
		gaps, first := c.gaps()
		out.SeqGaps += gaps
		if gaps > 0 {
			out.Reasons = append(out.Reasons, fmt.Sprintf("camera %s: %d numbers are missing at the centre, the first of them %v", camera.ID, gaps, first))
		}
		if c.twice > 0 {
			out.Reasons = append(out.Reasons, fmt.Sprintf("camera %s: %d events have the number of another", camera.ID, c.twice))
		}
		s := c.shown(r.lives, camera.ID)
		out.Frames.Due += s.due
		out.FramesDropped[whyDead] += s.dead
		lost := without(s.all.parts, c.found.parts)
		out.PartsShown += len(s.all.parts)
		out.PartsUnseen += len(s.unseen.parts)
		out.PartsDetected += len(s.all.parts) - len(lost)
		out.PartsMissed += len(without(lost, s.unseen.parts))
		out.DefectsShown += len(s.all.flaws)
		out.DefectsUnseen += len(s.unseen.flaws)
		out.DefectsFound += len(s.all.flaws) - len(without(s.all.flaws, c.found.flaws))
	}
	if a.again > 0 {
		out.Notes = append(out.Notes, fmt.Sprintf("the centre delivered %d events again to this reader, whose connection was lost; they are no duplicates", a.again))
	}
	if a.foreign > 0 {
		out.Notes = append(out.Notes, fmt.Sprintf("%d events of another device or run were on the same topics", a.foreign))
	}
	if a.unreadable > 0 {
		out.Reasons = append(out.Reasons, fmt.Sprintf("%d messages on the detection topics are not detection.v1", a.unreadable))
	}
}

// remarks are what an installer should look at although no event was lost.
func (r *run) remarks() (list []string) {
	reconnects := 0
	for _, l := range r.lives {
		reconnects += int(l.last.Uplink.Reconnects)
	}
	cuts := 0
	for _, f := range r.faults {
		if f.Kind == Outage {
			cuts++
		}
	}
	if more := reconnects - cuts; more > 0 {
		list = append(list, fmt.Sprintf("the link was lost %d more times than it was cut", more))
	}
	for _, l := range r.looking.last.Ledger {
		if l.Route != route && l.Dead.Records > 0 {
			list = append(list, fmt.Sprintf("route %s: %d messages became dead letters: does the centre let the appliance publish them?", l.Route, l.Dead.Records))
		}
	}
	return list
}

// judge finds the verdict.
func (r *run) judge(out *Report) {
	if out.Lost > 0 {
		out.Reasons = append(out.Reasons, fmt.Sprintf("%d of %d accepted events are not at the centre%s", out.Lost, out.EventsAccepted, whereabouts(r.ledger)))
	}
	if more := out.EventsAtCentre - out.EventsAccepted; more > 0 {
		out.Reasons = append(out.Reasons, fmt.Sprintf("%d events are at the centre that the ledger does not know", more))
	}
	if !balanced(r.ledger) {
		out.Reasons = append(out.Reasons, fmt.Sprintf("the ledger does not add up: %+v", r.ledger))
	}
	if out.EventsAtCentre == 0 {
		out.Reasons = append(out.Reasons, "no event arrived at the centre: nothing was proved")
	}
	out.Reasons = append(out.Reasons, r.wrong...)
	switch {
	case r.interrupted:
		out.Verdict = Interrupted
		out.Reasons = []string{"it was interrupted before its end: what was under way was not waited for"}
	case len(out.Reasons) > 0:
		out.Verdict = Failed
	default:
		out.Verdict = Passed
	}
}

// balanced checks the ledger's equation.
func balanced(l web.RouteLedger) bool {
	sum := l.Delivered.Records + l.Queued.Records + l.Dead.Records + l.Expired.Records + l.Evicted.Records +
		l.Coalesced.Records + l.Purged.Records + l.Quarantined.Records
	return sum == l.Accepted.Records
}

// whereabouts says what the ledger knows of events that were not delivered.
func whereabouts(l web.RouteLedger) string {
	var known []string
	for _, a := range []struct {
		name   string
		amount web.Amount
	}{
		{"queued", l.Queued}, {"dead letters", l.Dead}, {"expired", l.Expired}, {"evicted", l.Evicted},
		{"coalesced", l.Coalesced}, {"purged", l.Purged}, {"quarantined", l.Quarantined},
	} {
		if a.amount.Records > 0 {
			known = append(known, fmt.Sprintf("%s: %d", a.name, a.amount.Records))
		}
	}
	if known == nil {
		return "; the ledger has all of them as delivered"
	}
	return "; the ledger knows of " + strings.Join(known, ", ")
}
