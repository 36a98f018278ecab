package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"outstation/broker/access"
)

// policy is who may come in and what they may do. It never changes; a reload
// puts another in its place.
type policy struct {
	users *access.Users // nil: nobody is asked
	acl   *access.ACL   // nil: everything is allowed but the reserved prefixes
}

// identity is who a connection is.
type identity struct {
	user string // empty: anonymous
	kind loginKind
	hash string // of the password
}

type loginKind byte

const (
	nobody loginKind = iota // of a session that is for who comes next
	anonymous
	byPassword
	byCertificate
)

// welcome reports whether an identity would be let in now.
func (p *policy) welcome(who identity) bool {
	if who.kind != byPassword {
		return true
	}
	if p.users == nil {
		return false
	}
	hash, ok := p.users.Lookup(who.user)
	return ok && hash.Text() == who.hash
}

// logins lets devices in.
type logins struct {
	passwords *passwords
	attempts  *attempts
}

// login says who a device is, or why it does not come in.
func (h *hook) login(c *connection, pk packets.Packet) (identity, error) {
	p, params := h.policy.Load(), pk.Connect
	if pk.Properties.AuthenticationMethod != "" {
		return identity{}, packets.ErrBadAuthenticationMethod
	}
	if cert := c.certificate(); cert != nil {
		if access.CheckName(cert.Subject.CommonName) != nil {
			return identity{}, h.loginFailed(c, cert.Subject.CommonName, packets.ErrNotAuthorized)
		}
		return identity{user: cert.Subject.CommonName, kind: byCertificate}, nil
	}
	unasked := c.socket.from.config.local() && (p.users == nil || h.opt.AllowAnonymous)
	switch {
	case unasked && (p.users == nil || !params.UsernameFlag):
		return identity{kind: anonymous}, nil
	case p.users == nil || !params.UsernameFlag:
		return identity{}, h.loginFailed(c, string(params.Username), packets.ErrNotAuthorized)
	}
	return h.checkPassword(c, p.users, string(params.Username), params.Password)
}

// checkPassword takes its time, but not that of others.
func (h *hook) checkPassword(c *connection, users *access.Users, name string, password []byte) (identity, error) {
	address := c.address()
	if h.logins.attempts.wait(address, name, time.Now()) > 0 {
		return identity{}, h.slowed()
	}
	hash, exists := users.Lookup(name)
	who := identity{user: name, kind: byPassword, hash: hash.Text()}
	if exists && h.logins.passwords.known(name, hash, password) {
		return who, nil
	}
	var failure error
	err := h.logins.passwords.inTurn(address, h.stop, func() {
		if h.logins.attempts.wait(address, name, time.Now()) > 0 { // others of this address have failed meanwhile
			failure = h.slowed()
		} else if !h.logins.passwords.verify(hash, exists, password) {
			h.logins.attempts.failed(address, name, time.Now())
			failure = h.loginFailed(c, name, packets.ErrBadUsernameOrPassword)
		}
	})
	if err != nil {
		h.stats.loginsBusy.Add(1)
		return identity{}, packets.ErrServerBusy
	}
	if failure != nil {
		return identity{}, failure
	}
	h.logins.passwords.remember(name, hash, password)
	return who, nil
}

func (h *hook) slowed() error {
	h.stats.loginsSlowed.Add(1)
	return packets.ErrConnectionRateExceeded
}

// loginFailed counts a failure, and says it in the log, of each name at each
// address once in a while: MQTT 3.1.1 has few words, and the device's log may
// be far away.
func (h *hook) loginFailed(c *connection, name string, code packets.Code) error {
	n := h.stats.loginsFailed.Add(1)
	if h.loginWarned.due(c.address().String()+" "+name, time.Now()) {
		h.opt.Logger.Warn("a login failed", "user", shown(name), "address", c.RemoteAddr().String(), "listener", c.socket.from.config.Address,
			"reason", code.Reason, "failed_total", n)
	}
	return code
}

var errNoListener = errors.New("a connection of no listener")

// OnConnect asks who the device is, and puts the gate before its connection.
func (h *hook) OnConnect(cl *mqtt.Client, pk packets.Packet) error {
	p, ok := cl.Net.Conn.(*peer)
	if !ok {
		return errNoListener
	}
	c, ok := p.Conn.(*connection)
	if !ok {
		return errNoListener
	}
	who, err := identity{}, h.within(cl, p, pk)
	if err == nil {
		who, err = h.login(c, pk)
	}
	if err == nil {
		err = h.admit(cl, who, pk)
	}
	if err != nil {
		h.refuseConnect(cl, err)
		return err
	}
	if err := c.SetWriteDeadline(time.Time{}); err != nil {
		return err
	}
	c.socket.prove()
	g := newGate(c, cl.Properties.ProtocolVersion, h.stats)
	g.who, g.will, g.over = who, takeWill(cl, who, pk), p.over
	g.traffic, g.rate, g.maxHeld, p.gate = p.traffic, newBucket(h.opt.Limits.PublishesPerS), h.opt.Limits.MaxInflight, g
	if most := uint16(h.opt.MaxKeepAlive / time.Second); most > 0 && cl.Properties.ProtocolVersion >= 5 && (pk.Connect.Keepalive == 0 || pk.Connect.Keepalive > most) {
		cl.State.Keepalive, cl.State.ServerKeepalive = most, true
	}
	g.silence = time.Duration(cl.State.Keepalive) * time.Second * 3 / 2 // section 3.1.2.10 of both specifications
	cl.Net.Conn = g                                                     // before others can find it
	h.clients.Store(net.Conn(p), cl)
	if err = h.seat(cl, p, who); err == nil {
		err = h.claim(cl, who, pk.Connect.Clean) // another may have connected since admit
	}
	if err == nil {
		err = h.room(cl)
	}
	if err == nil {
		err = h.settleFormer(cl)
	}
	if err != nil {
		h.refuseConnect(cl, err)
	}
	return err
}

// owned refuses another user's session, unless claim may end it. The error is
// a packets.Code.
func (h *hook) owned(cl *mqtt.Client, who identity, clean bool) error {
	s := h.sessions.get(cl.ID)
	if s == nil || s.belongs(who) || (h.mayEnd(s, who, clean) && s.isAway()) {
		return nil
	}
	h.denied(cl.ID, "", fmt.Sprintf("its session belongs to another user, %q", s.owner().user))
	return packets.ErrClientIdentifierNotValid
}

// mayEnd reports whether a device may end another user's session, which is
// never handed over: a user who asks for a clean one may, and everybody where
// the owner is no user any more, so that no client id is lost.
func (h *hook) mayEnd(s *session, who identity, clean bool) bool {
	owner := s.owner()
	gone := owner.kind == byPassword && !known(h.policy.Load().users, owner.user)
	return gone || (clean && who.kind != anonymous)
}

// claim ends another user's session if that may be, once the device has its
// place. The error is a packets.Code.
func (h *hook) claim(cl *mqtt.Client, who identity, clean bool) error {
	if s := h.sessions.get(cl.ID); s != nil && !s.belongs(who) && h.mayEnd(s, who, clean) && h.sessions.discard(s, (*session).isAway) {
		h.opt.Logger.Info("a session was ended for another user of its client id", "client", cl.ID, "of", s.owner().user, "for", who.user)
	}
	return h.owned(cl, who, clean)
}

// admit judges what a device wants with its CONNECT: another's session, or a
// will where it may not publish.
func (h *hook) admit(cl *mqtt.Client, who identity, pk packets.Packet) error {
	if err := h.owned(cl, who, pk.Connect.Clean); err != nil {
		return err
	}
	if !pk.Connect.WillFlag {
		return nil
	}
	rights := h.policy.Load().acl.Of(who.user, cl.ID)
	if !h.mayPublish(rights, cl.ID, pk.Connect.WillTopic) {
		return packets.ErrNotAuthorized
	}
	return h.valid(cl.ID, pk.Connect.WillTopic, pk.Connect.WillPayload)
}

// codes3 are the return codes of MQTT 3.1.1 (section 3.2.2.3) for reasons of
// MQTT 5; for others the server is unavailable.
var codes3 = map[byte]byte{
	packets.ErrBadAuthenticationMethod.Code:  packets.Err3NotAuthorized.Code,
	packets.ErrBadUsernameOrPassword.Code:    packets.Err3NotAuthorized.Code,
	packets.ErrNotAuthorized.Code:            packets.Err3NotAuthorized.Code,
	packets.ErrBanned.Code:                   packets.Err3NotAuthorized.Code,
	packets.ErrTopicNameInvalid.Code:         packets.Err3NotAuthorized.Code,
	packets.ErrPayloadFormatInvalid.Code:     packets.Err3NotAuthorized.Code,
	packets.ErrClientIdentifierNotValid.Code: packets.Err3ClientIdentifierNotValid.Code,
}

// refuseConnect tells a device why it does not come in.
func (h *hook) refuseConnect(cl *mqtt.Client, reason error) {
	var code packets.Code
	if !errors.As(reason, &code) {
		code = packets.ErrUnspecifiedError
	}
	ack := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connack}, ReasonCode: code.Code}
	if cl.Properties.ProtocolVersion < 5 {
		ack.ReasonCode = packets.Err3ServerUnavailable.Code
		if code3, ok := codes3[code.Code]; ok {
			ack.ReasonCode = code3
		}
	} else {
		ack.Properties.ReasonString = code.Reason
	}
	err := cl.Net.Conn.SetWriteDeadline(time.Now().Add(closeFlush)) // that of the beginning may have passed while it waited
	if err == nil {
		err = cl.WritePacket(ack)
	}
	if err != nil {
		h.opt.Logger.Debug("a refused device was not told", "client", cl.ID, "error", err)
	}
}

// OnConnectAuthenticate has nothing left to ask.
func (h *hook) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }

// OnACLCheck judges a publish or a subscription. A publish with a topic alias
// has no name yet, and is judged when it has.
func (h *hook) OnACLCheck(cl *mqtt.Client, topic string, write bool) bool {
	g, ok := cl.Net.Conn.(*gate)
	if !ok || g.session == nil {
		return false
	}
	rights := g.session.rights.Load()
	if write {
		return topic == "" || h.mayPublish(rights, cl.ID, topic)
	}
	if rights.Subscribe(topic) {
		return true
	}
	if !ofServer(topic) || g.session.muted.Load() == nil { // else the server has something for a subscription that is muted
		h.denied(cl.ID, topic, "it may not read there")
	}
	return false
}

// mayPublish reports whether a device may publish on a topic.
func (h *hook) mayPublish(rights *access.Rights, client, topic string) bool {
	if reason := unpublishable(topic); reason != nil { // of a will
		h.denied(client, topic, reason.Error())
		return false
	}
	for _, p := range h.opt.Reserved {
		if strings.HasPrefix(topic, p) {
			if rights.WriteBelow(p, topic) {
				return true
			}
			h.denied(client, topic, "the topics below "+p+" are the appliance's own, and no rule grants them")
			return false
		}
	}
	if rights.Write(topic) {
		return true
	}
	h.denied(client, topic, "no rule lets it publish there")
	return false
}

// denied counts what a device may not do. MQTT 3.1.1 has no words to tell the
// device, so the log says it, once in a while.
func (h *hook) denied(client, topic, reason string) {
	n := h.stats.denied.Add(1)
	if h.warned.due(client, time.Now()) {
		h.opt.Logger.Warn("a device was refused", "client", shown(client), "topic", shown(topic), "reason", reason, "denied_total", n)
	}
}

// valid judges what a device says where the appliance speaks.
func (h *hook) valid(client, topic string, payload []byte) error {
	if h.opt.Validate == nil {
		return nil
	}
	err := h.opt.Validate(topic, payload)
	if err == nil {
		return nil
	}
	h.stats.invalid.Add(1)
	if h.invalidWarned.due(client, time.Now()) {
		h.opt.Logger.Warn("a device's message was refused", "client", shown(client), "topic", shown(topic), "error", err)
	}
	code := packets.ErrPayloadFormatInvalid
	code.Reason = err.Error()
	return code
}

// judge has the last word before a publish is anybody's. An error has been
// told to the device.
func (h *hook) judge(cl *mqtt.Client, g *gate, pk packets.Packet) error {
	if pk.Properties.TopicAliasFlag && !h.mayPublish(g.session.rights.Load(), cl.ID, pk.TopicName) {
		return h.rejectPublish(cl, pk, packets.ErrNotAuthorized)
	}
	if err := h.valid(cl.ID, pk.TopicName, pk.Payload); err != nil {
		return h.rejectPublish(cl, pk, err)
	}
	return nil
}

// rejectPublish refuses a publish: with a reason for MQTT 5, by closing the
// connection for 3.1.1, whose acknowledgements cannot say no.
func (h *hook) rejectPublish(cl *mqtt.Client, pk packets.Packet, reason error) error {
	var code packets.Code
	if !errors.As(reason, &code) {
		code = packets.ErrUnspecifiedError
	}
	if pk.FixedHeader.Qos == 0 {
		return packets.ErrRejectPacket
	}
	if cl.Properties.ProtocolVersion < 5 {
		_ = h.server.DisconnectClient(cl, code) // it returns the reason that it was given
		return packets.ErrRejectPacket
	}
	if err := cl.WritePacket(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: acknowledges(pk)}, PacketID: pk.PacketID, ReasonCode: code.Code,
		Properties: packets.Properties{ReasonString: code.Reason},
	}); err != nil {
		h.opt.Logger.Debug("a refused publish was not answered", "client", cl.ID, slog.Any("error", err))
	}
	return packets.ErrRejectPacket
}

func acknowledges(pk packets.Packet) byte {
	if pk.FixedHeader.Qos == 2 {
		return packets.Pubrec
	}
	return packets.Puback
}
