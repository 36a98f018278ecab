package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"outstation/vision/models"
)

// errCannotLook says that there is nothing to look into a model with: not that
// something is wrong with it.
var errCannotLook = errors.New("this machine cannot look into a model")

// seenModel is what was seen of a model before it was added.
type seenModel struct {
	missing error // why it could not be looked at
	problem error // why it cannot be used as it is
}

// look refuses what is no model in ONNX form. What is one and cannot be used as
// it is may be so with the configuration to come, so that is a warning.
func (c *modelAddCommand) look(cfg Config, a models.Addition, path string) error {
	asked := modelInspectCommand{File: path, ONNX: c.library(c.ONNX, cfg)}
	if a.Sidecar == nil {
		asked.Classes = a.Classes
	}
	for _, m := range cfg.Vision.Models {
		if name, ok := storeName(m.Path); ok && name == a.Name && len(m.Classes) > 0 {
			asked.Classes = m.Classes
		}
	}
	d, err := describeModel(asked)
	if errors.Is(err, errCannotLook) {
		c.seen.missing = err
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: expected a model in ONNX form; nothing was added: %w", a.Source, err)
	}
	c.seen.problem = d.problem
	return nil
}

// warn says what whoever adds a model should mend before it is activated.
func (c *modelAddCommand) warn(e *env, s *models.Store, done models.Added) {
	version := done.Name + "@" + models.Short(done.SHA256)
	if c.seen.missing != nil {
		fmt.Fprintf(e.errOut, "warning: nobody looked whether %s is a model in ONNX form, which its activation does: %v\n", version, c.seen.missing)
	}
	if c.seen.problem != nil {
		fmt.Fprintf(e.errOut, "warning: %s cannot be used as it is: %v\n", version, c.seen.problem)
		if !done.Sidecar() {
			fmt.Fprintf(e.errOut, "  it has no model.yaml, which would say how to read it: outstation model rm %s, then add it with --yaml FILE\n", version)
		}
	}
	if err := needsSidecar(s, done.Manifest); err != nil {
		fmt.Fprintf(e.errOut, "warning: %v\n", err)
	}
}

// errNoSidecar says that a version lacks what the active one has.
var errNoSidecar = errors.New("it has no model.yaml, and the active version has one")

// needsSidecar reports that a version would take the place of one with a
// model.yaml without having one itself: it would be read in another way, and
// perhaps find nothing without failing.
func needsSidecar(s *models.Store, v models.Manifest) error {
	st, err := s.State(v.Name)
	if err != nil || st.Current == "" || st.Current == v.SHA256 || v.Sidecar() {
		return nil // a damaged state is mended by an activation
	}
	active, err := s.Version(v.Name, st.Current)
	if err != nil || !active.Sidecar() {
		return nil // of one that cannot be read nothing is known
	}
	version := v.Name + "@" + models.Short(v.SHA256)
	return fmt.Errorf("%s cannot be activated: %w; outstation model rm %s, then add it with --yaml %s, or with an empty file where its graph says all",
		version, errNoSidecar, version, filepath.Join(s.Dir(v.Name, st.Current), models.SidecarFile))
}
