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

	mu   sync.RWMutex
	byID map[string]*session
}

func newSessions(server *mqtt.Server, stats *counters, limit sessionLimit) *sessions {
	return &sessions{server: server, stats: stats, limit: limit, byID: map[string]*session{}}
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
		s.end()
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
	s.end()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byID[s.id] == s {
		delete(a.byID, s.id)
	}
}

// publish hands a message to every subscriber, in the order of their calls
// for each of them. It waits for none. origin is the client that it comes
// from, or empty.
func (a *sessions) publish(m *outgoing, origin string) {
	subs := a.server.Topics.Subscribers(m.topic)
	if len(subs.Shared) > 0 {
		a.onlyReaders(subs.Shared, m.topic)
		subs.SelectShared()
		subs.MergeSharedSelected()
	}
	now := time.Now()
	for id, sub := range subs.Subscriptions {
		s := a.get(id)
		if s == nil || (sub.NoLocal && id == origin) {
			continue
		}
		s.deliver(&delivery{message: m, qos: min(m.qos, sub.Qos), retain: m.retain && sub.RetainAsPublished, subscriptions: identifiers(sub)}, now)
	}
}

// identifiers are the subscription identifiers of a merged subscription.
func identifiers(sub packets.Subscription) []int {
	var ids []int
	for _, id := range sub.Identifiers {
		if id > 0 {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
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
