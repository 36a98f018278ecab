package main

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"outstation/appliance/internal/forward"
	"outstation/uplink"
	"outstation/uplink/wire"
	"outstation/web"
)

// facts is one look at every part.
func (a *app) facts() facts {
	f := facts{
		now: time.Now(), started: a.started,
		queue: a.queue.Stats(), link: a.link.Stats(), broker: a.broker.Stats(), vision: a.vision.Stats(),
		refused: a.out.refused.Load(), retry: a.retrier.Stats(), config: a.config.problem(),
		tokensError: a.ingest.tokens.failure(), runError: a.service.failure(), heartbeat: a.heartbeat.stats(),
		skips: a.skips.all(), socket: a.socketStats(), blind: a.blind.stats(), models: a.models.facts(), tracks: a.tracks.snapshot(),
		snapshots: a.keeper.stats(), asked: a.cfg.Vision.asked,
	}
	if err := a.webError.Load(); err != nil {
		f.webError = *err
	}
	return f
}

// snapshot is what the page shows. It may be called from any goroutine.
func (a *app) snapshot() web.Snapshot {
	f := a.facts()
	s := web.Snapshot{
		DeviceID: a.cfg.DeviceID, Region: a.cfg.Region, Site: a.cfg.Site, Version: version,
		StartedAt: a.started, Now: f.now, UptimeS: f.now.Sub(a.started).Seconds(),
		Health:     webHealth(a.health.tree(f)),
		Cameras:    webCameras(a.cfg.Vision.Cameras, f),
		Detectors:  webDetectors(f),
		Activating: webActivating(f.models),
		Broker:     webBroker(a, f),

		Classifiers: webClassifiers(f.vision.Classifiers),
		Queue:       webQueue(f.queue),
		Dead:        webDead(f),
		Ledger:      webLedger(a.queue.Ledger(), f.queue.Deaths),
		Uplink:      webUplink(f.link),
		Socket:      webSocket(f.socket),
		Snapshots:   webSnapshots(f.snapshots.Store),
		Heat:        webHeat(f.vision.Heat, a.cfg.Vision.Throttle.Hot),
		Events:      web.Events{Sources: webSources(a.forward.stats.Stats()), Posts: a.ingest.answers()},
	}
	if a.demo != nil {
		address, messages, until := a.demo.state()
		s.Centre = web.Centre{Demo: true, Address: address, Messages: uint64(messages), OutageUntil: until}
	}
	return s
}

func webHealth(h wire.Health) web.Health {
	return web.Health{State: web.HealthState(h.State), FirstCause: h.FirstCause, Checks: webChecks(h.Checks)}
}

func webChecks(checks []wire.Check) []web.Check {
	out := make([]web.Check, len(checks))
	for i, c := range checks {
		out[i] = web.Check{
			Name: c.Name, State: web.HealthState(c.State), Detail: c.Detail, Since: c.Since.Time, Checks: webChecks(c.Checks),
		}
	}
	return out
}

// webCameras joins what is configured with what is measured; both are in the
// order of the configuration.
func webCameras(cfg []CameraConfig, f facts) []web.Camera {
	out := make([]web.Camera, len(f.vision.Cameras))
	for i, c := range f.vision.Cameras {
		reason := c.Reason
		if c.Detail != "" {
			reason += ": " + c.Detail
		}
		if said := f.skips[c.ID].String(); said != "" {
			reason = strings.TrimPrefix(reason+"; "+said, "; ")
		}
		out[i] = web.Camera{
			ID: c.ID, Source: redact(cfg[i].Source), Model: c.Model, State: web.CameraState(c.State), Reason: reason, Since: c.Since,
			Width: c.Width, Height: c.Height, FPS: c.FPS, InspectedFPS: c.InspectedFPS, FPSTarget: heartbeatCamera(cfg[i]).FPS,
			Frames: c.Frames, Inspected: c.Inspected, Dropped: c.Dropped, Throttled: c.Throttled,
			Events: c.Events, EventsDropped: c.EventsDropped, EventsRefused: f.snapshots.Cameras[c.ID].refused, DetectorErrors: c.DetectorErrors, Reconnects: c.Reconnects,
			LastFrameAt: c.LastFrame, Heartbeat: cfg[i].Heartbeat,
			Masked: c.Masked, StalledS: c.Stalled.Seconds(), Abandoned: c.Abandoned, Stuck: c.StuckReaders,
			Looked:         webLooked(c, f.blind.Off[c.ID]),
			CameraPictures: webPictures(c, f.snapshots), Shedding: webShedding(c), Rules: webRules(c),
		}
		if cfg[i].Heartbeat {
			out[i].Events -= min(out[i].Events, f.heartbeat.Empty)
		}
	}
	return out
}

func webDetectors(f facts) []web.Detector {
	out := make([]web.Detector, len(f.vision.Models))
	for i, m := range f.vision.Models {
		d := web.Detector{
			Model: m.Name, Provider: m.Provider, Inferences: m.Inferences,
			PreprocessMS: ms(m.Preprocess.P50), RunMS: ms(m.Run.P50), PostprocessMS: ms(m.Postprocess.P50),
			Inference: webInference(m, f.now), Behind: m.Behind,
			ModelSHA256: m.ModelSHA256, Stored: webStored(m.Name, f.models),
		}
		_, d.Fallback = unmet(m.Refused, f.asked)
		for _, r := range m.Refused {
			d.Refused = append(d.Refused, web.ProviderRefusal{Provider: r.Provider, Reason: r.Reason})
		}
		out[i] = d
	}
	return out
}

func webBroker(a *app, f facts) web.Broker {
	b := f.broker
	out := web.Broker{
		Clients: int(b.Clients), Subscriptions: int(b.Subscriptions), Retained: int(b.Retained),
		MessagesReceived: uint64(b.MessagesReceived), MessagesSent: uint64(b.MessagesSent), MessagesDropped: uint64(b.Dropped),
		BytesReceived: uint64(b.BytesReceived), BytesSent: uint64(b.BytesSent),
		HeldAcks: int(b.HeldAcks), Refused: uint64(b.Refused + b.LostQoS0), Denied: uint64(b.Denied),
		Invalid: uint64(b.Invalid), LoginsFailed: uint64(b.LoginsFailed), LoginsSlowed: uint64(b.LoginsSlowed), LoginsBusy: uint64(b.LoginsBusy),
		Puback:   webHistogram(a.pubacks.Histogram()),
		Sessions: b.Sessions.Sessions, Owed: uint64(max(0, b.Sessions.Owed)), OwedBytes: uint64(max(0, b.Sessions.OwedBytes)),
		SessionsDropped: uint64(b.Sessions.Dropped), SessionsExpired: uint64(b.Sessions.Expired),
	}
	for name, n := range b.Limited {
		out.Limited = append(out.Limited, web.Limited{Limit: name, Count: uint64(n)})
	}
	slices.SortFunc(out.Limited, func(x, y web.Limited) int { return cmp.Compare(x.Limit, y.Limit) })
	out.Busiest = web.BusiestOf(webClients(a.broker.Clients()))
	for _, l := range b.Listeners {
		out.Listeners = append(out.Listeners, web.Listener{Type: l.Type, Address: l.Address, Connections: int(l.Open)})
	}
	return out
}

func webQueue(q uplink.QueueStats) web.Queue {
	out := web.Queue{
		Records: uint64(q.Queued.Records), Bytes: uint64(q.Queued.Bytes), MaxBytes: uint64(q.MaxBytes), OldestAt: q.OldestAt,
		FsyncP50MS: ms(q.CommitP50), FsyncP99MS: ms(q.CommitP99), Commits: q.Commits, Quarantined: uint64(q.Quarantines),
		Commit: webHistogram(q.CommitTimes), DiskFreeBytes: q.FreeDisk, DiskFloorBytes: q.MinFreeDisk,
	}
	for lane := uplink.MinLane; lane <= uplink.MaxLane; lane++ {
		a := amount(q.LaneQueued[lane])
		out.Lanes = append(out.Lanes, web.Lane{Lane: lane, Records: a.Records, Bytes: a.Bytes, OldestAt: q.LaneOldest[lane]})
	}
	if q.Clearing.Shrinks {
		seconds := q.Clearing.In.Seconds()
		out.ClearsInS = &seconds
	}
	if err := cmp.Or(q.Refusing, q.Failing); err != nil {
		out.Refusing = err.Error()
	}
	return out
}

func webHistogram(h uplink.Histogram) web.Histogram {
	out := web.Histogram{Count: h.Count, SumS: h.Sum.Seconds()}
	for _, b := range h.Buckets {
		out.Buckets = append(out.Buckets, web.Bucket{LeS: b.Upto.Seconds(), Count: b.Count})
	}
	return out
}

func webDead(f facts) web.DeadLetters {
	r := f.retry
	return web.DeadLetters{
		Letters: uint64(f.queue.DeadLetters), NextRetryAt: r.NextAt, Retrying: r.Running,
		LastRetryAt: r.LastAt, LastRetried: uint64(r.Retried), LastLeft: uint64(r.Left),
	}
}

func webLedger(l uplink.Ledger, deaths map[string]uint64) []web.RouteLedger {
	var out []web.RouteLedger
	for _, route := range slices.Sorted(maps.Keys(l)) {
		a := l[route]
		out = append(out, web.RouteLedger{
			Route: route, Accepted: amount(a.Accepted), Delivered: amount(a.Delivered), Queued: amount(a.Queued),
			Dead: amount(a.Dead), Expired: amount(a.Expired), Evicted: amount(a.Evicted), Coalesced: amount(a.Coalesced),
			Purged: amount(a.Purged), Quarantined: amount(a.Quarantined),
			DeadLetters: deaths[route],
		})
	}
	return out
}

func amount(t uplink.Tally) web.Amount {
	return web.Amount{Records: uint64(max(0, t.Records)), Bytes: uint64(max(0, t.Bytes))}
}

func webUplink(l uplink.LinkStats) web.Uplink {
	return web.Uplink{
		State: web.UplinkState(l.State), Broker: l.Broker, Since: l.Since, Reason: l.Reason,
		InFlight: l.InFlight, Window: l.Window, Reconnects: l.Generation - min(l.Generation, 1), NextAttemptAt: l.NextAttempt,
		DeliveredPerS: l.DeliveredPerS, PubackP50MS: ms(l.PubackP50), Puback: webHistogram(l.PubackTimes),
		BackoffS: l.Backoff.Seconds(), Proven: l.Proven, CanaryS: l.CanaryTrip.Seconds(),
		Down: webDownlink(l.Down), CertExpiresAt: l.CertExpires,
	}
}

func webDownlink(d uplink.DownStats) web.Downlink {
	out := web.Downlink{
		Received: d.Received, Delivered: d.Delivered, Refused: d.Refused, Echoes: d.Echoes, Dropped: d.Dropped, LastDrop: d.LastDrop,
		LeftThere: d.LeftThere, Waiting: d.Waiting, Forgotten: d.Forgotten, Error: d.Error,
	}
	for _, filter := range slices.Sorted(maps.Keys(d.Denied)) {
		out.Denied = append(out.Denied, web.Denial{Filter: filter, Reason: d.Denied[filter]})
	}
	return out
}

func webSources(sources []forward.SourceStats) []web.EventSource {
	out := make([]web.EventSource, len(sources))
	for i, s := range sources {
		out[i] = web.EventSource{
			Source: s.Source, Events: s.Events, Unparsed: s.Unparsed, Refused: s.Refused, LastUnparsed: s.LastReason,
			LastType: s.LastType, LastAt: s.LastAt,
		}
	}
	return out
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
