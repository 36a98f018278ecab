package main

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"outstation/broker"
	"outstation/uplink"
	"outstation/uplink/wire"
	"outstation/vision"
)

// Types of the events of the appliance itself.
const (
	eventBoot          = "boot"
	eventUpdate        = "update"
	eventLinkLost      = "link_lost"
	eventLinkFound     = "link_found"
	eventCameraLost    = "camera_lost"
	eventCameraFound   = "camera_found"
	eventPressureBegin = "queue_pressure_begin"
	eventPressureEnd   = "queue_pressure_end"
	eventDiskBegin     = "disk_floor_begin"
	eventDiskEnd       = "disk_floor_end"
	eventQuarantined   = "store_quarantined"
	eventSalvaged      = "store_salvaged"
	eventLeftOut       = "left_out"
)

const (
	// maxPerHour bounds the events about one thing, such as a camera.
	maxPerHour = 12
	// maxUnstored bounds the events that wait in memory for the queue to take
	// them.
	maxUnstored = 256
	// Parts of the queue's bound at which pressure begins and ends.
	pressureBegin, pressureEnd = 0.8, 0.7
)

// service makes events of what happens to the appliance. Each is stored first
// and then sent, as those of devices are. What the queue does not take waits in
// memory and is offered again.
type service struct {
	forward *forwarder
	started time.Time
	now     func() time.Time

	// The rest belongs to the goroutine that calls watch.
	device  string
	quotas  map[string]*quota
	spells  map[string]time.Time // what is lost or full now, and since when
	gen     uint64               // connection of the last look
	salvage int                  // outcomes that were told
	models  int                  // events about models that were told
	told    map[string]bool      // what is told once

	mu       sync.Mutex
	unstored []*unstored
	runError error // why the file of this run could not be written, or nil
}

// unstored is an event that is not durable yet.
type unstored struct {
	store   broker.Store
	offered bool // and not settled
	durable bool
}

func newService(f *forwarder, device string, started time.Time) *service {
	return &service{
		forward: f, started: started, now: time.Now, device: device,
		quotas: map[string]*quota{}, spells: map[string]time.Time{}, told: map[string]bool{},
	}
}

// quota counts the events about one thing in an hour.
type quota struct {
	From    time.Time `json:"from,omitzero"`
	Told    int       `json:"told"`
	LeftOut int       `json:"left_out"`
	Last    string    `json:"last,omitempty"` // type of the newest that was left out
}

// leftOut is the payload of the event that stands for those that were left
// out.
type leftOut struct {
	About   string    `json:"about"`
	LeftOut int       `json:"left_out"`
	From    wire.Time `json:"from"`
	To      wire.Time `json:"to"`
	Last    string    `json:"last"` // type of the newest of them
}

// over reports whether the hour has ended.
func (q *quota) over(now time.Time) bool {
	age := now.Sub(q.From)
	return age >= time.Hour || age < 0 // a clock that was set back begins anew
}

// tell makes an event about something, unless there were too many.
func (s *service) tell(about, kind string, payload any) {
	q := s.quotas[about]
	if q == nil {
		q = &quota{}
		s.quotas[about] = q
	}
	now := s.now()
	if q.over(now) {
		s.closeQuota(about, q, now)
		*q = quota{From: now}
	}
	if q.Told >= maxPerHour {
		q.LeftOut, q.Last = q.LeftOut+1, kind
		return
	}
	q.Told++
	s.emit(about, kind, payload, now)
}

// closeQuota says how many events were left out, if any.
func (s *service) closeQuota(about string, q *quota, now time.Time) {
	if q.LeftOut == 0 {
		return
	}
	s.emit(about, eventLeftOut, leftOut{about, q.LeftOut, wire.At(q.From), wire.At(now), q.Last}, now)
	q.LeftOut = 0
}

// emit stores and sends an event.
func (s *service) emit(about, kind string, payload any, now time.Time) {
	b, err := json.Marshal(payload)
	if err == nil {
		env := wire.Envelope{Source: wire.SourceAppliance, EventType: kind, Timestamp: wire.At(now), Payload: b}
		ev, errMade := s.forward.engine.Load().Finish(env, s.device+"."+about+"."+kind, nil, now)
		if err = errMade; err == nil {
			s.keep(&unstored{store: s.forward.offer(ev)})
			return
		}
	}
	s.forward.out.log.Error("an event of the appliance cannot be written", "event_type", kind, "error", err)
	s.forward.out.stored(err)
}

func (s *service) keep(u *unstored) {
	s.mu.Lock()
	if len(s.unstored) >= maxUnstored {
		s.unstored = s.unstored[1:]
		s.forward.out.refused.Add(1)
	}
	s.unstored = append(s.unstored, u)
	s.mu.Unlock()
	s.flush()
}

// flush offers what is not durable, in its order, up to the first that is
// refused.
func (s *service) flush() {
	idle := s.idle()
	for i, u := range idle {
		if err := u.store(func(err error) { s.settle(u, err == nil) }); err != nil {
			for _, waiting := range idle[i:] {
				s.settle(waiting, false)
			}
			return
		}
	}
}

// idle are the events that nobody is storing; they count as offered from now
// on.
func (s *service) idle() []*unstored {
	s.mu.Lock()
	defer s.mu.Unlock()
	var kept, out []*unstored
	for _, u := range s.unstored {
		if u.durable {
			continue
		}
		kept = append(kept, u)
		if !u.offered {
			out = append(out, u)
		}
	}
	s.unstored = kept
	for _, u := range out {
		u.offered = true
	}
	return out
}

func (s *service) settle(u *unstored, durable bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u.offered, u.durable = false, durable
}

// watch looks at the appliance every second until ctx ends, and then tells
// what was left out.
func (s *service) watch(ctx context.Context, look func() facts) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.look(look())
		case <-ctx.Done():
			for about, q := range s.quotas {
				if about != eventBoot { // the next start goes on with it
					s.closeQuota(about, q, s.now())
				}
			}
			s.flush()
			return
		}
	}
}

// look compares one look with the one before.
func (s *service) look(f facts) {
	s.lookAtLink(f)
	s.lookAtCameras(f)
	s.lookAtQueue(f.queue)
	s.lookAtStore(f.queue)
	s.lookAtModels(f.models)
	s.lookAtShedding(f.vision)
	for about, q := range s.quotas {
		if q.LeftOut > 0 && q.over(s.now()) {
			s.closeQuota(about, q, s.now())
		}
	}
	s.flush()
}

// spell follows something that begins and ends. changed says that it began, or
// that it ended after lasted.
func (s *service) spell(name string, on bool) (began, ended bool, lasted time.Duration) {
	since, was := s.spells[name]
	switch {
	case on && !was:
		s.spells[name] = s.now()
		return true, false, 0
	case !on && was:
		delete(s.spells, name)
		return false, true, s.now().Sub(since)
	}
	return false, false, 0
}

func (s *service) lookAtLink(f facts) {
	l := f.link
	up := l.State == uplink.LinkConnected
	if !up && l.Generation == 0 && s.now().Sub(s.started) < linkGrace {
		return // it is being made for the first time
	}
	if _, down := s.spells["link"]; up && !down && s.gen != 0 && l.Generation > s.gen {
		s.lostLink("it came back within a second", l)
		s.spell("link", true)
	}
	if up {
		s.gen = l.Generation
	}
	began, ended, lasted := s.spell("link", !up)
	if began {
		s.lostLink(l.Reason, l)
	}
	if ended {
		s.tell("link", eventLinkFound, map[string]any{"broker": l.Broker, "lost_s": lasted.Seconds(), "queued_records": f.queue.Queued.Records})
	}
}

func (s *service) lostLink(reason string, l uplink.LinkStats) {
	if l.State == uplink.LinkPaused {
		reason = "paused by hand"
	}
	s.tell("link", eventLinkLost, map[string]any{"broker": l.Broker, "reason": reason})
}

func (s *service) lookAtCameras(f facts) {
	for _, c := range f.vision.Cameras {
		if c.Reason == vision.ReasonStarting || c.Reason == vision.ReasonStopped {
			continue // neither is news: it has not been found yet, or we are stopping
		}
		about := "camera." + c.ID
		began, ended, lasted := s.spell(about, c.State == vision.Blind || c.State == vision.Offline)
		if began {
			s.tell(about, eventCameraLost, map[string]any{"camera_id": c.ID, "state": c.State, "reason": c.Reason, "detail": c.Detail})
		}
		if ended {
			s.tell(about, eventCameraFound, map[string]any{"camera_id": c.ID, "lost_s": lasted.Seconds()})
		}
	}
}

func (s *service) lookAtQueue(q uplink.QueueStats) {
	part := float64(q.Queued.Bytes) / float64(max(q.MaxBytes, 1))
	_, under := s.spells["queue"]
	full := map[string]any{"queued_records": q.Queued.Records, "queued_bytes": q.Queued.Bytes, "max_bytes": q.MaxBytes}
	s.tellSpell("queue", part >= pressureBegin || (under && part >= pressureEnd), eventPressureBegin, eventPressureEnd, full)
	disk := map[string]any{"free_bytes": q.FreeDisk, "floor_bytes": q.MinFreeDisk}
	s.tellSpell("disk", q.Refusing != nil, eventDiskBegin, eventDiskEnd, disk)
}

// tellSpell tells the beginning and the end of something, the end with how
// long it lasted.
func (s *service) tellSpell(about string, on bool, begin, end string, payload map[string]any) {
	began, ended, lasted := s.spell(about, on)
	if began {
		s.tell(about, begin, payload)
	}
	if ended {
		payload["lasted_s"] = lasted.Seconds()
		s.tell(about, end, payload)
	}
}

// lookAtStore tells what became of a store that could not be opened.
func (s *service) lookAtStore(q uplink.QueueStats) {
	if q.Quarantined != "" && !s.told[q.Quarantined] {
		s.told[q.Quarantined] = true
		s.tell("store", eventQuarantined, map[string]any{"moved_to": q.Quarantined, "salvaging": q.Salvaging})
	}
	for ; s.salvage < len(q.Salvaged); s.salvage++ {
		s.tell("store", eventSalvaged, q.Salvaged[s.salvage])
	}
	if err := q.SalvageError; err != nil && !s.told[err.Error()] {
		s.told[err.Error()] = true
		s.tell("store", eventSalvaged, map[string]any{"error": err.Error()})
	}
}

// noteRun keeps why the file of this run could not be written, which is no
// reason not to start.
func (s *service) noteRun(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runError = err
}

// failure says why the file of this run could not be written, or nothing.
func (s *service) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runError
}

// boot tells that the appliance has started, and what this run leaves when it
// ends. A program that starts over and over tells maxPerHour of its starts.
func (s *service) boot(was *lastRun, now lastRun) lastRun {
	if was != nil {
		s.quotas[eventBoot] = &was.Boots
	}
	b := bootOf(was, now)
	s.tell(eventBoot, eventBoot, b)
	if b.Reason == bootUpdate {
		s.tell(eventBoot, eventUpdate, map[string]any{"from": b.PreviousVersion, "to": b.Version})
	}
	now.Boots = *s.quotas[eventBoot]
	return now
}
