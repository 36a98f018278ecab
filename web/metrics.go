package web

import (
	"math"
	"strconv"
)

func (k sink) identity(s Snapshot) {
	k.gauge("info", "The appliance; always 1.", 1,
		"device_id", s.DeviceID, "region", s.Region, "site", s.Site, "version", s.Version)
	k.time("start_timestamp_seconds", "When the appliance started, in Unix time.", s.StartedAt)
	k.states("health_state", "Whether the appliance is in this state of health.", string(s.Health.State),
		[]string{string(Healthy), string(Degraded), string(Unhealthy)})
}

func (k sink) cameras(cameras []Camera) {
	states := []string{string(CameraOnline), string(CameraDegraded), string(CameraBlind), string(CameraOffline)}
	for _, c := range cameras {
		l := []string{"camera", c.ID}
		k.states("camera_state", "Whether the camera is in this state.", string(c.State), states, l...)
		k.gauge("camera_frames_per_second", "Frames a second that arrive.", c.FPS, l...)
		k.gauge("camera_target_frames_per_second", "Frames a second to inspect, 0 for all.", c.FPSTarget, l...)
		k.counter("camera_frames_total", "Frames that arrived.", c.Frames, l...)
		k.counter("camera_inspected_total", "Frames that the detector inspected.", c.Inspected, l...)
		k.counter("camera_dropped_total", "Frames replaced by a newer one before inspection.", c.Dropped, l...)
		k.counter("camera_throttled_total", "Frames above the target rate.", c.Throttled, l...)
		k.counter("camera_events_total", "Events made of frames.", c.Events, l...)
		k.counter("camera_events_dropped_total", "Events that could not be handed on.", c.EventsDropped, l...)
		k.counter("camera_events_refused_total", "Events that the disk or the queue did not take.", c.EventsRefused, l...)
		k.counter("camera_detector_errors_total", "Frames that the detector failed on.", c.DetectorErrors, l...)
		k.counter("camera_reconnects_total", "Times that the source was opened again.", c.Reconnects, l...)
		k.time("camera_last_frame_timestamp_seconds", "When the last frame arrived, in Unix time.", c.LastFrameAt, l...)
		k.looked(c, l)
		k.rules(c, l)
	}
}

func (k sink) detectors(detectors []Detector) {
	const help = "Median time that recent runs took in this stage."
	for _, d := range detectors {
		l := []string{"model", d.Model, "provider", d.Provider}
		k.counter("detector_inferences_total", "Frames that the model inspected.", d.Inferences, l...)
		k.gauge("detector_stage_seconds", help, seconds(d.PreprocessMS), append(l, "stage", "preprocess")...)
		k.gauge("detector_stage_seconds", help, seconds(d.RunMS), append(l, "stage", "run")...)
		k.gauge("detector_stage_seconds", help, seconds(d.PostprocessMS), append(l, "stage", "postprocess")...)
		k.inference(d.Inference, l)
	}
}

func (k sink) broker(b Broker) {
	k.gauge("broker_clients", "Clients connected to the local broker.", float64(b.Clients))
	k.gauge("broker_subscriptions", "Subscriptions on the local broker.", float64(b.Subscriptions))
	k.gauge("broker_retained_messages", "Retained messages on the local broker.", float64(b.Retained))
	k.gauge("broker_sessions", "Sessions that outlive their connection.", float64(b.Sessions))
	k.gauge("broker_owed_messages", "Messages that wait for the devices of these sessions.", float64(b.Owed))
	k.gauge("broker_owed_bytes", "Bytes of these messages.", float64(b.OwedBytes))
	k.counter("broker_session_dropped_messages_total", "Messages dropped beyond a bound of a session, or of all.", b.SessionsDropped)
	k.counter("broker_expired_sessions_total", "Sessions whose devices stayed away for too long.", b.SessionsExpired)
	k.gauge("broker_held_acks", "Acknowledgements that wait for the disk.", float64(b.HeldAcks))
	k.counter("broker_received_messages_total", "Messages from clients.", b.MessagesReceived)
	k.counter("broker_sent_messages_total", "Messages to clients.", b.MessagesSent)
	k.counter("broker_dropped_messages_total", "Messages dropped for slow subscribers.", b.MessagesDropped)
	k.counter("broker_received_bytes_total", "Bytes from clients.", b.BytesReceived)
	k.counter("broker_sent_bytes_total", "Bytes to clients.", b.BytesSent)
	k.counter("broker_denied_messages_total", "Publishes, wills and subscriptions that devices have no right to.", b.Denied)
	k.counter("broker_invalid_messages_total", "Publishes and wills that are not what their topic promises.", b.Invalid)
	k.counter("broker_failed_logins_total", "Logins that failed.", b.LoginsFailed)
	k.counter("broker_slowed_logins_total", "Logins that were not tried, after failures.", b.LoginsSlowed)
	k.counter("broker_busy_logins_total", "Logins that were not tried, as too many waited.", b.LoginsBusy)
	k.counter("broker_refused_messages_total", "Publishes that could not be stored and were refused.", b.Refused)
	for _, l := range b.Limited {
		k.counter("broker_limited_total", "What devices did beyond a limit, by the limit.", l.Count, "limit", l.Limit)
	}
	k.histogram("broker_puback_seconds", "Time from a device's publish to its PUBACK or PUBREC, of those that were stored.", b.Puback)
}

func (k sink) queue(s Snapshot) {
	q := s.Queue
	for _, l := range q.Lanes {
		lane := []string{"lane", strconv.Itoa(l.Lane)}
		k.gauge("queue_records", "Records in the queue.", float64(l.Records), lane...)
		k.gauge("queue_bytes", "Bytes in the queue.", float64(l.Bytes), lane...)
		age := 0.0
		if !l.OldestAt.IsZero() {
			age = max(0, s.Now.Sub(l.OldestAt).Seconds())
		}
		k.gauge("queue_oldest_age_seconds", "Time since the oldest record was accepted, 0 where there is none.", age, lane...)
	}
	k.gauge("queue_max_bytes", "Bytes that the queue may hold, 0 where no bound is known.", float64(q.MaxBytes))
	clears := math.Inf(1)
	if q.ClearsInS != nil {
		clears = *q.ClearsInS
	}
	k.gauge("queue_clearing_seconds",
		"Time until the backlog is delivered at the present rates, 0 where there is none, +Inf where it does not shrink.", clears)
	k.histogram("queue_commit_seconds", "Time of a group commit with its fsync.", q.Commit)
	k.gauge("queue_quarantined_stores", "Stores set aside as unreadable.", float64(q.Quarantined))
}

func (k sink) disk(q Queue) {
	refusing := 0.0
	if q.Refusing != "" {
		refusing = 1
	}
	k.gauge("disk_free_bytes", "Free space on the disk of the queue.", float64(q.DiskFreeBytes))
	k.gauge("disk_floor_bytes", "Free space below which nothing is accepted.", float64(q.DiskFloorBytes))
	k.gauge("disk_refusing", "Whether nothing is accepted because of the disk.", refusing)
}

func (k sink) ledger(routes []RouteLedger) {
	for _, r := range routes {
		l := []string{"route", r.Route}
		k.counter("ledger_accepted_records_total", "Records that the route accepted.", r.Accepted.Records, l...)
		k.counter("ledger_accepted_bytes_total", "Bytes that the route accepted.", r.Accepted.Bytes, l...)
		k.gauge("ledger_queued_records", "Records of the route that wait in the queue.", float64(r.Queued.Records), l...)
		k.gauge("ledger_queued_bytes", "Bytes of the route that wait in the queue.", float64(r.Queued.Bytes), l...)
		k.counter("ledger_dead_letters_total", "Records that became dead letters since the start.", r.DeadLetters, l...)
		for _, f := range r.settled() {
			if f.returns { // no counter may shrink
				k.gauge("ledger_"+f.name+"_records", "Records that left the queue as "+f.name+" and have not come back.",
					float64(f.amount.Records), l...)
				k.gauge("ledger_"+f.name+"_bytes", "Bytes that left the queue as "+f.name+" and have not come back.",
					float64(f.amount.Bytes), l...)
				continue
			}
			fate := append(l[:len(l):len(l)], "fate", f.name)
			k.counter("ledger_settled_records_total", "Records that left the queue for good, by what became of them.",
				f.amount.Records, fate...)
			k.counter("ledger_settled_bytes_total", "Bytes that left the queue for good, by what became of them.",
				f.amount.Bytes, fate...)
		}
	}
}

func (k sink) uplink(u Uplink) {
	k.states("uplink_state", "Whether the uplink is in this state.", string(u.State),
		[]string{string(UplinkConnected), string(UplinkConnecting), string(UplinkDown), string(UplinkPaused), string(UplinkOff)})
	k.gauge("uplink_in_flight_records", "Publishes without their PUBACK yet.", float64(u.InFlight))
	k.gauge("uplink_window_records", "Publishes that may be in flight.", float64(u.Window))
	k.counter("uplink_reconnects_total", "Connections made after the first.", u.Reconnects)
	k.gauge("uplink_delivered_per_second", "Records a second that the centre acknowledges.", u.DeliveredPerS)
	k.histogram("uplink_puback_seconds", "Time from PUBLISH to the centre's PUBACK.", u.Puback)
	k.gauge("uplink_backoff_seconds", "Wait that was drawn before the next attempt, 0 while there is none.", u.BackoffS)
	proven := 0.0
	if u.Proven {
		proven = 1
		k.gauge("uplink_canary_seconds", "Time that the last canary took through the centre and back.", u.CanaryS)
	}
	k.gauge("uplink_proven", "Whether a canary ever came back through the centre.", proven)
}
