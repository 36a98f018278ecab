package uplink

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"outstation/uplink/wire"
)

// DownRoute says which topics at the centre come down, and where to.
type DownRoute struct {
	Name  string // by default its Match
	Match string // MQTT topic filter at the centre; may hold {region}, {site} and {device_id}
	To    string // template of the local topic, as in Route
}

// BuiltInDownRoutes are the contract's own, before any of the owner's.
func BuiltInDownRoutes(o wire.Origin) []DownRoute {
	return []DownRoute{{Name: "command", Match: o.Command("#"), To: "{topic}"}}
}

// DownRouter finds the local topic of what comes down. It is immutable and
// safe for concurrent use.
type DownRouter struct{ routes Router }

// NewDownRouter compiles the built-in routes and then the owner's; the first
// that matches a topic wins. The error joins one ErrRoute for each bad route.
func NewDownRouter(o wire.Origin, owner []DownRoute) (*DownRouter, error) {
	r := &DownRouter{Router{origin: o}}
	names := strings.NewReplacer("{region}", o.Region, "{site}", o.Site, "{device_id}", o.DeviceID)
	seen := map[string]bool{}
	var errs []error
	for _, route := range append(BuiltInDownRoutes(o), owner...) {
		compiled, err := r.routes.compile(Route{Name: route.Name, Match: names.Replace(route.Match), To: route.To})
		if err == nil {
			err = checkDown(compiled, seen[compiled.Match])
		}
		errs = append(errs, err)
		seen[compiled.Match] = true
		r.routes.rules = append(r.routes.rules, compiled)
	}
	return r, errors.Join(errs...)
}

// checkDown says what a route to the centre may be and one from it may not.
func checkDown(c rule, again bool) error {
	switch {
	case again:
		return fmt.Errorf("%w %q: two down routes have this match", ErrRoute, c.Match)
	case strings.ContainsAny(c.Match, "{}"):
		return fmt.Errorf("%w %q: match: expected no placeholders but {region}, {site} and {device_id}", ErrRoute, c.Match)
	case c.filter[0] == "$share" || c.filter[0] == "$queue":
		return fmt.Errorf("%w %q: match: a shared subscription brings each message to one appliance only; expected a plain filter", ErrRoute, c.Match)
	case beginsWithDollar(c):
		return fmt.Errorf("%w %q: to: expected a topic that does not begin with $", ErrRoute, c.Match)
	}
	return nil
}

// beginsWithDollar reports whether what a rule makes always begins with $.
func beginsWithDollar(c rule) bool {
	for _, p := range c.to {
		switch {
		case p.level == pieceText && p.text == "":
		case p.level == pieceText:
			return p.text[0] == '$'
		default:
			return (p.level == pieceTopic || p.level == 1) && strings.HasPrefix(c.filter[0], "$")
		}
	}
	return false
}

// Route returns the name of the first route that matches a topic at the
// centre, and the local topic. ok is false for a topic that does not come
// down.
func (r *DownRouter) Route(topic string) (name, to string, ok bool) {
	route, to, ok := r.routes.Route(topic)
	return route.Name, to, ok
}

// brings reports whether what is published at the centre on topic comes down.
// It is called for every record that goes up.
func (r *DownRouter) brings(topic string) bool {
	first, _, _ := strings.Cut(topic, "/")
	return slices.ContainsFunc(r.routes.rules, func(c rule) bool {
		f := c.filter[0]
		return (f == first || f == "+" || f == "#") && matches(c.filter, strings.Split(topic, "/"))
	})
}

// Filters are what is subscribed at the centre: the matches of all routes but
// those that another one covers, so that overlapping routes do not bring
// every message twice.
func (r *DownRouter) Filters() []string {
	var out []string
	for i, c := range r.routes.rules {
		covered := slices.ContainsFunc(r.routes.rules, func(other rule) bool {
			return other.Match != c.Match && covers(other.filter, c.filter)
		})
		if !covered {
			out = append(out, r.routes.rules[i].Match)
		}
	}
	return out
}

// covers reports whether every topic that b matches is matched by a.
func covers(a, b []string) bool {
	if strings.HasPrefix(b[0], "$") && a[0] != b[0] {
		return false
	}
	for i, level := range a {
		if level == "#" {
			return true
		}
		if i >= len(b) || b[i] == "#" || (level != "+" && level != b[i]) {
			return false
		}
	}
	return len(a) == len(b)
}

// checkTopic returns nil if a message can be published on topic here: it is
// what a template made of what the centre sent.
func checkTopic(topic string) error {
	switch {
	case topic == "":
		return errors.New("the local topic is empty")
	case len(topic) > maxTopic:
		return fmt.Errorf("the local topic has %d bytes, the most is %d", len(topic), maxTopic)
	case strings.HasPrefix(topic, "$"):
		return fmt.Errorf("the local topic %q begins with $", topic)
	case strings.ContainsAny(topic, "+#\x00") || !utf8.ValidString(topic):
		return fmt.Errorf("the local topic %q is not one", topic)
	}
	return nil
}
