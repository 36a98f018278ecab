package vision

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// beginner is a source that says how long it may need to begin.
type beginner struct {
	Source
	limit time.Duration
}

func (s beginner) StartLimit() time.Duration { return s.limit }

// TestAStarterHasItsOwnLimit until its first frame: in Open, in the first Read,
// and no longer. It is blind meanwhile.
func TestAStarterHasItsOwnLimit(t *testing.T) {
	for name, c := range map[string]struct{ open, first, second, givenUp time.Duration }{
		"keyframe":     {open: 25 * time.Second, first: 25 * time.Second, second: time.Second},
		"stuck open":   {open: time.Hour, givenUp: 30 * time.Second},
		"stuck read":   {first: time.Hour, givenUp: 30 * time.Second},
		"then silence": {open: 25 * time.Second, second: time.Hour, givenUp: 35 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var img images
				began := time.Now()
				source := func() Source {
					var ctx context.Context
					waits := []time.Duration{c.first, c.second}
					return beginner{&fakeSource{
						open: func(c2 context.Context) error { ctx = c2; return sleep(ctx, c.open) },
						read: func() (Frame, error) {
							wait := waits[0]
							waits = append(waits[1:], time.Second)
							return img.frame(), sleep(ctx, wait)
						},
					}, 30 * time.Second}
				}
				s := serve(t, Options{Cameras: []CameraOptions{{ID: "a", StallAfter: 10 * time.Second, NewSource: source}}})
				time.Sleep(15 * time.Second)
				if got := s.camera("a"); (c.open+c.first > 15*time.Second) != (got.State == Blind) || got.Abandoned != 0 {
					t.Errorf("after 15 s: %+v", got)
				}
				var got CameraStats
				for got.Abandoned == 0 && time.Since(began) < time.Minute {
					time.Sleep(time.Second)
					got = s.camera("a")
				}
				if c.givenUp == 0 {
					if got.Abandoned != 0 || got.State != Online {
						t.Errorf("after a minute: %+v", got)
					}
				} else if after := time.Since(began); after < c.givenUp || after > c.givenUp+3*time.Second || !strings.Contains(got.Detail, "no frame and no end of the call") {
					t.Errorf("given up after %v, want %v: %+v", after, c.givenUp, got)
				}
				s.stop()
			})
		})
	}
}

// TestSilenceOfAllCamerasIsNoStuckCall where their sources obey their context,
// although they take a while: a switch that dies does not restart the appliance.
func TestSilenceOfAllCamerasIsNoStuckCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var img images
		source := func() Source {
			var ctx context.Context
			return &fakeSource{
				open: func(c context.Context) error { ctx = c; return nil },
				read: func() (Frame, error) {
					<-ctx.Done()
					time.Sleep(100 * time.Millisecond) // a decoder that ends
					return img.frame(), ctx.Err()
				},
			}
		}
		o := Options{}
		for i := range 2 * DefaultMaxStuck {
			o.Cameras = append(o.Cameras, CameraOptions{ID: fmt.Sprint(i), NewSource: source})
		}
		s := serve(t, o)
		for range 60_000 / 20 {
			time.Sleep(20 * time.Millisecond)
			if st := s.Stats(); st.Stuck() != nil || st.StuckReaders > 0 {
				t.Fatalf("%d stuck, %v", st.StuckReaders, st.Stuck())
			}
		}
		for _, c := range s.Stats().Cameras {
			if c.State != Blind || c.Reason != ReasonStalled || c.Abandoned < 4 {
				t.Errorf("%+v", c)
			}
		}
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
}
