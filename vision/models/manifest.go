package models

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// The files of a version.
const (
	ModelFile    = "model.onnx"
	SidecarFile  = "model.yaml" // how to read the model, where its graph does not say
	GoldenDir    = "golden"
	manifestFile = "manifest.json"
)

// Manifest describes one version.
type Manifest struct {
	Name    string    `json:"name"`
	SHA256  string    `json:"sha256"` // of model.onnx, and the version's name
	Bytes   int64     `json:"bytes"`  // of model.onnx
	Source  string    `json:"source"` // where it came from, without user, password and query
	AddedAt time.Time `json:"added_at"`

	Classes    []string `json:"classes,omitempty"`    // in the order of the outputs, where known
	Confidence float64  `json:"confidence,omitempty"` // least confidence that it is meant for, 0 where not known
	Head       string   `json:"head,omitempty"`       // of the graph, where known
	Input      string   `json:"input,omitempty"`      // width×height in pixels, once it was opened

	Files []File `json:"files"`          // every file but this one
	Gate  *Gate  `json:"gate,omitempty"` // the latest on this device; nil before the first
}

// File is one file of a version.
type File struct {
	Path   string `json:"path"` // below the version's directory, with slashes
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Golden reports whether the version has golden frames.
func (m Manifest) Golden() bool { return m.has(GoldenDir + "/" + goldenFile) }

// Sidecar reports whether the version has a model.yaml.
func (m Manifest) Sidecar() bool { return m.has(SidecarFile) }

func (m Manifest) has(path string) bool {
	return slices.ContainsFunc(m.Files, func(f File) bool { return f.Path == path })
}

// Short is how a version is called where it has to be short.
func Short(sha string) string { return sha[:min(12, len(sha))] }

var (
	nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	shaForm  = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// CheckName reports what is wrong with the name of a model.
func CheckName(name string) error {
	if !nameForm.MatchString(name) {
		return fmt.Errorf("expected a name of 1 to 64 of a-z 0-9 . _ - that begins with a letter or digit, got %q", name)
	}
	return nil
}

// CheckSHA256 reports what is wrong with a hash in hex.
func CheckSHA256(sum string) error {
	if !shaForm.MatchString(sum) {
		return fmt.Errorf("expected a SHA-256 as 64 of 0-9 a-f, got %q", sum)
	}
	return nil
}

// readManifest reads and checks the manifest of a version's directory.
func readManifest(dir string) (Manifest, error) {
	var m Manifest
	b, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err == nil {
		err = m.check(filepath.Base(dir))
	}
	if err != nil {
		return m, fmt.Errorf("%w: %s: %w", ErrDamaged, filepath.Join(dir, manifestFile), err)
	}
	return m, nil
}

func (m Manifest) check(sha string) error {
	var errs []error
	if m.SHA256 != sha {
		errs = append(errs, fmt.Errorf("expected sha256 %s, as its directory is called, got %q", sha, m.SHA256))
	}
	if !m.has(ModelFile) {
		errs = append(errs, fmt.Errorf("it lists no %s", ModelFile))
	}
	for _, f := range m.Files {
		if !filepath.IsLocal(filepath.FromSlash(f.Path)) {
			errs = append(errs, fmt.Errorf("it lists %q, which is not below it", f.Path))
		}
	}
	return errors.Join(errs...)
}

// list hashes every file below dir but the manifest.
func list(dir string) ([]File, error) {
	var out []File
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil || rel == manifestFile || strings.HasPrefix(d.Name(), tempPrefix) {
			return err
		}
		if !d.Type().IsRegular() {
			return fmt.Errorf("%s: expected a file, got %v", path, d.Type())
		}
		sum, n, err := SumFile(path)
		out = append(out, File{filepath.ToSlash(rel), n, sum})
		return err
	})
	return out, err
}

// differences says how a version's directory differs from its manifest.
func (m Manifest) differences(dir string) ([]string, error) {
	have, err := list(dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, want := range m.Files {
		i := slices.IndexFunc(have, func(f File) bool { return f.Path == want.Path })
		switch {
		case i < 0:
			out = append(out, want.Path+" is missing")
			continue
		case have[i].Bytes != want.Bytes:
			out = append(out, fmt.Sprintf("%s has %d bytes, expected %d", want.Path, have[i].Bytes, want.Bytes))
		case have[i].SHA256 != want.SHA256:
			out = append(out, fmt.Sprintf("%s has sha256 %s, expected %s", want.Path, have[i].SHA256, want.SHA256))
		}
		have = slices.Delete(have, i, i+1)
	}
	for _, f := range have {
		out = append(out, f.Path+" is not in the manifest")
	}
	return out, nil
}
