package broker

import (
	"errors"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

func TestSessionsOfDevicesThatAreAway(t *testing.T) {
	b := startBroker(t, Options{Users: usersOf(t, "u:pw"), AllowAnonymous: true})
	keep := packets.Properties{SessionExpiryInterval: 1000, SessionExpiryIntervalFlag: true}
	p := as("owed", "u", "pw")
	p.Clean = false
	d, _ := connectWith(t, b, 5, p, keep)
	d.subscribeTo(packets.Subscription{Filter: "a", Qos: 1}, packets.Subscription{Filter: "b", Qos: 1})
	clean := connect(t, b, "clean", 5, true)
	if got := b.Away(); len(got) != 0 {
		t.Fatalf("got %+v, expected none while they are connected", got)
	}
	d.leave(b, "owed")
	clean.say("a", "0123456789")
	clean.conn.Close()
	eventually(t, "one session", func() bool { return len(b.Clients()) == 0 })
	got := b.Away()
	if len(got) != 1 {
		t.Fatalf("got %+v, expected one", got)
	}
	if s := got[0]; s.ID != "owed" || s.User != "u" || s.Subscriptions != 2 || s.Owed != 1 || s.OwedBytes < 11 ||
		time.Since(s.Since) > time.Minute || s.Until.Sub(s.Since) != 1000*time.Second {
		t.Errorf("got %+v", s)
	}

	if err := b.Forget("nobody"); !errors.Is(err, ErrNoSession) {
		t.Errorf("got %v, expected ErrNoSession", err)
	}
	if err := b.Forget("owed"); err != nil {
		t.Fatal(err)
	}
	if n := b.Stats().Subscriptions; len(b.Away()) != 0 || n != 0 {
		t.Errorf("got %+v and %d subscriptions, expected that it is forgotten", b.Away(), n)
	}
	eventually(t, "an empty store", func() bool { return allKeys(t, b) == 0 })
	d, ack := connectWith(t, b, 5, p, keep)
	if ack.SessionPresent {
		t.Error("the session is there again")
	}
	d.subscribe("a")
	if err := b.Forget("owed"); err != nil { // while it is connected
		t.Fatal(err)
	}
	d.expectEndWith(packets.ErrAdministrativeAction.Code)
	if _, ack = connectWith(t, b, 5, p, keep); ack.SessionPresent {
		t.Error("the session of a connected device was not forgotten")
	}
}
