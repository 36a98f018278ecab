package web

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Looked is in which time a camera was inspected. Time in which the appliance was off was not.
type Looked struct {
	Hour        float64   `json:"hour"` // part of the last hour, or since the camera is known, from 0 to 1
	Day         float64   `json:"day"`  // the same of the last day
	KnownSince  time.Time `json:"known_since,omitzero"`
	BlindAfterS float64   `json:"blind_after_s"`
	BlindSince  time.Time `json:"blind_since,omitzero"` // zero while the camera is inspected
	BlindReason string    `json:"blind_reason"`
	// Blind is the time in blind intervals since the start, and before it since the last inspection.
	Blind []BlindTime `json:"blind"`
}

// BlindTime is the time in which a camera was not inspected for one reason.
type BlindTime struct {
	Reason  string  `json:"reason"` // stalled, dropped, throttled, masked or off
	Seconds float64 `json:"seconds"`
}

// share writes a part as a percentage, never 100 % of what is less.
func share(part float64) string {
	percent := math.Floor(part*1000) / 10
	if percent == 100 {
		return "100 %"
	}
	return fmt.Sprintf("%.1f %%", percent)
}

// lookedOf says in words how much of the time a camera was inspected; empty for one that is not.
// What is said of a day that is not over yet names the time that it tells of.
func lookedOf(now time.Time, c Camera) string {
	if c.Looked == nil {
		return ""
	}
	hour, day := share(c.Looked.Hour), share(c.Looked.Day)
	known := now.Sub(c.Looked.KnownSince) // since for ever where nobody says it
	switch span := ago(now, c.Looked.KnownSince); {
	case known < time.Hour:
		return fmt.Sprintf("looked %s of the %s since it is known", hour, span)
	case known < 24*time.Hour:
		return fmt.Sprintf("looked %s of the last hour, %s of the %s since it is known", hour, day, span)
	}
	return fmt.Sprintf("looked %s of the last hour, %s of the last day", hour, day)
}

// blindOf says that a camera is not inspected now; empty when it is.
func blindOf(now time.Time, c Camera) string {
	if c.Looked == nil || c.Looked.BlindSince.IsZero() {
		return ""
	}
	lasting := ""
	if span := ago(now, c.Looked.BlindSince); span != "" {
		lasting = " for " + span
	}
	return "not looking" + lasting + ": " + blindWords(c.Looked.BlindReason)
}

// blindTimesOf says how long a camera was not inspected, and why; empty where it always was.
func blindTimesOf(c Camera) string {
	if c.Looked == nil {
		return ""
	}
	var said []string
	for _, b := range c.Looked.Blind {
		if b.Seconds >= 1 {
			said = append(said, spanOf(time.Duration(b.Seconds*float64(time.Second)))+" ("+blindWords(b.Reason)+")")
		}
	}
	if len(said) == 0 {
		return ""
	}
	return "blind since the start and just before it: " + strings.Join(said, ", ")
}

// stuckOf says that calls into a camera's source never returned; empty when none is stuck.
func stuckOf(c Camera) string {
	if c.Stuck == 0 {
		return ""
	}
	return many(c.Stuck, "call to it has", "calls to it have") + " never returned"
}

// blindWords are the reasons of blind time for a technician.
func blindWords(reason string) string {
	switch reason {
	case "stalled":
		return "no picture comes"
	case "dropped":
		return "the detector does not take the pictures"
	case "throttled":
		return "the appliance spares itself"
	case "masked":
		return "nothing moves in the picture"
	case "off":
		return "the pipeline is off"
	}
	return reason
}

// looked sends how much of the time a camera was inspected.
func (k sink) looked(c Camera, labels []string) {
	k.counter("camera_masked_total", "Frames that the motion gate kept from the detector, as nothing moved in them.", c.Masked, labels...)
	k.seconds("camera_stalled_seconds_total", "Time in which frames were expected and none came.", c.StalledS, labels...)
	k.counter("camera_abandoned_total", "Connections given up for their silence.", c.Abandoned, labels...)
	k.gauge("camera_stuck_calls", "Calls into the camera's source that have not returned.", float64(c.Stuck), labels...)
	if c.Looked == nil {
		return
	}
	const help = "Part of the last hour or day in which the camera was inspected, from 0 to 1."
	all := labels[:len(labels):len(labels)]
	k.gauge("camera_coverage_ratio", help, c.Looked.Hour, append(all, "window", "hour")...)
	k.gauge("camera_coverage_ratio", help, c.Looked.Day, append(all, "window", "day")...)
	for _, b := range c.Looked.Blind {
		k.seconds("camera_blind_seconds_total", "Time in which the camera was not inspected, by reason.", b.Seconds, append(all, "reason", b.Reason)...)
	}
}
