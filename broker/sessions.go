package broker

import (
	"maps"
	"slices"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// sessions hands messages to subscribers.
type sessions struct {
	server *mqtt.Server
	stats  *counters
	limit  sessionLimit
	index  *index

	mu   sync.RWMutex
	byID map[string]*session
}

func newSessions(server *mqtt.Server, stats *counters, limit sessionLimit) *sessions {
	return &sessions{server: server, stats: stats, limit: limit, index: newIndex(), byID: map[string]*session{}}
}

func (a *sessions) get(id string) *session {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.byID[id]
}

// open returns the session of a device that connects: the one that it left,
// or a new one.
func (a *sessions) open(cl *mqtt.Client, clean bool, who identity) *session {
	a.mu.Lock()
	s, ok := a.byID[cl.ID]
	if ok && (clean || !s.keep || !s.belongs(who)) {
		a.end(s)
		ok = false
	}
	if !ok {
		s = &session{id: cl.ID, limit: a.limit, stats: a.stats, ids: map[uint16]*delivery{}}
		a.byID[cl.ID] = s
	}
	a.mu.Unlock()
	s.adopt(who)
	p := cl.Properties
	keep := !p.Clean
	if p.ProtocolVersion >= 5 {
		keep = p.Props.SessionExpiryInterval > 0
	}
	s.open(p.ProtocolVersion, p.Props, keep)
	return s
}

// drop ends a session, if it is still this one.
func (a *sessions) drop(s *session) {
	a.end(s)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byID[s.id] == s {
		delete(a.byID, s.id)
	}
}

// end forgets what a session is owed, and its subscriptions.
func (a *sessions) end(s *session) {
	s.end()
	a.index.forget(s)
}

// subscribe lets a session have what a filter matches.
func (a *sessions) subscribe(s *session, sub packets.Subscription) {
	a.index.subscribe(s, sub)
	if s.over() { // its device connected anew meanwhile
		a.index.forget(s)
	}
}

// targets are the slices that publish uses again.
var targets = sync.Pool{New: func() any { return new([]target) }}

// publish hands a message to every subscriber, in the order of their calls
// for each of them. It waits for none. origin is the client that it comes
// from, or empty.
func (a *sessions) publish(m *outgoing, origin string) {
	list := targets.Get().(*[]target)
	*list = a.index.match(m.topic, origin, (*list)[:0])
	now := time.Now()
	for _, t := range *list {
		t.session.deliver(&delivery{message: m, qos: min(m.qos, t.qos), retain: m.retain && t.asPublished, subscriptions: t.subscriptions}, now)
	}
	clear(*list)
	targets.Put(list)
}

// retained hands the retained messages of a new subscription to its session.
func (a *sessions) retained(s *session, sub packets.Subscription, now time.Time) {
	for _, pk := range a.server.Topics.Messages(sub.Filter) {
		m := outgoingOf(pk, time.Unix(pk.Created, 0))
		if m.expired(now) {
			continue
		}
		var ids []int
		if sub.Identifier > 0 {
			ids = []int{sub.Identifier}
		}
		s.deliver(&delivery{message: m, qos: min(m.qos, sub.Qos), retain: true, subscriptions: ids}, now)
	}
}

// hurry publishes the wills that wait: nobody is there later to do it.
func (a *sessions) hurry() {
	for _, s := range a.all() {
		s.hurry()
	}
}

// all lists the sessions.
func (a *sessions) all() []*session {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return slices.Collect(maps.Values(a.byID))
}
