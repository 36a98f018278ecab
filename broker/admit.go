package broker

import (
	"fmt"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// within judges a CONNECT by the limits, before anybody is asked who they
// are. It may wait. The error is a packets.Code.
func (h *hook) within(cl *mqtt.Client, p *peer, pk packets.Packet) error {
	p.id = cl.ID
	if len(cl.ID) > maxClientID {
		h.over(clientID, cl.ID, fmt.Sprintf("%d bytes, expected at most %d", len(cl.ID), maxClientID))
		return packets.ErrClientIdentifierNotValid
	}
	if h.bans.has(cl.ID, time.Now()) {
		h.over(banned, cl.ID, "from "+cl.Net.Remote)
		return packets.ErrBanned
	}
	wait, ok := h.connects.take(cl.Net.Remote, time.Now())
	if !ok {
		h.over(connectRate, cl.ID, "from "+cl.Net.Remote)
		return packets.ErrConnectionRateExceeded
	}
	if wait > 0 && h.pause(wait) {
		return packets.ErrServerShuttingDown
	}
	if pk.Connect.WillFlag && !h.topicFits(cl.ID, pk.Connect.WillTopic) {
		return packets.ErrTopicNameInvalid
	}
	return nil
}

// takeOverWait is how long a device waits for the end of its former
// connection.
const takeOverWait = 10 * time.Second

// seat gives a device its place, if there is one, after its former connection
// has ended: two connections of one client id would each undo what the other
// does to the session. The error is a packets.Code.
func (h *hook) seat(cl *mqtt.Client, p *peer, who identity) error {
	timer := time.NewTimer(takeOverWait)
	defer timer.Stop()
	for {
		former, ok := h.presence.enter(cl, p, who.user, h.opt.Limits.MaxConnections)
		if ok {
			return nil
		}
		if former == nil {
			h.over(connections, cl.ID, fmt.Sprintf("%d devices are connected", h.opt.Limits.MaxConnections))
			return packets.ErrQuotaExceeded
		}
		if former.about.User != who.user {
			h.denied(cl.ID, "", "the client id is in use by another user")
			return packets.ErrClientIdentifierNotValid
		}
		_ = h.server.DisconnectClient(former.client, packets.ErrSessionTakenOver) // it returns the reason that it was given
		select {
		case <-former.peer.over:
		case <-timer.C:
			return packets.ErrServerBusy
		case <-h.stop:
			return packets.ErrServerShuttingDown
		}
	}
}

// room refuses a device that would leave one session more than there may be.
// The error is a packets.Code.
func (h *hook) room(cl *mqtt.Client) error {
	n := h.sessions.count()
	if n < maxSessions+h.opt.Limits.MaxConnections || h.sessions.expiryOf(cl) == 0 || h.sessions.get(cl.ID) != nil {
		return nil
	}
	h.over(sessionCount, cl.ID, fmt.Sprintf("%d sessions are kept", n))
	return packets.ErrQuotaExceeded
}

// slow makes a device wait that publishes too fast. It is not read meanwhile.
func (h *hook) slow(cl *mqtt.Client, g *gate) {
	wait, _ := g.rate.take(time.Now(), time.Duration(1<<62))
	if wait <= 0 {
		return
	}
	h.over(publishRate, cl.ID, fmt.Sprintf("more than %v publishes a second", h.opt.Limits.PublishesPerS))
	g.await(wait, h.stop, func() bool { return g.closed })
}

// limitFilters takes what goes beyond a limit out of a SUBSCRIBE: the server
// refuses an empty filter. limited has the reason for each, 0 for those that
// stay.
func (h *hook) limitFilters(cl *mqtt.Client, pk packets.Packet) (limited []byte) {
	have := cl.State.Subscriptions.Len()
	seen := map[string]bool{}
	limited = make([]byte, len(pk.Filters))
	for i := range pk.Filters {
		filter := pk.Filters[i].Filter
		_, known := cl.State.Subscriptions.Get(filter)
		switch {
		case !h.topicFits(cl.ID, filter):
			limited[i] = packets.ErrTopicFilterInvalid.Code
		case known || seen[filter]:
		case have >= h.opt.Limits.MaxSubscriptions:
			h.over(subscriptions, cl.ID, fmt.Sprintf("it has %d subscriptions and wants another", have))
			limited[i] = packets.ErrQuotaExceeded.Code
		default:
			seen[filter] = true
			have++
		}
		if limited[i] != 0 {
			pk.Filters[i].Filter = ""
		}
	}
	return limited
}

// refuseFilters puts the reasons into the SUBACK; that of 3.1.1 has one
// (section 3.9.3).
func refuseFilters(version byte, limited, reasons []byte) {
	for i, reason := range limited {
		if reason == 0 || i >= len(reasons) {
			continue
		}
		if reasons[i] = reason; version < 5 {
			reasons[i] = packets.ErrUnspecifiedError.Code
		}
	}
}
