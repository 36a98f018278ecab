package broker

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// index finds the sessions that a topic is for. The server has an index of
// its own, which makes several maps for each publish and does not match a
// with +/#; it is kept, but not asked.
type index struct {
	mu      sync.RWMutex
	root    node
	filters map[*session]map[string]struct{} // that each session has here
}

// node is a level of filters.
type node struct {
	children map[string]*node // levels without a wildcard
	plus     *node
	hash     *node
	entries  []entry // of filters that end here
	groups   []*group
}

// entry is one subscription of one session.
type entry struct {
	session     *session
	qos         byte
	noLocal     bool
	asPublished bool
	identifier  int
}

// group is the members of a shared subscription, of whom one gets a message.
type group struct {
	name    string
	filter  string // as it was subscribed to, with the name
	members []entry
	turn    atomic.Uint32
}

// target is a session that gets a message, once, whatever the number of its
// subscriptions that match.
type target struct {
	session       *session
	qos           byte
	asPublished   bool   // retain is passed on
	subscriptions []int  // their identifiers, in order
	share         string // the filter of the shared subscription that it is due to alone, or empty
}

func newIndex() *index { return &index{filters: map[*session]map[string]struct{}{}} }

// parseFilter splits a filter into its share group, or "", and what it
// matches.
func parseFilter(filter string) (share, rest string) {
	if !mqtt.IsSharedFilter(filter) {
		return "", filter
	}
	_, filter, _ = strings.Cut(filter, "/")
	share, rest, _ = strings.Cut(filter, "/")
	return share, rest
}

// subscribe adds a subscription, or replaces the one of the same filter.
func (x *index) subscribe(s *session, sub packets.Subscription) {
	e := entry{s, sub.Qos, sub.NoLocal, sub.RetainAsPublished, sub.Identifier}
	share, filter := parseFilter(sub.Filter)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.filters[s] == nil {
		x.filters[s] = map[string]struct{}{}
	}
	x.filters[s][sub.Filter] = struct{}{}
	n := x.root.at(filter)
	if share == "" {
		n.entries = withEntry(n.entries, e)
		return
	}
	i := slices.IndexFunc(n.groups, func(g *group) bool { return g.name == share })
	if i < 0 {
		i = len(n.groups)
		n.groups = append(n.groups, &group{name: share, filter: sub.Filter})
	}
	n.groups[i].members = withEntry(n.groups[i].members, e)
}

func withEntry(list []entry, e entry) []entry {
	if i := slices.IndexFunc(list, func(o entry) bool { return o.session == e.session }); i >= 0 {
		list[i] = e
		return list
	}
	return append(list, e)
}

// unsubscribe removes a subscription, if there is one.
func (x *index) unsubscribe(s *session, filter string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, ok := x.filters[s][filter]; ok {
		x.remove(s, filter)
	}
}

// count is how many subscriptions a session has.
func (x *index) count(s *session) int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.filters[s])
}

// names are the filters of the subscriptions of a session, in order.
func (x *index) names(s *session) []string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return slices.Sorted(maps.Keys(x.filters[s]))
}

// forget removes all subscriptions of a session.
func (x *index) forget(s *session) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for filter := range x.filters[s] {
		x.remove(s, filter)
	}
}

// remove removes a subscription that is there; mu is held.
func (x *index) remove(s *session, filter string) {
	if delete(x.filters[s], filter); len(x.filters[s]) == 0 {
		delete(x.filters, s)
	}
	share, rest := parseFilter(filter)
	x.root.remove(rest, true, func(n *node) {
		if share == "" {
			n.entries = withoutEntry(n.entries, s)
			return
		}
		n.groups = slices.DeleteFunc(n.groups, func(g *group) bool {
			if g.name == share {
				g.members = withoutEntry(g.members, s)
			}
			return len(g.members) == 0
		})
	})
}

func withoutEntry(list []entry, s *session) []entry {
	return slices.DeleteFunc(list, func(e entry) bool { return e.session == s })
}

// at returns the node of a filter, which it makes if need be.
func (n *node) at(filter string) *node {
	for more := true; more; {
		var level string
		level, filter, more = strings.Cut(filter, "/")
		n = n.child(level, true)
	}
	return n
}

// child returns the node of a level of a filter; nil if there is none and
// none shall be made.
func (n *node) child(level string, create bool) *node {
	switch level {
	case "+":
		if n.plus == nil && create {
			n.plus = &node{}
		}
		return n.plus
	case "#":
		if n.hash == nil && create {
			n.hash = &node{}
		}
		return n.hash
	}
	c := n.children[level]
	if c == nil && create {
		if n.children == nil {
			n.children = map[string]*node{}
		}
		c = &node{}
		n.children[level] = c
	}
	return c
}

// remove applies f to the node of the rest of a filter and drops the nodes
// that are empty then.
func (n *node) remove(filter string, more bool, f func(*node)) {
	if !more {
		f(n)
		return
	}
	level, rest, more := strings.Cut(filter, "/")
	c := n.child(level, false)
	if c == nil {
		return
	}
	if c.remove(rest, more, f); !c.empty() {
		return
	}
	switch level {
	case "+":
		n.plus = nil
	case "#":
		n.hash = nil
	default:
		delete(n.children, level)
	}
}

func (n *node) empty() bool {
	return len(n.children) == 0 && n.plus == nil && n.hash == nil && len(n.entries) == 0 && len(n.groups) == 0
}

// match appends the sessions that a topic of a client with the id origin is
// for, each once.
func (x *index) match(topic, origin string, into []target) []target {
	m := matching{topic: topic, origin: origin, targets: into}
	x.mu.RLock()
	defer x.mu.RUnlock()
	x.root.match(&m, topic, true, topic[:min(1, len(topic))] != "$") // section 4.7.2: wildcards do not match $SYS
	return m.targets
}

// match visits the nodes below n that match the rest of a topic. wild says
// that a wildcard matches here.
func (n *node) match(m *matching, topic string, more, wild bool) {
	if n.hash != nil && wild { // also the level above it (section 4.7.1.2)
		m.add(n.hash)
	}
	if !more {
		m.add(n)
		return
	}
	level, rest, more := strings.Cut(topic, "/")
	if c := n.children[level]; c != nil {
		c.match(m, rest, more, true)
	}
	if n.plus != nil && wild {
		n.plus.match(m, rest, more, true)
	}
}

// matching is one search.
type matching struct {
	topic   string
	origin  string
	targets []target
	nodes   int
	at      map[*session]int // places in targets; made when there may be two subscriptions of a session
}

// add takes the subscriptions of a node.
func (m *matching) add(n *node) {
	if len(n.entries)+len(n.groups) == 0 {
		return
	}
	m.nodes++
	if m.at == nil && (m.nodes > 1 || len(n.groups) > 0) {
		m.at = make(map[*session]int, len(m.targets))
		for i, t := range m.targets {
			m.at[t.session] = i
		}
	}
	for _, e := range n.entries {
		if !e.noLocal || e.session.id != m.origin {
			m.take(e, "")
		}
	}
	for _, g := range n.groups {
		if e, ok := g.pick(m.topic); ok {
			m.take(e, g.filter)
		}
	}
}

// take adds a subscription's session, or to what it has already.
func (m *matching) take(e entry, share string) {
	i, ok := m.at[e.session]
	if !ok {
		i = len(m.targets)
		m.targets = append(m.targets, target{session: e.session, share: share})
		if m.at != nil {
			m.at[e.session] = i
		}
	}
	t := &m.targets[i]
	if share == "" {
		t.share = ""
	}
	t.qos, t.asPublished = max(t.qos, e.qos), t.asPublished || e.asPublished
	if at, found := slices.BinarySearch(t.subscriptions, e.identifier); !found && e.identifier > 0 {
		t.subscriptions = slices.Insert(t.subscriptions, at, e.identifier)
	}
}

// member returns the next member of a shared subscription for a topic.
func (x *index) member(filter, topic string) (next entry, ok bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	share, rest := parseFilter(filter)
	n := &x.root
	for more := true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		if n = n.child(level, false); n == nil {
			return entry{}, false
		}
	}
	i := slices.IndexFunc(n.groups, func(g *group) bool { return g.name == share })
	if i < 0 {
		return entry{}, false
	}
	return n.groups[i].pick(topic)
}

// pick returns the next member who may read the topic, and of those who are
// connected if there are any.
func (g *group) pick(topic string) (next entry, ok bool) {
	first := int(g.turn.Add(1) % uint32(len(g.members)))
	for i := range g.members {
		e := g.members[(first+i)%len(g.members)]
		if !e.session.rights.Load().Read(topic) {
			continue
		}
		if e.session.connected() {
			return e, true
		}
		if !ok {
			next, ok = e, true
		}
	}
	return next, ok
}

// connected reports whether the device is there.
func (s *session) connected() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gate != nil
}

// over reports whether the session has ended.
func (s *session) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}
