package web

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// The tones of the page. Each state is written in words too: colour is never the only sign.
const (
	toneOK   = "ok"
	toneWarn = "warn"
	toneBad  = "bad"
	toneIdle = "idle" // off, or not known
)

// toneOf returns the tone of a state of health, a camera or the uplink.
func toneOf(state any) string {
	switch state {
	case Healthy, CameraOnline, UplinkConnected:
		return toneOK
	case Degraded, CameraDegraded, CameraBlind, UplinkConnecting:
		return toneWarn
	case Unhealthy, CameraOffline, UplinkDown:
		return toneBad
	}
	return toneIdle
}

// worse returns b where a is the tone of something that is well, and a otherwise.
func worse(a, b string) string {
	if a == toneOK {
		return b
	}
	return a
}

// verdict is the state of the whole and its first cause in words.
type verdict struct {
	Tone, Word, Cause string
}

func verdictOf(s Snapshot) verdict {
	v := verdict{Tone: toneOf(s.Health.State), Cause: s.Health.FirstCause}
	switch s.Health.State {
	case Healthy:
		v.Word, v.Cause = "Healthy", cmp.Or(v.Cause, "Everything that is checked works.")
	case Degraded:
		v.Word, v.Cause = "Degraded", cmp.Or(v.Cause, "A check is not well, see below.")
	case Unhealthy:
		v.Word, v.Cause = "Unhealthy", cmp.Or(v.Cause, "A check has failed, see below.")
	default:
		v.Word, v.Cause = "Not known", cmp.Or(v.Cause, "No check has run yet.")
	}
	return v
}

// stage is one station of the flow from the cameras to the centre.
type stage struct {
	Title, Tone, Word string
	Value, Unit       string // the number to look at; empty where there is none
	Notes             []string
	Fill, FillMax     uint64 // how full it is; FillMax 0 draws nothing
}

// note adds a line to what is said about the stage.
func (st *stage) note(format string, args ...any) {
	st.Notes = append(st.Notes, fmt.Sprintf(format, args...))
}

func stagesOf(s Snapshot) []stage {
	return []stage{camerasStage(s), detectorStage(s), brokerStage(s.Broker), queueStage(s), centreStage(s)}
}

func camerasStage(s Snapshot) stage {
	st := stage{Title: "Cameras", Tone: toneIdle, Word: "none configured"}
	cameras := withoutHeartbeat(s.Cameras)
	if len(cameras) == 0 {
		st.note("Only devices bring data here.")
		return st
	}
	online, rate, dropped := 0, 0.0, uint64(0)
	for _, c := range cameras {
		if c.State == CameraOnline {
			online++
		}
		rate += c.FPS
		dropped += c.Dropped
	}
	st.Word = fmt.Sprintf("%d of %d online", online, len(cameras))
	switch online {
	case len(cameras):
		st.Tone = toneOK
	case 0:
		st.Tone = toneBad
	default:
		st.Tone = toneWarn
	}
	st.Value, st.Unit = decimal(rate), "frames/s"
	st.note("%s dropped for a newer one", many(dropped, "frame", "frames"))
	if n := reduced(cameras); n > 0 {
		st.Tone = worse(st.Tone, toneWarn)
		st.note("%s inspected less often to spare the device", many(n, "camera", "cameras"))
	}
	return st
}

// reduced counts the cameras that are inspected less often than they should be.
func reduced(cameras []Camera) (n int) {
	for _, c := range cameras {
		if c.ReducedTo > 0 {
			n++
		}
	}
	return n
}

// withoutHeartbeat are the cameras that look at something.
func withoutHeartbeat(cameras []Camera) []Camera {
	return slices.DeleteFunc(slices.Clone(cameras), func(c Camera) bool { return c.Heartbeat })
}

// inspectedBy counts the frames of a model but for those of the heartbeat.
func inspectedBy(d Detector, cameras []Camera) uint64 {
	n := d.Inferences
	for _, c := range cameras {
		if c.Heartbeat && c.Model == d.Model {
			n -= min(n, c.Inspected)
		}
	}
	return n
}

// detectorStage says plainly when nothing is inspected.
func detectorStage(s Snapshot) stage {
	st := stage{Title: "Detector", Tone: toneIdle, Word: "none loaded"}
	if len(s.Detectors) == 0 {
		if len(s.Cameras) > 0 {
			st.Tone = toneWarn
			st.note("No detector is loaded: frames are counted, nothing is inspected.")
		} else {
			st.note("No detector is loaded and no camera needs one.")
		}
		return st
	}
	st.Tone, st.Word = toneOK, "running"
	slowest := s.Detectors[0]
	for _, d := range s.Detectors {
		if d.took() > slowest.took() {
			slowest = d
		}
		st.note("%s on %s, %s inspected", d.Model, cmp.Or(d.Provider, "an unknown provider"), count(inspectedBy(d, s.Cameras)))
		if d.Fallback {
			st.Tone, st.Word = toneWarn, "on a fallback"
		}
		noteInference(&st, d.Inference)
		if d.Behind {
			st.Tone, st.Word = toneWarn, "behind"
			st.note("%s cannot keep up with its cameras", d.Model)
		}
	}
	var events, failed uint64
	for _, c := range withoutHeartbeat(s.Cameras) {
		events += c.Events
		failed += c.DetectorErrors
	}
	st.note("%s", many(events, "event", "events"))
	if failed > 0 {
		st.note("%s failed", many(failed, "frame", "frames"))
	}
	noteClassifiers(&st, s.Classifiers)
	st.Value, st.Unit = decimal(slowest.took()), "ms a frame"
	if slowest.Inference.MeanBatch > 1 {
		st.Unit = "ms a run"
	}
	if len(s.Detectors) > 1 {
		st.Unit += " of " + slowest.Model + ", the slowest"
	}
	return st
}

// took is how long a run takes, in milliseconds, with what comes before and after it.
func (d Detector) took() float64 { return d.PreprocessMS + d.RunMS + d.PostprocessMS }

func brokerStage(b Broker) stage {
	st := stage{Title: "Broker", Tone: toneOK, Word: "listening", Value: count(b.Clients), Unit: "clients"}
	if b.Clients == 1 {
		st.Unit = "client"
	}
	if len(b.Listeners) == 0 {
		st.Tone, st.Word = toneBad, "not listening"
	}
	st.note("%s messages in, %s out", count(b.MessagesReceived), count(b.MessagesSent))
	if b.HeldAcks > 0 {
		st.note("%s waiting for the disk", many(b.HeldAcks, "acknowledgement", "acknowledgements"))
	}
	if b.Owed > 0 {
		st.note("%s for %s", many(b.Owed, "message waits", "messages wait"), many(b.Sessions, "device that comes back", "devices that come back"))
	}
	if b.MessagesDropped > 0 {
		st.note("%s dropped for slow subscribers", count(b.MessagesDropped))
	}
	if b.Denied > 0 {
		st.note("%s denied: devices had no right to it", count(b.Denied))
	}
	if b.Invalid > 0 {
		st.note("%s refused: not what the topic promises", many(b.Invalid, "publish", "publishes"))
	}
	if b.LoginsFailed > 0 {
		st.note("%s failed", many(b.LoginsFailed, "login", "logins"))
	}
	if over := overLimits(b.Limited); over != "" {
		st.note("%s", over)
	}
	if b.Refused > 0 {
		st.note("%s refused: could not be stored", many(b.Refused, "publish", "publishes"))
	}
	return st
}

// Shares of the queue's bound, in percent, from which the page warns.
const (
	queueFilling = 70
	queueFull    = 95
)

func queueStage(s Snapshot) stage {
	q := s.Queue
	st := stage{Title: "Queue", Tone: toneOK, Word: "empty", Value: count(q.Records), Unit: "records"}
	if q.Records == 1 {
		st.Unit = "record"
	}
	if q.Records > 0 {
		st.Word = "oldest " + cmp.Or(ago(s.Now, q.OldestAt), "not known")
	}
	st.Fill, st.FillMax = q.Bytes, q.MaxBytes
	if q.MaxBytes > 0 {
		st.note("%s of %s", size(q.Bytes), size(q.MaxBytes))
		switch share := float64(q.Bytes) / float64(q.MaxBytes) * 100; {
		case share >= queueFull:
			st.Tone = toneBad
		case share >= queueFilling:
			st.Tone = toneWarn
		}
	} else {
		st.note("%s", size(q.Bytes))
	}
	st.clearing(s)
	st.note("fsync %s ms, 99 %% within %s ms", decimal(q.FsyncP50MS), decimal(q.FsyncP99MS))
	if dead := deadLetters(s.Ledger); dead > 0 {
		st.Tone = worse(st.Tone, toneWarn)
		st.note("%s that the centre would not take", many(dead, "dead letter", "dead letters"))
		st.note("%s", retryOf(s.Now, s.Dead))
	}
	if q.Quarantined > 0 {
		st.Tone = worse(st.Tone, toneWarn)
		st.note("%s set aside as unreadable", many(q.Quarantined, "store", "stores"))
	}
	st.governor(q)
	return st
}

// clearing says when the backlog is delivered. Without a connection there is nothing to say that the centre's stage does
// not.
func (st *stage) clearing(s Snapshot) {
	switch clears := s.Queue.ClearsInS; {
	case s.Queue.Records == 0 || s.Uplink.State != UplinkConnected:
	case clears == nil:
		st.note("does not shrink at the present rate")
	case *clears > 0:
		st.note("clears in %s at the present rate", about(*clears))
	}
}

// governor says whether the disk lets anything in, and if not, before all else.
func (st *stage) governor(q Queue) {
	if q.Refusing == "" {
		if q.DiskFreeBytes > 0 {
			st.note("%s free on the disk", size(q.DiskFreeBytes))
		}
		return
	}
	why := q.Refusing
	if q.DiskFreeBytes < q.DiskFloorBytes {
		why = fmt.Sprintf("%s free on the disk; nothing is accepted below %s", size(q.DiskFreeBytes), size(q.DiskFloorBytes))
	}
	st.Tone, st.Word, st.Notes = toneBad, "refusing", slices.Insert(st.Notes, 0, why)
}

// deadLetters counts those of all routes.
func deadLetters(routes []RouteLedger) (n uint64) {
	for _, r := range routes {
		n += r.Dead.Records
	}
	return n
}

// retryOf says when the dead letters are tried again.
func retryOf(now time.Time, d DeadLetters) string {
	switch {
	case d.Retrying:
		return "being retried"
	case d.NextRetryAt.IsZero():
		return "not retried by the clock"
	case !d.NextRetryAt.After(now):
		return "retried when the link is up"
	}
	return "retried in " + spanOf(d.NextRetryAt.Sub(now).Round(time.Minute))
}

func centreStage(s Snapshot) stage {
	u := s.Uplink
	st := stage{Title: "Centre", Tone: toneOf(u.State), Word: cmp.Or(string(u.State), "not known")}
	if u.State == UplinkOff {
		st.note("No centre is configured: nothing leaves this appliance.")
		return st
	}
	st.Value, st.Unit = decimal(u.DeliveredPerS), "delivered/s"
	if since := ago(s.Now, u.Since); since != "" {
		st.Word += " for " + since
	}
	if u.Broker != "" {
		st.note("%s", u.Broker)
	}
	if u.State == UplinkConnected {
		st.note("PUBACK after %s ms", decimal(u.PubackP50MS))
		if u.Proven {
			st.note("there and back in %s ms", decimal(u.CanaryS*1e3))
		} else {
			st.note("unproven: no canary came back yet")
		}
	} else {
		if u.Reason != "" {
			st.note("%s", u.Reason)
		}
		if wait := u.NextAttemptAt.Sub(s.Now); wait > 0 {
			st.note("next attempt in %s", spanOf(wait.Round(time.Second)))
		} else if !u.NextAttemptAt.IsZero() {
			st.note("an attempt is under way")
		}
	}
	st.note("%s of %s in flight", count(u.InFlight), count(u.Window))
	st.note("%s", many(u.Reconnects, "reconnect", "reconnects"))
	if u.Down.Received > 0 {
		st.note("%s from the centre delivered", many(u.Down.Delivered, "message", "messages"))
	}
	return st
}

// fate is what became of records that left the queue.
type fate struct {
	name    string
	amount  Amount
	returns bool // a record can come back from it
}

// settled returns everything that the route accepted and that is not queued any more.
func (r RouteLedger) settled() []fate {
	return []fate{
		{name: "delivered", amount: r.Delivered}, {name: "dead", amount: r.Dead, returns: true},
		{name: "expired", amount: r.Expired}, {name: "evicted", amount: r.Evicted},
		{name: "coalesced", amount: r.Coalesced}, {name: "purged", amount: r.Purged},
		{name: "quarantined", amount: r.Quarantined, returns: true},
	}
}

// ledgerRow is a route's account as the page shows it.
type ledgerRow struct {
	Route string
	Cells []ledgerCell
	// Off is how many accepted records are not accounted for; not 0 is a fault of the appliance.
	Off string
}

// ledgerCell is one column of the account.
type ledgerCell struct {
	Name   string
	Amount Amount
	Loss   bool // records in it did not reach the centre
}

func ledgerOf(routes []RouteLedger) []ledgerRow {
	var rows []ledgerRow
	for _, r := range routes {
		row := ledgerRow{Route: r.Route}
		row.Cells = append(row.Cells, ledgerCell{Name: "accepted", Amount: r.Accepted})
		sum := r.Queued.Records
		for i, f := range r.settled() {
			sum += f.amount.Records
			loss := f.name != "delivered" && f.name != "coalesced" && f.amount.Records > 0
			row.Cells = append(row.Cells, ledgerCell{f.name, f.amount, loss})
			if i == 0 {
				row.Cells = append(row.Cells, ledgerCell{Name: "queued", Amount: r.Queued})
			}
		}
		if off := int(r.Accepted.Records - sum); off != 0 {
			row.Off = count(off)
		}
		rows = append(rows, row)
	}
	return rows
}
