package forward

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// SourceStats counts the events of one source since the start.
type SourceStats struct {
	Source   string
	Events   uint64 // that became durable, unparsed ones too
	Unparsed uint64 // messages that no rule could read
	// Refused counts events that the queue did not take when they were first
	// offered: the sender waited, or was told to come again.
	Refused    uint64
	LastReason string // why the latest of Unparsed could not be read
	LastType   string // of the newest event that became durable
	LastAt     time.Time
}

// Counters counts by source. The zero value is ready; it is safe for
// concurrent use. Sources come from the configuration, from webhooks and from
// posted events, all of which need the owner's leave, but their number is
// bounded all the same.
type Counters struct {
	mu  sync.Mutex
	all map[string]*SourceStats
}

// maxSources bounds the sources that are counted by name; OtherSources stands
// for all others.
const (
	maxSources   = 256
	OtherSources = "_other"
)

func (c *Counters) of(source string) *SourceStats {
	if c.all == nil {
		c.all = map[string]*SourceStats{}
	}
	if c.all[source] == nil && len(c.all) >= maxSources {
		source = OtherSources
	}
	s := c.all[source]
	if s == nil {
		s = &SourceStats{Source: source}
		c.all[source] = s
	}
	return s
}

// Stored counts an event of a type that became durable now.
func (c *Counters) Stored(source, eventType string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.of(source)
	s.Events++
	s.LastType, s.LastAt = eventType, now
}

// Unparsed counts a message that no rule could read.
func (c *Counters) Unparsed(source, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.of(source)
	s.Unparsed++
	s.LastReason = reason
}

// Refused counts an event that was not taken.
func (c *Counters) Refused(source string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of(source).Refused++
}

// Stats returns a snapshot in the order of the names.
func (c *Counters) Stats() []SourceStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]SourceStats, 0, len(c.all))
	for _, name := range slices.Sorted(maps.Keys(c.all)) {
		out = append(out, *c.all[name])
	}
	return out
}
