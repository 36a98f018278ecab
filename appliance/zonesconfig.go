package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"outstation/vision"
	"outstation/vision/sim"
)

// JudgeConfig says which detections of a camera count, and what becomes an
// event. What is left zero is vision's default.
type JudgeConfig struct {
	Policy   string `yaml:"policy"`
	Debounce int    `yaml:"debounce"`

	Confidence float64                `yaml:"confidence"`
	MinArea    float64                `yaml:"min_area"`
	MaxArea    float64                `yaml:"max_area"`
	Classes    map[string]ClassConfig `yaml:"classes"`
	Only       []string               `yaml:"only"`

	Anchor        string         `yaml:"anchor"`
	Zones         []ZoneConfig   `yaml:"zones"`
	RequiredZones []string       `yaml:"required_zones"`
	Masks         Areas          `yaml:"masks"`
	Tracking      TrackingConfig `yaml:"tracking"`

	// EveryFrame was this key's name before there were policies.
	EveryFrame *bool `yaml:"every_frame,omitempty"`
}

// ClassConfig is what one class has to meet.
type ClassConfig struct {
	Confidence float64 `yaml:"confidence"`
	MinArea    float64 `yaml:"min_area"`
	MaxArea    float64 `yaml:"max_area"`
}

// ZoneConfig is a named part of the picture.
type ZoneConfig struct {
	Name    string   `yaml:"name"`
	Points  Corners  `yaml:"points"`
	Classes []string `yaml:"classes"`
}

// Corners of an area are pairs, in parts of the picture's width and height.
type Corners [][]float64

// Example is what an error shows whoever miscounted the brackets.
func (*Corners) Example() string {
	return "the corners of one area, each [x, y], such as [[0, 0], [1, 0], [1, 0.1]]"
}

// Areas are the corners of each.
type Areas []Corners

// Example is what an error shows whoever miscounted the brackets.
func (*Areas) Example() string {
	return "a list of areas, each a list of corners [x, y], such as [[[0, 0], [1, 0], [1, 0.1]]] for one area"
}

// TrackingConfig is how objects are followed.
type TrackingConfig struct {
	On      bool          `yaml:"on"`
	Low     float64       `yaml:"low"`
	Lost    time.Duration `yaml:"lost"`
	Confirm int           `yaml:"confirm"`
}

// judge is what the pipeline is given.
func (c JudgeConfig) judge() vision.JudgeOptions {
	o := vision.JudgeOptions{
		Limits:   vision.Limits{Confidence: c.Confidence, MinArea: c.MinArea, MaxArea: c.MaxArea},
		Only:     c.Only,
		Required: c.RequiredZones, Anchor: vision.Anchor(c.Anchor),
		Tracking: vision.TrackOptions(c.Tracking), Policy: vision.Policy(c.Policy), Debounce: c.Debounce,
	}
	for _, z := range c.Zones {
		o.Zones = append(o.Zones, vision.Zone{Name: z.Name, Area: polygon(z.Points), Classes: z.Classes})
	}
	for _, m := range c.Masks {
		o.Masks = append(o.Masks, polygon(m))
	}
	if len(c.Classes) > 0 {
		o.Classes = map[string]vision.Limits{}
	}
	for name, l := range c.Classes {
		o.Classes[name] = vision.Limits(l)
	}
	return o
}

// polygon expects pairs; what is not one leaves the picture, where Check
// finds it.
func polygon(points [][]float64) vision.Polygon {
	var p vision.Polygon
	for _, xy := range points {
		if len(xy) != 2 {
			xy = []float64{-1, -1}
		}
		p = append(p, vision.Point{X: xy[0], Y: xy[1]})
	}
	return p
}

// tracks reports whether objects are followed.
func (c JudgeConfig) tracks() bool {
	return c.Tracking.On || vision.Policy(c.Policy) == vision.PolicyTrack
}

// least is the lowest confidence that a camera has a use for, 0 where it
// leaves that to the model.
func (c JudgeConfig) least() float64 {
	var all []float64
	for _, l := range c.Classes {
		all = append(all, l.Confidence)
	}
	all = append(all, c.Confidence)
	if c.tracks() {
		all = append(all, cmp.Or(c.Tracking.Low, vision.DefaultTrackLow))
	}
	all = slices.DeleteFunc(all, func(v float64) bool { return v <= 0 })
	if len(all) == 0 {
		return 0
	}
	return slices.Min(all)
}

// lowered is the model with the lowest confidence that one of its cameras asks
// for. For the others, what the model itself says decides what counts.
func (c VisionConfig) lowered(m ModelConfig) ModelConfig {
	for _, cam := range c.Cameras {
		if cam.Model == m.Name {
			m = m.down(cam.least())
		}
	}
	return m
}

// down is the model with what it finds returned down to a confidence, unless
// that is 0 or it goes further down already.
func (m ModelConfig) down(to float64) ModelConfig {
	if to > 0 && (m.floor == 0 || to < m.floor) {
		m.floor = to
	}
	return m
}

// judge is that of one camera.
func (c VisionConfig) judge(cam CameraConfig) vision.JudgeOptions {
	o := cam.judge()
	if cam.Heartbeat {
		o.Policy = vision.PolicyEveryFrame
	}
	return o
}

// checkJudge reports each mistake at its own key.
func (c *checker) judge(key string, cam CameraConfig, models []ModelConfig) {
	if cam.EveryFrame != nil {
		c.add(key+".every_frame", "this key is now a policy; write policy: every_frame, or leave it out")
	}
	o := cam.judge()
	c.oneOf(key+".policy", cam.Policy, "detections", "every_frame", "on_change", "track")
	c.oneOf(key+".anchor", cam.Anchor, "bottom", "centre")
	if cam.Debounce < 0 || cam.Debounce > 1000 {
		c.add(key+".debounce", "expected 1 to 1000 frames, got %d", cam.Debounce)
	}
	c.oneOfLimits(key, o.Limits)
	c.zones(key, cam)
	for i, m := range cam.Masks {
		c.polygon(fmt.Sprintf("%s.masks[%d]", key, i), m)
	}
	for i, name := range cam.RequiredZones {
		if !slices.ContainsFunc(cam.Zones, func(z ZoneConfig) bool { return z.Name == name }) {
			c.add(fmt.Sprintf("%s.required_zones[%d]", key, i), "no zone of this camera is called %q", name)
		}
	}
	c.classes(key, cam, models)
	if t := o.Tracking; !(t.Low >= 0 && t.Low < 1) || t.Lost < 0 || t.Confirm < 0 || t.Confirm > 100 {
		c.add(key+".tracking", "expected low from 0 to below 1, lost of 0s or more and confirm of 0 to 100 frames, got %v, %v and %d", t.Low, t.Lost, t.Confirm)
	}
	if cam.Heartbeat && (o.Policy != "" && o.Policy != vision.PolicyEveryFrame && o.Policy != vision.PolicyDetections || cam.tracks() || len(cam.RequiredZones)+len(cam.Masks)+len(cam.Only) > 0) {
		c.add(key+".heartbeat", "what the heartbeat's camera finds is compared with all that it shows; leave policies, tracking, masks, only and required_zones out")
	}
}

// oneOfLimits checks a camera's limits and that those are in range which a
// class does not replace.
func (c *checker) oneOfLimits(key string, l vision.Limits) {
	if !(l.Confidence >= 0 && l.Confidence < 1) {
		c.add(key+".confidence", "expected 0 (the model's) or a number below 1, got %v", l.Confidence)
	}
	if !(l.MinArea >= 0 && l.MinArea <= 1) {
		c.add(key+".min_area", "expected a part of the picture's area, 0 to 1, got %v", l.MinArea)
	}
	if !(l.MaxArea >= 0 && l.MaxArea <= 1) || l.MaxArea > 0 && l.MaxArea < l.MinArea {
		c.add(key+".max_area", "expected a part of the picture's area, 0 to 1 and not below min_area, got %v", l.MaxArea)
	}
}

func (c *checker) zones(key string, cam CameraConfig) {
	if len(cam.Zones) > vision.MaxZones || len(cam.Masks) > vision.MaxMasks {
		c.add(key+".zones", "expected at most %d zones and %d masks, got %d and %d", vision.MaxZones, vision.MaxMasks, len(cam.Zones), len(cam.Masks))
	}
	names := map[string]bool{}
	for i, z := range cam.Zones {
		at := fmt.Sprintf("%s.zones[%d]", key, i)
		if z.Name == "" || len(z.Name) > 64 || names[z.Name] {
			c.add(at+".name", "expected a name of its own, of at most 64 bytes, got %q", z.Name)
		}
		names[z.Name] = true
		c.polygon(at+".points", z.Points)
	}
}

func (c *checker) polygon(key string, points [][]float64) {
	for i, xy := range points {
		if len(xy) != 2 {
			c.add(fmt.Sprintf("%s[%d]", key, i), "expected a corner as [x, y], got %d numbers", len(xy))
			return
		}
	}
	c.err(key, polygon(points).Check())
}

// classes checks limits by class and, where the model's classes are known,
// every name of a class: one that is mistyped would never match.
func (c *checker) classes(key string, cam CameraConfig, models []ModelConfig) {
	general := cam.judge().Limits
	for _, name := range slices.Sorted(maps.Keys(cam.Classes)) {
		at := key + ".classes." + name
		l := vision.Limits(cam.Classes[name])
		l.MinArea, l.MaxArea = cmp.Or(l.MinArea, general.MinArea), cmp.Or(l.MaxArea, general.MaxArea)
		c.oneOfLimits(at, l)
	}
	known, named := classesOf(cam.Model, models), cam.namedClasses(key)
	for _, at := range slices.Sorted(maps.Keys(named)) {
		if len(known) > 0 && !slices.Contains(known, named[at]) {
			c.add(at, "model %s has no class %q, only %s", cam.Model, named[at], strings.Join(known, ", "))
		}
	}
}

// namedClasses are the classes that a camera's rules name, by their keys.
func (c CameraConfig) namedClasses(key string) map[string]string {
	named := map[string]string{}
	for name := range c.Classes {
		named[key+".classes."+name] = name
	}
	for i, name := range c.Only {
		named[fmt.Sprintf("%s.only[%d]", key, i)] = name
	}
	for i, name := range c.Classify.Classes {
		named[fmt.Sprintf("%s.classify.classes[%d]", key, i)] = name
	}
	for i, z := range c.Zones {
		for j, name := range z.Classes {
			named[fmt.Sprintf("%s.zones[%d].classes[%d]", key, i, j)] = name
		}
	}
	return named
}

// classesOf are those of a model, nil where only the model's file knows them.
func classesOf(name string, models []ModelConfig) []string {
	for _, m := range models {
		switch {
		case m.Name != name:
		case m.Path == builtinLine:
			return sim.Classes()
		default:
			return m.Classes
		}
	}
	return nil
}
