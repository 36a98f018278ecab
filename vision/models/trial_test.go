package models

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func activate(t testing.TB, s *Store, sha string) State {
	t.Helper()
	st, err := s.Activate("press", sha, Gate{Passed: true, Input: "416×416"})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// state reads the state with a store of its own, as another process does.
func state(t testing.TB, s *Store) State {
	t.Helper()
	st, err := New(Options{Dir: s.dir}).State("press")
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func TestTheFirstVersionHasNoTrial(t *testing.T) {
	s := newStore(t)
	one := add(t, s, "press", 1)
	if st := activate(t, s, one); st.Trial != nil || st.Current != one || st.Previous != "" {
		t.Errorf("got %+v", st)
	}
	m, err := s.Check("press", one) // the gate's result is no damage
	if err != nil || m.Gate == nil || !m.Gate.Passed || m.Input != "416×416" {
		t.Errorf("got %+v, %v", m, err)
	}
}

func TestStartsThatDoNotEndInOrderRollBack(t *testing.T) {
	s := newStore(t)
	one, two := add(t, s, "press", 1), add(t, s, "press", 2)
	activate(t, s, one)
	activate(t, s, two) // counts as the first start
	for range TrialStarts - 1 {
		for range 3 { // those that end in order do not count
			begin(t, s, two)
			if err := s.End("press"); err != nil {
				t.Fatal(err)
			}
		}
		begin(t, s, two)
	}
	st, back, err := s.Begin("press")
	if err != nil || back == nil || back.From != two || back.To != one || back.ByHand || st.Current != one || st.Trial != nil {
		t.Fatalf("got %+v, %+v, %v", st, back, err)
	}
	if _, back, err := s.Begin("press"); back != nil || err != nil {
		t.Errorf("the next start: %+v, %v", back, err)
	}
	if st := state(t, s); st.RolledBack == nil || !strings.Contains(st.RolledBack.Reason, "3 times") || st.Previous != two {
		t.Errorf("got %+v", st)
	}
	if st := activate(t, s, two); st.RolledBack != nil || st.Trial == nil {
		t.Errorf("the next activation: %+v", st)
	}
}

// begin is a start that does not roll back.
func begin(t *testing.T, s *Store, current string) {
	t.Helper()
	st, back, err := s.Begin("press")
	if err != nil || back != nil || st.Current != current {
		t.Fatalf("got %+v, %+v, %v", st, back, err)
	}
}

func TestATrustedVersionCountsNoStarts(t *testing.T) {
	s := newStore(t)
	one, two := add(t, s, "press", 1), add(t, s, "press", 2)
	activate(t, s, one)
	activate(t, s, two)
	if err := s.Trust("press", one); err != nil || state(t, s).Trial == nil {
		t.Errorf("trust in another version ends the trial, %v", err)
	}
	if err := s.Trust("press", two); err != nil {
		t.Fatal(err)
	}
	for range 2 * TrialStarts {
		begin(t, s, two)
	}
}

func TestRollBackIsForTheVersionThatFailed(t *testing.T) {
	s := newStore(t)
	one, two := add(t, s, "press", 1), add(t, s, "press", 2)
	if _, err := s.RollBack("press", one, "", false); !errors.Is(err, ErrNotActive) {
		t.Errorf("got %v", err)
	}
	activate(t, s, one)
	activate(t, s, two)
	if _, err := s.RollBack("press", one, "", false); !errors.Is(err, ErrNoVersion) {
		t.Errorf("got %v", err)
	}
	if st, err := s.RollBack("press", two, "it failed", false); err != nil || st.Current != one || st.RolledBack.Reason != "it failed" {
		t.Errorf("got %+v, %v", st, err)
	}
	if err := os.RemoveAll(s.Dir("press", two)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.RollBack("press", one, "", false); err == nil || state(t, s).Current != one {
		t.Errorf("rolled back to a version that is gone: %v", err)
	}
}

func TestRevertPutsTheStateBack(t *testing.T) {
	s := newStore(t)
	one, two := add(t, s, "press", 1), add(t, s, "press", 2)
	was := activate(t, s, one)
	activate(t, s, two)
	if err := s.Revert("press", was); err != nil || state(t, s) != was {
		t.Errorf("got %+v, %v", state(t, s), err)
	}
}

// TestTornStateIsReadFromItsCopy damages the file that says what is active in
// several ways.
func TestTornStateIsReadFromItsCopy(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"empty":   func(path string) error { return os.Truncate(path, 0) },
		"cut":     func(path string) error { return os.Truncate(path, 30) },
		"gone":    os.Remove,
		"zeros":   func(path string) error { return os.WriteFile(path, make([]byte, 300), 0o600) },
		"no hash": func(path string) error { return os.WriteFile(path, []byte(`{"current":"../../etc"}`), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			s.now = func() time.Time { return time.Date(2026, 11, 21, 1, 2, 3, 0, time.UTC) }
			one, two := add(t, s, "press", 1), add(t, s, "press", 2)
			activate(t, s, one)
			activate(t, s, two)
			path := filepath.Join(s.dir, "press", stateFile)
			if err := damage(path); err != nil {
				t.Fatal(err)
			}
			if st := state(t, s); st.Current != two || st.Previous != one || st.Damaged == "" {
				t.Fatalf("got %+v", st)
			}
			begin(t, s, two) // mends it
			if st := state(t, s); st.Damaged != "" || st.Trial == nil || st.Trial.Starts != 2 {
				t.Errorf("after a start: %+v", st)
			}
			_, err := os.Stat(path + ".damaged-20261121T010203Z")
			if kept := err == nil; kept != (name != "gone") {
				t.Errorf("set aside: %v", err)
			}
		})
	}
}

func TestAStateOfWhichNothingIsLeftIsMendedByAnActivation(t *testing.T) {
	s := newStore(t)
	one := add(t, s, "press", 1)
	activate(t, s, one)
	for _, name := range []string{stateFile, stateCopy} {
		if err := os.Truncate(filepath.Join(s.dir, "press", name), 5); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.State("press"); !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v", err)
	}
	if err := s.Remove("press", one); !errors.Is(err, ErrDamaged) {
		t.Errorf("what may be active is removed: %v", err)
	}
	if m, err := s.Model("press"); err != nil || len(m.Problems) != 1 {
		t.Errorf("got %+v, %v", m, err)
	}
	activate(t, s, one)
	if st := state(t, s); st.Current != one || st.Damaged != "" {
		t.Errorf("got %+v", st)
	}
}
