// Package forward turns what devices say in their own dialects into events
// that the centre can read (envelope 2.1 of the wire contract).
//
// It owns the rules: which messages are events, and how their type, subject
// and time are found. It promises to forward everything and to decide nothing:
// a message that a rule matches always becomes an event, if need be one of the
// type unparsed that carries the raw bytes. It promises that a rule takes
// bounded time and memory, whatever the message. It does no I/O; making an
// event durable is the caller's business.
package forward

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"outstation/uplink/wire"
)

// Bounds of events.
const (
	// DefaultMaxEventBytes bounds an event's JSON: what a centre that takes
	// packets of 1 MiB takes with any topic.
	DefaultMaxEventBytes = 1<<20 - 1<<10
	// MinEventBytes is the least bound of an event's JSON.
	MinEventBytes = 16 << 10
	// headBytes is how much is kept of a message that is too large for an event.
	headBytes = 64 << 10
	// maxTopic bounds the topic that an unparsed event repeats, and maxReason
	// what is wrong.
	maxTopic  = 512
	maxReason = 256
)

// Errors of making an event.
var (
	// ErrTooLarge says that an event would pass the bound.
	ErrTooLarge = errors.New("event is too large")
	errNotText  = errors.New("not JSON in UTF-8")
)

// Event is one that is ready to be published.
type Event struct {
	wire.Envelope
	Topic string // on the local broker
	Bytes []byte // the envelope's JSON
	// Unparsed says why no rule could read the message, or is empty.
	Unparsed string
	// Truncated says that the message was too large to be kept as a whole.
	Truncated bool
}

// Engine makes events by rules. It is immutable and safe for concurrent use.
type Engine struct {
	origin   wire.Origin
	rules    []compiled
	maxBytes int
}

// New compiles the rules, which are tried in their order. maxBytes bounds an
// event's JSON; 0 means DefaultMaxEventBytes. The error joins a *FieldError
// for everything that is wrong.
func New(o wire.Origin, rules []Rule, maxBytes int) (*Engine, error) {
	if maxBytes == 0 {
		maxBytes = DefaultMaxEventBytes
	}
	e := &Engine{origin: o, maxBytes: max(maxBytes, MinEventBytes)}
	var errs []error
	for _, r := range rules {
		c, wrong := compile(r)
		for _, w := range wrong {
			errs = append(errs, fmt.Errorf("forward %q: %w", r.Match, w))
		}
		e.rules = append(e.rules, c)
	}
	return e, errors.Join(errs...)
}

// Message makes an event of what was published on a topic. ok is false for a
// topic that no rule matches, and below the appliance's own prefixes: what is
// there already speaks the contract's language.
func (e *Engine) Message(topic string, payload []byte, received time.Time) (ev Event, ok bool) {
	if len(e.rules) == 0 || wire.Reserved(topic) {
		return Event{}, false
	}
	levels := strings.Split(topic, "/")
	matching := e.matching(levels)
	if len(matching) == 0 {
		return Event{}, false
	}
	return e.event(matching, input{topic, levels, payload, received, readJSON(payload)}), true
}

// matching are the rules whose filter matches.
func (e *Engine) matching(levels []string) []compiled {
	var out []compiled
	for _, r := range e.rules {
		if r.filter.Matches(levels) {
			out = append(out, r)
		}
	}
	return out
}

// input is a message with what is known about it.
type input struct {
	topic    string
	levels   []string
	raw      []byte
	received time.Time
	doc      document
}

// event applies the first of the rules that can read the message. There is at
// least one.
func (e *Engine) event(rules []compiled, in input) Event {
	reason := in.doc.err
	for _, r := range rules {
		if in.doc.err != nil {
			break
		}
		ev, err := e.apply(r, in)
		if err == nil {
			return ev
		}
		if reason == nil {
			reason = err
		}
	}
	return e.unparsed(rules[0].Source, rules[0].fallbackSubject(in.levels), in, reason)
}

// apply makes the event of a rule.
func (e *Engine) apply(r compiled, in input) (Event, error) {
	data := map[string]any{"topic": in.topic, "levels": in.levels, "payload": in.doc.value}
	kind, err := run(r.eventType, data)
	if err != nil {
		return Event{}, fmt.Errorf("event_type: %w", err)
	}
	level := Level(kind)
	if level == "" {
		return Event{}, fmt.Errorf("event_type: got %.40q, expected a name", kind)
	}
	subject, err := r.subjectOf(in.levels, in.doc.value)
	if err != nil {
		return Event{}, fmt.Errorf("subject: %w", err)
	}
	env := wire.Envelope{EventType: level, Source: r.Source, Payload: in.doc.json}
	if r.timestamp != nil {
		if text, err := run(r.timestamp, data); err == nil {
			env.Timestamp.Time, _ = ParseTime(text) // what is no time leaves the zero time
		}
	}
	return e.Finish(env, Subject(subject), in.raw, in.received)
}

// Finish completes an event that has a type, a source and a payload: with ids,
// unless it has some already, with the appliance's name and with the time of
// its receipt, if it has none. raw are the bytes that it was made of. The
// error is ErrTooLarge, or that of an invalid envelope.
func (e *Engine) Finish(env wire.Envelope, subject string, raw []byte, received time.Time) (Event, error) {
	env.DeviceID, env.Site = e.origin.DeviceID, e.origin.Site
	if env.EventID == "" {
		env.EventID = uuid.NewString()
	}
	own := !env.Timestamp.IsZero()
	if !own {
		env.Timestamp = wire.At(received)
	}
	switch {
	case env.IdempotencyKey != "":
	case own:
		env.IdempotencyKey = wire.KeyWithTime(env.Site, env.Source, subject, env.Timestamp.Time)
	default:
		env.IdempotencyKey = wire.KeyWithoutTime(env.Site, env.Source, subject, raw, received)
	}
	b, err := env.Encode()
	if err != nil {
		return Event{}, err
	}
	if len(b) > e.maxBytes {
		return Event{}, fmt.Errorf("%w: it has %d bytes, expected at most %d", ErrTooLarge, len(b), e.maxBytes)
	}
	return Event{Envelope: env, Topic: e.origin.Event(env.Source, env.EventType), Bytes: b}, nil
}

// unparsed makes the event of a message that no rule could read.
func (e *Engine) unparsed(source, subject string, in input, reason error) Event {
	why := cut(reason.Error(), maxReason)
	limit := (e.maxBytes - 6<<10) / 4 * 3 // of base64 beside the rest of the event
	kept := len(in.raw)
	if kept > limit {
		kept = min(headBytes, limit)
	}
	payload, err := json.Marshal(wire.NewUnparsed(cut(in.topic, maxTopic), why, in.raw, kept))
	if err != nil {
		payload = nil // it cannot happen: the payload has nothing that JSON cannot say
	}
	env := wire.Envelope{EventType: wire.TypeUnparsed, Source: source, Payload: payload}
	ev, err := e.Finish(env, Subject(subject), in.raw, in.received)
	if err != nil { // nor this: every part is bounded
		why = err.Error()
	}
	ev.Unparsed, ev.Truncated = why, kept < len(in.raw)
	return ev
}

// cut shortens a text to about max bytes, and to valid UTF-8.
func cut(s string, most int) string {
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
