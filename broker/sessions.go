package broker

import (
	"cmp"
	"context"
	"maps"
	"math"
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
	expiry time.Duration // the longest of a session; 0 means no bound
	store  *store        // nil: everything lives in memory
	retain *retained
	wake   chan struct{} // of the keeper

	// order makes one sequence of the messages to sessions that persist, and
	// of the changes of retained messages. It is taken before a session's
	// mutex.
	order sync.Mutex

	mu   sync.RWMutex
	byID map[string]*session
}

func newSessions(server *mqtt.Server, stats *counters, limit sessionLimit, expiry time.Duration) *sessions {
	return &sessions{
		server: server, stats: stats, limit: limit, expiry: expiry, index: newIndex(), byID: map[string]*session{}, wake: make(chan struct{}, 1),
		retain: &retained{server: server, limit: sessionLimit{messages: maxRetained, bytes: maxRetainedBytes}, byTopic: map[string]*kept{}},
	}
}

func (a *sessions) get(id string) *session {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.byID[id]
}

// open returns the session of a device that connects: the one that it left,
// or a new one.
func (a *sessions) open(g *gate, cl *mqtt.Client, clean bool) *session {
	a.mu.Lock()
	s, ok := a.byID[cl.ID]
	if ok && (clean || !s.keeps() || !s.belongs(g.who)) {
		a.end(s)
		defer s.hurry() // MQTT 5, section 3.1.3.2.2: the end of the session is that of the delay
		ok = false
	}
	expiry := a.expiryOf(cl)
	if !ok {
		s = a.add(cl.ID, expiry > 0)
	}
	s.open(g, cl.Properties.ProtocolVersion, cl.Properties.Props, expiry)
	s.adopt(g.who, g.will)
	a.mu.Unlock()
	a.note(s)
	return s
}

// add makes a session; mu is held.
func (a *sessions) add(id string, persists bool) *session {
	s := &session{id: id, limit: a.limit, stats: a.stats, ids: map[uint16]*delivery{}, fresh: true}
	if persists && a.store != nil {
		s.stored = &ledger{store: a.store, number: a.store.nextSession(), over: a.kick, limit: a.limit, inbound: map[uint16]struct{}{}}
	}
	a.byID[id] = s
	return s
}

// expiryOf is how long a device's session outlives its connection, in
// seconds: what an MQTT 5 device asks for, within the bound, and the bound
// for others without a clean session.
func (a *sessions) expiryOf(cl *mqtt.Client) uint32 {
	most := uint32(never)
	if a.expiry > 0 {
		most = uint32(min(a.expiry/time.Second, never))
	}
	p := cl.Properties
	switch {
	case p.ProtocolVersion >= 5:
		return min(p.Props.SessionExpiryInterval, most)
	case p.Clean:
		return 0
	}
	return most
}

// note stores what a session is and the will of its connection, without
// waiting for it.
func (a *sessions) note(s *session) {
	if s.stored == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock() // also for the submission: none may follow the end
	if s.ended {
		return
	}
	l := s.stored
	r := sessionRecord{
		ID: s.id, Owner: s.who.user, OwnerKind: s.who.kind, Version: s.version, Expiry: s.expiry,
		Connected: s.present(), Sent: l.sent, Away: a.store.clock.now(),
	}
	ops := append(s.willOp(), &op{key: key(prefixSession, l.number), value: encodeJSON(r)})
	a.store.submit(&bundle{ops: ops, sure: true})
}

// drop ends a session, if it is still this one.
func (a *sessions) drop(s *session) {
	defer s.hurry()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byID[s.id] == s {
		delete(a.byID, s.id)
	}
	a.end(s)
}

// end forgets a session, in the store too.
func (a *sessions) end(s *session) {
	a.order.Lock() // no message may come after
	defer a.order.Unlock()
	ended, left := s.end()
	if ended && s.stored != nil {
		a.store.condemn(s.stored.number)
	}
	a.index.forget(s)
	for _, d := range left {
		a.handOn(d, time.Now())
	}
}

// handOn gives a message of a shared subscription to another member, if there
// is one; order is held.
func (a *sessions) handOn(d *delivery, now time.Time) {
	e, ok := a.index.member(d.share, d.message.topic)
	if !ok || d.message.expired(now) {
		return
	}
	m := d.message.alone()
	next := &delivery{message: m, qos: min(m.qos, e.qos), retain: m.retain && e.asPublished, share: d.share}
	if e.identifier > 0 {
		next.subscriptions = []int{e.identifier}
	}
	if e.session.stored == nil || next.qos == 0 {
		e.session.deliver(next, now)
		return
	}
	if p := (&posting{sessions: a, message: m, debts: []debt{{e.session, next}}}); p.hand(now) != nil {
		e.session.owe(next, 0, nil, now)
	}
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

// retained hands the retained messages of a new subscription to its session.
// wait is called while the disk does not keep up, and says when to give up.
func (a *sessions) retained(s *session, sub packets.Subscription, wait func() bool) {
	for _, pk := range a.retain.matching(sub.Filter) {
		for stored := a.retainedOf(s, sub, pk, true); !stored; {
			more := wait()
			stored = a.retainedOf(s, sub, pk, more) || !more
		}
	}
}

// retainedOf hands over the retained message of pk's topic. It reports false
// if the store takes nothing now; without more, who is connected gets it all
// the same. No other message is retained meanwhile: the one that replaces it
// must not reach the session before it.
func (a *sessions) retainedOf(s *session, sub packets.Subscription, pk packets.Packet, more bool) bool {
	a.order.Lock()
	defer a.order.Unlock()
	now := time.Now()
	m := a.retain.get(pk.TopicName, now)
	if m == nil {
		if pk.TopicName == "" || pk.TopicName[0] != '$' {
			return true
		}
		m = outgoingOf(pk, now) // of the server's own
	}
	var ids []int
	if sub.Identifier > 0 {
		ids = []int{sub.Identifier}
	}
	d := &delivery{message: m, qos: min(m.qos, sub.Qos), retain: true, subscriptions: ids}
	if s.stored == nil || d.qos == 0 {
		s.deliver(d, now)
		return true
	}
	p := &posting{sessions: a, message: m, debts: []debt{{s, d}}}
	if p.hand(now) == nil {
		return true
	}
	if !more {
		s.owe(d, 0, nil, now)
	}
	return false
}

// count is how many sessions there are.
func (a *sessions) count() int {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return len(a.byID)
}

// all lists the sessions.
func (a *sessions) all() []*session {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return slices.Collect(maps.Values(a.byID))
}

// kick wakes the keeper.
func (a *sessions) kick() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

const (
	// keepEvery is how often the keeper looks for what has expired.
	keepEvery = time.Second
	// trimEvery is how long a bound may be passed before the keeper drops.
	trimEvery = 20 * time.Millisecond
	// trimAtOnce is how many messages are dropped under one lock.
	trimAtOnce = 256
)

// pause waits for d; true means that ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return false
	case <-ctx.Done():
		return true
	}
}

// keep drops what passes the bounds and what has expired, until ctx ends.
func (a *sessions) keep(ctx context.Context) {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		a.trim()
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
			if pause(ctx, trimEvery) {
				return
			}
			continue
		case <-tick.C:
		}
		for _, s := range a.all() {
			if s.expired() {
				a.expire(s)
			}
		}
		a.expireRetained(time.Now())
	}
}

// expire ends a session whose device has not come back.
func (a *sessions) expire(s *session) {
	kept := s.keeps()
	if a.discard(s, (*session).expired) && kept {
		a.stats.sessionsExpired.Add(1)
	}
}

// discard ends the session of a device that is not connected, in the server
// too, and reports whether it did.
func (a *sessions) discard(s *session, when func(*session) bool) bool {
	a.mu.Lock() // a device that connects now waits in open
	if a.byID[s.id] != s || !when(s) {
		a.mu.Unlock()
		return false
	}
	a.end(s)
	delete(a.byID, s.id)
	if cl, ok := a.server.Clients.Get(s.id); ok && cl.Closed() {
		a.server.UnsubscribeClient(cl)
		a.server.Clients.Delete(s.id)
	}
	a.mu.Unlock()
	s.hurry()
	return true
}

// expireRetained removes the retained messages that have expired.
func (a *sessions) expireRetained(now time.Time) {
	for _, m := range a.retain.expired(now) {
		a.order.Lock()
		if a.retain.get(m.topic, now) == nil { // not replaced meanwhile
			gone := &outgoing{topic: m.topic}
			removed := a.retain.set(gone)
			if a.store != nil {
				g := &bundle{sure: true, frees: []uint64{removed}}
				a.retain.record(gone, 0, g)
				a.store.submit(g)
			}
		}
		a.order.Unlock()
	}
}

// trim drops the oldest messages beyond the bounds: of each session beyond
// its own, and of the largest sessions beyond that of all.
func (a *sessions) trim() {
	if a.store == nil {
		return
	}
	var all []*session
	for _, s := range a.all() {
		if s.stored == nil {
			continue
		}
		all = append(all, s)
		a.trimTo(s, a.limit)
	}
	if a.store.owedBytes.Load() <= a.store.maxBytes {
		return
	}
	a.level(all)
}

// level makes the largest sessions equally small, until all are within the
// bound together.
func (a *sessions) level(all []*session) {
	size := map[*session]int64{}
	for _, s := range all {
		_, size[s] = s.owed()
	}
	slices.SortFunc(all, func(x, y *session) int { return cmp.Compare(size[x], size[y]) })
	left := a.store.maxBytes
	for i, s := range all {
		share := left / int64(len(all)-i)
		if size[s] > share {
			a.trimTo(s, sessionLimit{messages: math.MaxInt, bytes: share})
			size[s] = share
		}
		left -= size[s]
	}
}

// trimTo drops the oldest messages of a session beyond a limit.
func (a *sessions) trimTo(s *session, limit sessionLimit) {
	over := func(messages int, bytes int64) bool { return messages > limit.messages || bytes > limit.bytes }
	for {
		s.mu.Lock()
		l := s.stored
		from := max(l.sent, l.dropped)
		due := !s.ended && over(l.count, s.bytes)
		s.mu.Unlock()
		if !due {
			return
		}
		list, more, err := a.store.read(l.number, from, trimAtOnce, aheadBytes)
		if err != nil {
			a.store.readFailed(err)
			return
		}
		if s.drop(list, over) || !more {
			return // what is on its way to the store is looked at later
		}
	}
}
