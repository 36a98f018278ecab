package broker

import (
	"errors"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

func TestPresence(t *testing.T) {
	b := startBroker(t, Options{})
	if got := b.Clients(); len(got) != 0 {
		t.Fatalf("got %+v, expected nobody", got)
	}
	watcher := connect(t, b, "watcher", 5, true)
	watcher.subscribeTo(packets.Subscription{Filter: "x", Qos: 1}, packets.Subscription{Filter: "y", Qos: 1})
	d := connect(t, b, "dev", 4, true)
	for id := range uint16(3) {
		d.publish("x", 1, id+1, "hello")
		d.expectAcks(packets.Puback, id+1)
		watcher.expect(packets.Publish)
	}
	var got []Client
	eventually(t, "two clients with their traffic", func() bool {
		got = b.Clients()
		return len(got) == 2 && got[0].Traffic.BytesOut == 4+3*4 && got[1].Traffic.MessagesOut == 3
	})
	dev, seen := got[0], got[1]
	if dev.ID != "dev" || dev.Version != 4 || dev.KeepAlive != time.Minute || dev.Listener != "tcp "+b.Addresses()[0] ||
		dev.Remote != d.conn.LocalAddr().String() || dev.Since.IsZero() || time.Since(dev.Since) > time.Minute {
		t.Errorf("got %+v", dev)
	}
	if tr := dev.Traffic; tr.MessagesIn != 3 || tr.MessagesOut != 0 || tr.BytesIn < 3*(2+3+2+5) || tr.BytesIn > 100 {
		t.Errorf("traffic of the publisher: %+v", tr)
	}
	if seen.ID != "watcher" || seen.Version != 5 || seen.Subscriptions != 2 || seen.Owed != 3 || seen.Traffic.MessagesIn != 0 {
		t.Errorf("got %+v", seen)
	}
	if s := b.Stats(); s.MessagesSent != 3 || s.BytesSent < 3*14 {
		t.Errorf("%d messages and %d bytes were sent, expected 3", s.MessagesSent, s.BytesSent)
	}
	connect(t, b, "dev", 4, true) // in the place of the first
	d.expectEnd()
	watcher.conn.Close()
	eventually(t, "one left", func() bool { return len(b.Clients()) == 1 })
	if got := b.Clients()[0]; got.ID != "dev" || got.Traffic.MessagesIn != 0 {
		t.Errorf("got %+v", got)
	}
}

// TestRates counts by hand what the clock would do.
func TestRates(t *testing.T) {
	p, now := newPresence(), time.Unix(1000, 0)
	tr := &traffic{}
	p.byID["dev"] = &present{peer: &peer{traffic: tr}, sampled: now}
	for range 60 {
		tr.messagesIn.Add(10)
		tr.bytesOut.Add(500)
		now = now.Add(time.Second)
		p.sample(now)
	}
	r := p.byID["dev"].rates
	if r[0] < 9.9 || r[0] > 10.1 || r[1] != 0 || r[3] < 495 || r[3] > 505 {
		t.Errorf("got %v, expected 10 messages in and 500 bytes out a second", r)
	}
	p.sample(now) // no time has passed
	for range 30 {
		now = now.Add(time.Second)
		p.sample(now)
	}
	if r := p.byID["dev"].rates; r[0] > 0.1 {
		t.Errorf("after half a minute of silence: %v", r)
	}
}

func TestDisconnect(t *testing.T) {
	b := startBroker(t, Options{})
	for _, version := range []byte{4, 5} {
		d := connect(t, b, "dev", version, true)
		if err := b.Disconnect("dev"); err != nil {
			t.Fatal(err)
		}
		d.expectEndWith(packets.ErrAdministrativeAction.Code)
		eventually(t, "its end", func() bool { return len(b.Clients()) == 0 })
	}
	if err := b.Disconnect("dev"); !errors.Is(err, ErrNoClient) {
		t.Errorf("got %v, expected ErrNoClient", err)
	}
}

func TestBans(t *testing.T) {
	now := time.Now()
	b := startBroker(t, Options{Bans: []Ban{{"old", now.Add(-time.Second)}, {"kept", now.Add(time.Hour)}}})
	connect(t, b, "old", 4, true)
	refused := func(id string) {
		t.Helper()
		for version, want := range map[byte]byte{4: packets.Err3NotAuthorized.Code, 5: packets.ErrBanned.Code} {
			if _, ack := connectWith(t, b, version, packets.ConnectParams{ClientIdentifier: id, Clean: true}, packets.Properties{}); ack.ReasonCode != want {
				t.Errorf("%s, MQTT %d: got %#x, expected %#x", id, version, ack.ReasonCode, want)
			}
		}
	}
	refused("kept")
	d := connect(t, b, "dev", 5, true)
	if err := b.Ban(Ban{"dev", now.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	d.expectEndWith(packets.ErrAdministrativeAction.Code)
	refused("dev")
	expectLimited(t, b, "banned", 4)
	if got := b.Bans(); len(got) != 2 || got[0].ID != "dev" || got[1].ID != "kept" || !got[0].Until.Equal(now.Add(time.Hour)) {
		t.Errorf("got %v", got)
	}
	if !b.Unban("dev") || b.Unban("dev") {
		t.Error("unban says nothing of what it did")
	}
	connect(t, b, "dev", 5, true)
	for _, bad := range []Ban{{"", now.Add(time.Hour)}, {"x", now}, {"x", now.Add(400 * 24 * time.Hour)}} {
		if err := b.Ban(bad); !errors.Is(err, ErrBan) {
			t.Errorf("%v: got %v, expected ErrBan", bad, err)
		}
	}
}

func TestBansAreBoundedAndExpire(t *testing.T) {
	b := New(Options{})
	later := time.Now().Add(time.Hour)
	for i := range maxBans {
		if err := b.Ban(Ban{string(rune('a' + i)), later}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Ban(Ban{"one more", later}); !errors.Is(err, ErrBan) {
		t.Errorf("got %v, expected ErrBan", err)
	}
	if err := b.Ban(Ban{"a", later.Add(time.Minute)}); err != nil {
		t.Errorf("a ban cannot be made longer: %v", err)
	}
	b.hook.bans.mu.Lock()
	b.hook.bans.until["b"] = time.Now().Add(-time.Second)
	b.hook.bans.mu.Unlock()
	if err := b.Ban(Ban{"one more", later}); err != nil {
		t.Errorf("one is over, and still: %v", err)
	}
}
