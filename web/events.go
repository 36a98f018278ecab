package web

import "strconv"

// Events counts what devices and the appliance itself said, as events of the wire contract.
type Events struct {
	Sources []EventSource `json:"sources"`
	Posts   []PostAnswer  `json:"posts"`
}

// EventSource counts the events of one source.
type EventSource struct {
	Source   string `json:"source"`
	Events   uint64 `json:"events"`   // that became durable, unparsed ones too
	Unparsed uint64 `json:"unparsed"` // messages that no rule could read
	// Refused counts events that the queue did not take when they were first offered: the sender waited, or was told to
	// come again.
	Refused uint64 `json:"refused"`
	// LastUnparsed says why the latest of Unparsed could not be read.
	LastUnparsed string `json:"last_unparsed,omitempty"`
}

// PostAnswer counts the answers with one status to machines that posted events.
type PostAnswer struct {
	Status int    `json:"status"`
	Count  uint64 `json:"count"`
}

func (k sink) events(e Events) {
	for _, s := range e.Sources {
		l := []string{"source", s.Source}
		k.counter("events_total", "Events of the source that became durable.", s.Events, l...)
		k.counter("events_unparsed_total", "Messages of the source that no rule could read.", s.Unparsed, l...)
		k.counter("events_refused_total", "Events of the source that the queue did not take when they were first offered.", s.Refused, l...)
	}
	for _, p := range e.Posts {
		k.counter("event_posts_total", "Answers to machines that posted events, by status.", p.Count, "status", strconv.Itoa(p.Status))
	}
}
