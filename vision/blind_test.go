package vision

import (
	"context"
	"io"
	"maps"
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// rounds is a camera that brings frames at intervals, in the times that on
// says, and is silent in all others.
func (i *images) rounds(interval time.Duration, on *atomic.Bool) func() Source {
	return func() Source {
		var ctx context.Context
		return &fakeSource{
			open: func(c context.Context) error { ctx = c; return nil },
			read: func() (Frame, error) {
				for {
					if err := sleep(ctx, interval); err != nil {
						return Frame{}, err
					}
					if on.Load() {
						return i.frame(), nil
					}
				}
			},
		}
	}
}

// kinds are the reasons of intervals, with whether each is open.
func kinds(all []Interval) (out []string) {
	for _, i := range all {
		s := string(i.Reason)
		if i.To.IsZero() {
			s += " opens"
		}
		out = append(out, s)
	}
	return out
}

// TestASilentCameraIsBlind: the interval begins with the last inspected frame
// and ends with the next one; a clean stop opens one.
func TestASilentCameraIsBlind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var img images
		var got collector
		var on atomic.Bool
		on.Store(true)
		s := serve(t, Options{
			OnBlind: got.onBlind, Models: model(person(0)),
			Cameras: []CameraOptions{
				{ID: "a", Model: "m", NewSource: img.rounds(time.Second, &on)},
				{ID: "bare", NewSource: img.rounds(time.Second, &on)},
			},
		})
		began := time.Now()
		time.Sleep(20*time.Second + time.Millisecond)
		on.Store(false)
		time.Sleep(9900 * time.Millisecond)
		if c := s.camera("a"); !c.Watched || !c.BlindSince.IsZero() || len(got.blind) != 0 || c.BlindAfter != DefaultBlindAfter {
			t.Errorf("before blind_after: %+v, %v", c, got.blind)
		}
		time.Sleep(80 * time.Second)
		if c := s.camera("a"); !c.BlindSince.Equal(began.Add(20*time.Second)) || c.BlindReason != BlindStalled ||
			c.BlindFor[BlindStalled].Round(time.Second) != 90*time.Second || s.camera("bare").Watched {
			t.Errorf("while it is silent: %+v", c)
		}
		on.Store(true)
		time.Sleep(20 * time.Second)
		c := s.camera("a")
		s.stop()
		want := []string{"stalled opens", "stalled", "off opens"}
		if !slices.Equal(kinds(got.blind), want) {
			t.Fatalf("got %v, want %v", got.blind, want)
		}
		first, closed := got.blind[0], got.blind[1]
		if !first.From.Equal(began.Add(20*time.Second)) || closed.From != first.From || closed.To.Sub(began) < 109*time.Second || closed.To.Sub(began) > 113*time.Second {
			t.Errorf("got %v", got.blind)
		}
		lasted := closed.To.Sub(closed.From)
		if c.BlindFor[BlindStalled] != lasted || !c.BlindSince.IsZero() {
			t.Errorf("blind for %v, want %v", c.BlindFor, lasted)
		}
		covered := 1 - lasted.Seconds()/129.9
		if math.Abs(c.CoveredHour-covered) > 0.01 || c.CoveredHour != c.CoveredDay {
			t.Errorf("covered %v and %v, want %v", c.CoveredHour, c.CoveredDay, covered)
		}
		if !s.Accounts()["a"].Until.Equal(got.blind[2].From) || len(s.Accounts()) != 1 {
			t.Errorf("accounts %v", slices.Collect(maps.Keys(s.Accounts())))
		}
	})
}

// TestTheReasonOfBlindTime: each cause gets its own.
func TestTheReasonOfBlindTime(t *testing.T) {
	fails := func(Frame) ([]Detection, Timing, error) { return nil, Timing{}, errTest }
	for name, c := range map[string]struct {
		options func(*images, *Options)
		meddle  func(*camera)
		want    BlindReason
	}{
		"nothing comes": {options: func(i *images, o *Options) { o.Cameras[0].NewSource = i.every(time.Hour) }, want: BlindStalled},
		"unreachable": {options: func(_ *images, o *Options) {
			o.Cameras[0].NewSource = func() Source { return &fakeSource{open: func(context.Context) error { return errTest }} }
		}, want: BlindStalled},
		"no model": {options: func(_ *images, o *Options) {
			o.Models[0].Open = func(context.Context) (Detector, error) { return nil, errTest }
		}, want: BlindDropped},
		"the detector fails": {options: func(_ *images, o *Options) { o.Models = model(&fakeDetector{detect: fails}) }, want: BlindDropped},
		"a recording waits for the detector": {options: func(_ *images, o *Options) {
			o.Models = model(person(time.Minute))
			o.Cameras[0].Lossless = true
		}, want: BlindDropped},
		"masked": {options: func(_ *images, o *Options) { o.Models = model(person(time.Hour)) }, meddle: func(c *camera) {
			for range 1000 {
				c.masked()
			}
		}, want: BlindMasked},
		"shed": {options: func(_ *images, o *Options) { o.Models = model(person(0)) }, meddle: func(c *camera) {
			c.update(func() { c.throttle = throttle{interval: time.Hour, due: time.Now().Add(time.Hour)} })
		}, want: BlindThrottled},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var img images
				var got collector
				o := Options{
					OnBlind: got.onBlind, Models: model(person(0)),
					Cameras: []CameraOptions{{ID: "a", Model: "m", NewSource: img.every(100 * time.Millisecond)}},
				}
				c.options(&img, &o)
				s := serve(t, o)
				time.Sleep(50 * time.Millisecond)
				if c.meddle != nil {
					c.meddle(s.cameras[0])
				}
				time.Sleep(15 * time.Second)
				if want := []string{string(c.want) + " opens"}; !slices.Equal(kinds(got.blind), want) {
					t.Errorf("got %v, want %v: %+v", kinds(got.blind), want, s.camera("a"))
				}
				s.stop()
				time.Sleep(2 * time.Hour) // a detector that was abandoned returns
			})
		})
	}
}

// TestARecordingThatEndedIsNotBlind, and one whose detector failed is closed.
func TestARecordingThatEndedIsNotBlind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var img images
		var got collector
		recording := func() Source {
			n := 0
			return &fakeSource{read: func() (Frame, error) {
				if n++; n > 200 {
					return Frame{}, io.EOF
				}
				time.Sleep(100 * time.Millisecond)
				return img.frame(), nil
			}}
		}
		fails := &fakeDetector{detect: func(Frame) ([]Detection, Timing, error) { return nil, Timing{}, errTest }}
		s := serve(t, Options{
			OnBlind: got.onBlind,
			Models:  append(model(person(0)), ModelOptions{Name: "bad", Open: func(context.Context) (Detector, error) { return fails, nil }}),
			Cameras: []CameraOptions{
				{ID: "good", Model: "m", Lossless: true, NewSource: recording},
				{ID: "bad", Model: "bad", Lossless: true, NewSource: recording},
			},
		})
		time.Sleep(time.Hour)
		s.stop()
		if want := []string{"dropped opens", "dropped"}; !slices.Equal(kinds(got.blind), want) || got.blind[1].Camera != "bad" {
			t.Errorf("got %v, want %v", got.blind, want)
		}
		for id, a := range s.Accounts() {
			if !a.Until.IsZero() {
				t.Errorf("the account of %s goes on from %v", id, a.Until)
			}
		}
	})
}

// TestAnAccountIsContinued: time since the last inspection of the process
// before counts, and its coverage does.
func TestAnAccountIsContinued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var img images
		var got collector
		var on atomic.Bool
		last := time.Now()
		var before Coverage
		before.begin(last.Add(-30 * time.Minute))
		before.add(last, 15*time.Minute)
		time.Sleep(8 * time.Second)
		s := serve(t, Options{
			OnBlind: got.onBlind, Models: model(person(0)),
			Cameras: []CameraOptions{{ID: "a", Model: "m", NewSource: img.rounds(time.Second, &on), Account: Account{Until: last, Coverage: before}}},
		})
		time.Sleep(5 * time.Second)
		if want := []string{"stalled opens"}; !slices.Equal(kinds(got.blind), want) || !got.blind[0].From.Equal(last) {
			t.Errorf("got %v, want %v", got.blind, want)
		}
		if c := s.camera("a"); math.Abs(c.CoveredHour-15./30.2) > 0.01 {
			t.Errorf("covered %v", c.CoveredHour)
		}
		s.stop()
	})
}

// TestASlowReceiverLosesNoInterval: the account stands still meanwhile.
func TestASlowReceiverLosesNoInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := account{camera: "a", after: 10 * time.Second}
		began := time.Now()
		a.begin(began)
		reason := func() BlindReason { return BlindStalled }
		for i := range 1000 {
			at := began.Add(time.Duration(i+1) * 20 * time.Second)
			a.look(at.Add(-time.Second), reason)
			a.inspected(at, at, reason)
		}
		if n := len(a.untold); n > maxUntold+2 || !a.account().Until.Equal(began) {
			t.Fatalf("%d wait; the account is kept from %v, want %v", n, a.account().Until, began)
		}
		told := a.untold
		a.untold = nil
		end := began.Add(30000 * time.Second)
		a.inspected(end, end, reason)
		until := began
		for _, i := range append(told, a.untold...) {
			if !i.From.Equal(until) {
				t.Fatalf("nothing says what was from %v to %v", until, i.From)
			}
			if !i.To.IsZero() {
				until = i.To
			}
		}
		if !until.Equal(end) {
			t.Errorf("covered until %v, want %v", until, end)
		}
	})
}

// TestAnIntervalNeverEndsBeforeItBegan, although the wall clock was set back.
func TestAnIntervalNeverEndsBeforeItBegan(t *testing.T) {
	a := account{camera: "a", after: 10 * time.Second}
	from := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	a.begin(from)
	a.stop()
	a.ends(from.Add(-time.Hour))
	if last := a.untold[len(a.untold)-1]; last.To.Before(last.From) || a.totals[BlindOff] != 0 {
		t.Errorf("got %+v", last)
	}
}
