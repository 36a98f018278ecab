package main

import (
	"fmt"
	"time"

	"outstation/uplink/wire"
	"outstation/vision"
	"outstation/web"
)

// openBlind closes what the last run left open. The pipeline comes after it,
// and so stops before it.
func (a *app) openBlind() error {
	origin := a.cfg.origin()
	a.blind = &blindKeeper{
		device: a.cfg.DeviceID, path: coveragePath(a.cfg.DataDir), topic: origin.Blind, clock: clockState, now: time.Now,
		enqueue: a.enqueueBlind, log: a.log.With("part", "vision"),
		publish: func(topic string, payload []byte) {
			if err := a.broker.Publish(topic, payload, 1, false); err != nil {
				a.log.Error("local publish failed", "topic", topic, "error", err)
			}
		},
	}
	a.blind.resume(a.cfg.Vision.blindAfter())
	a.onClose(a.blind.Close)
	return nil
}

// enqueueBlind offers an event to the queue.
func (a *app) enqueueBlind(topic string, payload []byte, done func(error)) error {
	route, to, ok := a.router.Load().Route(topic)
	if !ok {
		return fmt.Errorf("no route takes %s to the centre", topic)
	}
	return a.queue.Enqueue(message(route, to, 1, payload, false), done)
}

// blindAfter is each inspected camera's longest time without an inspection that
// is no blind interval.
func (c VisionConfig) blindAfter() map[string]time.Duration {
	all := map[string]time.Duration{}
	for _, cam := range c.Cameras {
		if cam.Model != "" {
			all[cam.ID] = cam.blindLimit()
		}
	}
	return all
}

func (c CameraConfig) blindLimit() time.Duration { return c.blindOptions().BlindLimit() }

// blindOptions are what the limit follows from.
func (c CameraConfig) blindOptions() vision.CameraOptions {
	o := vision.CameraOptions{FPS: heartbeatCamera(c).FPS, BlindAfter: c.BlindAfter}
	c.applyView(&o)
	return o
}

// blindAfter checks that a camera at its rate, or gated by motion, is not
// blind between two frames.
func (c *checker) blindAfter(key string, cam CameraConfig) {
	o := cam.blindOptions()
	if cam.BlindAfter == 0 || o.FPS > 1000 || o.Motion.Check() != nil { // those have been reported
		return
	}
	if least := max(time.Second, o.LeastBlindAfter()); cam.BlindAfter < least {
		c.add(key, "expected at least %v (1s, three intervals of fps, or twice motion.every), got %v", least, cam.BlindAfter)
	}
}

// blindDetail says since when a camera is not inspected, or nothing.
func blindDetail(c vision.CameraStats) string {
	if c.BlindSince.IsZero() {
		return ""
	}
	return fmt.Sprintf("not inspected since %s (%s)", c.BlindSince.UTC().Format(time.RFC3339), c.BlindReason)
}

// blindCheck says what keeps blind time from being told or kept; nil when it
// is.
func blindCheck(b blindStats) []wire.Check {
	detail := ""
	switch {
	case b.Err != nil:
		detail = fmt.Sprintf("%v; events that wait: %d", b.Err, b.Waiting)
	case b.Merged > 0:
		detail = fmt.Sprintf("too many intervals waited for the queue: %d were told as one with the interval before", b.Merged)
	case b.Aside != "":
		detail = b.Aside + "; what was open then is not closed, and coverage begins anew"
	default:
		return nil
	}
	return []wire.Check{check("blind time", wire.Impaired, detail)}
}

// webLooked is a camera's account of inspection; off is what came before the
// start. It is nil for a camera that is not inspected.
func webLooked(c vision.CameraStats, off time.Duration) *web.Looked {
	if !c.Watched {
		return nil
	}
	out := &web.Looked{
		KnownSince: c.WatchedSince, Hour: c.CoveredHour, Day: c.CoveredDay, BlindAfterS: c.BlindAfter.Seconds(), BlindSince: c.BlindSince, BlindReason: string(c.BlindReason),
	}
	for _, r := range vision.BlindReasons {
		d := c.BlindFor[r]
		if r == vision.BlindOff {
			d += off
		}
		out.Blind = append(out.Blind, web.BlindTime{Reason: string(r), Seconds: d.Seconds()})
	}
	return out
}
