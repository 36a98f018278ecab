package uplink

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"outstation/uplink/wire"
)

// feed stores numbered messages until its end is called, which returns their
// payloads.
func feed(t *testing.T, q *Queue) (end func() []string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var sent []string
	var done sync.WaitGroup
	done.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			store(t, q, testMessage(5, i))
			sent = append(sent, fmt.Sprintf("m%d", i))
		}
	})
	t.Cleanup(func() { cancel(); done.Wait() })
	return func() []string { cancel(); done.Wait(); return sent }
}

func TestTuneInPlaceKeepsTheConnection(t *testing.T) {
	centre := startMosquitto(t)
	w := watch(t, centre, "t/#")
	q := openTestQueue(t, Options{})
	at := Centre{Brokers: []string{centre.URL()}}
	l := startLink(t, q, LinkOptions{Centre: at})
	end := feed(t, q)
	eventually(t, "deliveries", func() bool { return l.Stats().Delivered > 20 })
	if l.Tune(Tuning{Centre: at, AckTimeout: 3 * time.Second, MaxPacketBytes: 100, Backoff: quickBackoff, Backfill: Backfill{Share: 0.1, Rate: 1 << 20}}) {
		t.Error("the link says that it connects anew")
	}
	big := testMessage(5, 0)
	big.Topic, big.Payload = "t/big", make([]byte, 200)
	store(t, q, big)
	eventually(t, "the new largest packet to hold", func() bool { return q.Stats().DeadLetters == 1 })
	sent := end()
	eventually(t, "all of them", func() bool { return len(w.payloads()) == len(sent) })
	if s := l.Stats(); s.Generation != 1 || s.Window != DefaultWindow {
		t.Errorf("connections: got %d, expected 1; window %d", s.Generation, s.Window)
	}
}

// TestTuneToAnotherCentreLosesNothing moves the link between two centres and
// changes its window under load; a back-off that would be waited for would
// show.
func TestTuneToAnotherCentreLosesNothing(t *testing.T) {
	first, second := startMosquitto(t), startMosquitto(t)
	w1, w2 := watch(t, first, "t/#"), watchAs(t, second, "second", "t/#")
	q := openTestQueue(t, Options{})
	l := startLink(t, q, LinkOptions{Centre: Centre{Brokers: []string{first.URL()}}})
	end := feed(t, q)
	never := Backoff{Floor: time.Hour, Ceiling: time.Hour, Stable: time.Hour}
	eventually(t, "deliveries", func() bool { return len(w1.payloads()) > 20 })
	for i, tuning := range []Tuning{
		{Centre: Centre{Brokers: []string{second.URL()}}, Backoff: never},
		{Centre: Centre{Brokers: []string{second.URL()}}, Backoff: never, Window: 3},
		{Centre: Centre{Brokers: []string{first.URL()}, KeepAlive: 7 * time.Second}, Backoff: never},
	} {
		if !l.Tune(tuning) {
			t.Errorf("change %d: the link says that it keeps its connection", i)
		}
		before := l.Stats().Delivered
		eventually(t, "deliveries over the new connection", func() bool {
			s := l.Stats()
			return s.Generation == uint64(i+2) && s.State == LinkConnected && s.Broker == tuning.Centre.Brokers[0] && s.Delivered > before+20
		})
		if want := tuning.withDefaults().Window; l.Stats().Window != want {
			t.Errorf("window: got %d, expected %d", l.Stats().Window, want)
		}
	}
	sent := end()
	eventually(t, "everything at one of the centres", func() bool {
		seen := map[string]bool{}
		for _, p := range append(w1.payloads(), w2.payloads()...) {
			seen[p] = true
		}
		return len(seen) == len(sent)
	})
	eventually(t, "the ledger", func() bool {
		a := q.Ledger()["r5"]
		return a.Balanced() && a.Delivered.Records == int64(len(sent)) && q.Depth().Records == 0
	})
}

func TestTuneEndsAWait(t *testing.T) {
	centre := startMosquitto(t)
	q := openTestQueue(t, Options{})
	l := NewLink(q, LinkOptions{
		Centre: Centre{Brokers: []string{"tcp://127.0.0.1:1"}}, ClientID: "dev-1",
		Backoff: Backoff{Floor: time.Hour, Ceiling: time.Hour, Stable: time.Hour},
	})
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { l.Serve(ctx) })
	t.Cleanup(func() { cancel(); done.Wait() })
	eventually(t, "the wait", func() bool { return l.Stats().State == LinkDown })
	l.Tune(Tuning{Centre: Centre{Brokers: []string{centre.URL()}}})
	eventually(t, "a connection", func() bool { return l.Stats().State == LinkConnected })
}

func TestAPresenceMovesToAnotherCentre(t *testing.T) {
	first, second := startMosquitto(t), startMosquitto(t)
	w1, w2 := watch(t, first, "appliance/#"), watchAs(t, second, "second", "appliance/#")
	p := startPresence(t, PresenceOptions{Centre: Centre{Brokers: []string{first.URL()}}, Origin: testOrigin})
	state := func(w *watcher) string { _, b, _ := w.last(); return string(b) }
	says := func(w *watcher, want string) {
		t.Helper()
		eventually(t, want, func() bool { return strings.Contains(state(w), want) })
	}
	says(w1, `"state":"`+wire.Online)
	p.Tune(Centre{Brokers: []string{second.URL()}}, quickBackoff)
	says(w2, `"state":"`+wire.Online)
	says(w1, `"state":"`+wire.Offline)
	says(w1, errTuned.Error())
}

func TestBoundsChangeWhileTheQueueRuns(t *testing.T) {
	q := openTestQueue(t, Options{})
	for i := range 100 {
		store(t, q, testMessage(5, i))
	}
	q.SetBounds(Bounds{MaxRecords: 10, MinFreeBytes: 1})
	eventually(t, "eviction", func() bool {
		a := q.Ledger()["r5"]
		return a.Queued.Records <= 10 && a.Evicted.Records >= 90 && a.Balanced()
	})
	if e := next(t, q, 1)[0]; string(e.Payload) < "m90" {
		t.Errorf("%s is left, expected only the newest", e.Payload)
	}
	q.SetBounds(Bounds{MinFreeBytes: 1 << 60})
	if err := q.Enqueue(testMessage(5, 1), nil); err == nil {
		t.Error("accepted below the floor of the disk")
	}
	room := q.Room()
	q.SetBounds(Bounds{MinFreeBytes: 1})
	<-room
	store(t, q, testMessage(5, 1))
}

// routed is a message of the route r in a lane.
func routed(lane, i int) Message {
	m := testMessage(lane, i)
	m.Route, m.Topic = "r", "t/x"
	return m
}

// drain hands out and settles what is queued, and returns the payloads.
func drain(t *testing.T, q *Queue, n int, w Want) (got []string) {
	t.Helper()
	for len(got) < n {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		entries, err := q.Next(ctx, w)
		cancel()
		if err != nil {
			t.Fatalf("after %v: %v", got, err)
		}
		for _, e := range entries {
			got = append(got, string(e.Payload))
			q.Settle(e, Delivered)
		}
	}
	return got
}

// TestStrictOrderHoldsOverAChangeOfTheRoute changes a route's lane and its
// order while messages of one topic are queued, with and without a restart
// before they are read, and with a window that takes one at a time.
func TestStrictOrderHoldsOverAChangeOfTheRoute(t *testing.T) {
	for _, reopen := range []bool{false, true} {
		for name, steps := range map[string][]struct {
			lane   int
			order  Order
			online bool
		}{
			"higher lane":           {{3, Strict, false}, {8, Strict, false}},
			"lower lane":            {{8, Strict, false}, {3, Strict, true}},
			"from by-lane":          {{5, ByLane, false}, {5, ByLane, true}, {5, Strict, true}},
			"lane and from by-lane": {{3, ByLane, false}, {9, Strict, true}},
		} {
			t.Run(fmt.Sprintf("%s, reopen %v", name, reopen), func(t *testing.T) {
				opt := Options{Dir: t.TempDir()}
				q := openTestQueue(t, opt)
				var want []string
				for _, step := range steps {
					opt.Policies = map[string]Policy{"r": {Order: step.order}}
					q.SetPolicies(opt.Policies)
					q.SetOnline(step.online)
					for range 20 {
						m := routed(step.lane, len(want))
						store(t, q, m)
						want = append(want, string(m.Payload))
					}
				}
				if reopen {
					if err := q.Close(); err != nil {
						t.Fatal(err)
					}
					q = openTestQueue(t, opt)
				}
				got := drain(t, q, len(want), Want{Max: 1, History: 1, Boundary: 30})
				if name == "from by-lane" { // what was ordered by lane stays so; what is strict comes after all of it
					slices.Sort(got[:40])
					slices.Sort(want[:40])
				}
				if !slices.Equal(got, want) {
					t.Errorf("got %v", got)
				}
			})
		}
	}
}

// TestKeepLastHoldsFromItsChangeOn turns it on and off with messages queued:
// those from before stay.
func TestKeepLastHoldsFromItsChangeOn(t *testing.T) {
	q := openTestQueue(t, Options{})
	keep := func(on bool) { q.SetPolicies(map[string]Policy{"r": {KeepLast: on}}) }
	put := func(i int) { store(t, q, routed(5, i)) }
	put(0)
	put(1)
	keep(true)
	put(2)
	put(3) // replaces 2
	keep(false)
	put(4)
	put(5)
	keep(true)
	put(6) // replaces 3, which is the newest that was kept so
	put(7) // replaces 6
	if got, want := drain(t, q, 5, Want{Max: 1, History: 1}), []string{"m0", "m1", "m4", "m5", "m7"}; !slices.Equal(got, want) {
		t.Errorf("got %v, expected %v", got, want)
	}
	eventually(t, "the ledger", func() bool {
		a := q.Ledger()["r"]
		return a.Balanced() && a.Coalesced.Records == 3 && a.Delivered.Records == 5 && a.Queued.Records == 0
	})
}
