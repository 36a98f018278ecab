package uplink

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// fleet is a number of connections behind one centre that lose it at the
// same instant, after a long time. Each waits by the real Backoff, on a
// simulated clock.
type fleet struct {
	connections int
	backoff     Backoff
	random      func() float64
	outage      time.Duration // the centre refuses everybody for this long
	perSecond   int           // connections that the centre accepts a second; 0 means any number
	timeout     time.Duration // after which one that is not accepted gives up
}

// herd is what the centre saw.
type herd struct {
	back     []time.Duration // when connections were accepted, after the centre's return, in order
	of       []time.Duration // the same, by connection
	attempts []int           // by the second after the centre's return
}

// attempt is one that is due.
type attempt struct {
	at         time.Duration // after the loss
	connection int
}

// attempts are a heap of them, the next one first.
type attempts []attempt

func (a attempts) Len() int           { return len(a) }
func (a attempts) Less(i, j int) bool { return a[i].at < a[j].at }
func (a attempts) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *attempts) Push(x any)        { *a = append(*a, x.(attempt)) }
func (a *attempts) Pop() any {
	last := len(*a) - 1
	x := (*a)[last]
	*a = (*a)[:last]
	return x
}

// run simulates the outage and the return, until everybody is back.
func (f fleet) run(t *testing.T) herd {
	t.Helper()
	h := herd{of: make([]time.Duration, f.connections)}
	of := make([]tries, f.connections)
	var due attempts
	for i := range of {
		of[i].backoff = f.backoff
		heap.Push(&due, attempt{of[i].failed(time.Hour, f.random()), i})
	}
	for len(due) > 0 {
		next := heap.Pop(&due).(attempt)
		if next.at > 24*time.Hour {
			t.Fatalf("%d of %d are back within a day", len(h.back), f.connections)
		}
		lasted, back := f.meet(&h, next)
		if !back {
			next.at += lasted + of[next.connection].failed(lasted, f.random())
			heap.Push(&due, next)
		}
	}
	return h
}

// meet is what becomes of an attempt: it is back, or it has lasted so long.
func (f fleet) meet(h *herd, a attempt) (lasted time.Duration, back bool) {
	at := a.at - f.outage
	if at < 0 {
		return 0, false // refused at once
	}
	second := int(at / time.Second)
	for len(h.attempts) <= second {
		h.attempts = append(h.attempts, 0)
	}
	h.attempts[second]++
	if f.perSecond > 0 && h.accepted(second) >= f.perSecond {
		return f.timeout, false
	}
	h.back = append(h.back, at)
	h.of[a.connection] = at
	return 0, true
}

// accepted counts those of the present second.
func (h *herd) accepted(second int) (n int) {
	for i := len(h.back) - 1; i >= 0 && int(h.back[i]/time.Second) == second; i-- {
		n++
	}
	return n
}

// bySecond counts what came back in each second.
func (h herd) bySecond() []int {
	out := make([]int, int(h.back[len(h.back)-1]/time.Second)+1)
	for _, at := range h.back {
		out[at/time.Second]++
	}
	return out
}

func (h herd) quantile(p float64) time.Duration {
	return h.back[int(math.Ceil(p*float64(len(h.back))))-1].Round(10 * time.Millisecond)
}

func (h herd) print(t *testing.T, title string) {
	t.Helper()
	t.Logf("%s: most in one second %d, half back after %v, 99 %% after %v, all after %v", title,
		slices.Max(h.bySecond()), h.quantile(0.5), h.quantile(0.99), h.quantile(1))
	for i, n := range h.bySecond() {
		t.Logf("%4d s %5d %s", i, n, strings.Repeat("#", (n+4)/5))
	}
}

// inStep is the most that may come back in one second where waits were drawn
// from up to top: twice what an even spread over it gives (the wait that is
// under way when the centre returns is longer than most, and what is left of
// it is nearer to none than to all), and chance.
func inStep(n int, top time.Duration) int {
	expected := 2 * float64(n) / top.Seconds()
	return int(expected + 6*math.Sqrt(expected))
}

const thousand = 1000

// seeded makes every run of a test the same.
func seeded() func() float64 { return rand.New(rand.NewPCG(1, 2)).Float64 }

// TestThousandAppliancesDoNotReturnInStep has a thousand of them lose their
// centre at the same instant.
func TestThousandAppliancesDoNotReturnInStep(t *testing.T) {
	b := DefaultBackoff
	for _, c := range []struct {
		name      string
		outage    time.Duration
		drawn     time.Duration // from up to this, when the centre returns
		halfAfter time.Duration // at most
	}{
		{"the centre restarts", 0, b.Spread, 7 * time.Second},
		{"2 s", 2 * time.Second, b.Spread, 6 * time.Second},
		{"10 s", 10 * time.Second, b.Spread, 6 * time.Second},
		{"30 s", 30 * time.Second, b.Spread, 15 * time.Second},
		{"5 min", 5 * time.Minute, b.Ceiling, 25 * time.Second},
		{"1 h", time.Hour, b.Ceiling, 25 * time.Second},
	} {
		h := fleet{connections: thousand, backoff: b, random: seeded(), outage: c.outage}.run(t)
		h.print(t, c.name)
		narrow := b
		narrow.Spread = 0
		without := fleet{connections: thousand, backoff: narrow, random: seeded(), outage: c.outage}.run(t)
		t.Logf("%s: without the spread most in one second would be %d, half back after %v", c.name, slices.Max(without.bySecond()), without.quantile(0.5))
		if got, most := slices.Max(h.bySecond()), inStep(thousand, c.drawn); got > most {
			t.Errorf("%s: %d are back in one second, expected %d at most", c.name, got, most)
		}
		if got := h.quantile(0.5); got > c.halfAfter {
			t.Errorf("%s: half are back after %v, expected %v at most", c.name, got, c.halfAfter)
		}
		if got := h.quantile(1); got > b.Ceiling {
			t.Errorf("%s: all are back after %v, expected the ceiling of %v at most", c.name, got, b.Ceiling)
		}
	}
}

// TestHerdIsSeenWhereThereIsOne has back-offs that return in step, which the
// bounds above must not let pass.
func TestHerdIsSeenWhereThereIsOne(t *testing.T) {
	longest := func() float64 { return 1 }
	narrow := DefaultBackoff
	narrow.Spread = 0
	for _, c := range []struct {
		name    string
		backoff Backoff
		random  func() float64
		outage  time.Duration
		drawn   time.Duration
	}{
		{"no jitter, 10 s", DefaultBackoff, longest, 10 * time.Second, DefaultBackoff.Spread},
		{"no jitter, 5 min", DefaultBackoff, longest, 5 * time.Minute, DefaultBackoff.Ceiling},
		{"no jitter, 1 h", DefaultBackoff, longest, time.Hour, DefaultBackoff.Ceiling},
		{"no spread, the centre restarts", narrow, seeded(), 0, DefaultBackoff.Spread},
		{"no spread, 2 s", narrow, seeded(), 2 * time.Second, DefaultBackoff.Spread},
	} {
		h := fleet{connections: thousand, backoff: c.backoff, random: c.random, outage: c.outage}.run(t)
		if got, most := slices.Max(h.bySecond()), inStep(thousand, c.drawn); got <= most {
			t.Errorf("%s: %d are back in one second, expected more than %d", c.name, got, most)
		}
	}
}

// TestConnectionsOfOneApplianceDoNotReturnInStep looks at each appliance's
// own connections: the link, its presence and those of four cameras.
func TestConnectionsOfOneApplianceDoNotReturnInStep(t *testing.T) {
	const each = 6
	for _, outage := range []time.Duration{0, 5 * time.Minute} {
		h := fleet{connections: thousand * each, backoff: DefaultBackoff, random: seeded(), outage: outage}.run(t)
		spans := make([]time.Duration, thousand)
		for i := range spans {
			own := h.of[i*each : (i+1)*each]
			spans[i] = slices.Max(own) - slices.Min(own)
		}
		slices.Sort(spans)
		span := spans[thousand/2]
		t.Logf("after %v: most in one second %d of %d; half of the appliances take %v or more from their first connection to their last",
			outage, slices.Max(h.bySecond()), thousand*each, span.Round(10*time.Millisecond))
		// Six draws that are even and independent span 5/7 of their range on the average.
		if least := h.quantile(0.5); span < least {
			t.Errorf("after %v: half of the appliances have their connections within %v, expected at least %v", outage, span, least)
		}
	}
}

// TestSlowCentreIsNotOverrun has a centre that accepts 50 connections a
// second and lets all others time out.
func TestSlowCentreIsNotOverrun(t *testing.T) {
	for _, c := range []struct {
		name        string
		connections int
		outage      time.Duration
		allAfter    time.Duration
	}{
		{"1,000 links after a restart", thousand, 0, 2 * time.Minute},
		{"1,000 links after 10 s", thousand, 10 * time.Second, 2 * time.Minute},
		{"1,000 links after 5 min", thousand, 5 * time.Minute, 90 * time.Second},
		{"6,000 connections after a restart", 6 * thousand, 0, 5 * time.Minute},
		{"6,000 connections after 5 min", 6 * thousand, 5 * time.Minute, 4 * time.Minute},
	} {
		h := fleet{connections: c.connections, backoff: DefaultBackoff, random: seeded(), outage: c.outage,
			perSecond: 50, timeout: DefaultConnectTimeout}.run(t)
		t.Logf("%s: most attempts in one second %d, half back after %v, 99 %% after %v, all after %v", c.name,
			slices.Max(h.attempts), h.quantile(0.5), h.quantile(0.99), h.quantile(1))
		if got := h.quantile(1); got > c.allAfter {
			t.Errorf("%s: all are back after %v, expected %v at most", c.name, got, c.allAfter)
		}
	}
}
