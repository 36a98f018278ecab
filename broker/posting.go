package broker

import (
	"fmt"
	"sync"
	"time"
)

// debt is a message that a session which persists is owed.
type debt struct {
	session  *session
	delivery *delivery
}

// posting is a message on its way to the sessions that persist, and to the
// retained messages. It is durable when done is told so.
type posting struct {
	sessions *sessions
	message  *outgoing
	debts    []debt
	retain   bool   // it changes the retained message of its topic
	own      bool   // of the appliance
	removed  uint64 // the record of that, if it is removed
	refused  error

	mu       sync.Mutex
	posted   bool
	finished bool
	err      error
	done     func(error)
}

// post hands the message to its sessions, and to the store together with
// what is retained. An error means that there is no room; it may be called
// again.
func (p *posting) post(now time.Time) error {
	if p.refused != nil {
		return p.refused
	}
	p.sessions.order.Lock()
	defer p.sessions.order.Unlock()
	return p.hand(now)
}

// hand is post while the order is held.
func (p *posting) hand(now time.Time) error {
	a := p.sessions
	if err := a.store.admit(p.own); err != nil {
		return err
	}
	g := &bundle{done: p.finish}
	keeps := p.retain && len(p.message.payload) > 0
	number := uint64(0)
	if refs := len(p.debts) + bit(keeps); keeps || refs > 1 {
		number = a.store.share(p.message, refs, g)
	}
	for _, d := range p.debts {
		if !d.session.owe(d.delivery, number, g, now) {
			a.store.unshare(number)
		}
	}
	if p.retain {
		if p.removed > 0 {
			g.frees = append(g.frees, p.removed)
		}
		a.retain.record(p.message, number, g)
	}
	p.mu.Lock()
	p.posted = true
	p.mu.Unlock()
	a.store.submit(g)
	return nil
}

// atOnce hands the message to devices that are connected, though the store
// does not take it: they must not wait for the disk.
func (p *posting) atOnce(now time.Time) {
	p.sessions.order.Lock()
	defer p.sessions.order.Unlock()
	for _, d := range p.debts {
		d.session.owe(d.delivery, 0, nil, now)
	}
}

// finish takes the outcome.
func (p *posting) finish(err error) {
	if err != nil {
		err = fmt.Errorf("publish not stored for subscribers: %w", err)
	}
	p.mu.Lock()
	p.finished, p.err = true, err
	done := p.done
	p.mu.Unlock()
	if done != nil {
		done(err)
	}
}

// Store is told the outcome; it is the Store of a message.
func (p *posting) Store(done func(error)) error {
	p.mu.Lock()
	posted := p.posted
	if posted && !p.finished {
		p.done = done
		p.mu.Unlock()
		return nil
	}
	err := p.err
	p.mu.Unlock()
	if posted {
		done(err)
		return nil
	}
	p.mu.Lock()
	p.done = done
	p.mu.Unlock()
	if err := p.post(time.Now()); err != nil {
		return fmt.Errorf("publish not stored for subscribers: %w", err)
	}
	return nil
}

// join is a Store that is done when all of them are; nil ones are left out.
// It returns nil if there are none.
func join(stores ...Store) Store {
	j := &joined{}
	for _, s := range stores {
		if s != nil {
			j.left = append(j.left, s)
		}
	}
	switch j.open = len(j.left); j.open {
	case 0:
		return nil
	case 1:
		return j.left[0]
	}
	return j.store
}

type joined struct {
	left []Store // that have not taken the message yet; one goroutine's

	mu   sync.Mutex
	open int // that are not done
	err  error
	done func(error)
}

func (j *joined) store(done func(error)) error {
	j.mu.Lock()
	j.done = done
	j.mu.Unlock()
	for len(j.left) > 0 {
		if err := j.left[0](j.part); err != nil {
			return err
		}
		j.left = j.left[1:]
	}
	return nil
}

// part takes the outcome of one; one that is refused is never done.
func (j *joined) part(err error) {
	j.mu.Lock()
	if j.open--; err != nil {
		j.err = err
	}
	last, done, first := j.open == 0, j.done, j.err
	j.mu.Unlock()
	if last {
		done(first)
	}
}

// once makes a QoS 2 publish of a device whose session persists one that is
// known when it comes again, to a later process too: store, which may be nil,
// is followed by the packet id. A kill between the two means that the message
// is taken twice.
func (s *session) once(id uint16, store Store) Store {
	l := s.stored
	note := func(done func(error)) {
		s.mu.Lock()
		l.inbound[id] = struct{}{}
		s.mu.Unlock()
		l.store.submit(&bundle{ops: []*op{{key: inboundKey(l.number, id), value: []byte{}}}, done: done})
	}
	return func(done func(error)) error {
		if store == nil {
			note(done)
			return nil
		}
		return store(func(err error) {
			if err != nil {
				done(err)
				return
			}
			note(done)
		})
	}
}

// comes reports whether PUBREL is awaited for a publish of the device.
func (s *session) comes(id uint16) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.stored.inbound[id]
	return ok
}

// through forgets the packet id of a publish that PUBREL came for; done is
// called when that is durable.
func (s *session) through(id uint16, done func()) {
	s.mu.Lock()
	delete(s.stored.inbound, id)
	s.mu.Unlock()
	s.stored.store.submit(&bundle{ops: []*op{{key: inboundKey(s.stored.number, id)}}, sure: true, done: func(error) { done() }})
}

// publish hands a message to every subscriber, in the order of their calls
// for each of them. It waits for none. origin is the client that it comes
// from, or empty. What it returns tells when the sessions that persist have
// it in the store; nil means that there is nothing to store.
func (a *sessions) publish(m *outgoing, origin string) Store {
	now := time.Now()
	p := &posting{sessions: a, message: m, own: origin == "", retain: m.retain && a.store != nil}
	if m.retain {
		if p.refused = a.retain.check(m); p.refused == nil {
			a.order.Lock()
			p.removed = a.retain.set(m)
			a.order.Unlock()
		}
	}
	list := targets.Get().(*[]target) // after that: who subscribes now is sent the message or what is retained
	*list = a.index.match(m.topic, origin, (*list)[:0])
	for _, t := range *list {
		if !t.session.rights.Load().Read(m.topic) {
			continue
		}
		d := &delivery{message: m, qos: min(m.qos, t.qos), retain: m.retain && t.asPublished, subscriptions: t.subscriptions, share: t.share}
		if t.session.stored == nil || d.qos == 0 {
			t.session.deliver(d, now)
		} else {
			p.debts = append(p.debts, debt{t.session, d})
		}
	}
	clear(*list)
	targets.Put(list)
	if len(p.debts) == 0 && !p.retain && p.refused == nil {
		return nil
	}
	if p.post(now) != nil {
		p.atOnce(now)
	}
	return p.Store
}
