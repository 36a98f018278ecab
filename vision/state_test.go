package vision

import (
	"testing"
	"time"
)

func TestDerive(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d * time.Second) }
	inspected := limits{stall: 10 * time.Second, inspect: 10 * time.Second}
	bare := limits{stall: 10 * time.Second}
	cases := map[string]struct {
		facts  facts
		limits limits
		state  State
		reason string
	}{
		"opening":                  {facts{since: ago(1)}, bare, Offline, ReasonStarting},
		"open blocks":              {facts{since: ago(10)}, bare, Blind, ReasonStalled},
		"open failed":              {facts{phase: phaseBackoff, since: ago(60), err: errTest}, bare, Offline, ReasonUnreachable},
		"open blocks again":        {facts{phase: phaseOpening, since: ago(60), err: errTest}, bare, Offline, ReasonUnreachable},
		"lost":                     {facts{phase: phaseBackoff, since: ago(1), err: errTest, lost: true}, bare, Offline, ReasonDisconnected},
		"connected, silent":        {facts{phase: phaseReading, since: ago(9)}, bare, Offline, ReasonStarting},
		"connected, long silent":   {facts{phase: phaseReading, since: ago(10)}, bare, Blind, ReasonStalled},
		"reconnected, long silent": {facts{phase: phaseReading, since: ago(10), err: errTest}, bare, Blind, ReasonStalled},
		"frames":                   {facts{phase: phaseReading, since: ago(99), lastFrame: ago(9)}, bare, Online, ""},
		"stalled":                  {facts{phase: phaseReading, since: ago(99), lastFrame: ago(10)}, bare, Blind, ReasonStalled},
		"inspected":                {facts{phase: phaseReading, lastFrame: ago(1), inspected: ago(9)}, inspected, Online, ""},
		"uninspected":              {facts{phase: phaseReading, lastFrame: ago(1), inspected: ago(10)}, inspected, Blind, ReasonUninspected},
		"held":                     {facts{phase: phaseHeld, lastFrame: ago(99), inspected: ago(9)}, inspected, Online, ""},
		"held for long":            {facts{phase: phaseHeld, lastFrame: ago(99), inspected: ago(10)}, inspected, Blind, ReasonUninspected},
		"detector fails":           {facts{phase: phaseReading, lastFrame: ago(1), inspected: ago(1), detectErr: errTest}, inspected, Degraded, ReasonDetector},
		"no model":                 {facts{phase: phaseReading, lastFrame: ago(1), inspected: ago(1), modelErr: errTest}, inspected, Blind, ReasonNoDetector},
		"no model is asked for":    {facts{phase: phaseReading, lastFrame: ago(1), modelErr: errTest}, bare, Online, ""},
		"stalled without a model":  {facts{phase: phaseReading, lastFrame: ago(10), modelErr: errTest}, inspected, Blind, ReasonStalled},
		"ended":                    {facts{phase: phaseEnded, lastFrame: ago(99)}, inspected, Offline, ReasonEnded},
		"stopped":                  {facts{phase: phaseStopped, lastFrame: ago(1), err: errTest}, inspected, Offline, ReasonStopped},
	}
	for name, c := range cases {
		state, reason, _ := c.facts.derive(now, c.limits)
		if state != c.state || reason != c.reason {
			t.Errorf("%s: got %s %q, want %s %q", name, state, reason, c.state, c.reason)
		}
	}
}

func TestThrottleKeepsTheTargetRate(t *testing.T) {
	for _, c := range []struct{ camera, target, want float64 }{
		{25, 10, 10}, {30, 10, 10}, {15, 15, 15}, {15, 14, 14}, {5, 10, 5}, {25, 0, 25}, {30, 1, 1}, {10, 0.5, 0.5},
	} {
		th := newThrottle(c.target)
		const seconds = 100
		allowed := 0
		for i := range int(c.camera * seconds) {
			jitter := time.Duration(1-i%3) * 5 * time.Millisecond
			if th.allow(time.Unix(0, 0).Add(time.Duration(float64(i)/c.camera*1e9) + jitter)) {
				allowed++
			}
		}
		if got := float64(allowed) / seconds; got < c.want*0.98 || got > c.want*1.02+0.01 {
			t.Errorf("%v frames a second throttled to %v: %v, want %v", c.camera, c.target, got, c.want)
		}
	}
}

func TestQuantilesAndRate(t *testing.T) {
	var s samples
	if got := s.quantiles(); got != (Quantiles{}) {
		t.Errorf("of nothing: %+v", got)
	}
	for i := range 1000 {
		s.add(time.Duration(i))
	}
	if got := s.quantiles(); got.P50 != 743 || got.P99 != 993 { // of 488…999
		t.Errorf("got %+v", got)
	}
	var r rate
	at := time.Unix(0, 0)
	for range 100 {
		at = at.Add(40 * time.Millisecond)
		r.add(at)
	}
	if fps := r.fps(at); fps < 24.99 || fps > 25.01 {
		t.Errorf("%v frames a second, want 25", fps)
	}
	if fps := r.fps(at.Add(3 * time.Second)); fps != 0 {
		t.Errorf("%v frames a second after a silence, want 0", fps)
	}
}
