package main

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"outstation/appliance/internal/socket"
	"outstation/appliance/internal/strictyaml"
	"outstation/broker"
	"outstation/uplink"
	"outstation/uplink/wire"
	"outstation/vision"
)

// healthEvery is the longest silence of the health topic.
const healthEvery = time.Minute

// linkGrace is how long a link that is down at the start, or that is being
// made, is not yet called unhealthy.
const linkGrace = 5 * time.Second

// facts is what health follows from: one snapshot of every part.
type facts struct {
	now      time.Time
	started  time.Time
	queue    uplink.QueueStats
	link     uplink.LinkStats
	broker   broker.Stats
	vision   vision.Stats
	refused  uint64
	webError error
	retry    uplink.RetryStats

	heartbeat *heartbeatStats // nil without one
	models    modelFacts
	asked     bool // the providers are somebody's choice
	socket    socket.Stats
	blind     blindStats
	skips     map[string]skip // by camera
	tracks    trackStats
	snapshots keeperStats

	config error // why the configuration on disk cannot be used, or nil

	tokensError error // why nobody can post events
	runError    error // why the next start will not know how this run ended
}

// diagnose builds the health tree, the parts nearest to the centre first.
func diagnose(f facts) []wire.Check {
	checks := append([]wire.Check{linkCheck(f), queueCheck(f), brokerCheck(f), visionCheck(f)}, heartbeatCheck(f)...)
	checks = append(checks, snapshotsCheck(f)...)
	return append(checks, socketCheck(f.socket), webCheck(f), configCheck(f))
}

func linkCheck(f facts) wire.Check {
	l := f.link
	switch {
	case l.State == uplink.LinkConnected:
		return connectedCheck(f)
	case l.State == uplink.LinkPaused:
		return check("uplink", wire.Impaired, fmt.Sprintf("paused by hand; records kept for the centre: %d", f.queue.Queued.Records))
	case l.Generation == 0 && f.now.Sub(f.started) < linkGrace:
		return check("uplink", wire.Impaired, "connecting to the centre for the first time")
	}
	if l.State == uplink.LinkConnecting && l.Generation > 0 && l.Reason != "" { // changing over
		return check("uplink", wire.Impaired, l.Reason)
	}
	return check("uplink", wire.Unhealthy, lostText(f))
}

func queueCheck(f facts) wire.Check {
	q := f.queue
	switch {
	case q.Refusing != nil:
		return check("queue", wire.Unhealthy, "nothing more is accepted: "+q.Refusing.Error())
	case q.Failing != nil:
		return check("queue", wire.Unhealthy, "the disk does not take what is queued: "+q.Failing.Error())
	case q.Reclaiming != nil:
		return check("queue", wire.Impaired, "disk space is not given back: "+q.Reclaiming.Error())
	case q.Queued.Bytes > q.MaxBytes*9/10:
		return check("queue", wire.Impaired, fmt.Sprintf("%d of at most %d bytes are queued", q.Queued.Bytes, q.MaxBytes))
	case q.Salvaging:
		return check("queue", wire.Impaired, "a damaged store was moved away; what is readable in it is being queued again, and routes with strict order wait for that")
	case q.SalvageError != nil:
		return check("queue", wire.Impaired, "a damaged store was moved away and could not be salvaged: "+q.SalvageError.Error())
	case q.Quarantined != "":
		return check("queue", wire.Impaired, "the store could not be opened and was moved to "+q.Quarantined+salvaged(q.Salvaged))
	case q.TotalsError != nil:
		return check("queue", wire.Impaired, "the copy of the ledger outside of the store is not written: "+q.TotalsError.Error())
	case f.retry.Err != nil:
		return check("queue", wire.Impaired, "dead letters are not retried: "+f.retry.Err.Error())
	case q.DeadLetters > 0:
		return check("queue", wire.Impaired, fmt.Sprintf("dead letters that the centre would not take: %d", q.DeadLetters))
	case f.runError != nil:
		return check("queue", wire.Impaired, "the next start will not know how this run ended: "+f.runError.Error())
	case f.refused > 0:
		return check("queue", wire.Impaired, fmt.Sprintf("%d of the appliance's own messages were not stored since the start", f.refused))
	}
	return check("queue", wire.Healthy, fmt.Sprintf("records: %d, %s", q.Queued.Records, humanize.IBytes(uint64(q.Queued.Bytes))))
}

// salvaged says what came out of a store that was moved away.
func salvaged(all []uplink.Salvage) string {
	var b strings.Builder
	for _, s := range all {
		fmt.Fprintf(&b, "; %d of its records are queued again", s.Queued.Records)
		if lost := s.Unread + int64(len(s.Damaged)); lost > 0 {
			fmt.Fprintf(&b, ", %d cannot be read, damaged files: %d", s.Unread, len(s.Damaged))
		}
		if s.Left.Records > 0 {
			fmt.Fprintf(&b, ", there was no room for %d", s.Left.Records)
		}
	}
	return b.String()
}

func brokerCheck(f facts) wire.Check {
	if len(f.broker.Addresses) == 0 {
		return check("broker", wire.Unhealthy, "the local broker does not listen")
	}
	for _, l := range f.broker.Listeners {
		if l.CertError != nil {
			return check("broker", wire.Impaired, "the changed certificate on "+l.Address+" is not used: "+l.CertError.Error())
		}
		if !l.CertExpires.IsZero() && f.now.After(l.CertExpires) {
			return check("broker", wire.Impaired, "the certificate on "+l.Address+" has expired on "+l.CertExpires.Format(time.DateOnly))
		}
	}
	if c, bad := sessionsCheck(f.broker.Sessions); bad {
		return c
	}
	return check("broker", wire.Healthy, fmt.Sprintf("devices: %d, on %s", f.broker.Clients, strings.Join(f.broker.Addresses, ", ")))
}

// sessionsCheck says what is wrong with what devices are owed.
func sessionsCheck(s broker.SessionsStats) (wire.Check, bool) {
	switch {
	case errors.Is(s.Refusing, broker.ErrStoreFull):
		return check("broker", wire.Unhealthy, "nothing more is kept for devices: "+s.Refusing.Error()), true
	case s.Failing != nil:
		return check("broker", wire.Unhealthy, "the disk does not take what devices are owed: "+s.Failing.Error()), true
	case s.Quarantined != "":
		return check("broker", wire.Impaired, "the sessions and retained messages of devices could not be read and were moved to "+s.Quarantined), true
	case s.Damaged > 0:
		return check("broker", wire.Impaired, fmt.Sprintf("stored records that cannot be read: %d", s.Damaged)), true
	case len(s.Losing) > 0:
		return check("broker", wire.Impaired, fmt.Sprintf("%d messages for devices were dropped beyond a bound of broker.sessions since the start, most of them for %q", s.Dropped, s.Losing[0].ClientID)), true
	case s.Muted > 0:
		return check("broker", wire.Impaired, fmt.Sprintf("subscriptions that bring nothing under broker.acl_file as it is now: %d, such as of %q; "+
			"give the right back, or outstation clients forget", s.Muted, s.MutedOf)), true
	case s.RetainedRefused > 0:
		return check("broker", wire.Impaired, fmt.Sprintf("retained messages refused beyond their bound since the start: %d", s.RetainedRefused)), true
	}
	return wire.Check{}, false
}

// visionCheck has one check for each camera and each model.
func visionCheck(f facts) wire.Check {
	c := check("vision", wire.Healthy, "no cameras are configured")
	cameras := len(f.vision.Cameras)
	if f.heartbeat != nil {
		cameras--
	}
	if cameras > 0 {
		c.Detail = fmt.Sprintf("cameras: %d", cameras)
	}
	for _, m := range f.vision.Models {
		c.Checks = append(c.Checks, behindCheck(storedCheck(modelCheck(m, f.asked, f.now), m.Name, f.models), m))
	}
	c.Checks = append(c.Checks, activatingCheck(f.models, f.now)...)
	for _, m := range f.vision.Classifiers {
		c.Checks = append(c.Checks, classifierCheck(m))
	}
	for _, cam := range f.vision.Cameras {
		out := refusedCheck(reducedCheck(withSkips(cameraCheck(cam), f.skips[cam.ID]), cam), f.snapshots.Cameras[cam.ID].refused)
		c.Checks = append(c.Checks, stuckDetail(out, cam, f))
	}
	c.Checks = append(append(c.Checks, restartChecks(f)...), blindCheck(f.blind)...)
	c.Checks = append(append(c.Checks, tracksCheck(f.tracks)...), heatCheck(f)...)
	for _, sub := range c.Checks {
		if severity(sub.State) > severity(c.State) {
			c.State, c.Detail = sub.State, sub.Name+": "+sub.Detail
		}
	}
	if dark := darkText(f); dark != "" && c.State != wire.Unhealthy { // what is, is why they are dark
		c.State, c.Detail = wire.Unhealthy, dark
	}
	return c
}

// rateText says how many frames come, and with a model how many of them it sees.
func rateText(c vision.CameraStats) string {
	if c.Model == "" {
		return fmt.Sprintf("%.1f frames a second", c.FPS)
	}
	return fmt.Sprintf("%.1f of %.1f frames a second inspected", c.InspectedFPS, c.FPS)
}

func cameraCheck(c vision.CameraStats) wire.Check {
	name := "camera " + c.ID
	if c.State == vision.Online {
		out := check(name, wire.Healthy, rateText(c))
		if c.EventsDropped > 0 {
			out.State, out.Detail = wire.Impaired, fmt.Sprintf("%d events were dropped since the start", c.EventsDropped)
		}
		if blind := blindDetail(c); blind != "" {
			out.State, out.Detail = wire.Impaired, blind
		}
		if c.EndsLost+c.TracksRefused > 0 {
			out.State, out.Detail = wire.Impaired, fmt.Sprintf("of tracks, %d bests and ends were lost and %d boxes found no place since the start", c.EndsLost, c.TracksRefused)
		}
		out = unknownCheck(out, c)
		out.Since = wire.At(c.Since)
		return out
	}
	detail := string(c.State) + ", " + c.Reason
	if c.Detail != "" {
		detail += ": " + c.Detail
	}
	if blind := blindDetail(c); blind != "" {
		detail += "; " + blind
	}
	out := unknownCheck(check(name, wire.Impaired, detail), c)
	out.Since = wire.At(c.Since)
	return out
}

// unknownCheck adds to a camera's check the classes that its rules name in vain.
func unknownCheck(out wire.Check, c vision.CameraStats) wire.Check {
	if len(c.UnknownClasses) == 0 {
		return out
	}
	detail := fmt.Sprintf("its rules name classes that its model %s does not have: %s; correct them, or nothing of that name is ever found", c.Model, strings.Join(c.UnknownClasses, ", "))
	if out.State != wire.Healthy {
		detail = out.Detail + "; " + detail
	}
	out.State, out.Detail = wire.Impaired, detail
	return out
}

// refusedCheck adds to a camera's check the events that are lost for the centre
// because the disk or the queue did not take them.
func refusedCheck(c wire.Check, n uint64) wire.Check {
	if n == 0 {
		return c
	}
	if c.State == wire.Healthy {
		c.State = wire.Impaired
	}
	c.Detail += fmt.Sprintf("; %d events were not stored for the centre since the start", n)
	return c
}

func webCheck(f facts) wire.Check {
	if f.webError != nil {
		return check("web", wire.Impaired, f.webError.Error())
	}
	if f.tokensError != nil {
		return check("web", wire.Impaired, "nobody can post events: "+f.tokensError.Error())
	}
	return check("web", wire.Healthy, "")
}

func configCheck(f facts) wire.Check {
	if f.config != nil {
		return check("configuration", wire.Impaired, "the one on disk is not in use: "+strictyaml.OneLine(f.config.Error()))
	}
	return check("configuration", wire.Healthy, "")
}

func check(name, state, detail string) wire.Check {
	return wire.Check{Name: name, State: state, Detail: detail}
}

func severity(state string) int {
	switch state {
	case wire.Healthy:
		return 0
	case wire.Impaired:
		return 1
	}
	return 2
}

// summary is the state of the worst check and the first cause, in words.
func summary(checks []wire.Check) (state, cause string) {
	state = wire.Healthy
	for _, c := range checks {
		if severity(c.State) > severity(state) {
			state, cause = c.State, c.Name+": "+c.Detail
		}
	}
	return state, cause
}

// healthKeeper remembers since when each check is in its state, and publishes
// the tree on every change and every minute.
type healthKeeper struct {
	origin wire.Origin
	out    *publisher

	mu    sync.Mutex
	since map[string]held

	told string // states of the tree that was published last; the publisher's
	sent time.Time
}

type held struct {
	state string
	since time.Time
}

// tree is the health that follows from f. It is safe for concurrent use.
func (k *healthKeeper) tree(f facts) wire.Health {
	checks := diagnose(f)
	k.mu.Lock()
	k.stamp("", checks, f.now)
	k.mu.Unlock()
	state, cause := summary(checks)
	return wire.Health{DeviceID: k.origin.DeviceID, At: wire.At(f.now), State: state, FirstCause: cause, Checks: checks}
}

// stamp sets Since of the checks that do not know it; mu is held.
func (k *healthKeeper) stamp(path string, checks []wire.Check, now time.Time) {
	for i := range checks {
		c := &checks[i]
		key := path + "/" + c.Name
		was, known := k.since[key]
		if !known || was.state != c.State {
			was = held{c.State, now}
			k.since[key] = was
		}
		if c.Since.IsZero() {
			c.Since = wire.At(was.since)
		}
		k.stamp(key, c.Checks, now)
	}
}

// publish sends the tree if a state in it changed, or if it is time. One
// goroutine calls it.
func (k *healthKeeper) publish(h wire.Health) {
	now := states(h.Checks)
	if now == k.told && h.At.Sub(k.sent) < healthEvery {
		return
	}
	payload, err := h.Encode()
	if err != nil {
		k.out.log.Error("health cannot be written", "error", err)
		return
	}
	k.told, k.sent = now, h.At.Time
	k.out.publish(k.origin.Health(), payload, true, uplink.Note{})
}

// states is the names and states of a tree, for comparison.
func states(checks []wire.Check) string {
	var b strings.Builder
	for _, c := range checks {
		fmt.Fprintf(&b, "%s=%s(%s)", c.Name, c.State, states(c.Checks))
	}
	return b.String()
}
