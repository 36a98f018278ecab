package models

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// State is which version of a model is active. The zero State is that of a
// model without one.
type State struct {
	Current     string    `json:"current,omitempty"`  // SHA-256; "" for none
	Previous    string    `json:"previous,omitempty"` // what a rollback goes back to; "" for nothing
	ActivatedAt time.Time `json:"activated_at,omitzero"`
	Trial       *Trial    `json:"trial,omitempty"`       // nil once the current version is trusted
	RolledBack  *RollBack `json:"rolled_back,omitempty"` // how the current version came back; nil after the next activation

	// Damaged says that the file of this state could not be read and that
	// its copy was used; "" where all is well.
	Damaged string `json:"-"`
}

// Trial is the time in which a newly activated version is watched.
type Trial struct {
	Since  time.Time `json:"since"`
	Starts int       `json:"starts"` // of the program with this version that have not ended in order
}

// RollBack is why a version is active again.
type RollBack struct {
	From   string    `json:"from"` // SHA-256
	To     string    `json:"to"`   // SHA-256
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
	ByHand bool      `json:"by_hand,omitempty"`
}

// The files of a state: the second is written first, so that one of them is
// whole whatever happens to the other.
const (
	stateFile = "active.json"
	stateCopy = "active.copy.json"
)

// readState reads the state of a model's directory.
func readState(dir string) (State, error) {
	s, err := readStateFile(filepath.Join(dir, stateFile))
	if err == nil {
		return s, nil
	}
	c, errCopy := readStateFile(filepath.Join(dir, stateCopy))
	switch {
	case errors.Is(err, fs.ErrNotExist) && errors.Is(errCopy, fs.ErrNotExist):
		return State{}, nil
	case errCopy == nil:
		c.Damaged = err.Error()
		return c, nil
	}
	return State{}, fmt.Errorf("%w: which version is active is not known: %w; activate one", ErrDamaged, errors.Join(err, errCopy))
}

func readStateFile(path string) (s State, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}
	for _, sha := range []string{s.Current, s.Previous} {
		if err := CheckSHA256(sha); sha != "" && err != nil {
			return s, fmt.Errorf("%s: %w", path, err)
		}
	}
	return s, nil
}

// writeState makes a state durable. A file that cannot be read is set aside
// first.
func (s *Store) writeState(dir string, st State) error {
	for _, name := range []string{stateCopy, stateFile} {
		path := filepath.Join(dir, name)
		if _, err := readStateFile(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			if err := os.Rename(path, path+".damaged-"+s.now().UTC().Format("20060102T150405Z")); err != nil {
				return err
			}
		}
		if err := replaceJSON(path, st); err != nil {
			return fmt.Errorf("state of the model: %w", err)
		}
	}
	return nil
}
