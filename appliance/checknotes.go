package main

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"outstation/vision"
	"outstation/vision/modelfile"
	"outstation/vision/models"
)

// notes say what of a configuration is no mistake yet and still keeps something
// from working on this machine as it is now: files and models that are missing,
// a model that is not active, and classes that a model does not have.
func (c Config) notes() (out []string) {
	for _, f := range c.files() {
		if f.path != "" && !strings.HasPrefix(f.path, "builtin:") && !meansStore(f.path) && !exists(f.path) {
			out = append(out, fmt.Sprintf("not on this machine yet: %s (%s)", f.path, f.key))
		}
	}
	return append(append(out, c.notStored()...), c.notKnown()...)
}

// notStored says which models of the configuration are not in the store, or not
// active, which is no mistake before they are.
func (c Config) notStored() (out []string) {
	s := c.modelStore()
	for i, m := range c.Vision.Models {
		name, ok := storeName(m.Path)
		if !ok || models.CheckName(name) != nil { // a bad name is an error
			continue
		}
		at := fmt.Sprintf("%s (vision.models[%d].path)", m.Path, i)
		if _, err := s.Model(name); err != nil {
			out = append(out, fmt.Sprintf("not on this machine yet: %s: %v", at, err))
			continue
		}
		switch st, err := s.State(name); {
		case err != nil:
			out = append(out, fmt.Sprintf("not known which version is active: %s: %v", at, err))
		case st.Current == "":
			out = append(out, fmt.Sprintf("not active yet: %s: it was added, and nothing is inspected with it until, while the appliance runs: outstation model activate %s", at, name))
		}
	}
	return out
}

// notKnown says which classes the rules name that the model does not have, as
// far as the files beside it tell. It is no error: whoever activates another
// version must not keep the appliance from its next start. Classes that the
// configuration itself gives are the checker's.
func (c Config) notKnown() (out []string) {
	known := map[string][]string{}
	for _, m := range c.Vision.Models {
		if len(classesOf(m.Name, c.Vision.Models)) == 0 {
			known[m.Name] = c.fileClasses(m)
		}
	}
	for i, cam := range c.Vision.Cameras {
		classes := known[cam.Model]
		if len(classes) == 0 {
			continue
		}
		named := cam.namedClasses(fmt.Sprintf("vision.cameras[%d]", i))
		for _, at := range slices.Sorted(maps.Keys(named)) {
			if !slices.Contains(classes, named[at]) {
				out = append(out, fmt.Sprintf("warning: %s: model %s has no class %q, only %s; nothing of that name is ever found", at, cam.Model, named[at], strings.Join(classes, ", ")))
			}
		}
	}
	return out
}

// fileClasses are the classes of a model as the files beside it say, or, of a
// model that is known by its hash, as the catalogue does. They are nil where
// only the graph knows them, and where there is no model.
func (c Config) fileClasses(m ModelConfig) []string {
	path, sum := m.Path, ""
	if name, ok := storeName(m.Path); ok {
		v, err := versionArg(name).find(c.modelStore())
		if err != nil {
			return nil // notStored says so
		}
		if !v.Sidecar() && len(v.Classes) > 0 {
			return v.Classes
		}
		path, sum = filepath.Join(c.modelStore().Dir(v.Name, v.SHA256), models.ModelFile), v.SHA256
	} else if !exists(path) {
		return nil
	}
	if f, err := modelfile.Find(path); err != nil || f != nil && len(f.Classes) > 0 {
		if err != nil {
			return nil // the start says so
		}
		return f.Classes
	}
	if sum == "" {
		sum, _, _ = models.SumFile(path) // one that cannot be read is not known
	}
	e, ok := models.KnownSum(sum)
	if !ok || sum == "" {
		return nil
	}
	if len(e.Classes) == 0 {
		return vision.COCO()
	}
	return e.Classes
}
