package main

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"outstation/uplink/wire"
	"outstation/vision"
	"outstation/vision/models"
)

// hungModel finds a part in three frames and then never answers: a fault that
// a real model cannot be made to show.
type hungModel struct {
	fakeModel
	frames int
}

func (h *hungModel) Detect(f vision.Frame) ([]vision.Detection, vision.Timing, error) {
	if h.frames++; h.frames > 3 {
		select {}
	}
	return h.fakeModel.Detect(f)
}

// hangsAfter makes a call that takes longer than d hang.
func hangsAfter(d time.Duration) func(*keptModels) {
	return func(k *keptModels) { k.hung = d }
}

// hang holds the second model until the pipeline says that it hangs.
func (k *keptModels) hang(h *hold) {
	k.t.Helper()
	h.take(k.t)
	k.t.Cleanup(k.stop) // after Unlock
	k.t.Cleanup(h.Unlock)
	eventually(k.t, "a detector that hangs", func() bool { return k.vision.Stats().Hung() != nil })
}

// TestAVersionThatHangsInItsTrialIsRolledBack in the store, also while
// something else waits for its detector; the next start loads the one before.
func TestAVersionThatHangsInItsTrialIsRolledBack(t *testing.T) {
	k := keep(t, t.TempDir(), hangsAfter(300*time.Millisecond))
	held := k.holds("other")
	one, two := k.twoVersions("finds 1", "finds 2")
	k.look(t.Context(), "press")
	if st, err := k.store.State("press"); err != nil || st.Current != two || st.Trial == nil {
		t.Fatalf("it still answers: %+v, %v", st, err)
	}
	k.hang(held)
	k.changing.Lock()
	k.look(t.Context(), "press")
	k.changing.Unlock()
	st, err := k.store.State("press")
	if err != nil || st.Current != one || st.Trial != nil || st.RolledBack == nil || st.RolledBack.From != two ||
		!strings.Contains(st.RolledBack.Reason, "the detector of model other does not answer since ") {
		t.Errorf("got %+v, %v", st, err)
	}
	if got := k.told(); strings.Count(got, "model_rolled_back") != 1 {
		t.Errorf("told: %s", got)
	}
	if c := k.check(); c.State != wire.Impaired || !strings.Contains(c.Detail, "rolled back from "+models.Short(two)) {
		t.Errorf("got %+v", c)
	}
	k.look(t.Context(), "press")
	if st, err := k.store.State("press"); err != nil || st.Current != one || st.RolledBack == nil {
		t.Errorf("a second look: %+v, %v", st, err)
	}
}

// TestAVersionThatHasStoppedToAnswerIsNotTrusted, although it inspected frames
// in its trial and none failed.
func TestAVersionThatHasStoppedToAnswerIsNotTrusted(t *testing.T) {
	k := keep(t, t.TempDir())
	k.recent = 200 * time.Millisecond
	k.now = func() time.Time { return time.Now().Add(-models.TrialTime) } // when it is activated
	held := k.holds("other")
	_, two := k.twoVersions("finds 1", "finds 2")
	held.take(t)
	k.now = time.Now
	eventually(t, "a call that takes long", func() bool {
		for _, m := range k.vision.Stats().Models {
			if m.Name == "other" && !m.RunningSince.IsZero() && time.Since(m.RunningSince) > k.recent {
				return true
			}
		}
		return false
	})
	k.look(t.Context(), "press")
	if st, err := k.store.State("press"); err != nil || st.Trial == nil || st.Current != two {
		t.Errorf("one of its models does not answer: %+v, %v", st, err)
	}
	held.Unlock()
	eventually(t, "the end of the trial", func() bool {
		k.look(t.Context(), "press")
		st, err := k.store.State("press")
		return err == nil && st.Trial == nil && st.RolledBack == nil && st.Current == two
	})
}

// TestAVersionThatInspectsNothingMoreIsNotTrusted: its cameras are gone.
func TestAVersionThatInspectsNothingMoreIsNotTrusted(t *testing.T) {
	k := keep(t, t.TempDir())
	k.recent = time.Millisecond
	k.twoVersions("finds 1", "finds 2")
	k.stop()
	k.now = func() time.Time { return time.Now().Add(models.TrialTime) }
	eventually(t, "that the last inspection is no longer recent", func() bool { return !k.answers("press") })
	k.look(t.Context(), "press")
	if st, err := k.store.State("press"); err != nil || st.Trial == nil {
		t.Errorf("got %+v, %v", st, err)
	}
}

// TestARestartBecauseOfADetectorIsTheFaultOfItsVersion, when that is on trial:
// it is rolled back before the appliance begins to close, whoever changes
// models meanwhile. One that is trusted stays.
func TestARestartBecauseOfADetectorIsTheFaultOfItsVersion(t *testing.T) {
	for name, trusted := range map[string]bool{"on trial": false, "trusted": true} {
		t.Run(name, func(t *testing.T) {
			k := keep(t, t.TempDir(), hangsAfter(300*time.Millisecond))
			held := k.holds("other")
			one, two := k.twoVersions("finds 1", "finds 2")
			want := one
			if trusted {
				want = two
				if err := k.store.Trust("press", two); err != nil {
					t.Fatal(err)
				}
			}
			k.hang(held)
			a := newApp(testConfig(t, t.TempDir()), slog.New(slog.DiscardHandler))
			a.models, a.vision = k.modelKeeper, k.vision
			k.changing.Lock()
			defer k.changing.Unlock()
			err := a.openRestart(appOptions{restarts: time.Nanosecond})
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			select {
			case err = <-a.restart:
			case <-time.After(30 * time.Second):
				t.Fatal("it does not restart itself")
			}
			if !strings.Contains(err.Error(), "with status 3") || !strings.Contains(err.Error(), `the detector of model "other"`) {
				t.Errorf("got %v", err)
			}
			if st, err := k.store.State("press"); err != nil || st.Current != want || st.Trial != nil || (st.RolledBack == nil) != trusted {
				t.Errorf("got %+v, %v", st, err)
			}
		})
	}
}

// TestAHungDetectorIsRedAndSaysWhen.
func TestAHungDetectorIsRedAndSaysWhen(t *testing.T) {
	now := time.Now()
	f := facts{now: now, started: now.Add(-4 * time.Minute)}
	f.vision.Models = []vision.ModelStats{{Name: "m", Hung: true, RunningSince: now}}
	c := restartChecks(f)
	if len(c) != 1 || c[0].Name != "detectors" || c[0].State != wire.Unhealthy || !strings.Contains(c[0].Detail, "restarts itself in 6m0s") {
		t.Errorf("got %+v", c)
	}
	f.vision.Models[0].Hung = false
	if c := restartChecks(f); len(c) != 0 {
		t.Errorf("got %+v", c)
	}
	if c := classifierCheck(vision.ClassifierStats{Name: "c", Ready: true, Hung: true, RunningSince: now}); c.State != wire.Unhealthy || !strings.Contains(c.Detail, "does not answer since") {
		t.Errorf("got %+v", c)
	}
}
