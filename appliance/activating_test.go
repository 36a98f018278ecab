package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"outstation/uplink/wire"
	"outstation/vision"
	"outstation/vision/models"
	"outstation/web"
)

// slowBuild is a detector whose better one is made when it is let go.
type slowBuild struct {
	fakeModel
	letGo chan struct{}
}

var _ vision.Upgrader = (*slowBuild)(nil)

func (*slowBuild) Pending() string { return "an engine" }
func (s *slowBuild) Upgrade(ctx context.Context) (vision.Detector, error) {
	select {
	case <-s.letGo:
		return &s.fakeModel, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// builds makes what is opened from now on build its engine until the channel is
// closed.
func (k *keptModels) builds() chan struct{} {
	letGo := make(chan struct{})
	k.newDetector = func(cfg VisionConfig, m ModelConfig) vision.OpenDetector {
		return func(ctx context.Context) (vision.Detector, error) {
			d, err := openFake(cfg, m)(ctx)
			if err != nil {
				return nil, err
			}
			return &slowBuild{*d.(*fakeModel), letGo}, nil
		}
	}
	return letGo
}

// serving is the API of a keeper and what the appliance says of it.
func (k *keptModels) serving() string {
	mux := http.NewServeMux()
	(&app{models: k.modelKeeper, modelsCtx: k.t.Context()}).modelCalls(mux)
	mux.HandleFunc("GET /status.json", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, web.Snapshot{Activating: webActivating(k.facts())})
	})
	s := httptest.NewServer(mux)
	k.t.Cleanup(s.Close)
	return s.URL
}

// TestAnActivationSaysWhatItWaitsFor, in the statistics, in health, where it is
// no fault, and to whoever waits for the command.
func TestAnActivationSaysWhatItWaitsFor(t *testing.T) {
	k := keep(t, t.TempDir())
	one := addFake(t, k.modelKeeper, "finds 1")
	if _, err := k.activate(one, true); err != nil {
		t.Fatal(err)
	}
	k.serves(one)
	if f := k.facts(); f.activating != nil || activatingCheck(f, time.Now()) != nil || webActivating(f) != nil {
		t.Errorf("nothing is being activated: %+v", f.activating)
	}
	letGo, two := k.builds(), addFake(t, k.modelKeeper, "finds 2")
	out, lines := io.Pipe()
	done := make(chan error, 1)
	go func() {
		c := modelActivateCommand{Version: versionArg("press@" + two), remote: remote{Web: k.serving()}}
		err := c.Run(&env{out: io.Discard, errOut: lines, ctx: t.Context()})
		done <- errors.Join(err, lines.Close())
	}()
	line := make([]byte, 500)
	n, err := out.Read(line)
	want := "press@" + models.Short(two) + ": making an engine, "
	if got := string(line[:n]); err != nil || !strings.HasPrefix(got, want) || !strings.HasSuffix(got, " so far; meanwhile version "+models.Short(one)+" stays active\n") {
		t.Errorf("the command says %q, %v", got, err)
	}
	f := k.facts()
	checks := activatingCheck(f, time.Now())
	if len(checks) != 1 || checks[0].State != wire.Healthy || !strings.Contains(checks[0].Detail, "Activating press@"+models.Short(two)+" since ") ||
		!strings.Contains(checks[0].Detail, ": making an engine since ") {
		t.Errorf("health: %+v", checks)
	}
	tree := visionCheck(facts{now: time.Now(), models: f})
	if tree.State != wire.Healthy || len(tree.Checks) == 0 || tree.Checks[0].Name != "activation" {
		t.Errorf("health: %+v", tree)
	}
	if a := webActivating(f); a.Name != "press" || a.Version != two || a.Before != one || a.Since.IsZero() || a.StepSince.Before(a.Since) {
		t.Errorf("the page: %+v", a)
	}
	k.serves(one) // meanwhile
	close(letGo)
	if rest, err := io.ReadAll(out); err != nil { // further steps may be told
		t.Errorf("%q, %v", rest, err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	k.serves(two)
	if f := k.facts(); f.activating != nil {
		t.Errorf("it is still said: %+v", f.activating)
	}
}

// TestGoldenFramesThatNeverEnd are said in health: a call into a detector
// cannot be ended.
func TestGoldenFramesThatNeverEnd(t *testing.T) {
	now := time.Now()
	for after, want := range map[time.Duration]string{gateLimit - time.Second: wire.Healthy, gateLimit: wire.Impaired} {
		f := modelFacts{activating: &activating{name: "press", since: now, step: stepGate, stepSince: now}}
		if c := activatingCheck(f, now.Add(after))[0]; c.State != want || strings.Contains(c.Detail, "restart the appliance") != (want == wire.Impaired) {
			t.Errorf("after %v: %+v", after, c)
		}
		f.activating.step = "making an engine" // which may take as long as it takes
		if c := activatingCheck(f, now.Add(after))[0]; c.State != wire.Healthy {
			t.Errorf("an engine, after %v: %+v", after, c)
		}
	}
}

// TestAnActivationThatFailsIsNotShownAnyMore.
func TestAnActivationThatFailsIsNotShownAnyMore(t *testing.T) {
	k := keep(t, t.TempDir())
	if _, err := k.activate(addFake(t, k.modelKeeper, "misses"), true); !errors.Is(err, models.ErrGate) {
		t.Errorf("got %v", err)
	}
	if f := k.facts(); f.activating != nil {
		t.Errorf("got %+v", f.activating)
	}
}

// TestAStepIsToldOnceAndThenNowAndThen, and another model's not at all.
func TestAStepIsToldOnceAndThenNowAndThen(t *testing.T) {
	tell := func(again time.Duration) string {
		asked := make(chan string)
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case name := <-asked:
				answer(w, http.StatusOK, web.Snapshot{Activating: &web.Activating{Name: name, Step: "making"}})
			case <-r.Context().Done():
			}
		}))
		defer s.Close()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var out strings.Builder
		done := make(chan struct{})
		go func() { tellActivation(ctx, remote{Web: s.URL}, &out, "press", time.Millisecond, again); close(done) }()
		for _, name := range []string{"press", "press", "other", "press", "other"} { // the last is asked once those before it are told
			asked <- name
		}
		cancel()
		<-done
		return out.String()
	}
	if got := tell(time.Hour); strings.Count(got, "making") != 1 || !strings.Contains(got, "no version of it is active") {
		t.Errorf("got %q", got)
	}
	if got := tell(0); strings.Count(got, "making") != 3 {
		t.Errorf("got %q", got)
	}
}
