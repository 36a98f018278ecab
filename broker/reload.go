package broker

import (
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"outstation/broker/access"
)

// Reload puts other users and other rules in the place of those that hold, and
// returns when they hold for everybody: a device that lost a right gets
// nothing more by it and loses its subscription, and one whose user is gone or
// has another password is disconnected; a session that waits for such a user
// is ended. Users cannot be taken away altogether, as nobody would be asked
// then; that needs a new broker.
func (b *Broker) Reload(users *access.Users, acl *access.ACL) error {
	h := b.hook
	h.reloading.Lock()
	defer h.reloading.Unlock()
	if (users == nil) != (h.policy.Load().users == nil) {
		return wrong("whether there are users decides who may listen where; that needs a restart")
	}
	p := &policy{users: users, acl: acl}
	h.policy.Store(p)
	h.logins.passwords.forget()
	for _, s := range h.sessions.all() {
		h.judgeAgain(s, p)
	}
	return nil
}

// judgeAgain makes a session fit a new policy.
func (h *hook) judgeAgain(s *session, p *policy) {
	owner := s.owner()
	if owner.kind == nobody {
		return // it is judged when its device says who it is
	}
	rights := p.acl.Of(owner.user, s.id)
	s.rights.Store(rights)
	cl, ok := h.server.Clients.Get(s.id)
	if !ok {
		return
	}
	if g := s.connection(); g != nil {
		if !p.welcome(g.who) {
			h.stats.revoked.Add(1)
			_ = h.server.DisconnectClient(cl, packets.ErrNotAuthorized) // it returns the reason that it was given
			return
		}
	} else if owner.kind == byPassword && !known(p.users, owner.user) {
		h.stats.revoked.Add(1)
		h.server.UnsubscribeClient(cl)
		h.server.Clients.Delete(cl.ID)
		h.sessions.drop(s)
		return
	}
	h.revoke(cl, rights)
}

// revoke takes the subscriptions away that can bring nothing.
func (h *hook) revoke(cl *mqtt.Client, rights *access.Rights) {
	for filter := range cl.State.Subscriptions.GetAll() {
		if !rights.Subscribe(filter) {
			h.stats.revoked.Add(1)
			h.unsubscribe(cl, filter)
		}
	}
}

func known(users *access.Users, name string) bool {
	if users == nil {
		return false
	}
	_, ok := users.Lookup(name)
	return ok
}

// unsubscribe takes a subscription away.
func (h *hook) unsubscribe(cl *mqtt.Client, filter string) {
	if h.server.Topics.Unsubscribe(filter, cl.ID) {
		atomic.AddInt64(&h.server.Info.Subscriptions, -1)
	}
	cl.State.Subscriptions.Delete(filter)
	if s := h.sessions.get(cl.ID); s != nil {
		h.sessions.index.unsubscribe(s, filter)
		s.unstore(filter)
	}
}

// rarely lets one through in a while.
type rarely struct{ last atomic.Int64 }

// warnEvery is the least time between warnings of what devices do wrong.
const warnEvery = time.Minute

func (r *rarely) due(now time.Time) bool {
	last := r.last.Load()
	return now.Unix()-last >= int64(warnEvery/time.Second) && r.last.CompareAndSwap(last, now.Unix())
}
