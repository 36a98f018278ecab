package main

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"outstation/uplink/wire"
	"outstation/vision"
)

// blindWorld is a clock, a disk and a queue for keepers that live and crash.
type blindWorld struct {
	t     *testing.T
	dir   string
	at    time.Time
	clock string
	alive *blindKeeper // whose calls the queue takes

	refuse   func() bool  // whether the queue refuses
	queued   []wire.Blind // on disk, in order
	local    []wire.Blind
	accounts map[string]vision.Account
}

func newBlindWorld(t *testing.T) *blindWorld {
	return &blindWorld{
		t: t, dir: t.TempDir(), at: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC), clock: wire.ClockSynchronised,
		refuse: func() bool { return false }, accounts: map[string]vision.Account{},
	}
}

// start is what the appliance does at its start, but that nothing happens by
// itself: the test calls flush.
func (w *blindWorld) start(after map[string]time.Duration) *blindKeeper {
	w.t.Helper()
	k := &blindKeeper{
		device: "d", path: coveragePath(w.dir), topic: wire.Origin{Region: "r", Site: "s", DeviceID: "d"}.Blind,
		clock: func() string { return w.clock }, now: func() time.Time { return w.at }, log: slog.New(slog.DiscardHandler),
	}
	parse := func(payload []byte) wire.Blind {
		b, err := wire.ParseBlind(payload)
		if err != nil {
			w.t.Fatal(err)
		}
		return b
	}
	k.publish = func(_ string, payload []byte) { w.local = append(w.local, parse(payload)) }
	k.enqueue = func(topic string, payload []byte, done func(error)) error {
		b := parse(payload)
		if want := "vision/r/s/" + b.CameraID + "/blind"; topic != want {
			w.t.Errorf("on topic %s, expected %s", topic, want)
		}
		if k != w.alive {
			return errors.New("crashed")
		}
		if w.refuse() {
			return errors.New("refused")
		}
		w.queued = append(w.queued, b)
		done(nil)
		return nil
	}
	w.alive = k
	k.resume(after)
	k.flush(false) // the file knows what the queue took
	w.accounts = k.resumed
	k.accounts = func() map[string]vision.Account { return w.accounts }
	return k
}

// told are the events in the queue as short words, with seconds since noon.
func (w *blindWorld) told() (out []string) {
	noon := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for _, b := range w.queued {
		to := "…"
		if b.To != nil {
			to = fmt.Sprint(b.To.Sub(noon).Seconds())
		}
		out = append(out, fmt.Sprintf("%s %v-%s %s", b.CameraID, b.From.Sub(noon).Seconds(), to, b.Reason))
	}
	return out
}

func (w *blindWorld) expect(want ...string) {
	w.t.Helper()
	if got := w.told(); !slices.Equal(got, want) {
		w.t.Errorf("in the queue are\n%s\nexpected\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func (w *blindWorld) pass(seconds float64) time.Time {
	w.at = w.at.Add(time.Duration(seconds * float64(time.Second)))
	return w.at
}

var oneCamera = map[string]time.Duration{"a": 10 * time.Second}

// TestBlindTimeOverACrash: an interval that is open is closed by the next
// start, with its event_id; time that nobody spoke of is an interval too.
func TestBlindTimeOverACrash(t *testing.T) {
	w := newBlindWorld(t)
	k := w.start(oneCamera)
	from := w.at
	w.pass(12)
	k.told(vision.Interval{Camera: "a", From: from, Reason: vision.BlindStalled})
	k.flush(false)
	k.flush(false)
	w.expect("a 0-… stalled")
	w.pass(20) // and it crashes
	w.start(oneCamera)
	w.expect("a 0-… stalled", "a 0-32 stalled")
	if w.queued[0].EventID != w.queued[1].EventID || len(w.local) != 2 {
		t.Errorf("got %+v, and locally %+v", w.queued, w.local)
	}
	k = w.alive
	w.accounts["a"] = vision.Account{Until: w.pass(5)}
	k.flush(true)
	w.pass(60)
	k = w.start(oneCamera)
	w.expect("a 0-… stalled", "a 0-32 stalled", "a 37-… off", "a 37-97 off")
	if w.queued[2].EventID != w.queued[3].EventID || w.queued[2].EventID == w.queued[0].EventID || k.off["a"] != time.Minute {
		t.Errorf("got %+v, off %v", w.queued, k.off)
	}
	w.start(oneCamera)
	if len(w.queued) != 4 {
		t.Errorf("repeated although the queue had it and the file knew: %v", w.told())
	}
}

// TestStartsThatNeverInspectAreBlind: each is shorter than blind_after.
func TestStartsThatNeverInspectAreBlind(t *testing.T) {
	w := newBlindWorld(t)
	w.start(oneCamera)
	w.accounts["a"] = vision.Account{Until: w.at}
	w.alive.flush(true)
	for range 5 {
		w.pass(7)
		w.start(oneCamera)
	}
	w.expect("a 0-… off", "a 0-14 off", "a 14-… off", "a 14-28 off")
	if got := w.at.Sub(w.accounts["a"].Until); got != 7*time.Second {
		t.Errorf("the account goes on from %v ago, expected 7s", got)
	}
}

// TestACameraThatIsGoneIsClosed, whether its interval was open or not.
func TestACameraThatIsGoneIsClosed(t *testing.T) {
	w := newBlindWorld(t)
	k := w.start(map[string]time.Duration{"a": 10 * time.Second, "b": 10 * time.Second})
	w.accounts["a"], w.accounts["b"] = vision.Account{Until: w.at}, vision.Account{Until: w.at}
	k.told(vision.Interval{Camera: "b", From: w.at, Reason: vision.BlindDropped})
	k.flush(true)
	k.flush(false)
	w.pass(20)
	w.start(nil)
	w.queued = w.queued[1:]
	w.expect("b 0-20 dropped", "a 0-… off", "a 0-20 off")
	w.alive.flush(true)
	w.pass(20)
	w.start(oneCamera)
	w.expect("b 0-20 dropped", "a 0-… off", "a 0-20 off")
}

// TestACrashBeforeAnythingWasInspected: the first start has left when it was.
func TestACrashBeforeAnythingWasInspected(t *testing.T) {
	w := newBlindWorld(t)
	w.start(oneCamera)
	w.pass(60)
	w.start(oneCamera)
	w.expect("a 0-… off", "a 0-60 off")
}

// TestACameraThatComesBackIsNew: nobody meant to look in between.
func TestACameraThatComesBackIsNew(t *testing.T) {
	w := newBlindWorld(t)
	w.start(oneCamera)
	w.pass(5)
	w.start(nil)
	w.pass(60)
	w.start(oneCamera)
	w.expect()
}

// TestAClockThatWasSetBack: no interval ends before it began, and its clock is
// said to be uncertain.
func TestAClockThatWasSetBack(t *testing.T) {
	w := newBlindWorld(t)
	k := w.start(map[string]time.Duration{"a": 10 * time.Second, "b": 10 * time.Second})
	w.accounts["a"], w.accounts["b"] = vision.Account{Until: w.at}, vision.Account{Until: w.at}
	k.told(vision.Interval{Camera: "b", From: w.at, Reason: vision.BlindOff})
	k.flush(true)
	k.flush(false)
	w.pass(-3600)
	w.clock = wire.ClockFreeRunning
	w.start(map[string]time.Duration{"a": 10 * time.Second, "b": 10 * time.Second})
	w.expect("b 0-… off", "b 0-0 off", "a 0-… off", "a 0-0 off")
	for i, want := range []string{"", wire.ClockFreeRunning, wire.ClockFreeRunning, wire.ClockFreeRunning} {
		if w.queued[i].Clock != want {
			t.Errorf("event %d: clock %q, expected %q", i, w.queued[i].Clock, want)
		}
	}
	if !w.accounts["a"].Until.Equal(w.at) {
		t.Errorf("the account goes on from %v, expected the start", w.accounts["a"].Until)
	}
}

// TestTheQueueHasItBeforeTheFileForgets, and what it refuses is offered again.
func TestTheQueueHasItBeforeTheFileForgets(t *testing.T) {
	w := newBlindWorld(t)
	k := w.start(oneCamera)
	w.accounts["a"] = vision.Account{Until: w.at}
	w.refuse = func() bool { return true }
	k.told(vision.Interval{Camera: "a", From: w.at, Reason: vision.BlindMasked})
	k.told(vision.Interval{Camera: "a", From: w.at, To: w.at.Add(15 * time.Second), Reason: vision.BlindMasked})
	w.accounts["a"] = vision.Account{Until: w.pass(15)}
	k.flush(true)
	if s := k.stats(); s.Err == nil || s.Waiting != 2 {
		t.Errorf("while the queue refuses: %+v", s)
	}
	if checks := blindCheck(k.stats()); len(checks) != 1 || checks[0].State != wire.Impaired || !strings.Contains(checks[0].Detail, "refused") {
		t.Errorf("health: %+v", checks)
	}
	w.refuse = func() bool { return false }
	w.start(oneCamera) // after a crash
	w.expect("a 0-… masked", "a 0-15 masked")
	if s := w.alive.stats(); s.Err != nil || s.Waiting != 0 || blindCheck(s) != nil {
		t.Errorf("after the queue took it: %+v", s)
	}
}

// TestTheFileIsWrittenOnlyForWhatChanged: not again and again while the queue
// refuses.
func TestTheFileIsWrittenOnlyForWhatChanged(t *testing.T) {
	w := newBlindWorld(t)
	k := w.start(oneCamera)
	asked := 0
	w.refuse = func() bool { asked++; return true }
	k.told(vision.Interval{Camera: "a", From: w.at, Reason: vision.BlindStalled})
	k.flush(false)
	mark := []byte("as it was")
	if err := os.WriteFile(k.path, mark, 0o600); err != nil {
		t.Fatal(err)
	}
	asked = 0
	for range 5 {
		k.flush(false)
	}
	if b, err := os.ReadFile(k.path); err != nil || !slices.Equal(b, mark) || asked != 5 {
		t.Errorf("%d offers; the file holds %q, %v", asked, b, err)
	}
	k.told(vision.Interval{Camera: "a", From: w.at, To: w.pass(15), Reason: vision.BlindStalled})
	k.flush(false)
	if b, err := os.ReadFile(k.path); err != nil || slices.Equal(b, mark) {
		t.Errorf("the end was not written: %v", err)
	}
	w.refuse = func() bool { return false }
	k.flush(false)
	w.expect("a 0-… stalled", "a 0-15 stalled")
}

// TestWhatCannotBeKeptIsNotTold: else a crash would leave it open for ever.
func TestWhatCannotBeKeptIsNotTold(t *testing.T) {
	w := newBlindWorld(t)
	k := w.start(oneCamera)
	k.path = filepath.Join(w.dir, "absent", "coverage.json")
	k.told(vision.Interval{Camera: "a", From: w.at, Reason: vision.BlindStalled})
	k.flush(false)
	if s := k.stats(); len(w.queued) != 0 || s.Err == nil || len(w.local) != 1 {
		t.Errorf("got %v, %+v", w.told(), s)
	}
	if all := k.offers(); len(all) != 0 {
		t.Errorf("what the file does not have would be offered: %+v", all)
	}
	k.path = coveragePath(w.dir)
	k.flush(false)
	w.expect("a 0-… stalled")
}

// TestTooManyIntervalsBecomeOne: none of their time is lost.
func TestTooManyIntervalsBecomeOne(t *testing.T) {
	w := newBlindWorld(t)
	k := w.start(oneCamera)
	w.refuse = func() bool { return true }
	for range 3 * maxBlindKept {
		from := w.at
		k.told(vision.Interval{Camera: "a", From: from, Reason: vision.BlindStalled})
		k.told(vision.Interval{Camera: "a", From: from, To: w.pass(20), Reason: vision.BlindStalled})
	}
	if n := len(k.all); n > maxBlindKept+1 || k.stats().Merged == 0 {
		t.Errorf("%d are kept, %d merged", n, k.stats().Merged)
	}
	w.refuse = func() bool { return false }
	k.flush(false)
	last := w.queued[len(w.queued)-1]
	if last.To == nil || !last.To.Equal(w.at) || len(blindCheck(k.stats())) == 0 {
		t.Errorf("the last is %+v, expected an end at %v", last, w.at)
	}
}

// TestAFileThatCannotBeRead is set aside, and its age says since when nobody
// is known to have looked.
func TestAFileThatCannotBeRead(t *testing.T) {
	for name, text := range map[string]string{
		"torn": `{"cameras":{"a":{"until":"2026-`, "empty": "", "garbage": "\x00\x00\x00", "a list": "[]", "no reason": `{"intervals":[{"event_id":"x","camera_id":"a"}]}`,
		"null": `{"intervals":[null]}`, "a bad step": `{"cameras":{"a":{"coverage":{"hour":{"ms":[1]}}}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			w := newBlindWorld(t)
			file := coveragePath(w.dir)
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(file, w.at, w.at); err != nil {
				t.Fatal(err)
			}
			w.pass(100)
			k := w.start(oneCamera)
			w.expect("a 0-… off", "a 0-100 off")
			aside, err := filepath.Glob(file + ".unreadable-*")
			if err != nil || len(aside) != 1 {
				t.Fatalf("set aside: %v, %v", aside, err)
			}
			if got, err := os.ReadFile(aside[0]); err != nil || string(got) != text {
				t.Errorf("the file that was set aside holds %q, %v", got, err)
			}
			checks := blindCheck(k.stats())
			if len(checks) != 1 || !strings.Contains(checks[0].Detail, filepath.Base(aside[0])) {
				t.Errorf("health: %+v", checks)
			}
		})
	}
}

// TestNoUninspectedTimeIsLost plays random lives of an appliance: inspections,
// silences, crashes at any point, clean stops, and a queue that refuses. In the
// end no two inspections are further apart than blind_after without an interval
// between, and every interval that was told is closed.
func TestNoUninspectedTimeIsLost(t *testing.T) {
	for seed := range uint64(10) {
		w := newBlindWorld(t)
		r := rand.New(rand.NewPCG(seed, 6))
		w.refuse = func() bool { return r.IntN(4) == 0 }
		var inspected []time.Time
		k := w.start(oneCamera)
		for range 25 {
			inspected = append(inspected, w.live(k, r)...)
			w.pass(r.Float64() * 30)
			k = w.start(oneCamera)
		}
		w.refuse = func() bool { return false }
		k.flush(true)
		w.everyGapIsTold(seed, inspected)
		w.everyIntervalIsClosed(seed)
	}
}

// live is one process with a camera of one account, as the pipeline has it;
// it ends in a crash or a clean stop.
func (w *blindWorld) live(k *blindKeeper, r *rand.Rand) (inspected []time.Time) {
	const after = 10 * time.Second
	begun := w.at
	until := w.accounts["a"].Until
	if until.IsZero() {
		until = begun
	}
	open := false
	account := func() { w.accounts = map[string]vision.Account{"a": {Until: until}} }
	account()
	for range r.IntN(20) {
		w.pass(r.Float64() * 8)
		switch {
		case r.IntN(3) > 0:
			if open {
				k.told(vision.Interval{Camera: "a", From: until, To: w.at, Reason: vision.BlindStalled})
			} else if w.at.Sub(until) > after {
				k.told(vision.Interval{Camera: "a", From: until, Reason: vision.BlindStalled})
				k.told(vision.Interval{Camera: "a", From: until, To: w.at, Reason: vision.BlindStalled})
			}
			open, until = false, w.at
			inspected = append(inspected, w.at)
			account()
		case !open && w.at.Sub(until) > after:
			open = true
			k.told(vision.Interval{Camera: "a", From: until, Reason: vision.BlindStalled})
		}
		if r.IntN(2) == 0 {
			k.flush(r.IntN(4) == 0)
		}
	}
	if r.IntN(2) == 0 { // a clean stop, whose queue may refuse
		if !open {
			k.told(vision.Interval{Camera: "a", From: until, Reason: vision.BlindOff})
		}
		k.flush(true)
	}
	return inspected
}

func (w *blindWorld) everyGapIsTold(seed uint64, inspected []time.Time) {
	const after = 10 * time.Second
	for i := 1; i < len(inspected); i++ {
		at, next := inspected[i-1], inspected[i]
		for moved := true; moved && next.Sub(at) > after; {
			moved = false
			for _, b := range w.queued { // the furthest that an interval carries
				if b.To != nil && b.From.Sub(at) <= 0 && b.To.After(at) {
					at, moved = b.To.Time, true
				}
			}
		}
		if gap := next.Sub(at); gap > after {
			w.t.Fatalf("seed %d: nothing says what was in the %v before %v:\n%s", seed, gap, next, strings.Join(w.told(), "\n"))
		}
	}
}

func (w *blindWorld) everyIntervalIsClosed(seed uint64) {
	ends := map[string]*wire.Time{}
	for _, b := range w.queued {
		if was := ends[b.EventID]; was != nil && b.To != nil && !was.Equal(b.To.Time) {
			w.t.Fatalf("seed %d: %s has two ends, %v and %v", seed, b.EventID, was, b.To)
		}
		if ends[b.EventID] == nil {
			ends[b.EventID] = b.To
		}
	}
	for id, to := range ends {
		if to == nil {
			w.t.Fatalf("seed %d: %s is not closed:\n%s", seed, id, strings.Join(w.told(), "\n"))
		}
	}
}
