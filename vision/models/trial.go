package models

import (
	"errors"
	"fmt"
	"time"
)

// How a newly activated version is watched.
const (
	TrialTime   = 10 * time.Minute // of inspecting without a failure, after which it is trusted
	TrialStarts = 3                // starts that did not end in order, after which it is not
	TrialErrors = 10               // inferences in a row that failed, after which it is not
)

// Activate makes a version the active one and begins its trial. gate is what
// its golden frames said, and becomes part of its manifest. The version that
// was active is the one that a rollback goes back to.
func (s *Store) Activate(name, sha string, gate Gate) (State, error) {
	var out State
	err := s.changeFrom(name, readOrNone, func(st *State) error {
		m, err := readManifest(s.path(name, sha))
		if err != nil {
			return err
		}
		m.Gate, m.Input = &gate, gate.Input
		if err := replaceJSON(s.path(name, sha, manifestFile), m); err != nil {
			return err
		}
		now := s.now().UTC().Truncate(time.Second)
		previous := st.Current
		if previous == sha {
			previous = st.Previous
		}
		*st = State{Current: sha, Previous: previous, ActivatedAt: now}
		if previous != "" {
			st.Trial = &Trial{Since: now, Starts: 1}
		}
		out = *st
		return nil
	})
	return out, err
}

// readOrNone reads a state, and takes one that is damaged for none: what is
// activated mends it.
func readOrNone(dir string) (State, error) {
	st, err := readState(dir)
	if errors.Is(err, ErrDamaged) {
		return State{Damaged: err.Error()}, nil
	}
	return st, err
}

// NoteGate keeps what golden frames said of a version that is not activated.
func (s *Store) NoteGate(name, sha string, gate Gate) error {
	return s.change(name, func(*State) error {
		m, err := readManifest(s.path(name, sha))
		if err != nil {
			return err
		}
		m.Gate = &gate
		return replaceJSON(s.path(name, sha, manifestFile), m)
	})
}

// RollBack makes the version before the active one active again, without a
// trial. from is the version that is left; when another one is active
// meanwhile nothing is changed and the error wraps ErrNoVersion.
func (s *Store) RollBack(name, from, reason string, byHand bool) (State, error) {
	var out State
	err := s.change(name, func(st *State) error {
		if st.Current == "" {
			return fmt.Errorf("%s: %w", name, ErrNotActive)
		}
		if st.Current != from {
			return fmt.Errorf("%w: %s@%s is not active any more", ErrNoVersion, name, Short(from))
		}
		if st.Previous == "" {
			return fmt.Errorf("%w: no version of %s was active before %s", ErrNoVersion, name, Short(from))
		}
		if _, err := readManifest(s.path(name, st.Previous)); err != nil {
			return err
		}
		now := s.now().UTC().Truncate(time.Second)
		*st = State{Current: st.Previous, Previous: from, ActivatedAt: now,
			RolledBack: &RollBack{From: from, To: st.Previous, At: now, Reason: reason, ByHand: byHand}}
		out = *st
		return nil
	})
	return out, err
}

// Begin counts a start of the program with the active version, and rolls back
// when a version on trial has seen too many that did not end in order. It also
// mends a damaged file of the state. rolledBack is what it did, or nil.
func (s *Store) Begin(name string) (st State, rolledBack *RollBack, err error) {
	st, err = s.State(name)
	if err != nil {
		return st, nil, err
	}
	if st.Trial != nil && st.Trial.Starts >= TrialStarts && st.Previous != "" {
		reason := fmt.Sprintf("the program was started %d times with it and not once ended in order, within its trial", st.Trial.Starts)
		st, err = s.RollBack(name, st.Current, reason, false)
		return st, st.RolledBack, err
	}
	if st.Trial == nil && st.Damaged == "" {
		return st, nil, nil
	}
	err = s.change(name, func(now *State) error {
		if now.Trial != nil {
			t := *now.Trial
			t.Starts++
			now.Trial = &t
		}
		now.Damaged = ""
		st = *now
		return nil
	})
	return st, nil, err
}

// End takes back the start that Begin or Activate counted: the program ends
// in order.
func (s *Store) End(name string) error {
	return s.onTrial(name, func(st *State) {
		t := *st.Trial
		t.Starts = max(0, t.Starts-1)
		st.Trial = &t
	})
}

// Trust ends the trial of a version, if it is still the active one.
func (s *Store) Trust(name, sha string) error {
	return s.onTrial(name, func(st *State) {
		if st.Current == sha {
			st.Trial = nil
		}
	})
}

// onTrial changes the state of a model on trial.
func (s *Store) onTrial(name string, do func(*State)) error {
	if st, err := s.State(name); err != nil || st.Trial == nil {
		return err
	}
	err := s.change(name, func(st *State) error {
		if st.Trial != nil {
			do(st)
		}
		return nil
	})
	if errors.Is(err, ErrNoModel) {
		return nil // it was taken away by hand
	}
	return err
}

// Revert puts back the state that was before an activation that could not be
// carried out after all.
func (s *Store) Revert(name string, was State) error {
	return s.change(name, func(st *State) error {
		was.Damaged = ""
		*st = was
		return nil
	})
}
