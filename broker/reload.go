package broker

import (
	"github.com/mochi-mqtt/server/v2/packets"

	"outstation/broker/access"
)

// Reload puts other users and other rules in the place of those that hold, and
// returns when they hold for everybody: a device that lost a right gets
// nothing more by it, and one whose user is gone or has another password is
// disconnected; a session that waits for such a user is ended. Subscriptions
// stay, also those that bring nothing now: the right may come back. Users cannot be taken away altogether, as nobody would be asked
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
	h.warnMuted()
	return nil
}

// judgeAgain makes a session fit a new policy.
func (h *hook) judgeAgain(s *session, p *policy) {
	owner := s.owner()
	if owner.kind == nobody {
		return // it is judged when its device says who it is
	}
	s.rights.Store(p.acl.Of(owner.user, s.id))
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
	h.sessions.mute(s)
}

func known(users *access.Users, name string) bool {
	if users == nil {
		return false
	}
	_, ok := users.Lookup(name)
	return ok
}

// mute counts the subscriptions of a session that can bring nothing under its
// rights of now.
func (a *sessions) mute(s *session) {
	rights := s.rights.Load()
	if rights == nil {
		s.muted.Store(nil)
		return
	}
	m := muted{}
	for _, filter := range a.index.names(s) {
		if !rights.Subscribe(filter) {
			m.count++
			m.filter = filter
		}
	}
	if m.count == 0 {
		s.muted.Store(nil)
	} else {
		s.muted.Store(&m)
	}
}

// warnMuted says in the log that rules leave subscriptions without anything.
func (h *hook) warnMuted() {
	if n, of := h.sessions.mutedNow(); n > 0 {
		h.opt.Logger.Warn("subscriptions bring nothing under the rules that hold now; they stay, as the rules may change",
			"subscriptions", n, "client", of.id, "filter", of.muted.Load().filter)
	}
}

// mutedNow is how many subscriptions bring nothing, and one of their sessions.
func (a *sessions) mutedNow() (n int, of *session) {
	for _, s := range a.all() {
		if m := s.muted.Load(); m != nil {
			n += m.count
			if of == nil || s.id < of.id {
				of = s
			}
		}
	}
	return n, of
}
