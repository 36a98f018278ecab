package models

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"outstation/vision/modelfile"
)

// maxSidecar bounds a model.yaml, in bytes.
const maxSidecar = 1 << 20

// Addition is a version to be added.
type Addition struct {
	Name   string
	Source string // for the manifest; it must not hold a secret
	SHA256 string // expected of the model; "" takes it as it is
	Bytes  int64  // length of the model where it is known, else 0

	// Fetch brings the model to path, which does not exist and is on the
	// store's file system.
	Fetch func(ctx context.Context, path string) error

	Sidecar    []byte // content of model.yaml, or nil
	LabelsFile string // name of the file that model.yaml takes its classes from; "" where it names none
	Labels     []byte // content of that file
	Golden     fs.FS  // golden.json and the pictures that it names, or nil

	// Look is shown the model before it is in the store, with its model.yaml
	// beside it; its error refuses the model. nil looks at nothing.
	Look func(path string) error

	Classes    []string
	Confidence float64
	Head       string
}

// Added is what Add did.
type Added struct {
	Manifest
	Existed bool // it was in the store already, with the same files
	Swept   int  // remains of additions that did not end, which were removed
}

// Add brings a version into the store: all of it, durable, or nothing. It does
// not activate it. One addition runs at a time in a store; the error of
// another wraps ErrBusy.
func (s *Store) Add(ctx context.Context, a Addition) (out Added, err error) {
	if err := CheckName(a.Name); err != nil {
		return out, err
	}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return out, err
	}
	unlock, err := lock(s.path("add.lock"), false)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if out.Swept, err = s.sweep(); err != nil {
		return out, err
	}
	if err := s.room(a.Bytes); err != nil {
		return out, err
	}
	dir, err := os.MkdirTemp(s.dir, tempPrefix)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if out.Manifest, err = s.stage(ctx, a, dir); err != nil {
		return out, err
	}
	out.Existed, err = s.place(out.Manifest, dir)
	return out, err
}

// Sweep removes what additions that did not end have left, unless one runs
// now. It returns how many it removed.
func (s *Store) Sweep() (int, error) {
	if _, err := os.Stat(s.dir); errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	unlock, err := lock(s.path("add.lock"), false)
	if errors.Is(err, ErrBusy) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := s.sweep()
	return n, errors.Join(err, unlock())
}

// sweep is Sweep under the lock.
func (s *Store) sweep() (n int, err error) {
	left, err := filepath.Glob(s.path(tempPrefix + "*"))
	more, errMore := filepath.Glob(s.path("*", tempPrefix+"*"))
	if err = errors.Join(err, errMore); err != nil {
		return 0, err
	}
	for _, path := range append(left, more...) {
		if err := os.RemoveAll(path); err != nil {
			return n, err
		}
		n++
	}
	return n, s.sweepPartials()
}

// room reports whether so many bytes leave the disk's floor free.
func (s *Store) room(need int64) error {
	if need > s.maxBytes {
		return fmt.Errorf("%w: the model has %d bytes, at most %d are taken", ErrTooLarge, need, s.maxBytes)
	}
	free, err := freeBytes(s.dir)
	if err != nil {
		return err
	}
	if free-need < s.minFree {
		return fmt.Errorf("%w: %s has %d bytes free, the model needs %d and %d are to stay free; remove a version with outstation model rm, or free some space", ErrFull, s.dir, free, need, s.minFree)
	}
	return nil
}

// stage makes all files of a version in dir.
func (s *Store) stage(ctx context.Context, a Addition, dir string) (m Manifest, err error) {
	if err := a.Fetch(ctx, filepath.Join(dir, ModelFile)); err != nil {
		return m, err
	}
	sum, n, err := SumFile(filepath.Join(dir, ModelFile))
	if err != nil {
		return m, err
	}
	if a.SHA256 != "" && a.SHA256 != sum {
		return m, fmt.Errorf("%w: the model has sha256 %s, expected %s; nothing was added", ErrHash, sum, a.SHA256)
	}
	if n == 0 {
		return m, fmt.Errorf("%w: the model is empty; nothing was added", ErrHash)
	}
	if err := s.room(0); err != nil { // the length was not known before
		return m, err
	}
	if a.Sidecar != nil {
		if err := stageSidecar(ctx, a, dir); err != nil {
			return m, err
		}
	}
	if a.Look != nil {
		if err := a.Look(filepath.Join(dir, ModelFile)); err != nil {
			return m, err
		}
	}
	if a.Golden != nil {
		if err := copyGolden(ctx, a.Golden, filepath.Join(dir, GoldenDir)); err != nil {
			return m, fmt.Errorf("golden frames: %w", err)
		}
	}
	m = Manifest{Name: a.Name, SHA256: sum, Bytes: n, Source: a.Source, AddedAt: s.now().UTC().Truncate(time.Second),
		Classes: a.Classes, Confidence: a.Confidence, Head: a.Head}
	if m.Files, err = list(dir); err != nil {
		return m, err
	}
	return m, errors.Join(replaceJSON(filepath.Join(dir, manifestFile), m), os.Chmod(dir, 0o755))
}

// stageSidecar writes model.yaml and the labels that it names, and reads them
// as whoever loads the model will: a version has all that it needs.
func stageSidecar(ctx context.Context, a Addition, dir string) error {
	if a.LabelsFile != "" {
		name := a.LabelsFile
		if !filepath.IsLocal(name) || slices.Contains([]string{ModelFile, SidecarFile, manifestFile, GoldenDir}, name) || strings.HasPrefix(name, tempPrefix) {
			return fmt.Errorf("%w: the file of labels is called %q, which is a name of the store's own; rename it, and the classes of %s with it", ErrLabels, name, SidecarFile)
		}
		if err := writeNew(ctx, filepath.Join(dir, name), bytes.NewReader(a.Labels), maxSidecar); err != nil {
			return err
		}
	}
	path := filepath.Join(dir, SidecarFile)
	if err := writeNew(ctx, path, bytes.NewReader(a.Sidecar), maxSidecar); err != nil {
		return err
	}
	if f, err := modelfile.Parse(path, a.Sidecar); err != nil {
		return err
	} else if f.Labels != a.LabelsFile {
		return fmt.Errorf("%w: %s takes its classes from the file %q, got %q beside it", ErrLabels, SidecarFile, f.Labels, a.LabelsFile)
	}
	return nil
}

// place moves a staged version to where it belongs. existed says that it was
// there, with the same files.
func (s *Store) place(m Manifest, dir string) (existed bool, err error) {
	unlock, err := lock(s.path("lock"), true)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	to := s.path(m.Name, m.SHA256)
	if was, err := readManifest(to); err == nil {
		if !slices.Equal(was.Files, m.Files) {
			return false, fmt.Errorf("%w: %s@%s; remove it first, or add this one under another name", ErrExists, m.Name, Short(m.SHA256))
		}
		return true, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err := os.MkdirAll(s.path(m.Name), 0o755); err != nil {
		return false, err
	}
	if err := os.Rename(dir, to); err != nil {
		return false, err
	}
	return false, errors.Join(syncDir(s.path(m.Name)), syncDir(s.dir))
}

// FromFile fetches a model from a file of this machine.
func (s *Store) FromFile(file string) func(context.Context, string) error {
	return func(ctx context.Context, to string) error {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		return writeNew(ctx, to, f, s.maxBytes)
	}
}

// FromBytes fetches a model from memory.
func (s *Store) FromBytes(b []byte) func(context.Context, string) error {
	return func(ctx context.Context, to string) error { return writeNew(ctx, to, bytes.NewReader(b), s.maxBytes) }
}

// copyGolden copies golden.json and the pictures that it names, after it has
// read all of them.
func copyGolden(ctx context.Context, from fs.FS, to string) error {
	g, err := ReadGolden(from)
	if err != nil {
		return err
	}
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	names := []string{goldenFile}
	for _, f := range g.Frames {
		names = append(names, f.File)
	}
	for _, name := range names {
		if err := copyFile(ctx, from, name, filepath.Join(to, name)); err != nil {
			return err
		}
	}
	return syncDir(to)
}

func copyFile(ctx context.Context, from fs.FS, name, to string) error {
	f, err := from.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return writeNew(ctx, to, io.Reader(f), maxPicture)
}

// NameOf is how a model is called that was not given a name: its file's,
// without its ending.
func NameOf(file string) string {
	base := path.Base(filepath.ToSlash(file))
	base = strings.ToLower(strings.TrimSuffix(base, path.Ext(base)))
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789._-", r) {
			return r
		}
		return '-'
	}, base)
}
