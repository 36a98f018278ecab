package broker

import (
	"bufio"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"outstation/broker/access"
)

// usersOf makes users of name:password pairs, with hashes that cost little.
func usersOf(t testing.TB, pairs ...string) *access.Users {
	t.Helper()
	var text strings.Builder
	const salt = "0123456789ab"
	for _, p := range pairs {
		name, password, _ := strings.Cut(p, ":")
		sum := sha512.Sum512([]byte(password + salt))
		fmt.Fprintf(&text, "%s:$6$%s$%s\n", name, base64.StdEncoding.EncodeToString([]byte(salt)), base64.StdEncoding.EncodeToString(sum[:]))
	}
	users, err := access.ParseUsers("users", []byte(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	return users
}

func aclOf(t testing.TB, text string) *access.ACL {
	t.Helper()
	acl, err := access.ParseACL("acl", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return acl
}

// as is a CONNECT with a name and a password.
func as(id, user, password string) packets.ConnectParams {
	return packets.ConnectParams{
		ClientIdentifier: id, Clean: true, UsernameFlag: true, Username: []byte(user), PasswordFlag: true, Password: []byte(password),
	}
}

// logIn connects as a user who is let in.
func logIn(t testing.TB, b *Broker, version byte, id, user, password string) *device {
	t.Helper()
	d, ack := connectWith(t, b, version, as(id, user, password), packets.Properties{})
	if ack.ReasonCode != 0 {
		t.Fatalf("%s: got %#x, expected to be let in", user, ack.ReasonCode)
	}
	return d
}

func TestLoginsAreAnsweredAsTheVersionSays(t *testing.T) {
	b := startBroker(t, Options{Users: usersOf(t, "press:right", "other:x"), ACL: aclOf(t, "topic read x\n")})
	logIn(t, b, 5, "holder", "press", "right")
	for name, c := range map[string]struct {
		connect packets.ConnectParams
		props   packets.Properties
		v5, v3  byte
	}{
		"right":             {as("a", "press", "right"), packets.Properties{}, 0, 0},
		"wrong password":    {as("b", "press", "wrong"), packets.Properties{}, 0x86, 5},
		"nobody":            {as("d", "nobody", "right"), packets.Properties{}, 0x86, 5},
		"no name":           {packets.ConnectParams{ClientIdentifier: "e", Clean: true}, packets.Properties{}, 0x87, 5},
		"another's session": {as("holder", "other", "x"), packets.Properties{}, 0x85, 2},
		"unknown method":    {as("f", "press", "right"), packets.Properties{AuthenticationMethod: "GS2"}, 0x8c, 0},
	} {
		for version, want := range map[byte]byte{4: c.v3, 5: c.v5} {
			d, ack := connectWith(t, b, version, c.connect, c.props)
			if ack.ReasonCode != want {
				t.Errorf("%s, version %d: got %#x, expected %#x", name, version, ack.ReasonCode, want)
			}
			if want != 0 {
				d.expectEnd()
			}
		}
	}
	if s := b.Stats(); s.LoginsFailed != 6 || s.Denied != 2 {
		t.Errorf("got %d failed logins and %d denied, expected 6 and 2", s.LoginsFailed, s.Denied)
	}
}

func TestAFailedLoginDoesNotEndTheSessionThatItNames(t *testing.T) {
	b := startBroker(t, Options{Users: usersOf(t, "press:right")})
	d := logIn(t, b, 4, "dev", "press", "right")
	for _, c := range []packets.ConnectParams{as("dev", "press", "wrong"), {ClientIdentifier: "dev", Clean: true}} {
		if _, ack := connectWith(t, b, 4, c, packets.Properties{}); ack.ReasonCode == 0 {
			t.Fatal("let in")
		}
	}
	d.publish("a", 1, 1, "x")
	d.expectAcks(packets.Puback, 1)
}

func TestProgramsOnThisMachineMayBeAnonymousBesideUsers(t *testing.T) {
	b := startBroker(t, Options{Users: usersOf(t, "press:right"), AllowAnonymous: true})
	connect(t, b, "nameless", 4, true)
	logIn(t, b, 4, "named", "press", "right")
	if _, ack := connectWith(t, b, 4, as("x", "press", "wrong"), packets.Properties{}); ack.ReasonCode == 0 {
		t.Error("a wrong password is taken for none")
	}
	if _, ack := connectWith(t, b, 4, packets.ConnectParams{ClientIdentifier: "named", Clean: true}, packets.Properties{}); ack.ReasonCode != 2 {
		t.Errorf("a user's session is taken without a name: %#x", ack.ReasonCode)
	}
}

func TestFailedLoginsAreSlowed(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	far, near := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("127.0.0.1")
	a := newAttempts()
	var waits []time.Duration
	for range 12 {
		a.failed(far, "press", now)
		waits = append(waits, a.wait(far, "press", now))
	}
	if waits[2] > 0 || waits[3] != time.Second || waits[4] != 2*time.Second || waits[11] != longestWait {
		t.Errorf("got waits of %v", waits)
	}
	if w := a.wait(far, "other", now); w > 0 {
		t.Errorf("another name waits %v for the failures of this one", w)
	}
	if w := a.wait(near, "press", now); w > 0 {
		t.Errorf("another address waits %v", w)
	}
	for i := range 20 {
		a.failed(far, fmt.Sprint("guess", i), now)
	}
	if w := a.wait(far, "other", now); w <= 0 {
		t.Error("an address that tries many names is not slowed")
	}
	if w := a.wait(far, "other", now.Add(longestWait)); w > 0 {
		t.Errorf("still %v after the longest wait", w)
	}
	for range 50 {
		a.failed(near, "press", now)
	}
	if w := a.wait(near, "press", now); w != localWait {
		t.Errorf("this machine: got %v, expected %v", w, localWait)
	}
	if w := a.wait(near, "other", now); w > 0 {
		t.Errorf("this machine: one program makes others wait %v", w)
	}
}

// TestOneBrokenDeviceDoesNotShutItsAddressOut lets a device with a wrong
// password try every second for a day.
func TestOneBrokenDeviceDoesNotShutItsAddressOut(t *testing.T) {
	gateway := netip.MustParseAddr("192.0.2.7")
	start := time.Unix(1_000_000, 0)
	a, tried := newAttempts(), 0
	for now := start; now.Before(start.Add(24 * time.Hour)); now = now.Add(time.Second) {
		if a.wait(gateway, "broken", now) <= 0 {
			a.failed(gateway, "broken", now)
			tried++
		}
		if w := a.wait(gateway, "sound", now); w > 0 {
			t.Fatalf("after %v others at its address wait %v", now.Sub(start), w)
		}
	}
	if tried > 24*60*60/15 {
		t.Errorf("tried %d times a day", tried)
	}
}

func TestTheTablesOfFailuresAreBounded(t *testing.T) {
	a, now := newAttempts(), time.Unix(1_000_000, 0)
	for i := range 2 * maxRemembered {
		address := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		for range freeForName + 1 {
			a.failed(address, "x", now)
		}
	}
	if len(a.names) > maxRemembered || len(a.addresses) > maxRemembered {
		t.Errorf("%d names and %d addresses, expected at most %d", len(a.names), len(a.addresses), maxRemembered)
	}
}

func TestASlowedLoginIsNotTried(t *testing.T) {
	b := startBroker(t, Options{Users: usersOf(t, "press:right")})
	logIn(t, b, 5, "x", "press", "right")
	var reasons []byte
	for range freeForName + 2 {
		_, ack := connectWith(t, b, 5, as("x", "press", "wrong"), packets.Properties{})
		reasons = append(reasons, ack.ReasonCode)
	}
	if reasons[freeForName] != 0x86 || reasons[freeForName+1] != 0x9f {
		t.Errorf("got %#x, expected 0x9f only in the end", reasons)
	}
	if _, ack := connectWith(t, b, 4, as("x", "press", "right"), packets.Properties{}); ack.ReasonCode != 3 {
		t.Errorf("3.1.1: got %d, expected 3 (unavailable), as a right password would tell", ack.ReasonCode)
	}
	if s := b.Stats(); s.LoginsSlowed != 2 || s.LoginsFailed != freeForName+1 {
		t.Errorf("got %d slowed and %d failed", s.LoginsSlowed, s.LoginsFailed)
	}
	eventually(t, "the right password is let in after the wait", func() bool {
		_, ack := connectWith(t, b, 4, as("x", "press", "right"), packets.Properties{})
		return ack.ReasonCode == 0
	})
}

// TestAFloodOfLoginsIsNotTried sends them all before the first has failed.
func TestAFloodOfLoginsIsNotTried(t *testing.T) {
	b := startBroker(t, Options{Users: usersOf(t, "press:right")})
	var all sync.WaitGroup
	for range 5 * freeForName {
		d := dial(t, b)
		all.Go(func() { d.connects(as("x", "press", "wrong")) })
	}
	all.Wait()
	if s := b.Stats(); s.LoginsFailed != freeForName+1 || s.LoginsSlowed != 4*freeForName-1 {
		t.Errorf("got %d failed and %d slowed, expected %d and %d", s.LoginsFailed, s.LoginsSlowed, freeForName+1, 4*freeForName-1)
	}
}

func TestPasswordsAreCheckedOneAtATimeForAnAddress(t *testing.T) {
	p := newPasswords()
	one, two := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	release, stop := make(chan struct{}), make(chan struct{})
	started := make(chan netip.Addr, 30)
	var all sync.WaitGroup
	login := func(address netip.Addr) {
		all.Go(func() {
			if err := p.inTurn(address, stop, func() { started <- address; <-release }); err != nil {
				t.Error(err)
			}
		})
	}
	for range 20 {
		login(one)
	}
	first := <-started
	eventually(t, "the others wait", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.waiting == 20 })
	login(two)
	if second := <-started; first == second {
		t.Errorf("two at a time from %v", first)
	}
	close(release)
	all.Wait()
	if len(p.queues) != 0 || p.waiting != 0 {
		t.Errorf("left: %d queues, %d waiting", len(p.queues), p.waiting)
	}
	p.waiting = maxWaitingLogins
	if err := p.inTurn(one, stop, func() { t.Error("checked") }); !errors.Is(err, errBusy) {
		t.Errorf("a full queue: got %v, expected errBusy", err)
	}
}

func TestALoginIsRememberedUntilItsHashChanges(t *testing.T) {
	p := newPasswords()
	h, _ := usersOf(t, "a:x").Lookup("a")
	other, _ := usersOf(t, "a:y").Lookup("a")
	p.remember("a", h, []byte("x"))
	if !p.known("a", h, []byte("x")) || p.known("a", h, []byte("y")) || p.known("b", h, []byte("x")) || p.known("a", other, []byte("x")) {
		t.Error("another login is taken for one that is remembered, or that one is not")
	}
	for i := range 2 * maxVerified {
		p.remember(fmt.Sprint(i), h, nil)
	}
	if len(p.verified) > maxVerified {
		t.Errorf("%d logins are remembered, expected at most %d", len(p.verified), maxVerified)
	}
	p.forget()
	if len(p.verified) != 0 {
		t.Error("not forgotten")
	}
}

// TestUnknownNamesTakeAsLongAsOthers counts the work rather than the time.
func TestUnknownNamesTakeAsLongAsOthers(t *testing.T) {
	p := newPasswords()
	cheap, _ := usersOf(t, "a:x").Lookup("a")
	strong, err := access.NewHash([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	made := 0
	p.decoy = func() (access.Hash, error) { made++; return strong, nil }
	for _, c := range []struct {
		hash   access.Hash
		exists bool
		decoys int
	}{{access.Hash{}, false, 1}, {cheap, true, 1}, {strong, true, 0}} {
		made = 0
		if p.verify(c.hash, c.exists, []byte("wrong")) || made != c.decoys {
			t.Errorf("%+v: %d decoys", c, made)
		}
	}
}

func TestRulesHoldForPublishSubscribeAndDelivery(t *testing.T) {
	b := startBroker(t, Options{
		Users:    usersOf(t, "press:p", "hmi:h", "admin:a"),
		Reserved: []string{"vision/"},
		ACL:      aclOf(t, "user press\ntopic write press/#\ntopic write vision/r/#\nuser hmi\ntopic read press/+/state\nuser admin\ntopic #\n"),
	})
	hmi := logIn(t, b, 5, "hmi", "hmi", "h")
	hmi.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 7, Filters: packets.Subscriptions{
		{Filter: "#", Qos: 1}, {Filter: "doors/#", Qos: 1},
	}})
	if ack := hmi.expect(packets.Suback); len(ack.ReasonCodes) != 2 || ack.ReasonCodes[0] != 1 || ack.ReasonCodes[1] != 0x87 {
		t.Errorf("SUBACK: got %#x, expected 0x1 0x87", ack.ReasonCodes)
	}
	press := logIn(t, b, 5, "press", "press", "p")
	for i, topic := range []string{"press/1/secret", "press/1/state", "doors/1", "vision/r/x"} {
		press.publish(topic, 1, uint16(i+1), topic)
		want := byte(0)
		if topic == "doors/1" {
			want = 0x87
		}
		if ack := press.expect(packets.Puback); ack.ReasonCode != want {
			t.Errorf("%s: got %#x, expected %#x", topic, ack.ReasonCode, want)
		}
	}
	press.publish("press/1/secret", 0, 0, "secret")
	hmi.expectPayloads("press/1/state")
	hmi.expectSilence()
	admin := logIn(t, b, 4, "admin", "admin", "a")
	admin.publish("vision/r/x", 1, 1, "x")
	admin.expectEnd()
}

// TestATopicAliasIsNoWayAroundARule publishes on a topic by its alias after
// the right to it was lost.
func TestATopicAliasIsNoWayAroundARule(t *testing.T) {
	users := usersOf(t, "u:p")
	b := startBroker(t, Options{Users: users, ACL: aclOf(t, "user u\ntopic write a\n")})
	d := logIn(t, b, 5, "dev", "u", "p")
	publish := func(topic string, id uint16) byte {
		d.send(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, TopicName: topic, PacketID: id,
			Properties: packets.Properties{TopicAlias: 1, TopicAliasFlag: true},
		})
		return d.expect(packets.Puback).ReasonCode
	}
	if got := []byte{publish("a", 1), publish("", 2)}; got[0] != 0 || got[1] != 0 {
		t.Errorf("with the right: got %#x", got)
	}
	if err := b.Reload(users, aclOf(t, "user u\ntopic write b\n")); err != nil {
		t.Fatal(err)
	}
	if got := publish("", 3); got != 0x87 {
		t.Errorf("without the right: got %#x, expected 0x87", got)
	}
}

func TestASharedSubscriptionLosesNothingToAMemberWhoMayNotRead(t *testing.T) {
	b := startBroker(t, Options{Users: usersOf(t, "in:p", "out:p", "dev:p"), ACL: aclOf(t, "user in\ntopic read a/#\nuser out\ntopic read a/x\nuser dev\ntopic write #\n")})
	in, out := logIn(t, b, 5, "in", "in", "p"), logIn(t, b, 5, "out", "out", "p")
	for _, d := range []*device{in, out} {
		d.subscribeTo(packets.Subscription{Filter: "$share/g/a/#", Qos: 1})
	}
	dev := logIn(t, b, 5, "dev", "dev", "p")
	var want []string
	for i := range 20 {
		dev.publish("a/b", 1, uint16(i+1), fmt.Sprint(i))
		dev.expectAcks(packets.Puback, uint16(i+1))
		want = append(want, fmt.Sprint(i))
	}
	in.expectPayloads(want...)
	out.expectSilence()
}

func TestWhatIsNotWhatItsTopicPromisesIsRefused(t *testing.T) {
	b := startBroker(t, Options{
		Users: usersOf(t, "cam:p", "eye:p"), Reserved: []string{"vision/"}, ACL: aclOf(t, "user cam\ntopic write vision/c\nuser eye\ntopic read #\n"),
		Validate: func(topic string, payload []byte) error {
			if topic == "vision/c" && string(payload) != "good" {
				return errors.New("no detection")
			}
			return nil
		},
	})
	eye := logIn(t, b, 5, "eye", "eye", "p")
	eye.subscribeTo(packets.Subscription{Filter: "vision/#", Qos: 1})
	cam := logIn(t, b, 5, "cam", "cam", "p")
	for qos, kind := range map[byte]byte{1: packets.Puback, 2: packets.Pubrec} {
		cam.publish("vision/c", qos, uint16(qos), "bad")
		if ack := cam.expect(kind); ack.ReasonCode != 0x99 || ack.Properties.ReasonString != "no detection" {
			t.Errorf("QoS %d: got %#x %q, expected 0x99", qos, ack.ReasonCode, ack.Properties.ReasonString)
		}
	}
	cam.publish("vision/c", 0, 0, "bad")
	cam.publish("vision/c", 1, 9, "good")
	cam.expectAcks(packets.Puback, 9)
	old := logIn(t, b, 4, "old", "cam", "p")
	old.publish("vision/c", 1, 1, "bad")
	old.expectEnd()
	willing := as("willing", "cam", "p")
	willing.WillFlag, willing.WillTopic, willing.WillPayload = true, "vision/c", []byte("bad")
	if _, ack := connectWith(t, b, 5, willing, packets.Properties{}); ack.ReasonCode != 0x99 {
		t.Errorf("a will: got %#x, expected 0x99", ack.ReasonCode)
	}
	eye.expectPayloads("good")
	eye.expectSilence()
	if s := b.Stats(); s.Invalid != 5 {
		t.Errorf("counted %d, expected 5", s.Invalid)
	}
}

func TestAWillGoesThroughTheRules(t *testing.T) {
	users := usersOf(t, "u:p", "eye:p")
	b := startBroker(t, Options{Users: users, ACL: aclOf(t, "user u\ntopic write mine\ntopic write other\nuser eye\ntopic read #\n")})
	willing := func(id, topic string) (*device, byte) {
		c := as(id, "u", "p")
		c.WillFlag, c.WillTopic, c.WillPayload, c.WillQos = true, topic, []byte(topic), 1
		d, ack := connectWith(t, b, 5, c, packets.Properties{})
		return d, ack.ReasonCode
	}
	if _, code := willing("a", "yours"); code != 0x87 {
		t.Errorf("got %#x, expected 0x87", code)
	}
	eye := logIn(t, b, 5, "eye", "eye", "p")
	eye.subscribeTo(packets.Subscription{Filter: "#", Qos: 1})
	lost, _ := willing("b", "other")
	kept, _ := willing("c", "mine")
	if err := b.Reload(users, aclOf(t, "user u\ntopic write mine\nuser eye\ntopic read #\n")); err != nil {
		t.Fatal(err)
	}
	lost.conn.Close()
	eventually(t, "its connection is over", func() bool { return b.hook.sessions.get("b") == nil })
	kept.conn.Close()
	eye.expectPayloads("mine")
	eye.expectSilence()
}

func TestAReloadTakesRightsFromLiveSessions(t *testing.T) {
	users := usersOf(t, "eye:p", "dev:p")
	b := startBroker(t, Options{Users: users, ACL: aclOf(t, "user eye\ntopic read a\ntopic read b\ntopic read c\nuser dev\ntopic write #\n")})
	eye := logIn(t, b, 5, "eye", "eye", "p")
	eye.subscribeTo(packets.Subscription{Filter: "+", Qos: 1}, packets.Subscription{Filter: "a", Qos: 1})
	dev := logIn(t, b, 5, "dev", "dev", "p")
	send := func(topic, payload string) {
		dev.publish(topic, 1, 1, payload)
		dev.expectAcks(packets.Puback, 1)
	}
	send("a", "1")
	eye.expectPayloads("1")
	if err := b.Reload(users, aclOf(t, "user eye\ntopic read b\nuser dev\ntopic write #\n")); err != nil {
		t.Fatal(err)
	}
	send("a", "2")
	send("b", "3")
	eye.expectPayloads("3")
	if s := b.Stats(); s.Subscriptions != 2 || s.Sessions.Muted != 1 || s.Sessions.MutedOf != "eye" || b.Clients()[1].Muted != 1 {
		t.Errorf("got %d subscriptions and %+v, expected that one of two is muted", s.Subscriptions, s.Sessions)
	}
	if ack := eye.reasons("a"); ack[0] != 0x87 {
		t.Errorf("got %#x, expected that a is refused", ack)
	}
	if err := b.Reload(users, aclOf(t, "user eye\ntopic read a\nuser dev\ntopic write #\n")); err != nil {
		t.Fatal(err)
	}
	send("a", "4")
	send("b", "5")
	eye.expectPayloads("4")
	eye.expectSilence()
	if s := b.Stats().Sessions; s.Muted != 0 || s.MutedOf != "" {
		t.Errorf("got %+v, expected that nothing is muted any more", s)
	}
}

// TestAReloadTakesWhatWaits takes the right to messages that a subscriber is
// owed and has not had yet.
func TestAReloadTakesWhatWaits(t *testing.T) {
	users := usersOf(t, "eye:p", "dev:p")
	b := startBroker(t, Options{Users: users, ACL: aclOf(t, "user eye\ntopic read #\nuser dev\ntopic write #\n")})
	params := as("eye", "eye", "p")
	params.Clean = false
	eye, _ := connectWith(t, b, 4, params, packets.Properties{})
	eye.subscribeTo(packets.Subscription{Filter: "#", Qos: 1})
	eye.conn.Close()
	eventually(t, "it is away", func() bool { return b.hook.sessions.get("eye").connection() == nil })
	dev := logIn(t, b, 5, "dev", "dev", "p")
	for i, topic := range []string{"a", "b", "a"} {
		dev.publish(topic, 1, uint16(i+1), fmt.Sprint(topic, i))
		dev.expectAcks(packets.Puback, uint16(i+1))
	}
	if err := b.Reload(users, aclOf(t, "user eye\ntopic read b\nuser dev\ntopic write #\n")); err != nil {
		t.Fatal(err)
	}
	eye, _ = connectWith(t, b, 4, params, packets.Properties{})
	eye.expectPayloads("b1")
	eye.expectSilence()
	if s := b.Stats(); s.Withheld != 2 {
		t.Errorf("got %d withheld, expected 2", s.Withheld)
	}
	if _, bytes := b.hook.sessions.get("eye").owed(); bytes != 0 {
		t.Errorf("still owed %d bytes", bytes)
	}
}

func TestAReloadEndsThoseWhoseUserIsGone(t *testing.T) {
	b := startBroker(t, Options{Users: usersOf(t, "stays:p", "changes:p", "goes:p", "away:p")})
	stays, changes, goes := logIn(t, b, 5, "1", "stays", "p"), logIn(t, b, 5, "2", "changes", "p"), logIn(t, b, 4, "3", "goes", "p")
	params := as("4", "away", "p")
	params.Clean = false
	away, _ := connectWith(t, b, 4, params, packets.Properties{})
	away.subscribe("x")
	away.conn.Close()
	eventually(t, "it is away", func() bool { return b.hook.sessions.get("4").connection() == nil })
	if err := b.Reload(usersOf(t, "stays:p", "changes:q"), nil); err != nil {
		t.Fatal(err)
	}
	if pk := changes.expect(packets.Disconnect); pk.ReasonCode != 0x87 {
		t.Errorf("got %#x, expected 0x87", pk.ReasonCode)
	}
	changes.expectEnd()
	goes.expectEnd()
	stays.publish("a", 1, 1, "x")
	stays.expectAcks(packets.Puback, 1)
	if b.hook.sessions.get("4") != nil || b.Stats().Subscriptions != 0 {
		t.Error("the session of a user who is gone is still there")
	}
	if _, ack := connectWith(t, b, 5, as("2", "changes", "p"), packets.Properties{}); ack.ReasonCode != 0x86 {
		t.Errorf("the old password: got %#x, expected 0x86", ack.ReasonCode)
	}
	logIn(t, b, 5, "2", "changes", "q")
	if err := b.Reload(nil, nil); !errors.Is(err, ErrListener) {
		t.Errorf("without users: got %v, expected ErrListener", err)
	}
}

// TestMosquittosClientsLogIn uses the clients that integrators have.
func TestMosquittosClientsLogIn(t *testing.T) {
	b := startBroker(t, Options{Users: usersOf(t, "press:right"), ACL: aclOf(t, "user press\ntopic readwrite press/#\n")})
	_, port, _ := strings.Cut(b.Addresses()[0], ":")
	pub := func(version, password, topic string) (string, error) {
		out, err := exec.Command("mosquitto_pub", "-h", "127.0.0.1", "-p", port, "-V", version, "-u", "press", "-P", password, "-q", "1", "-r", "-t", topic, "-m", "42").CombinedOutput()
		return string(out), err
	}
	for version, refusal := range map[string]string{"mqttv311": "not authorised", "mqttv5": "bad user name or password"} {
		if out, err := pub(version, "right", "press/1"); err != nil {
			t.Errorf("%s: %v: %s", version, err, out)
		}
		if out, err := pub(version, "wrong", "press/1"); err == nil || !strings.Contains(strings.ToLower(out), refusal) {
			t.Errorf("%s: wrong password: got %v: %q, expected %q", version, err, out, refusal)
		}
	}
	out, err := exec.Command("mosquitto_sub", "-h", "127.0.0.1", "-p", port, "-u", "press", "-P", "right", "-C", "1", "-W", "10", "-t", "#").CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "42" {
		t.Errorf("got %v: %q, expected the retained message", err, out)
	}
}

// TestALoginThatWaitedLongIsAnswered: by then the deadline that a connection
// begins with has passed.
func TestALoginThatWaitedLongIsAnswered(t *testing.T) {
	b := startBroker(t, Options{Users: usersOf(t, "press:right")})
	here, there := net.Pipe()
	defer there.Close()
	if err := here.SetDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	cl := b.server.NewClient(&peer{Conn: here, hook: b.hook, traffic: &traffic{}}, "tcp", "slow", false)
	cl.Properties.ProtocolVersion = 4
	go b.hook.refuseConnect(cl, packets.ErrServerBusy)
	d := &device{t: t, conn: there, in: bufio.NewReader(there), v: 4}
	if ack := d.expect(packets.Connack); ack.ReasonCode != packets.Err3ServerUnavailable.Code {
		t.Errorf("got %d, expected 3 (unavailable)", ack.ReasonCode)
	}
}
