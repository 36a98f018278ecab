package broker

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// naive is section 4.7 of the specification in the order of its words.
func naive(filter, topic string) bool {
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	if strings.HasPrefix(topic, "$") && (f[0] == "+" || f[0] == "#") {
		return false
	}
	for i, level := range f {
		switch {
		case level == "#":
			return true // also its parent level: then t has ended
		case i >= len(t) || (level != "+" && level != t[i]):
			return false
		}
	}
	return len(f) == len(t) || (len(f) == len(t)+1 && f[len(f)-1] == "#")
}

func TestNaiveMatcher(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		{"a", "a", true}, {"a", "b", false}, {"+/#", "a", true}, {"#", "a/b", true}, {"a/#", "a", true}, {"a/#", "ab", false},
		{"+", "/a", false}, {"+/+", "/a", true}, {"/+", "/a", true}, {"#", "$SYS/x", false}, {"+/x", "$SYS/x", false},
		{"$SYS/#", "$SYS/x", true}, {"a/+", "a", false}, {"a/+", "a/", true}, {"a//b", "a//b", true}, {"a/b", "a", false},
	} {
		if got := naive(c.filter, c.topic); got != c.want {
			t.Errorf("%s, %s: got %v", c.filter, c.topic, got)
		}
	}
}

// randomLevels joins up to four of the words.
func randomLevels(r *rand.Rand, words ...string) string {
	levels := make([]string, 1+r.IntN(4))
	for i := range levels {
		levels[i] = words[r.IntN(len(words))]
	}
	return strings.Join(levels, "/")
}

func randomFilter(r *rand.Rand) string {
	f := randomLevels(r, "a", "b", "", "+", "$SYS")
	if r.IntN(3) == 0 {
		f += "/#"
	} else if r.IntN(10) == 0 {
		f = "#"
	}
	return f
}

// TestIndexAgainstANaiveMatcher subscribes and unsubscribes at random and
// compares what topics find with what each filter says by itself.
func TestIndexAgainstANaiveMatcher(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	x := newIndex()
	all := make([]*session, 6)
	have := map[*session]map[string]packets.Subscription{}
	for i := range all {
		all[i] = &session{id: fmt.Sprint(i)}
		have[all[i]] = map[string]packets.Subscription{}
	}
	for step := range 20_000 {
		s := all[r.IntN(len(all))]
		switch f := randomFilter(r); r.IntN(10) {
		case 0:
			x.forget(s)
			clear(have[s])
		case 1, 2, 3:
			x.unsubscribe(s, f)
			delete(have[s], f)
		default:
			sub := packets.Subscription{
				Filter: f, Qos: byte(r.IntN(3)), NoLocal: r.IntN(4) == 0, RetainAsPublished: r.IntN(2) == 0, Identifier: r.IntN(4),
			}
			x.subscribe(s, sub)
			have[s][f] = sub
		}
		topic, origin := randomLevels(r, "a", "b", "", "$SYS"), fmt.Sprint(r.IntN(len(all)+1))
		got := map[string]target{}
		for _, m := range x.match(topic, origin, nil) {
			if _, twice := got[m.session.id]; twice {
				t.Fatalf("step %d: session %s gets %s twice", step, m.session.id, topic)
			}
			got[m.session.id] = m
		}
		if want := naiveMatch(have, topic, origin); !maps.EqualFunc(got, want, equalTargets) {
			t.Fatalf("step %d, topic %q of %s: got %v, expected %v", step, topic, origin, got, want)
		}
	}
	for _, s := range all {
		x.forget(s)
	}
	if !x.root.empty() || len(x.filters) > 0 {
		t.Error("something stays behind")
	}
}

func equalTargets(a, b target) bool {
	return a.session == b.session && a.qos == b.qos && a.asPublished == b.asPublished && slices.Equal(a.subscriptions, b.subscriptions)
}

func naiveMatch(have map[*session]map[string]packets.Subscription, topic, origin string) map[string]target {
	out := map[string]target{}
	for s, subs := range have {
		for _, sub := range subs {
			if !naive(sub.Filter, topic) || (sub.NoLocal && s.id == origin) {
				continue
			}
			m := out[s.id]
			m.session, m.qos, m.asPublished = s, max(m.qos, sub.Qos), m.asPublished || sub.RetainAsPublished
			if sub.Identifier > 0 {
				m.subscriptions = append(m.subscriptions, sub.Identifier)
			}
			slices.Sort(m.subscriptions)
			m.subscriptions = slices.Compact(m.subscriptions)
			out[s.id] = m
		}
	}
	return out
}

// TestSharedSubscriptions gives each message to one member of each group, in
// turn, and to none that is away while another is there.
func TestSharedSubscriptions(t *testing.T) {
	x := newIndex()
	there := func(id string) *session { return &session{id: id, gate: &gate{}} }
	a, b, away, plain := there("a"), there("b"), &session{id: "away"}, there("plain")
	for _, s := range []*session{away, a, b} {
		x.subscribe(s, packets.Subscription{Filter: "$share/g/t/+", Qos: 1, Identifier: 1})
	}
	x.subscribe(a, packets.Subscription{Filter: "$share/h/t/#", Qos: 2, Identifier: 2})
	x.subscribe(plain, packets.Subscription{Filter: "t/x"})
	counts := map[*session]int{}
	const n = 60
	for range n {
		for _, m := range x.match("t/x", "", nil) {
			counts[m.session]++
			if m.session == a && m.qos != 2 {
				t.Errorf("QoS: got %d, expected 2", m.qos)
			}
		}
	}
	if counts[a] != n || counts[plain] != n || counts[away] != 0 || counts[b] != n/3 && counts[b] != 2*n/3 {
		t.Errorf("got %d, %d, %d, %d", counts[a], counts[b], counts[away], counts[plain])
	}
	x.unsubscribe(a, "$share/g/t/+")
	x.forget(b)
	if m := x.match("t/x", "", nil); len(m) != 3 {
		t.Errorf("got %v, expected the member that is away: there is no other", m)
	}
	for _, s := range []*session{a, away, plain} {
		x.forget(s)
	}
	if !x.root.empty() || len(x.filters) > 0 {
		t.Error("something stays behind")
	}
}

// TestSubscriptionsEndWithTheirSession looks at the index as devices come and
// go: nothing may stay in it.
func TestSubscriptionsEndWithTheirSession(t *testing.T) {
	b := startBroker(t, Options{})
	filters := func() int { return filtersOf(b) }
	stays, _ := connectWith(t, b, 4, packets.ConnectParams{ClientIdentifier: "stays"}, packets.Properties{})
	stays.subscribeTo(packets.Subscription{Filter: "a/#", Qos: 1}, packets.Subscription{Filter: "b"})
	goes, _ := connectWith(t, b, 4, packets.ConnectParams{ClientIdentifier: "goes", Clean: true}, packets.Properties{})
	goes.subscribeTo(packets.Subscription{Filter: "+/#"}, packets.Subscription{Filter: "$share/g/x"}, packets.Subscription{Filter: "not/#/this"})
	if n := filters(); n != 4 {
		t.Errorf("got %d filters, expected 4: one is not valid", n)
	}
	if err := b.Publish("a", []byte("parent"), 0, false); err != nil {
		t.Fatal(err)
	}
	goes.expectPayloads("parent") // +/# matches a
	if _, err := goes.conn.Write([]byte{packets.Unsubscribe<<4 | 2, 7, 0, 3, 0, 3, '+', '/', '#'}); err != nil {
		t.Fatal(err)
	}
	goes.expect(packets.Unsuback)
	if n := filters(); n != 3 {
		t.Errorf("got %d filters, expected 3", n)
	}
	goes.conn.Close()
	eventually(t, "the end of a clean session", func() bool { return filters() == 2 })
	stays.conn.Close()
	eventually(t, "the end of a connection", func() bool { return !b.hook.sessions.get("stays").connected() })
	if n := filters(); n != 2 {
		t.Errorf("got %d filters, expected 2 of a session that is kept", n)
	}
	again, _ := connectWith(t, b, 4, packets.ConnectParams{ClientIdentifier: "stays", Clean: true}, packets.Properties{})
	if n := filters(); n != 0 {
		t.Errorf("got %d filters, expected none of a session that began anew", n)
	}
	again.subscribeTo(packets.Subscription{Filter: "c"})
	b.hook.sessions.drop(b.hook.sessions.get("stays"))
	if n := filters(); n != 0 {
		t.Errorf("got %d filters, expected none of a session that ended", n)
	}
}

// filtersOf is how many subscriptions the index has.
func filtersOf(b *Broker) int {
	x := b.hook.sessions.index
	x.mu.RLock()
	defer x.mu.RUnlock()
	n := 0
	for _, f := range x.filters {
		n += len(f)
	}
	return n
}

// TestAMemberThatLeavesHandsOn ends the session of one of two members that has
// messages in flight and more that wait.
func TestAMemberThatLeavesHandsOn(t *testing.T) {
	for name, stays := range map[string]func(*Broker) *device{
		"in memory": func(b *Broker) *device { return connect(t, b, "stays", 5, true) },
		"stored":    func(b *Broker) *device { d, _ := persistent(t, b, "stays", 5); return d },
	} {
		b := startBroker(t, Options{})
		leaves, _ := connectWith(t, b, 5, packets.ConnectParams{ClientIdentifier: "leaves", Clean: true}, packets.Properties{ReceiveMaximum: 2})
		leaves.subscribeTo(packets.Subscription{Filter: "$share/g/x/+", Qos: 2}, packets.Subscription{Filter: "x/own", Qos: 1})
		pub := connect(t, b, "pub", 5, true)
		pub.publish("x/0", 2, 1, "sent with QoS 2")
		pub.expectAcks(packets.Pubrec, 1)
		leaves.expect(packets.Publish)
		for i := range 3 {
			pub.say(fmt.Sprint("x/", i), fmt.Sprint(i))
		}
		pub.say("x/own", "its own too")
		leaves.expect(packets.Publish)
		d := stays(b)
		d.subscribeTo(packets.Subscription{Filter: "$share/g/x/+", Qos: 1})
		leaves.conn.Close()
		t.Log(name)
		d.expectPayloads("0", "1", "2")
		d.expectSilence()
	}
}
