package main

import (
	"fmt"
	"maps"

	"outstation/uplink/wire"
	"outstation/vision"
	"outstation/web"
)

// Events about what the device sheds.
const (
	eventShedBegin   = "camera_shed_begin"
	eventShedEnd     = "camera_shed_end"
	eventBehindBegin = "detector_behind_begin"
	eventBehindEnd   = "detector_behind_end"
	eventHotBegin    = "device_hot_begin"
	eventHotEnd      = "device_hot_end"
)

// Defaults of ThrottleConfig, in °C: below the 95 or so at which a Jetson slows
// itself down.
const (
	defaultHot  = 85
	defaultCool = 80
)

// ThrottleConfig says at which temperatures, in °C, inspection is shed and
// taken up again.
type ThrottleConfig struct {
	Hot  float64 `yaml:"hot"` // 0: never
	Cool float64 `yaml:"cool"`
}

func (c ThrottleConfig) options() vision.ShedOptions {
	if c.Hot == 0 {
		return vision.ShedOptions{}
	}
	return vision.ShedOptions{Hot: c.Hot, Cool: c.Cool}
}

func (c *checker) shedding(cfg VisionConfig) {
	t := cfg.Throttle
	if !(t.Hot == 0 || (t.Hot >= 40 && t.Hot <= 120)) {
		c.add("vision.throttle.hot", "expected 40 to 120 °C, or 0 (never), got %v", t.Hot)
	} else if t.Hot > 0 && !(t.Cool >= 20 && t.Cool < t.Hot) {
		c.add("vision.throttle.cool", "expected 20 °C or more and below hot, %v, got %v", t.Hot, t.Cool)
	}
	for i, cam := range cfg.Cameras {
		if cam.Priority != 0 && (cam.Priority < vision.MinPriority || cam.Priority > vision.MaxPriority) {
			c.add(fmt.Sprintf("vision.cameras[%d].priority", i), "expected %d (gives way first) to %d, got %d", vision.MinPriority, vision.MaxPriority, cam.Priority)
		}
	}
}

// priority of a camera: the heartbeat's one frame a second proves the
// detector, and is shed last.
func (c CameraConfig) priority() int {
	if c.Heartbeat && c.Priority == 0 {
		return vision.MaxPriority
	}
	return c.Priority
}

// heatCheck says how hot the device is, where that is known.
func heatCheck(f facts) []wire.Check {
	h := f.vision.Heat
	if !h.Known {
		return nil
	}
	detail := fmt.Sprintf("%.0f °C, %s", h.Celsius, h.Sensor)
	if h.Hot {
		return []wire.Check{check("heat", wire.Impaired, detail+": too hot, cameras are inspected less often until it has cooled down")}
	}
	return []wire.Check{check("heat", wire.Healthy, detail)}
}

// behindCheck changes the check of a model that cannot keep up.
func behindCheck(c wire.Check, m vision.ModelStats) wire.Check {
	if m.Behind && c.State == wire.Healthy {
		c.State = wire.Impaired
		c.Detail += "; it cannot keep up with its cameras: lower their fps, or give those that matter a higher priority"
	}
	return c
}

// reducedCheck changes the check of a camera that is inspected less often
// than it should be.
func reducedCheck(c wire.Check, cam vision.CameraStats) wire.Check {
	if cam.ReducedTo > 0 && c.State == wire.Healthy {
		c.State = wire.Impaired
		c.Detail = fmt.Sprintf("reduced to %.1f frames a second: %s", cam.ReducedTo, cam.ReducedFor)
	}
	return c
}

// lookAtShedding tells what is shed, and when that ends.
func (s *service) lookAtShedding(v vision.Stats) {
	s.tellSpell("heat", v.Heat.Hot, eventHotBegin, eventHotEnd, map[string]any{"celsius": v.Heat.Celsius, "sensor": v.Heat.Sensor})
	for _, m := range v.Models {
		s.tellSpell("model."+m.Name, m.Behind, eventBehindBegin, eventBehindEnd, map[string]any{"model": m.Name})
	}
	for _, c := range v.Cameras {
		payload := map[string]any{"camera_id": c.ID, "priority": c.Priority}
		if c.ReducedTo > 0 {
			maps.Copy(payload, map[string]any{"reduced_to_fps": round(c.ReducedTo, 2), "reason": c.ReducedFor})
		}
		s.tellSpell("shed."+c.ID, c.ReducedTo > 0, eventShedBegin, eventShedEnd, payload)
	}
}

func webShedding(c vision.CameraStats) web.Shedding {
	return web.Shedding{Priority: c.Priority, ReducedTo: c.ReducedTo, ReducedFor: c.ReducedFor}
}

func webHeat(h vision.Heat, hotAt float64) web.Heat {
	return web.Heat{Known: h.Known, Celsius: h.Celsius, Sensor: h.Sensor, HotAt: hotAt, Hot: h.Hot}
}
