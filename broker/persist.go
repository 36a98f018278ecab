package broker

import (
	"sync/atomic"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// storeSubscriptions makes the granted subscriptions of a session that
// persists durable. Those that cannot be are refused.
func (h *hook) storeSubscriptions(cl *mqtt.Client, s *session, subs packets.Subscriptions, reasons []byte) {
	if s == nil || s.stored == nil {
		return
	}
	var ops []*op
	for i, sub := range subs {
		if i < len(reasons) && reasons[i] < packets.ErrUnspecifiedError.Code {
			ops = append(ops, &op{key: subscriptionKey(s.stored.number, sub.Filter), value: encodeJSON(sub)})
		}
	}
	if len(ops) == 0 || s.stored.store.write(ops...) == nil {
		return
	}
	for i, sub := range subs {
		if i >= len(reasons) || reasons[i] >= packets.ErrUnspecifiedError.Code {
			continue
		}
		if reasons[i] = packets.ErrQuotaExceeded.Code; cl.Properties.ProtocolVersion < 5 {
			reasons[i] = packets.ErrUnspecifiedError.Code
		}
		if h.server.Topics.Unsubscribe(sub.Filter, cl.ID) {
			atomic.AddInt64(&h.server.Info.Subscriptions, -1)
		}
		cl.State.Subscriptions.Delete(sub.Filter)
	}
}

// storeUnsubscribed takes what a device unsubscribed from out of the store. It
// waits for that as long as the device does.
func (h *hook) storeUnsubscribed(cl *mqtt.Client, g *gate, subs packets.Subscriptions) {
	s := g.session
	if s.stored == nil {
		return
	}
	var ops []*op
	for _, sub := range subs {
		if _, refused := cl.State.Subscriptions.Get(sub.Filter); !refused {
			ops = append(ops, &op{key: subscriptionKey(s.stored.number, sub.Filter)})
		}
	}
	done := make(chan struct{})
	s.stored.store.submit(&bundle{ops: ops, sure: true, done: func(error) { close(done) }})
	for changed := g.watch(g.ended); changed != nil; changed = g.watch(g.ended) {
		select {
		case <-changed:
		case <-done:
			return
		case <-h.stop:
			return
		}
	}
}

// inherited stores the subscriptions that the server let a new session have
// from a connection that was taken over.
func (h *hook) inherited(cl *mqtt.Client, s *session) {
	if s.stored == nil || !s.begun() {
		return
	}
	var ops []*op
	for _, sub := range cl.State.Subscriptions.GetAll() {
		ops = append(ops, &op{key: subscriptionKey(s.stored.number, sub.Filter), value: encodeJSON(sub)})
	}
	if len(ops) > 0 {
		s.stored.store.submit(&bundle{ops: ops, sure: true})
	}
}

// pubrel lets PUBCOMP wait until it is durable that the publish is through:
// the device may use its packet id again at once.
func (h *hook) pubrel(g *gate, id uint16) {
	if g.session.stored == nil || !g.session.comes(id) {
		return
	}
	g.suspend(id)
	g.session.through(id, func() { g.proceed(id) })
}
