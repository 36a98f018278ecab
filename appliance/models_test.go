package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"outstation/uplink/wire"
	"outstation/vision"
	"outstation/vision/models"
	"outstation/vision/sim"
)

// fakeModel is a detector for faults that a real one cannot show. What it does
// is what its file says: "finds", "misses", "fails" on each frame, or "broken",
// which cannot be loaded. A number behind it makes another version of the same.
type fakeModel struct {
	does, sha string
}

var _ vision.Detector = (*fakeModel)(nil)

func openFake(_ VisionConfig, m ModelConfig) vision.OpenDetector {
	return func(context.Context) (vision.Detector, error) {
		text, err := os.ReadFile(m.Path)
		if err != nil {
			return nil, err
		}
		does, _, _ := strings.Cut(string(text), " ")
		if does == "broken" {
			return nil, errors.New("not a model")
		}
		fake := &fakeModel{does, filepath.Base(filepath.Dir(m.Path))}
		if does == "hangs" {
			return &hungModel{fakeModel: *fake}, nil
		}
		if does == "builds" {
			return &fakeBuild{fakeModel: fakeModel{"finds", fake.sha}, becomes: strings.Contains(string(text), "well")}, nil
		}
		return fake, nil
	}
}

func (f *fakeModel) Detect(vision.Frame) ([]vision.Detection, vision.Timing, error) {
	switch f.does {
	case "fails":
		return nil, vision.Timing{}, errors.New("no memory")
	case "misses":
		return nil, vision.Timing{}, nil
	}
	return []vision.Detection{{Class: "part", Confidence: 0.9, Box: vision.Box{X: 4, Y: 4, W: 20, H: 20}}}, vision.Timing{}, nil
}

func (f *fakeModel) Info() vision.DetectorInfo {
	return vision.DetectorInfo{Provider: "cpu", Runtime: "fake 1", InputWidth: 64, InputHeight: 48, ModelSHA256: f.sha}
}
func (*fakeModel) Close() error { return nil }

// keptModels is a modelKeeper with a pipeline of its own.
type keptModels struct {
	*modelKeeper
	t    *testing.T
	hung time.Duration // of the pipeline
	stop func()
}

// keep runs a keeper and a pipeline with one camera on the store in dir, as
// the appliance does.
func keep(t *testing.T, dir string, change ...func(*keptModels)) *keptModels {
	t.Helper()
	cfg := testConfig(t, dir)
	cfg.Vision.Models = []ModelConfig{{Name: "inspect", Path: "store:press"}, {Name: "other", Path: "store:press"}}
	k := newModelKeeper(cfg, slog.New(slog.DiscardHandler))
	k.newDetector = openFake
	out := &keptModels{modelKeeper: k, t: t}
	for _, c := range change {
		c(out)
	}
	k.start()
	source, err := sim.Factory(sim.Options{URL: "sim://pattern?fps=200"})
	if err != nil {
		t.Fatal(err)
	}
	opt := vision.Options{HungAfter: out.hung, Backoff: func(int) time.Duration { return 10 * time.Millisecond }}
	for _, m := range k.cfg.Models {
		opt.Models = append(opt.Models, vision.ModelOptions{Name: m.Name, Open: k.open(m)})
		opt.Cameras = append(opt.Cameras, vision.CameraOptions{ID: m.Name, NewSource: source, Model: m.Name})
	}
	if k.vision, err = vision.New(opt); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- k.vision.Serve(context.Background()) }()
	stopped := false
	out.stop = func() {
		if stopped {
			return
		}
		stopped = true
		if err := errors.Join(k.vision.Close(), <-served); err != nil {
			t.Error(err)
		}
		for _, c := range k.vision.Stats().Cameras {
			if c.Frames != c.Inspected+c.Dropped+c.Throttled+c.DetectorErrors {
				t.Errorf("frames are not accounted for: %+v", c)
			}
		}
	}
	t.Cleanup(out.stop)
	return out
}

// addFake adds a fake model with golden frames that "finds" passes.
func addFake(t *testing.T, k *modelKeeper, text string) string {
	t.Helper()
	frame, err := os.ReadFile("../vision/models/golden/yolox-nano/street-000.jpg")
	if err != nil {
		t.Fatal(err)
	}
	golden := fstest.MapFS{"a.jpg": {Data: frame}, "golden.json": {Data: []byte(
		`{"frames":[{"file":"a.jpg","boxes":[{"class":"part","confidence":0.9,"box":{"x":4,"y":4,"w":20,"h":20}}]}]}`)}}
	out, err := k.store.Add(t.Context(), models.Addition{Name: "press", Golden: golden, Fetch: k.store.FromBytes([]byte(text))})
	if err != nil {
		t.Fatal(err)
	}
	return out.SHA256
}

func (k *keptModels) activate(sha string, gate bool) (activation, error) {
	return k.modelKeeper.activate(k.t.Context(), "press", sha, gate)
}

// serves waits until both models run a version and inspect with it.
func (k *keptModels) serves(sha string) {
	k.t.Helper()
	before := k.vision.Stats().Models
	eventually(k.t, "the version that serves", func() bool {
		for i, m := range k.vision.Stats().Models {
			if m.ModelSHA256 != sha || m.Inferences+m.Errors <= before[i].Inferences+before[i].Errors {
				return false
			}
		}
		return true
	})
}

func (k *keptModels) check() wire.Check {
	return storedCheck(check("model inspect", wire.Healthy, "runs on cpu"), "inspect", k.facts())
}

// told are the events that are waiting to be told.
func (k *keptModels) told() string {
	var out []string
	for _, e := range k.facts().events {
		out = append(out, fmt.Sprint(e.kind, " ", e.payload["reason"]))
	}
	return strings.Join(out, "; ")
}

func TestAVersionIsActivatedWhileTheOldOneServes(t *testing.T) {
	dir := t.TempDir()
	k := keep(t, dir)
	eventually(t, "why nothing is inspected", func() bool {
		return strings.Contains(k.vision.Stats().Models[0].Error, "outstation model activate press")
	})
	one := addFake(t, k.modelKeeper, "finds 1")
	out, err := k.activate("", true)
	if err != nil || !out.Changed || out.SHA256 != one || len(out.Users) != 2 || !out.Gate.Passed || out.State.Trial != nil {
		t.Fatalf("got %+v, %v", out, err)
	}
	k.serves(one)

	misses := addFake(t, k.modelKeeper, "misses 1")
	if _, err := k.activate(misses, true); !errors.Is(err, models.ErrGate) || !strings.Contains(err.Error(), "a.jpg: expected part 0.90") {
		t.Errorf("got %v", err)
	}
	if _, err := k.activate(addFake(t, k.modelKeeper, "broken 1"), true); err == nil || !strings.Contains(err.Error(), "not a model") {
		t.Errorf("got %v", err)
	}
	k.serves(one)
	if v, err := k.store.Version("press", misses); err != nil || v.Gate == nil || v.Gate.Passed || v.Gate.Reason == "" {
		t.Errorf("the manifest does not say that the gate failed: %+v, %v", v.Gate, err)
	}

	out, err = k.activate(misses, false)
	if err != nil || !out.Gate.Skipped || out.State.Previous != one || out.State.Trial == nil {
		t.Errorf("got %+v, %v", out, err)
	}
	k.serves(misses)
	if out, err := k.activate(misses, true); err != nil || out.Changed {
		t.Errorf("the same again: %+v, %v", out, err)
	}
	if c := k.check(); c.State != wire.Healthy || !strings.Contains(c.Detail, "on trial") {
		t.Errorf("got %+v", c)
	}
	if s := webStored("inspect", k.facts()); s.Version != misses || s.Gate != "skipped" || s.TrialUntil.IsZero() {
		t.Errorf("got %+v", s)
	}

	st, err := k.rollBack(t.Context(), "press")
	if err != nil || st.Current != one || !st.RolledBack.ByHand {
		t.Errorf("got %+v, %v", st, err)
	}
	k.serves(one)
	if c := k.check(); c.State != wire.Healthy {
		t.Errorf("a rollback by hand is no problem: %+v", c)
	}
	if got := k.told(); got != "model_activated <nil>; model_activated <nil>; model_rolled_back by hand" {
		t.Errorf("told: %s", got)
	}
}

// fakeBuild serves while a detector is built, which misses everything unless
// it is built well.
type fakeBuild struct {
	fakeModel
	becomes bool
}

var _ vision.Upgrader = (*fakeBuild)(nil)

func (*fakeBuild) Pending() string { return "an engine" }
func (f *fakeBuild) Upgrade(context.Context) (vision.Detector, error) {
	if f.becomes {
		return &f.fakeModel, nil
	}
	return &fakeModel{"misses", f.sha}, nil
}

// TestTheGateIsForTheDetectorThatServesInTheEnd: what is built inspects the
// golden frames, not what serves meanwhile.
func TestTheGateIsForTheDetectorThatServesInTheEnd(t *testing.T) {
	k := keep(t, t.TempDir())
	if _, err := k.activate(addFake(t, k.modelKeeper, "builds badly"), true); !errors.Is(err, models.ErrGate) {
		t.Errorf("got %v", err)
	}
	well := addFake(t, k.modelKeeper, "builds well")
	if _, err := k.activate(well, true); err != nil {
		t.Fatal(err)
	}
	k.serves(well)
}

func TestAVersionWithoutGoldenFramesIsRefused(t *testing.T) {
	k := keep(t, t.TempDir())
	if _, err := k.store.Add(t.Context(), models.Addition{Name: "press", Fetch: k.store.FromBytes([]byte("finds"))}); err != nil {
		t.Fatal(err)
	}
	if _, err := k.activate("", true); !errors.Is(err, models.ErrNoGolden) || !strings.Contains(err.Error(), "--no-gate") {
		t.Errorf("got %v", err)
	}
	if st, err := k.store.State("press"); err != nil || st.Current != "" {
		t.Errorf("got %+v, %v", st, err)
	}
	if _, err := k.rollBack(t.Context(), "press"); !errors.Is(err, models.ErrNoVersion) {
		t.Errorf("got %v", err)
	}
}

// TestOneActivationAtATime holds the lock that a running one holds.
func TestOneActivationAtATime(t *testing.T) {
	k := keep(t, t.TempDir())
	addFake(t, k.modelKeeper, "finds 1")
	k.changing.Lock()
	defer k.changing.Unlock()
	if _, err := k.activate("", true); !errors.Is(err, errBusyModels) {
		t.Errorf("got %v", err)
	}
	if _, err := k.rollBack(t.Context(), "press"); !errors.Is(err, errBusyModels) {
		t.Errorf("got %v", err)
	}
}

func TestAVersionThatFailsInItsTrialIsRolledBack(t *testing.T) {
	k := keep(t, t.TempDir())
	one := addFake(t, k.modelKeeper, "finds 1")
	if _, err := k.activate(one, true); err != nil {
		t.Fatal(err)
	}
	fails := addFake(t, k.modelKeeper, "fails 1")
	if _, err := k.activate(fails, false); err != nil {
		t.Fatal(err)
	}
	eventually(t, "failures in a row", func() bool { return k.vision.Stats().Models[0].Failing >= models.TrialErrors })
	k.look(t.Context(), "press")
	k.serves(one)
	st, err := k.store.State("press")
	if err != nil || st.Current != one || st.RolledBack == nil || st.RolledBack.From != fails || !strings.Contains(st.RolledBack.Reason, "inferences in a row failed") {
		t.Errorf("got %+v, %v", st, err)
	}
	if c := k.check(); c.State != wire.Impaired || !strings.Contains(c.Detail, "rolled back from "+models.Short(fails)) {
		t.Errorf("got %+v", c)
	}
	if got := k.told(); !strings.Contains(got, "model_rolled_back 1") {
		t.Errorf("told: %s", got)
	}
	if s := webStored("inspect", k.facts()); s.RolledBackFrom != fails || s.RolledBackWhy == "" {
		t.Errorf("got %+v", s)
	}
}

// TestATrialEndsWithTimeAndInspections moves the clock.
func TestATrialEndsWithTimeAndInspections(t *testing.T) {
	k := keep(t, t.TempDir())
	one, two := addFake(t, k.modelKeeper, "finds 1"), addFake(t, k.modelKeeper, "finds 2")
	for _, sha := range []string{one, two} {
		if _, err := k.activate(sha, true); err != nil {
			t.Fatal(err)
		}
	}
	k.serves(two)
	k.look(t.Context(), "press")
	if st, err := k.store.State("press"); err != nil || st.Trial == nil {
		t.Errorf("it ended too early: %+v, %v", st, err)
	}
	k.now = func() time.Time { return time.Now().Add(models.TrialTime) }
	k.look(t.Context(), "press")
	if st, err := k.store.State("press"); err != nil || st.Trial != nil || st.Current != two {
		t.Errorf("got %+v, %v", st, err)
	}
	if c := k.check(); strings.Contains(c.Detail, "trial") || !strings.Contains(c.Detail, models.Short(two)) {
		t.Errorf("got %+v", c)
	}
}

// TestAVersionThatCannotBeLoadedAtTheNextStart is replaced by the one before,
// in its trial for any reason, later only when its content is damaged.
func TestAVersionThatCannotBeLoadedAtTheNextStart(t *testing.T) {
	for name, c := range map[string]struct {
		trusted bool
		harm    func(path string) error
		back    bool
	}{
		"on trial":            {false, func(path string) error { return os.WriteFile(path, []byte("broken"), 0o600) }, true},
		"trusted and damaged": {true, func(path string) error { return os.WriteFile(path, []byte("broken"), 0o600) }, true},
		"sound":               {false, func(string) error { return nil }, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			k := keep(t, dir)
			one, two := addFake(t, k.modelKeeper, "finds 1"), addFake(t, k.modelKeeper, "finds 2")
			for _, sha := range []string{one, two} {
				if _, err := k.activate(sha, true); err != nil {
					t.Fatal(err)
				}
			}
			if c.trusted {
				if err := k.store.Trust("press", two); err != nil {
					t.Fatal(err)
				}
			}
			k.stop()
			if err := errors.Join(k.end(), c.harm(filepath.Join(k.store.Dir("press", two), models.ModelFile))); err != nil {
				t.Fatal(err)
			}
			k = keep(t, dir)
			want := two
			if c.back {
				want = one
			}
			k.serves(want)
			eventually(t, "the state", func() bool {
				st, err := k.store.State("press")
				return err == nil && st.Current == want && (st.RolledBack != nil) == c.back
			})
			if got := strings.Contains(k.told(), "model_rolled_back it cannot be loaded: "); got != c.back {
				t.Errorf("told: %s", k.told())
			}
		})
	}
}

// TestWhatIsNoFaultOfTheVersionRollsNothingBack: nothing can be loaded, such
// as without the library, and a trusted version that cannot be loaded while its
// content is sound.
func TestWhatIsNoFaultOfTheVersionRollsNothingBack(t *testing.T) {
	dir := t.TempDir()
	k := keep(t, dir)
	one, two := addFake(t, k.modelKeeper, "finds 1"), addFake(t, k.modelKeeper, "finds 2")
	for _, sha := range []string{one, two} {
		if _, err := k.activate(sha, true); err != nil {
			t.Fatal(err)
		}
	}
	m := k.cfg.Models[0]
	k.newDetector = func(VisionConfig, ModelConfig) vision.OpenDetector {
		return func(context.Context) (vision.Detector, error) { return nil, errors.New("no library") }
	}
	if _, err := k.open(m)(t.Context()); err == nil || !strings.Contains(err.Error(), "nor can the version before") {
		t.Errorf("got %v", err)
	}
	if err := k.store.Trust("press", two); err != nil {
		t.Fatal(err)
	}
	k.newDetector = func(cfg VisionConfig, m ModelConfig) vision.OpenDetector {
		if strings.Contains(m.Path, two) {
			return func(context.Context) (vision.Detector, error) { return nil, errors.New("no memory") }
		}
		return openFake(cfg, m)
	}
	if _, err := k.open(m)(t.Context()); err == nil {
		t.Error("a trusted version is replaced")
	}
	if st, err := k.store.State("press"); err != nil || st.Current != two {
		t.Errorf("got %+v, %v", st, err)
	}
}

func TestEventsOfModelsAreTold(t *testing.T) {
	w := newWatched(t, 0)
	w.facts.models = modelFacts{told: 3, events: []modelEvent{{eventModelActivated, "press", map[string]any{"model": "press"}}}}
	w.after(time.Second)
	w.after(time.Second)
	w.facts.models.events = append(w.facts.models.events, modelEvent{eventModelRolledBack, "press", map[string]any{"reason": "x"}})
	w.after(time.Second)
	var got []string
	for _, e := range w.events(2) {
		got = append(got, e.EventType)
	}
	if fmt.Sprint(got) != "[model_activated model_rolled_back]" {
		t.Errorf("got %v", got)
	}
}

// TestAModelCanBeAskedForFromTheFirstRequest, which may come before all parts
// have started, and until the appliance closes.
func TestAModelCanBeAskedForFromTheFirstRequest(t *testing.T) {
	a := newApp(testConfig(t, t.TempDir()), slog.New(slog.DiscardHandler))
	ctx, cancel := a.modelContext(httptest.NewRequest(http.MethodPost, "/", nil))
	defer cancel()
	if ctx.Err() != nil {
		t.Error(ctx.Err())
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	eventually(t, "the end of the call", func() bool { return ctx.Err() != nil })
}

// TestAVersionsOwnConfidenceStays where a camera follows objects, for which
// weaker boxes are asked for.
func TestAVersionsOwnConfidenceStays(t *testing.T) {
	k := newModelKeeper(testConfig(t, t.TempDir()), slog.New(slog.DiscardHandler))
	k.cfg.Models = []ModelConfig{{Name: "inspect", Path: "store:press"}}
	k.cfg.Cameras = []CameraConfig{{ID: "cam", Model: "inspect", JudgeConfig: JudgeConfig{Policy: "track"}}}
	var opened ModelConfig
	k.newDetector = func(cfg VisionConfig, m ModelConfig) vision.OpenDetector { opened = m; return openFake(cfg, m) }
	if _, err := k.store.Add(t.Context(), models.Addition{Name: "press", Confidence: 0.6, Fetch: k.store.FromBytes([]byte("finds"))}); err != nil {
		t.Fatal(err)
	}
	v, err := k.store.Version("press", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.openVersion(t.Context(), k.cfg.Models[0], v.SHA256); err != nil {
		t.Fatal(err)
	}
	if opened.Confidence != 0.6 || opened.floor != vision.DefaultTrackLow || k.cfg.judge(k.cfg.Cameras[0]).Limits.Confidence != 0 {
		t.Errorf("opened with %v down to %v", opened.Confidence, opened.floor)
	}
}

// TestAStoredModelReturnsWhatItsGoldenFramesAskFor, whatever is configured to
// count: else the gate would look for nothing.
func TestAStoredModelReturnsWhatItsGoldenFramesAskFor(t *testing.T) {
	k := keep(t, t.TempDir())
	sum := addFake(t, k.modelKeeper, "finds")
	for _, c := range []struct {
		m     ModelConfig
		floor float64
	}{
		{ModelConfig{Name: "inspect", Path: "store:press", Confidence: 0.95}, 0.3}, // that of golden frames which do not say it
		{ModelConfig{Name: "inspect", Path: "store:press", floor: 0.2}, 0.2},
	} {
		var opened ModelConfig
		k.newDetector = func(cfg VisionConfig, m ModelConfig) vision.OpenDetector { opened = m; return openFake(cfg, m) }
		if _, err := k.openVersion(t.Context(), c.m, sum); err != nil {
			t.Fatal(err)
		}
		if opened.Confidence != c.m.Confidence || opened.floor != c.floor {
			t.Errorf("opened with %v down to %v, want %v", opened.Confidence, opened.floor, c.floor)
		}
	}
}
