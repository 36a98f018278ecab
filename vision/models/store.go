package models

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// What errors of this package wrap.
var (
	ErrNoModel   = errors.New("there is no such model in the store")
	ErrNoVersion = errors.New("there is no such version in the store")
	ErrNotActive = errors.New("no version is active")
	ErrActive    = errors.New("the version is in use")
	ErrExists    = errors.New("this version is in the store already, with other files beside it")
	ErrDamaged   = errors.New("damaged")
	ErrHash      = errors.New("wrong content")
	ErrBusy      = errors.New("another command is adding a model")
	ErrFull      = errors.New("not enough space")
	ErrTooLarge  = errors.New("too large")
	ErrLabels    = errors.New("the labels of the model cannot be kept beside it")
)

// DefaultMaxBytes is the largest model that is taken.
const DefaultMaxBytes = 2 << 30

// tempPrefix begins the names of what is not finished.
const tempPrefix = ".new-"

// Options configure a Store.
type Options struct {
	Dir      string           // made when something is added
	MinFree  int64            // bytes of the disk that an addition leaves free
	MaxBytes int64            // of one model; 0 means DefaultMaxBytes
	Now      func() time.Time // nil means time.Now
}

// Store is a directory of models. Several processes may use it at once, and a
// Store is safe for concurrent use: what changes it takes a lock in the
// directory. What a method returned without an error is durable.
type Store struct {
	dir      string
	minFree  int64
	maxBytes int64
	now      func() time.Time
}

// New returns the store in a directory. It does no I/O.
func New(o Options) *Store {
	s := &Store{dir: o.Dir, minFree: o.MinFree, maxBytes: o.MaxBytes, now: o.Now}
	if s.maxBytes == 0 {
		s.maxBytes = DefaultMaxBytes
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s
}

// Model is one model with its versions.
type Model struct {
	Name     string
	State    State
	Versions []Manifest // the newest first
	Problems []string   // what of it cannot be read
}

// List is every model, by name.
func (s *Store) List() ([]Model, error) {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []Model
	for _, e := range entries {
		if e.IsDir() && CheckName(e.Name()) == nil {
			m, err := s.Model(e.Name())
			if err != nil {
				return out, err
			}
			out = append(out, m)
		}
	}
	return out, nil
}

// Model is one model.
func (s *Store) Model(name string) (Model, error) {
	m := Model{Name: name}
	if err := CheckName(name); err != nil {
		return m, err
	}
	entries, err := os.ReadDir(s.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return m, s.noModel(name)
	}
	if err != nil {
		return m, err
	}
	if m.State, err = readState(s.path(name)); err != nil {
		m.Problems = append(m.Problems, err.Error())
	}
	for _, e := range entries {
		if CheckSHA256(e.Name()) != nil {
			continue
		}
		v, err := readManifest(s.path(name, e.Name()))
		if _, gone := os.Stat(s.path(name, e.Name())); errors.Is(gone, fs.ErrNotExist) {
			continue // it was removed just now
		}
		if err != nil {
			m.Problems = append(m.Problems, err.Error())
			continue
		}
		m.Versions = append(m.Versions, v)
	}
	slices.SortFunc(m.Versions, func(a, b Manifest) int { return b.AddedAt.Compare(a.AddedAt) })
	return m, nil
}

// noModel is the error for a name that is not in the store, and says what is.
func (s *Store) noModel(name string) error {
	list, err := s.List()
	if err != nil {
		return errors.Join(fmt.Errorf("%w: %s", ErrNoModel, name), err)
	}
	names := make([]string, len(list))
	for i, m := range list {
		names[i] = m.Name
	}
	return fmt.Errorf("%w: %s; there is %s; outstation model add brings one", ErrNoModel, name, few(names))
}

// versions are those of a model, in words.
func (m Model) versions() string {
	names := make([]string, len(m.Versions))
	for i, v := range m.Versions {
		names[i] = Short(v.SHA256)
	}
	return few(names)
}

// few lists names for an error, at most ten of them.
func few(names []string) string {
	const most = 10
	switch {
	case len(names) == 0:
		return "none"
	case len(names) > most:
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

// Version is the version of a model whose SHA-256 begins with prefix; with an
// empty one the newest.
func (s *Store) Version(name, prefix string) (Manifest, error) {
	m, err := s.Model(name)
	if err != nil {
		return Manifest{}, err
	}
	var found []Manifest
	for _, v := range m.Versions {
		if strings.HasPrefix(v.SHA256, prefix) {
			found = append(found, v)
		}
	}
	switch {
	case len(found) == 0:
		return Manifest{}, fmt.Errorf("%w: %s@%s; there is %s", ErrNoVersion, name, prefix, m.versions())
	case len(found) > 1 && prefix != "":
		return Manifest{}, fmt.Errorf("%w: %d versions of %s begin with %s; write more of it", ErrNoVersion, len(found), name, prefix)
	}
	return found[0], nil
}

// State is which version of a model is active. A model that is not there has
// the zero State.
func (s *Store) State(name string) (State, error) { return readState(s.path(name)) }

// Dir is where a version lies.
func (s *Store) Dir(name, sha string) string { return s.path(name, sha) }

// Check compares every file of a version with its hash. Its error wraps
// ErrDamaged, or ErrNoVersion.
func (s *Store) Check(name, sha string) (Manifest, error) {
	dir := s.path(name, sha)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return Manifest{}, fmt.Errorf("%w: %s@%s", ErrNoVersion, name, Short(sha))
	}
	m, err := readManifest(dir)
	if err != nil {
		return m, err
	}
	wrong, err := m.differences(dir)
	if err != nil {
		return m, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if i := slices.IndexFunc(m.Files, func(f File) bool { return f.Path == ModelFile }); m.Files[i].SHA256 != sha {
		wrong = append(wrong, fmt.Sprintf("the manifest lists %s with sha256 %s, expected %s", ModelFile, m.Files[i].SHA256, sha))
	}
	if len(wrong) > 0 {
		return m, fmt.Errorf("%w: %s@%s: %s; remove it and add it again", ErrDamaged, name, Short(sha), strings.Join(wrong, "; "))
	}
	return m, nil
}

// Remove deletes a version for good, but not one that is active, nor one that
// a trial would go back to.
func (s *Store) Remove(name, sha string) error {
	return s.change(name, func(st *State) error {
		if sha == st.Current || (st.Trial != nil && sha == st.Previous) {
			return fmt.Errorf("%w: %s@%s; activate another one first, and wait for the end of its trial", ErrActive, name, Short(sha))
		}
		if sha == st.Previous {
			st.Previous = ""
		}
		gone, err := os.MkdirTemp(s.dir, tempPrefix)
		if err != nil {
			return err
		}
		if err := os.Rename(s.path(name, sha), filepath.Join(gone, sha)); err != nil { // whole or not at all
			return errors.Join(err, os.Remove(gone))
		}
		return errors.Join(syncDir(s.path(name)), os.RemoveAll(gone))
	})
}

// change changes a model's state under the lock of the store. With an error
// the state stays. A state that cannot be read is not changed.
func (s *Store) change(name string, do func(*State) error) error {
	return s.changeFrom(name, readState, do)
}

func (s *Store) changeFrom(name string, read func(dir string) (State, error), do func(*State) error) (err error) {
	if err := CheckName(name); err != nil {
		return err
	}
	if _, err := os.Stat(s.path(name)); err != nil {
		return s.noModel(name)
	}
	unlock, err := lock(s.path("lock"), true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	st, err := read(s.path(name))
	if err != nil {
		return err
	}
	before := st
	if err := do(&st); err != nil || st == before {
		return err
	}
	return s.writeState(s.path(name), st)
}
