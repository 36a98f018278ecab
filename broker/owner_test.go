package broker

import (
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// TestRulesHoldForSessionsOfAFormerProcess restarts with other users and
// rules.
func TestRulesHoldForSessionsOfAFormerProcess(t *testing.T) {
	keep := packets.Properties{SessionExpiryInterval: 1000, SessionExpiryIntervalFlag: true}
	open := func(b *Broker, id, user string) (*device, packets.Packet) {
		p := as(id, user, "pw")
		p.Clean = false
		return connectWith(t, b, 5, p, keep)
	}
	b := startBroker(t, Options{Users: usersOf(t, "u:pw", "gone:pw", "pub:pw"), ACL: aclOf(t, "pattern readwrite #\n")})
	for _, user := range []string{"u", "gone"} {
		d, _ := open(b, "of-"+user, user)
		d.subscribeTo(packets.Subscription{Filter: "a", Qos: 1}, packets.Subscription{Filter: "b", Qos: 1})
		d.leave(b, "of-"+user)
	}
	pub := logIn(t, b, 5, "pub", "pub", "pw")
	pub.say("a", "old a")
	pub.say("b", "old b")

	b = afterKill(t, b, Options{Users: usersOf(t, "u:pw", "other:pw", "pub:pw"), ACL: aclOf(t, "user u\ntopic read b\nuser pub\ntopic write #\n")})
	if b.hook.sessions.get("of-gone") != nil {
		t.Error("the session of a user who is gone is still there")
	}
	if _, ack := open(b, "of-u", "other"); ack.ReasonCode == 0 {
		t.Error("another user has the session")
	}
	pub = logIn(t, b, 5, "pub", "pub", "pw")
	pub.say("a", "new a")
	pub.say("b", "new b")
	d, ack := open(b, "of-u", "u")
	if !ack.SessionPresent {
		t.Error("the session is gone")
	}
	d.expectPayloads("old b", "new b")
	d.expectSilence()
	eventually(t, "both subscriptions in the store, and no others", func() bool { return keys(t, b, prefixSubscription) == 2 })
	if n := b.Stats().Sessions.Muted; n != 1 {
		t.Errorf("got %d muted subscriptions, expected 1", n)
	}
}

// TestSessionsFromBeforeThereWereUsers belong to whoever has their client id
// and a name, with the rights of that name.
func TestSessionsFromBeforeThereWereUsers(t *testing.T) {
	keep := packets.Properties{SessionExpiryInterval: 1000, SessionExpiryIntervalFlag: true}
	b := startBroker(t, Options{})
	d, _ := persistent(t, b, "d", 5)
	d.subscribeTo(packets.Subscription{Filter: "a", Qos: 1}, packets.Subscription{Filter: "b", Qos: 1})
	d.leave(b, "d")
	pub := connect(t, b, "pub", 5, true)
	pub.say("a", "old a")
	pub.say("b", "old b")

	users, acl := usersOf(t, "u:pw", "other:pw", "pub:pw"), aclOf(t, "user u\ntopic read b\nuser pub\ntopic write #\n")
	local := afterKill(t, b, Options{Users: users, ACL: acl, AllowAnonymous: true})
	p := as("d", "u", "pw")
	p.Clean = false
	d, _ = connectWith(t, local, 5, packets.ConnectParams{ClientIdentifier: "d"}, keep)
	if _, ack := connectWith(t, local, 5, p, keep); ack.ReasonCode != packets.ErrClientIdentifierNotValid.Code {
		t.Errorf("got reason %#x, expected that a program without a name keeps its session while it is connected", ack.ReasonCode)
	}
	d.leave(local, "d")

	b = afterKill(t, b, Options{Users: users, ACL: acl})
	if err := b.Reload(users, acl); err != nil {
		t.Fatal(err)
	}
	pub = logIn(t, b, 5, "pub", "pub", "pw")
	pub.say("a", "new a")
	pub.say("b", "new b")
	d, ack := connectWith(t, b, 5, p, keep)
	if !ack.SessionPresent {
		t.Errorf("got reason %#x without a session", ack.ReasonCode)
	}
	d.expectPayloads("old b", "new b")
	d.expectSilence()
	eventually(t, "both subscriptions in the store, and no others", func() bool { return keys(t, b, prefixSubscription) == 2 })
	if n := b.Stats().Sessions.Muted; n != 1 {
		t.Errorf("got %d muted subscriptions, expected 1", n)
	}
	other := as("d", "other", "pw")
	other.Clean = false
	if _, ack := connectWith(t, b, 5, other, keep); ack.ReasonCode != packets.ErrClientIdentifierNotValid.Code {
		t.Errorf("got reason %#x, expected that the session is u's now", ack.ReasonCode)
	}
}

// TestAClientIDIsNotLostWithItsSession has other users come with a client id.
func TestAClientIDIsNotLostWithItsSession(t *testing.T) {
	keep := packets.Properties{SessionExpiryInterval: 1000, SessionExpiryIntervalFlag: true}
	b := startBroker(t, Options{Users: usersOf(t, "u:pw", "other:pw"), AllowAnonymous: true})
	open := func(user string, version byte, clean bool) (*device, packets.Packet) {
		p := as("d", user, "pw")
		p.Clean = clean
		if user == "" {
			p = packets.ConnectParams{ClientIdentifier: "d", Clean: clean}
		}
		return connectWith(t, b, version, p, keep)
	}
	d, _ := open("", 4, false)
	d.subscribeTo(packets.Subscription{Filter: "a", Qos: 1})
	if _, ack := open("u", 5, true); ack.ReasonCode != 0x85 {
		t.Errorf("got %#x, expected that nobody ends the connection of a program without a name", ack.ReasonCode)
	}
	d.leave(b, "d")
	d, ack := open("u", 5, false)
	if ack.ReasonCode != 0 || !ack.SessionPresent {
		t.Fatalf("got %#x, session present %v, expected that a session of nobody's is u's now", ack.ReasonCode, ack.SessionPresent)
	}
	for _, clean := range []bool{false, true} {
		if _, ack := open("other", 4, clean); ack.ReasonCode != 2 {
			t.Errorf("got %#x, expected that nobody ends a connection of u, clean %v", ack.ReasonCode, clean)
		}
	}
	d.leave(b, "d")
	if _, ack := open("other", 5, false); ack.ReasonCode != 0x85 {
		t.Errorf("got %#x, expected that nobody has u's session", ack.ReasonCode)
	}
	if _, ack := open("", 5, true); ack.ReasonCode != 0x85 {
		t.Errorf("got %#x, expected that a program without a name ends no session of u", ack.ReasonCode)
	}
	d, ack = open("other", 5, true)
	if ack.ReasonCode != 0 || ack.SessionPresent || b.Stats().Subscriptions != 0 {
		t.Fatalf("got %#x, session present %v, expected a new session", ack.ReasonCode, ack.SessionPresent)
	}
	d.subscribe("b")
	if err := b.Reload(usersOf(t, "u:pw", "renamed:pw"), nil); err != nil {
		t.Fatal(err)
	}
	d.leave(b, "d")
	d, ack = open("renamed", 5, false)
	if ack.ReasonCode != 0 || ack.SessionPresent || b.Stats().Subscriptions != 0 {
		t.Errorf("got %#x, session present %v, %d subscriptions, expected a new session in the place of one whose user is gone",
			ack.ReasonCode, ack.SessionPresent, b.Stats().Subscriptions)
	}
	d.roundTrip()
}
