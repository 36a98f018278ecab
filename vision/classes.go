package vision

import (
	"maps"
	"slices"
)

// named are the classes that a camera's rules and its second stage name, sorted.
func (c *camera) named() []string {
	o := c.judge.opts
	names := slices.Concat(slices.Collect(maps.Keys(o.Classes)), o.Only, c.judge.stage.opts.Classes)
	for _, z := range o.Zones {
		names = append(names, z.Classes...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// knows compares the classes that a model has with those that the camera's
// rules name: a name that is mistyped would never match, which looks like
// nothing to see. A model that does not say its classes is believed.
func (c *camera) knows(classes []string) {
	var unknown []string
	for _, name := range c.named() {
		if len(classes) > 0 && !slices.Contains(classes, name) {
			unknown = append(unknown, name)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.UnknownClasses = unknown
}
