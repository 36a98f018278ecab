package web

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

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
	// LastType is the type of the newest event that became durable, at LastAt.
	LastType string    `json:"last_type,omitempty"`
	LastAt   time.Time `json:"last_at,omitzero"`
}

// PostAnswer counts the answers with one status to machines that posted events.
type PostAnswer struct {
	Status int    `json:"status"`
	Count  uint64 `json:"count"`
}

// maxSources bounds the sources on the page.
const maxSources = 20

// sourcesOf returns the sources with the most events first, and how many are left out.
func sourcesOf(e Events) (shown []EventSource, more int) {
	shown = slices.Clone(e.Sources)
	slices.SortFunc(shown, func(a, b EventSource) int {
		return cmp.Or(cmp.Compare(b.Events, a.Events), cmp.Compare(a.Source, b.Source))
	})
	more = max(0, len(shown)-maxSources)
	return shown[:len(shown)-more], more
}

// postsOf says how machines that posted events were answered.
func postsOf(posts []PostAnswer) (words []string) {
	for _, p := range posts {
		w := count(p.Count) + " answered " + strconv.Itoa(p.Status)
		if p.Status == http.StatusAccepted {
			w = count(p.Count) + " accepted"
		} else if text := http.StatusText(p.Status); text != "" {
			w += " (" + strings.ToLower(text) + ")"
		}
		words = append(words, w)
	}
	return words
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
