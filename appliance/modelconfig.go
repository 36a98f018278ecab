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

// storedModel checks a path that refers to the store.
func (c *checker) storedModel(key string, m ModelConfig) {
	if name, ok := storeName(m.Path); ok {
		if err := models.CheckName(name); err != nil {
			c.add(key+".path", "behind %s %v", storePrefix, err)
		}
	}
}
