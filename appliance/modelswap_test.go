package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"outstation/appliance/internal/strictyaml"
	"outstation/uplink/wire"
	"outstation/vision"
	"outstation/vision/models"
)

// failsFor makes versions whose path has part fail to load for one model.
func (k *keptModels) failsFor(model, part string) {
	k.newDetector = func(cfg VisionConfig, m ModelConfig) vision.OpenDetector {
		if m.Name == model && strings.Contains(m.Path, part) {
			return func(context.Context) (vision.Detector, error) { return nil, errors.New("no memory") }
		}
		return openFake(cfg, m)
	}
}

// twoVersions activates a sound version, then another.
func (k *keptModels) twoVersions(first, second string) (one, two string) {
	k.t.Helper()
	one, two = addFake(k.t, k.modelKeeper, first), addFake(k.t, k.modelKeeper, second)
	for _, sha := range []string{one, two} {
		if _, err := k.activate(sha, false); err != nil {
			k.t.Fatal(err)
		}
	}
	k.serves(two)
	return one, two
}

// hold keeps fake models from inspecting while it is locked.
type hold struct {
	sync.RWMutex
	at atomic.Int32 // how many are at a frame, or wait to be
}

// heldModel is a fake model that inspects nothing while it is held.
type heldModel struct {
	vision.Detector
	hold *hold
}

func (h heldModel) Detect(f vision.Frame) ([]vision.Detection, vision.Timing, error) {
	h.hold.at.Add(1)
	defer h.hold.at.Add(-1)
	h.hold.RLock()
	defer h.hold.RUnlock()
	return h.Detector.Detect(f)
}

// holds makes what a model opens from now on wait while the lock is held.
func (k *keptModels) holds(model string) *hold {
	h := new(hold)
	k.newDetector = func(cfg VisionConfig, m ModelConfig) vision.OpenDetector {
		return func(ctx context.Context) (vision.Detector, error) {
			d, err := openFake(cfg, m)(ctx)
			if err == nil && m.Name == model {
				d = heldModel{d, h}
			}
			return d, err
		}
	}
	return h
}

// take locks, and returns once a model waits.
func (h *hold) take(t *testing.T) {
	t.Helper()
	h.Lock()
	eventually(t, "an inspection that is held", func() bool { return h.at.Load() > 0 })
}

// TestAnActivationThatStopsHalfway leaves all models that show the version with
// the one before, as the store says: one of them has a detector that does not
// end its inspection until whoever asked has given up.
func TestAnActivationThatStopsHalfway(t *testing.T) {
	k := keep(t, t.TempDir())
	hold := k.holds("other")
	one, two := addFake(t, k.modelKeeper, "finds 1"), addFake(t, k.modelKeeper, "finds 2")
	if _, err := k.activate(one, true); err != nil {
		t.Fatal(err)
	}
	k.serves(one)
	hold.take(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	failed := make(chan error, 1)
	go func() { _, err := k.modelKeeper.activate(ctx, "press", two, false); failed <- err }()
	eventually(t, "the first model with the version", func() bool { return k.vision.Stats().Models[0].ModelSHA256 == two })
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	hold.Unlock()
	if st, err := k.store.State("press"); err != nil || st.Current != one {
		t.Errorf("got %+v, %v", st, err)
	}
	k.serves(one)
}

// TestARollbackThatStopsHalfway leaves all models that show the version with
// it, as the store says: for one of them the version before cannot be loaded,
// or its detector does not end its inspection.
func TestARollbackThatStopsHalfway(t *testing.T) {
	t.Run("it cannot be loaded", func(t *testing.T) {
		k := keep(t, t.TempDir())
		one, two := k.twoVersions("finds 1", "finds 2")
		k.failsFor("other", one)
		if _, err := k.rollBack(t.Context(), "press"); err == nil || !strings.Contains(err.Error(), "no memory") {
			t.Errorf("got %v", err)
		}
		if st, err := k.store.State("press"); err != nil || st.Current != two || st.RolledBack != nil {
			t.Errorf("got %+v, %v", st, err)
		}
		k.serves(two)
	})
	t.Run("it does not take over", func(t *testing.T) {
		k := keep(t, t.TempDir())
		hold := k.holds("other")
		_, two := k.twoVersions("finds 1", "finds 2")
		hold.take(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		failed := make(chan error, 1)
		go func() { _, err := k.rollBack(ctx, "press"); failed <- err }()
		eventually(t, "the first model with the version before", func() bool { return k.vision.Stats().Models[0].ModelSHA256 != two })
		cancel()
		if err := <-failed; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		hold.Unlock()
		if st, err := k.store.State("press"); err != nil || st.Current != two || st.RolledBack != nil {
			t.Errorf("got %+v, %v", st, err)
		}
		k.serves(two)
	})
}

// TestAFirstActivationThatStopsHalfway has nothing to go back to: the version
// stays active, and the models that were loading it by themselves run it.
func TestAFirstActivationThatStopsHalfway(t *testing.T) {
	k := keep(t, t.TempDir())
	one := addFake(t, k.modelKeeper, "finds 1")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var opened atomic.Int32
	loading, release := make(chan bool, 2), make(chan bool)
	k.newDetector = func(cfg VisionConfig, m ModelConfig) vision.OpenDetector {
		n := opened.Add(1)
		return func(ctx context.Context) (vision.Detector, error) {
			switch {
			case n > 2: // by the pipeline, which sees the state that is written below
				loading <- true
				<-release
			case n == 2:
				if _, err := k.store.Activate("press", one, models.Gate{}); err != nil {
					return nil, err
				}
				<-loading
				<-loading
				cancel()
			}
			return openFake(cfg, m)(ctx)
		}
	}
	if _, err := k.modelKeeper.activate(ctx, "press", one, false); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "is active") {
		t.Errorf("got %v", err)
	}
	if st, err := k.store.State("press"); err != nil || st.Current != one {
		t.Errorf("got %+v, %v", st, err)
	}
	close(release)
	k.serves(one)
	if c := k.check(); c.State != wire.Healthy || !strings.Contains(c.Detail, models.Short(one)) {
		t.Errorf("got %+v", c)
	}
}

// TestAFailedTrialOfTwoModels goes back with both, or says in health why not.
func TestAFailedTrialOfTwoModels(t *testing.T) {
	k := keep(t, t.TempDir())
	one, two := k.twoVersions("finds 1", "fails 1")
	k.failsFor("other", one)
	eventually(t, "failures in a row", func() bool { return k.vision.Stats().Models[0].Failing >= models.TrialErrors })
	k.look(t.Context(), "press")
	if c := k.check(); c.State != wire.Impaired || !strings.Contains(c.Detail, "the version before it does not take over") {
		t.Errorf("got %+v", c)
	}
	k.serves(two)
	k.newDetector = openFake
	k.look(t.Context(), "press")
	k.serves(one)
	if st, err := k.store.State("press"); err != nil || st.Current != one || st.RolledBack == nil {
		t.Errorf("got %+v, %v", st, err)
	}
}

// TestModelsThatShowDifferentVersions come together: at a start one of them
// could not load the version on trial and went back, while the other runs it.
func TestModelsThatShowDifferentVersions(t *testing.T) {
	dir := t.TempDir()
	k := keep(t, dir)
	one, two := k.twoVersions("finds 1", "finds 2")
	k.stop()
	k = keep(t, dir, func(k *keptModels) { k.failsFor("other", two) })
	eventually(t, "two models with different versions", func() bool {
		m := k.vision.Stats().Models
		return m[0].ModelSHA256 == two && m[1].ModelSHA256 == one
	})
	k.failsFor("inspect", one)
	now := time.Now()
	k.now = func() time.Time { return now }
	k.look(t.Context(), "press")
	now = now.Add(apartAfter)
	k.look(t.Context(), "press")
	if c := k.check(); c.State != wire.Impaired || !strings.Contains(c.Detail, "model inspect runs version "+models.Short(two)) || !strings.Contains(c.Detail, "no memory") {
		t.Errorf("got %+v", c)
	}
	k.newDetector = openFake
	now = now.Add(apartRetry)
	k.look(t.Context(), "press")
	k.serves(one)
	k.look(t.Context(), "press")
	if c := k.check(); c.State != wire.Impaired || !strings.Contains(c.Detail, "rolled back from "+models.Short(two)) {
		t.Errorf("got %+v", c)
	}
}

// TestAWrongNameOfTheStoreSaysWhatIsThere.
func TestAWrongNameOfTheStoreSaysWhatIsThere(t *testing.T) {
	k := keep(t, t.TempDir())
	eventually(t, "why nothing is inspected", func() bool {
		e := k.vision.Stats().Models[0].Error
		return strings.Contains(e, "store:press: there is no such model in the store: press; there is none;")
	})
	for _, name := range []string{"pres", "line"} {
		if _, err := k.store.Add(t.Context(), models.Addition{Name: name, Fetch: k.store.FromBytes([]byte("finds"))}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "what there is", func() bool {
		return strings.Contains(k.vision.Stats().Models[0].Error, "there is line, pres;")
	})
	v, err := k.store.Version("line", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.modelKeeper.activate(t.Context(), "line", "0000000", false); !errors.Is(err, models.ErrNoVersion) || !strings.Contains(err.Error(), "there is "+models.Short(v.SHA256)) {
		t.Errorf("got %v", err)
	}
}

func TestPathsThatWereMeantForTheStore(t *testing.T) {
	for path, want := range map[string]string{
		"Store:press": "small letters", "store :press": "small letters", " store:press": "small letters",
		"store:press@0123": "outstation model activate press@SHA", "store:@1": "activate NAME@SHA", "store:": "expected a name of 1 to 64", "store:Press": "expected a name of 1 to 64",
		"store:press": "", "store/press.onnx": "", "": "",
	} {
		c := &checker{src: new(strictyaml.Source)}
		c.storedModel("key", ModelConfig{Path: path})
		if got := fmt.Sprint(c.problems); (want == "") != (len(c.problems) == 0) || !strings.Contains(got, want) {
			t.Errorf("%q: got %s, want %q", path, got, want)
		}
	}
}
