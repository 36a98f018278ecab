package main

import (
	"context"
	"errors"
	"fmt"

	"outstation/vision"
	"outstation/vision/models"
)

// activation is what became of one.
type activation struct {
	Name    string       `json:"name"`
	SHA256  string       `json:"sha256"`
	Changed bool         `json:"changed"` // false when it was active already
	Users   []string     `json:"models"`  // of vision.models, that show it now
	Gate    *models.Gate `json:"gate,omitempty"`
	State   models.State `json:"state"`
}

// activate opens a version while the old one serves, tries it on its golden
// frames on this device, makes it the active one and puts it into the
// pipeline. With an error the old one stays, in the pipeline and in the store.
func (k *modelKeeper) activate(ctx context.Context, name, prefix string, gate bool) (activation, error) {
	if !k.changing.TryLock() {
		return activation{}, errBusyModels
	}
	defer k.changing.Unlock()
	v, err := k.store.Version(name, prefix)
	if err != nil {
		return activation{}, err
	}
	before, err := k.store.State(name)
	if err != nil && !errors.Is(err, models.ErrDamaged) {
		return activation{}, err
	}
	out := activation{Name: name, SHA256: v.SHA256, Changed: true, Users: []string{}, State: before}
	if before.Current == v.SHA256 && before.RolledBack == nil {
		out.Changed = false
		return out, nil
	}
	if err := needsSidecar(k.store, v); err != nil {
		return out, err
	}
	defer k.begin(name, v.SHA256, before.Current)()
	tried, err := k.try(ctx, v, gate, &out)
	if err != nil {
		return out, err
	}
	out.State, err = k.store.Activate(name, v.SHA256, *out.Gate)
	if err != nil {
		return out, errors.Join(err, closeAll(tried))
	}
	k.step(stepSwap)
	err = k.swapOrUndo(ctx, tried, before.Current)
	if err != nil && before.Current != "" {
		err = errors.Join(err, k.store.Revert(name, before))
		k.refresh(name, nil)
		return out, err
	}
	for _, m := range k.users(name) {
		out.Users = append(out.Users, m.Name)
	}
	k.log.Info("a model was activated", "model", name, "version", models.Short(v.SHA256), "gate", out.Gate.String(), "provider", out.Gate.Provider)
	k.tell(modelEvent{eventModelActivated, name, map[string]any{
		"model": name, "sha256": v.SHA256, "previous_sha256": out.State.Previous, "gate": out.Gate.String(), "provider": out.Gate.Provider,
	}})
	k.refresh(name, nil)
	if err != nil { // nothing was active that could be put back
		return out, fmt.Errorf("%s@%s is active, and taken by each model that can load it: %w", name, models.Short(v.SHA256), err)
	}
	return out, nil
}

// try opens a version for each configured model that shows it, or for none,
// and lets each inspect the golden frames. What it returns is open.
func (k *modelKeeper) try(ctx context.Context, v models.Manifest, gate bool, out *activation) (tried []ready, err error) {
	defer func() {
		if err != nil {
			err, tried = errors.Join(err, closeAll(tried)), nil
		}
	}()
	users := k.users(v.Name)
	if len(users) == 0 {
		users = []ModelConfig{{Name: v.Name, Path: storePrefix + v.Name}}
	}
	for _, m := range users {
		k.step(stepLoading)
		d, err := k.openBest(ctx, m, v.SHA256)
		if err != nil {
			return tried, fmt.Errorf("%s@%s cannot be loaded: %w", v.Name, models.Short(v.SHA256), err)
		}
		tried = append(tried, ready{m, d})
		k.step(stepGate)
		g, err := k.judge(ctx, d, v, gate)
		out.Gate = &g
		if errors.Is(err, models.ErrGate) {
			err = errors.Join(err, k.store.NoteGate(v.Name, v.SHA256, g))
		}
		if err != nil {
			return tried, err
		}
	}
	if len(k.users(v.Name)) == 0 {
		return nil, closeAll(tried)
	}
	return tried, nil
}

// openBest is openVersion, and waits for the detector that serves in the end
// where the first one only serves while it is made: golden frames that another
// provider passes say nothing of it.
func (k *modelKeeper) openBest(ctx context.Context, m ModelConfig, sha string) (vision.Detector, error) {
	d, err := k.openVersion(ctx, m, sha)
	u, ok := d.(vision.Upgrader)
	if err != nil || !ok || u.Pending() == "" {
		return d, err
	}
	k.log.Info("a model that is to be activated is being made", "model", m.Name, "what", u.Pending())
	k.step("making " + u.Pending())
	better, err := u.Upgrade(ctx)
	if errClose := d.Close(); errClose != nil {
		k.log.Warn("closing a detector that served while a better one was made", "model", m.Name, "error", errClose)
	}
	return better, err
}

// judge is gate, or says that it was skipped.
func (k *modelKeeper) judge(ctx context.Context, d vision.Detector, v models.Manifest, gate bool) (models.Gate, error) {
	if gate {
		return k.gate(ctx, d, v)
	}
	info := d.Info()
	return models.Gate{At: k.now().UTC(), Skipped: true, Provider: info.Provider, Runtime: info.Runtime,
		Input: fmt.Sprintf("%d×%d", info.InputWidth, info.InputHeight)}, nil
}

// rollBack makes the version before the current one active, by hand and
// without golden frames: it was active before.
func (k *modelKeeper) rollBack(ctx context.Context, name string) (models.State, error) {
	if !k.changing.TryLock() {
		return models.State{}, errBusyModels
	}
	defer k.changing.Unlock()
	st, err := k.store.State(name)
	if err != nil {
		return st, err
	}
	if st.Current == "" || st.Previous == "" {
		return st, fmt.Errorf("%w: no version of %s was active before this one", models.ErrNoVersion, name)
	}
	opened, err := k.openAll(ctx, name, st.Previous)
	if err != nil {
		return st, err
	}
	if err := k.swapOrUndo(ctx, opened, st.Current); err != nil {
		return st, err
	}
	st, err = k.store.RollBack(name, st.Current, "by hand", true)
	if err == nil {
		k.tellRollBack(name, *st.RolledBack)
	}
	k.refresh(name, err)
	return st, err
}
