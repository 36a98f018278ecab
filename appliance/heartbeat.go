package main

import (
	"fmt"
	"math"
	"net/url"
	"sync"
	"time"

	"outstation/uplink/wire"
	"outstation/vision"
	"outstation/vision/sim"
)

// heartbeatID is what the camera of known footage is called, so that whoever
// counts events knows which to leave out.
const heartbeatID = "heartbeat"

const (
	heartbeatFPS    = 1           // unless the configuration says otherwise
	heartbeatWindow = time.Minute // that health looks back
	heartbeatShare  = 0.9         // of the parts in view that have to be found
	heartbeatLeast  = 20          // parts in view before the first verdict
)

// heartbeatCamera is cam as it is run: a heartbeat is slow unless told
// otherwise, and its frames are numbered from 1970 unless its address says
// from when.
func heartbeatCamera(cam CameraConfig) CameraConfig {
	if !cam.Heartbeat {
		return cam
	}
	if cam.FPS == 0 {
		cam.FPS = heartbeatFPS
	}
	if u, err := url.Parse(cam.Source); err == nil && !u.Query().Has("epoch") {
		query := u.Query()
		query.Set("epoch", "0")
		u.RawQuery = query.Encode()
		cam.Source = u.String()
	}
	return cam
}

// cameras counts those that look at something.
func (c VisionConfig) cameras() (n int) {
	for _, cam := range c.Cameras {
		if !cam.Heartbeat {
			n++
		}
	}
	return n
}

// camerasText is how many cameras there are, in words.
func (c VisionConfig) camerasText() string {
	text := fmt.Sprintf("cameras: %d", c.cameras())
	if len(c.Cameras) > c.cameras() {
		text += " and the heartbeat"
	}
	return text
}

// heartbeat checks a camera that must be one of known footage, and any other
// that looks like one.
func (c *checker) heartbeat(key string, cam CameraConfig) {
	if !cam.Heartbeat {
		if cam.ID == heartbeatID {
			c.add(key+".id", "%q is kept for a camera with heartbeat: true, whose events do not count; choose another", heartbeatID)
		}
		return
	}
	if cam.ID != heartbeatID {
		c.add(key+".id", "a camera with heartbeat: true has to be called %q, got %q; there can be one", heartbeatID, cam.ID)
	}
	if _, _, err := sim.ParseLine(cam.Source); err != nil {
		c.add(key+".source", "a camera with heartbeat: true shows sim://line, whose truth is known: %v", err)
	}
	if cam.Model == "" {
		c.add(key+".model", "a camera with heartbeat: true needs a model that knows the simulated line, got none")
	}
	if cam.Lossless {
		c.add(key+".lossless", "a camera with heartbeat: true shows its frames at their time; leave lossless out")
	}
}

// heartbeat compares what the detector finds on a line whose truth is known
// with that truth. It is safe for concurrent use.
type heartbeat struct {
	line  *sim.Line
	epoch time.Time // of frame 0
	every bool      // frames without detections are events too
	began time.Time

	mu    sync.Mutex
	beats [heartbeatWindow / time.Second]beat // of the latest seconds
	empty uint64                              // frames that are no events
}

// beat is what one second brought.
type beat struct {
	second       int64 // since began
	frames       int   // inspected
	detected     int   // frames in which something was found
	shown, found int   // parts
}

// newHeartbeat returns the heartbeat of a configuration, or nil if it has none.
func newHeartbeat(cameras []CameraConfig) (*heartbeat, error) {
	for _, cam := range cameras {
		if !cam.Heartbeat {
			continue
		}
		opts, epoch, err := sim.ParseLine(heartbeatCamera(cam).Source)
		if err != nil {
			return nil, err
		}
		line, err := sim.NewLine(opts)
		if err != nil {
			return nil, err
		}
		return &heartbeat{line: line, epoch: epoch, every: vision.Policy(cam.Policy) == vision.PolicyEveryFrame, began: time.Now()}, nil
	}
	return nil, nil
}

// sink passes events on, after it has looked at those of the heartbeat. Its
// camera makes one of every inspected frame, so that a detector that finds
// nothing is seen; those do not become events of the appliance.
func (h *heartbeat) sink(next vision.Sink) vision.Sink {
	if h == nil {
		return next
	}
	return func(e vision.Event) {
		if e.Camera != heartbeatID || h.look(e) {
			next(e)
		}
	}
}

// look compares one frame and reports whether it is an event.
func (h *heartbeat) look(e vision.Event) bool {
	index := int64(math.Round(e.CapturedAt.Sub(h.epoch).Seconds() * h.line.Options().FPS))
	shown, found := 0, 0
	for _, p := range h.line.Truth(index).Parts {
		if b := p.Box; b.X <= 0 || b.X+b.W >= float64(h.line.Options().Width) {
			continue // it enters or leaves
		}
		shown++
		for _, d := range e.Detections {
			if d.Class == sim.ClassPart && sim.Overlap(d.Box, p.Box) >= sim.MatchIoU {
				found++
				break
			}
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.beat()
	b.frames++
	b.shown += shown
	b.found += found
	if len(e.Detections) > 0 {
		b.detected++
	} else if !h.every {
		h.empty++
		return false
	}
	return true
}

// beat is that of the present second; mu is held.
func (h *heartbeat) beat() *beat {
	second := int64(time.Since(h.began) / time.Second)
	b := &h.beats[second%int64(len(h.beats))]
	if b.second != second {
		*b = beat{second: second}
	}
	return b
}

// heartbeatStats is what the last minute brought.
type heartbeatStats struct {
	Age      time.Duration // of the heartbeat
	Frames   int           // inspected
	Detected int           // frames in which something was found
	Shown    int           // parts that were wholly in view in these frames
	Found    int           // of these
	Empty    uint64        // frames that did not become events, since the start
}

// stats is nil without a heartbeat.
func (h *heartbeat) stats() *heartbeatStats {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s := heartbeatStats{Age: time.Since(h.began), Empty: h.empty}
	oldest := int64(s.Age/time.Second) - int64(len(h.beats)) + 1
	for _, b := range h.beats {
		if b.second >= oldest {
			s.Frames, s.Detected, s.Shown, s.Found = s.Frames+b.frames, s.Detected+b.detected, s.Shown+b.shown, s.Found+b.found
		}
	}
	return &s
}

// heartbeatCheck says whether what has to be found is found; nil without a
// heartbeat.
func heartbeatCheck(f facts) []wire.Check {
	s := f.heartbeat
	if s == nil {
		return nil
	}
	state, detail := wire.Impaired, ""
	switch {
	case s.Age < heartbeatWindow && s.Shown < heartbeatLeast:
		state, detail = wire.Healthy, "too little was inspected yet"
	case s.Frames == 0:
		detail = "no frame of it was inspected in the last minute" + heartbeatState(f.vision)
	case s.Shown == 0:
		state, detail = wire.Healthy, "no part was in view in the last minute"
	case s.Detected == 0:
		detail = fmt.Sprintf("nothing was detected in the last minute, in %d frames that showed parts %d times", s.Frames, s.Shown)
	case float64(s.Found) < heartbeatShare*float64(s.Shown):
		detail = fmt.Sprintf("of the %d parts in view in the last minute only %d were found, expected at least %.0f %%", s.Shown, s.Found, 100*heartbeatShare)
	default:
		state, detail = wire.Healthy, fmt.Sprintf("of the %d parts in view in the last minute %d were found", s.Shown, s.Found)
	}
	return []wire.Check{check(heartbeatID, state, detail)}
}

// heartbeatState is what the camera says for itself.
func heartbeatState(s vision.Stats) string {
	for _, c := range s.Cameras {
		if c.ID == heartbeatID {
			return fmt.Sprintf("; the camera is %s, %s", c.State, c.Reason)
		}
	}
	return ""
}
