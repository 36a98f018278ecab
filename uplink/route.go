package uplink

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"outstation/uplink/wire"
)

// Route says which local topics go to the centre, and how.
type Route struct {
	Name     string // for the ledger; by default its Match
	Match    string // MQTT topic filter on the local topic
	To       string // template of the topic at the centre
	QoS      byte   // to the centre, 0 or 1
	Priority int    // the lane, 1 (lowest) to 10; 0 means DefaultPriority
	Policy   Policy
	// StripRetained sends retained messages without the flag.
	StripRetained bool
	// DropQoS0 keeps what is published at QoS 0 local.
	DropQoS0 bool
}

// DefaultPriority is the lane of a route that names none.
const DefaultPriority = 5

// ErrRoute says that a route cannot work.
var ErrRoute = errors.New("bad route")

// DefaultRoutes are the owner's routes where the configuration names none:
// sensors of different sites must not meet at the centre.
func DefaultRoutes() []Route {
	return []Route{{Match: "sensors/#", To: "sensors/{region}/{site}/{rest}", QoS: 1, Priority: 3}}
}

// BuiltInRoutes are the contract's own, before any of the owner's.
func BuiltInRoutes(o wire.Origin) []Route {
	keep := func(name, match string, lane int) Route {
		return Route{Name: name, Match: match, To: "{topic}", QoS: 1, Priority: lane, Policy: Policy{Order: Strict}}
	}
	// Events carry their own order, so that what is new need not wait for what
	// an outage left.
	byLane := func(name, match string, lane int) Route {
		r := keep(name, match, lane)
		r.Policy.Order = ByLane
		return r
	}
	return []Route{
		byLane("detection", o.Detection("+"), 8),
		keep("camera-status", o.CameraStatus("+"), 9),
		byLane("blind", o.Blind("+"), 8),
		keep("snapshot", o.Snapshot("+", "+"), 1),
		keep("status", o.Status(), 9),
		keep("health", o.Health(), 7),
		keep("reply", o.Reply("+"), 9),
		byLane("event", o.Event("+", "+"), 7),
	}
}

// Router finds the route of a topic. It is immutable and safe for concurrent
// use.
type Router struct {
	origin wire.Origin
	rules  []rule
}

type rule struct {
	Route
	filter []string
	to     []piece
}

// piece is a part of a template: literal text, or what a placeholder names.
type piece struct {
	text  string
	level int // 1-based level of the topic, or one of the constants below
}

const (
	pieceText  = 0
	pieceTopic = -1
	pieceRest  = -2
)

// NewRouter compiles the built-in routes and then the owner's; the first that
// matches a topic wins. An owner's route with the name of a built-in one and
// no match tunes that one. The error joins one ErrRoute for each bad route.
func NewRouter(o wire.Origin, owner []Route) (*Router, error) {
	r := &Router{origin: o}
	routes := BuiltInRoutes(o)
	var errs []error
	for _, route := range owner {
		if route.Match != "" || route.Name == "" {
			routes = append(routes, route)
		} else if err := tune(routes, route); err != nil {
			errs = append(errs, err)
		}
	}
	names := map[string]bool{}
	for _, route := range routes {
		compiled, err := r.compile(route)
		if err == nil && names[compiled.Name] {
			err = fmt.Errorf("%w %q: two routes have this name", ErrRoute, compiled.Name)
		}
		errs = append(errs, err)
		names[compiled.Name] = true
		r.rules = append(r.rules, compiled)
	}
	return r, errors.Join(errs...)
}

// tune lays an owner's wishes over the built-in route of the same name. Where
// it goes and its order are the contract's.
func tune(builtIn []Route, wish Route) error {
	for i := range builtIn {
		b := &builtIn[i]
		if b.Name != wish.Name {
			continue
		}
		if wish.To != "" || (wish.Policy.Order != "" && wish.Policy.Order != b.Policy.Order) {
			return fmt.Errorf("%w %q: to and order of a built-in route cannot be changed", ErrRoute, wish.Name)
		}
		order := b.Policy.Order
		b.QoS, b.Policy, b.StripRetained, b.DropQoS0 = wish.QoS, wish.Policy, wish.StripRetained, wish.DropQoS0
		b.Policy.Order = order
		if wish.Priority != 0 {
			b.Priority = wish.Priority
		}
		return nil
	}
	return fmt.Errorf("%w %q: a route without a match must name a built-in one", ErrRoute, wish.Name)
}

// Policies are the routes' policies, by name.
func (r *Router) Policies() map[string]Policy {
	out := map[string]Policy{}
	for _, rule := range r.rules {
		out[rule.Name] = rule.Policy
	}
	return out
}

// Routes returns the compiled routes in the order in which they are tried.
func (r *Router) Routes() []Route {
	out := make([]Route, len(r.rules))
	for i, rule := range r.rules {
		out[i] = rule.Route
	}
	return out
}

// Route returns the first route that matches a local topic, and the topic at
// the centre. ok is false for a topic that stays local.
func (r *Router) Route(topic string) (route Route, to string, ok bool) {
	levels := strings.Split(topic, "/")
	for i := range r.rules {
		if matches(r.rules[i].filter, levels) {
			return r.rules[i].Route, r.rules[i].expand(topic, levels), true
		}
	}
	return Route{}, "", false
}

// matches implements MQTT 3.1.1 section 4.7.
func matches(filter, levels []string) bool {
	if strings.HasPrefix(levels[0], "$") && filter[0] != levels[0] {
		return false
	}
	for i, f := range filter {
		if f == "#" {
			return true
		}
		if i >= len(levels) || (f != "+" && f != levels[i]) {
			return false
		}
	}
	return len(filter) == len(levels)
}

func (c rule) expand(topic string, levels []string) string {
	var b strings.Builder
	for _, p := range c.to {
		switch p.level {
		case pieceText:
			b.WriteString(p.text)
		case pieceTopic:
			b.WriteString(topic)
		case pieceRest:
			b.WriteString(strings.Join(levels[min(len(c.filter)-1, len(levels)):], "/"))
		default:
			b.WriteString(levels[p.level-1])
		}
	}
	return b.String()
}

func (r *Router) compile(route Route) (rule, error) {
	if route.Name == "" {
		route.Name = route.Match
	}
	if route.Priority == 0 {
		route.Priority = DefaultPriority
	}
	c := rule{Route: route}
	bad := func(format string, args ...any) (rule, error) {
		return c, fmt.Errorf("%w %q: %s", ErrRoute, route.Match, fmt.Sprintf(format, args...))
	}
	if err := checkFilter(route.Match); err != nil {
		return bad("match: %v", err)
	}
	c.filter = strings.Split(route.Match, "/")
	if route.QoS > 1 {
		return bad("qos: got %d, expected 0 or 1", route.QoS)
	}
	if route.Priority < MinLane || route.Priority > MaxLane {
		return bad("priority: got %d, expected %d to %d", route.Priority, MinLane, MaxLane)
	}
	if err := route.Policy.check(); err != nil {
		return bad("%v", err)
	}
	var err error
	if c.to, err = r.template(route.To, c.filter); err != nil {
		return bad("to: %v", err)
	}
	return c, nil
}

func checkFilter(f string) error {
	levels := strings.Split(f, "/")
	for i, l := range levels {
		switch {
		case f == "":
			return errors.New("expected an MQTT topic filter, got nothing")
		case strings.ContainsRune(l, '#') && (l != "#" || i != len(levels)-1):
			return fmt.Errorf("got %q, expected # only as the whole last level", f)
		case strings.ContainsRune(l, '+') && l != "+":
			return fmt.Errorf("got %q, expected + only as a whole level", f)
		}
	}
	return nil
}

// template splits a template into pieces and checks that every placeholder
// will have a value.
func (r *Router) template(t string, filter []string) ([]piece, error) {
	if t == "" {
		return nil, errors.New(`expected a template such as "{topic}", got nothing`)
	}
	if strings.ContainsAny(t, "+#") {
		return nil, fmt.Errorf("got %q, expected a topic without + or #", t)
	}
	fixed := len(filter)
	if filter[fixed-1] == "#" {
		fixed--
	}
	var out []piece
	for t != "" {
		text, rest, found := strings.Cut(t, "{")
		out = append(out, piece{text: text})
		if !found {
			break
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return nil, fmt.Errorf("got an open { before %q, expected a } after it", rest)
		}
		p, err := r.placeholder(name, fixed, fixed < len(filter))
		if err != nil {
			return nil, err
		}
		out, t = append(out, p), after
	}
	return out, nil
}

func (r *Router) placeholder(name string, fixed int, hasRest bool) (piece, error) {
	switch name {
	case "topic":
		return piece{level: pieceTopic}, nil
	case "region":
		return piece{text: r.origin.Region}, nil
	case "site":
		return piece{text: r.origin.Site}, nil
	case "device_id":
		return piece{text: r.origin.DeviceID}, nil
	case "rest":
		if !hasRest {
			return piece{}, errors.New("{rest} needs a match that ends with #")
		}
		return piece{level: pieceRest}, nil
	}
	n, err := strconv.Atoi(name)
	if err != nil {
		return piece{}, fmt.Errorf("got {%s}, expected {topic}, {rest}, {region}, {site}, {device_id} or a level such as {1}", name)
	}
	if n < 1 || n > fixed {
		return piece{}, fmt.Errorf("got {%d}, but the match has %d levels before any #", n, fixed)
	}
	return piece{level: n}, nil
}
