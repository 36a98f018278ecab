package broker

import (
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// TestARightThatComesBackBringsMessagesAgain takes a right by mistake, over a
// reload and a kill, from a device that resumes its session.
func TestARightThatComesBackBringsMessagesAgain(t *testing.T) {
	const right, slip = "user eye\ntopic read a/#\nuser dev\ntopic write #\n", "user eye\ntopic read aa/#\nuser dev\ntopic write #\n"
	users := usersOf(t, "eye:p", "dev:p")
	keep := packets.Properties{SessionExpiryInterval: 1000, SessionExpiryIntervalFlag: true}
	params := as("eye", "eye", "p")
	params.Clean = false
	b := startBroker(t, Options{Users: users, ACL: aclOf(t, right)})
	come := func() *device {
		t.Helper()
		d, ack := connectWith(t, b, 5, params, keep)
		if !ack.SessionPresent {
			t.Fatalf("the session is gone: %#x", ack.ReasonCode)
		}
		return d
	}
	say := func(payload string) {
		dev := logIn(t, b, 5, "dev", "dev", "p")
		dev.say("a/1", payload)
		dev.conn.Close()
	}
	eye, _ := connectWith(t, b, 5, params, keep)
	eye.subscribeTo(packets.Subscription{Filter: "a/#", Qos: 1})
	eye.leave(b, "eye")
	if err := b.Reload(users, aclOf(t, slip)); err != nil {
		t.Fatal(err)
	}
	say("1")
	if got := b.Away(); len(got) != 1 || got[0].Muted != 1 || got[0].Owed != 0 {
		t.Errorf("got %+v, expected a muted subscription that is owed nothing", got)
	}
	b = afterKill(t, b, Options{Users: users, ACL: aclOf(t, slip)})
	if s := b.Stats().Sessions; s.Muted != 1 {
		t.Errorf("got %+v after a kill, expected a muted subscription", s)
	}
	eye = come()
	say("2")
	eye.expectSilence()
	eye.leave(b, "eye")
	if err := b.Reload(users, aclOf(t, right)); err != nil {
		t.Fatal(err)
	}
	say("3")
	eye = come()
	eye.expectPayloads("3")
	if err := b.Reload(users, aclOf(t, slip)); err != nil {
		t.Fatal(err)
	}
	if _, err := eye.conn.Write([]byte{packets.Unsubscribe<<4 | 2, 8, 0, 3, 0, 0, 3, 'a', '/', '#'}); err != nil {
		t.Fatal(err)
	}
	eye.expect(packets.Unsuback)
	if s := b.Stats(); s.Subscriptions != 0 || s.Sessions.Muted != 0 {
		t.Errorf("got %d subscriptions, %d muted, expected none", s.Subscriptions, s.Sessions.Muted)
	}
}
