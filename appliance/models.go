package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"outstation/vision"
	"outstation/vision/models"
)

// maxModelEvents bounds what waits to be told of models.
const maxModelEvents = 64

// errBusyModels says that a model is being changed.
var errBusyModels = errors.New("another model is being activated or rolled back; wait for it")

// modelKeeper activates versions of the store in the running pipeline, watches
// them and rolls them back. It is safe for concurrent use.
type modelKeeper struct {
	store  *models.Store
	cfg    VisionConfig
	log    *slog.Logger
	vision *vision.Pipeline // set before it is served
	now    func() time.Time

	// newDetector is newDetector; tests put faults behind it.
	newDetector func(VisionConfig, ModelConfig) vision.OpenDetector

	changing sync.Mutex // held by what changes a model
	ended    sync.Once
	recent   time.Duration // trialRecent; tests shorten it

	mu         sync.Mutex
	states     map[string]storedState // of each name in use
	activating *activating            // nil when nothing is
	events     []modelEvent
	lost       int // events that were left out at the front
}

// storedState is what is known of one model of the store that is in use.
type storedState struct {
	models.State
	gate       string    // what the golden frames said of the current version
	problem    string    // "" where all is well
	since      time.Time // of serving the current version
	inferences uint64    // at that time
	apart      time.Time // when what shows it is asked next to run the current version; zero: all did at the last look
}

// modelEvent is something that happened to a model.
type modelEvent struct {
	kind    string
	model   string
	payload map[string]any
}

// newModelKeeper does no I/O.
func newModelKeeper(cfg Config, log *slog.Logger) *modelKeeper {
	return &modelKeeper{store: cfg.modelStore(), cfg: cfg.Vision, log: log, now: time.Now, newDetector: newDetector, recent: trialRecent, states: map[string]storedState{}}
}

// names are the models of the store that are configured.
func (k *modelKeeper) names() []string {
	var out []string
	seen := map[string]bool{}
	for _, m := range k.cfg.Models {
		if name, ok := storeName(m.Path); ok && !seen[name] {
			out, seen[name] = append(out, name), true
		}
	}
	return out
}

// users are the configured models that show the model of the store.
func (k *modelKeeper) users(name string) []ModelConfig {
	var out []ModelConfig
	for _, m := range k.cfg.Models {
		if n, ok := storeName(m.Path); ok && n == name {
			out = append(out, m)
		}
	}
	return out
}

// start counts this start for versions on trial, and rolls back those that
// have seen too many. What it cannot read is said in health: it is no reason
// not to start.
func (k *modelKeeper) start() {
	n, err := k.store.Sweep()
	if err != nil {
		k.log.Error("what unfinished additions left in the model store is not removed", "error", err)
	}
	if n > 0 {
		k.log.Warn("what unfinished additions left in the model store was removed", "count", n)
	}
	for _, name := range k.names() {
		_, back, err := k.store.Begin(name)
		if err != nil {
			k.log.Error("the model store", "model", name, "error", err)
		}
		if back != nil {
			k.tellRollBack(name, *back)
		}
		k.refresh(name, err)
	}
}

// end takes the start back: the program ends in order, or for a reason that is
// not the models'. Only the first call does. A version on trial whose own
// detector hangs is rolled back instead.
func (k *modelKeeper) end() error {
	var errs []error
	for _, name := range k.names() {
		k.leaveHung(name)
	}
	k.ended.Do(func() {
		for _, name := range k.names() {
			errs = append(errs, k.store.End(name))
		}
	})
	return errors.Join(errs...)
}

// open loads the active version of a configured model, or, when that one
// fails in its trial or is damaged, the one before.
func (k *modelKeeper) open(m ModelConfig) vision.OpenDetector {
	name, ok := storeName(m.Path)
	if !ok {
		return k.newDetector(k.cfg, k.cfg.lowered(m))
	}
	return func(ctx context.Context) (vision.Detector, error) {
		st, err := k.store.State(name)
		if err == nil && st.Current == "" {
			err = k.notActive(name)
		}
		if err != nil {
			return nil, err
		}
		d, err := k.openVersion(ctx, m, st.Current)
		if err == nil || ctx.Err() != nil || st.Previous == "" || (st.Trial == nil && !errors.Is(err, models.ErrDamaged)) {
			return d, err
		}
		before, errBefore := k.openVersion(ctx, m, st.Previous)
		if errBefore != nil { // then it is not the version's fault, or there is nothing to go back to
			return nil, errors.Join(err, fmt.Errorf("nor can the version before it be loaded: %w", errBefore))
		}
		k.goBack(name, st.Current, "it cannot be loaded: "+err.Error())
		return before, nil
	}
}

// notActive is why no version of a name is active: there may be no such model.
func (k *modelKeeper) notActive(name string) error {
	if _, err := k.store.Model(name); err != nil {
		return fmt.Errorf("%s%s: %w; outstation model add, then outstation model activate %s", storePrefix, name, err, name)
	}
	return fmt.Errorf("%s%s: %w; outstation model activate %s", storePrefix, name, models.ErrNotActive, name)
}

// openVersion checks the content of a version and loads it.
func (k *modelKeeper) openVersion(ctx context.Context, m ModelConfig, sha string) (vision.Detector, error) {
	name, _ := storeName(m.Path)
	v, err := k.store.Check(name, sha)
	if err != nil {
		return nil, err
	}
	m = m.stored(k.store, v)
	if v.Golden() {
		// What is wrong with the frames is for the gate to say; it is no reason
		// not to serve what was active before.
		if floor, err := models.GoldenFloor(os.DirFS(k.goldenOf(v))); err == nil {
			m = m.down(floor)
		}
	}
	return k.newDetector(k.cfg, k.cfg.lowered(m))(ctx)
}

// goBack notes a rollback that has been carried out.
func (k *modelKeeper) goBack(name, from, reason string) {
	st, err := k.store.RollBack(name, from, reason, false)
	if errors.Is(err, models.ErrNoVersion) {
		err = nil // another configured model of the same name went first
	} else if err == nil {
		k.tellRollBack(name, *st.RolledBack)
	}
	if err != nil {
		k.log.Error("a rollback is not kept; the next start tries the failed version again", "model", name, "error", err)
	}
	k.refresh(name, err)
}

func (k *modelKeeper) tellRollBack(name string, back models.RollBack) {
	k.log.Error("a model was rolled back", "model", name, "from", models.Short(back.From), "to", models.Short(back.To), "reason", back.Reason)
	k.tell(modelEvent{eventModelRolledBack, name, map[string]any{
		"model": name, "from_sha256": back.From, "to_sha256": back.To, "reason": back.Reason, "by_hand": back.ByHand,
	}})
}

// tell keeps an event until the service of the appliance's own events takes it.
func (k *modelKeeper) tell(e modelEvent) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.events = append(k.events, e)
	if over := len(k.events) - maxModelEvents; over > 0 {
		k.events, k.lost = k.events[over:], k.lost+over
	}
}

// refresh reads what is active. err is what was wrong before that, if anything
// was.
func (k *modelKeeper) refresh(name string, err error) {
	st, errState := k.store.State(name)
	if err == nil {
		err = errState
	}
	now := storedState{State: st, since: k.now(), inferences: k.inferences(name)}
	switch {
	case err != nil:
		now.problem = err.Error()
	case st.Damaged != "":
		now.problem = "which version is active was read from the copy: " + st.Damaged
	case st.Current != "":
		if v, err := k.store.Version(name, st.Current); err != nil {
			now.problem = err.Error()
		} else {
			now.gate = v.Gate.String()
		}
	}
	k.mu.Lock()
	k.states[name] = now
	k.mu.Unlock()
}

// inferences is how many frames all configured models of a name inspected.
func (k *modelKeeper) inferences(name string) (n uint64) {
	if k.vision == nil {
		return 0
	}
	for _, s := range k.statsOf(name) {
		n += s.Inferences
	}
	return n
}

// statsOf are the statistics of the configured models of a name.
func (k *modelKeeper) statsOf(name string) []vision.ModelStats {
	var out []vision.ModelStats
	all := k.vision.Stats().Models
	for i, m := range k.cfg.Models { // both in the configured order
		if n, ok := storeName(m.Path); ok && n == name {
			out = append(out, all[i])
		}
	}
	return out
}

// watch rolls back what fails in its trial and trusts what does not, until ctx
// ends.
func (k *modelKeeper) watch(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			for _, name := range k.names() {
				k.look(ctx, name)
			}
		case <-ctx.Done():
			return
		}
	}
}

// look judges the trial of one model, and sees that all that show it run the
// same version.
func (k *modelKeeper) look(ctx context.Context, name string) {
	k.leaveHung(name)
	if !k.changing.TryLock() {
		return // it is being changed by hand
	}
	defer k.changing.Unlock()
	if s := k.state(name); s.Trial != nil {
		k.judgeTrial(ctx, name, s)
	}
	k.bringTogether(ctx, name)
}

// state is what is known of one model of the store.
func (k *modelKeeper) state(name string) storedState {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.states[name]
}

// judgeTrial rolls a version back that fails, and trusts one that does not.
func (k *modelKeeper) judgeTrial(ctx context.Context, name string, s storedState) {
	failing := uint64(0)
	for _, m := range k.statsOf(name) {
		failing = max(failing, m.Failing)
	}
	switch {
	case failing >= models.TrialErrors:
		k.giveUp(ctx, name, s, fmt.Sprintf("%d inferences in a row failed in its trial", failing))
	case len(k.elsewhere(name)) > 0: // what inspects says nothing of the version on trial
	case failing == 0 && k.now().Sub(s.since) >= models.TrialTime && k.inferences(name) > s.inferences && k.answers(name):
		if err := k.store.Trust(name, s.Current); err != nil {
			k.fail(name, err)
			return
		}
		k.log.Info("a model is trusted after its trial", "model", name, "version", models.Short(s.Current))
		k.refresh(name, nil)
	}
}

// fail keeps for health what could not be done.
func (k *modelKeeper) fail(name string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.states[name]
	if s.problem != err.Error() {
		k.log.Error("the model store", "model", name, "error", err)
	}
	s.problem = err.Error()
	k.states[name] = s
}

// modelFacts is one look at the models of the store.
type modelFacts struct {
	states map[string]storedState // by the name in the configuration
	names  map[string]string      // in the store, by the name in the configuration
	events []modelEvent           // the latest
	told   int                    // how many there were before these

	activating *activating // nil when nothing is
}

// facts is safe for concurrent use; nil has none.
func (k *modelKeeper) facts() modelFacts {
	if k == nil {
		return modelFacts{}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	f := modelFacts{states: map[string]storedState{}, names: map[string]string{}, events: k.events[:len(k.events):len(k.events)], told: k.lost,
		activating: k.activating}
	for _, m := range k.cfg.Models {
		if name, ok := storeName(m.Path); ok {
			f.states[m.Name], f.names[m.Name] = k.states[name], name
		}
	}
	return f
}

// goldenOf are the golden frames of a version.
func (k *modelKeeper) goldenOf(v models.Manifest) string {
	return filepath.Join(k.store.Dir(v.Name, v.SHA256), models.GoldenDir)
}

// gate tries a detector on the golden frames of its version.
func (k *modelKeeper) gate(ctx context.Context, d vision.Detector, v models.Manifest) (models.Gate, error) {
	if !v.Golden() {
		return models.Gate{}, fmt.Errorf("%w: %s@%s; add it with --golden, or activate it with --no-gate if you have to", models.ErrNoGolden, v.Name, models.Short(v.SHA256))
	}
	return models.RunGate(ctx, os.DirFS(k.goldenOf(v)), d, k.now())
}
