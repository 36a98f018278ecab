package main

import (
	"cmp"
	"path/filepath"
	"strings"

	"outstation/vision/models"
)

// storePrefix begins the path of a model that is the active version of one in
// the store.
const storePrefix = "store:"

// modelsDir is where the store lies below the data directory.
const modelsDir = "models"

// storeName is the name in the store that a model's path refers to.
func storeName(path string) (name string, ok bool) { return strings.CutPrefix(path, storePrefix) }

// modelStore is the store of a configuration. It does no I/O.
func (c Config) modelStore() *models.Store {
	return models.New(models.Options{Dir: filepath.Join(c.DataDir, modelsDir), MinFree: int64(c.Uplink.Queue.MinFreeBytes)})
}

// stored is a model's configuration for one version in the store. What the
// version knows of itself holds where the configuration says nothing and where
// there is no model.yaml beside it, which the detector reads by itself.
func (m ModelConfig) stored(s *models.Store, v models.Manifest) ModelConfig {
	m.Path = filepath.Join(s.Dir(v.Name, v.SHA256), models.ModelFile)
	if len(m.Classes) == 0 && !v.Sidecar() {
		m.Classes = v.Classes
	}
	m.Confidence = cmp.Or(m.Confidence, v.Confidence)
	return m
}

// storedModel checks a path that refers to the store, or was meant to.
func (c *checker) storedModel(key string, m ModelConfig) {
	name, ok := storeName(m.Path)
	switch bare, _, at := strings.Cut(name, "@"); {
	case !ok && meansStore(m.Path):
		c.add(key+".path", "expected %sNAME in small letters and without spaces, got %q", storePrefix, m.Path)
	case ok && at:
		c.add(key+".path", "expected a name without a version behind %s, got %q; outstation model activate %s makes a version the active one", storePrefix, name, orElse(bare, "NAME")+"@SHA")
	case ok:
		if err := models.CheckName(name); err != nil {
			c.add(key+".path", "behind %s %v", storePrefix, err)
		}
	}
}

// meansStore reports whether a path looks like that of a model in the store.
func meansStore(path string) bool {
	head, _, ok := strings.Cut(path, ":")
	return ok && strings.EqualFold(strings.TrimSpace(head)+":", storePrefix)
}
