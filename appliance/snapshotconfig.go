package main

import (
	"fmt"
	"time"

	"outstation/appliance/internal/snapshots"
	"outstation/vision"
)

// SnapshotConfig says which events of a camera have a picture.
type SnapshotConfig struct {
	Of      string        `yaml:"of"`
	Every   time.Duration `yaml:"every"`
	Quality int           `yaml:"quality"`
	MaxSide int           `yaml:"max_side"`
}

// SetDefaults is called before the snapshot of a camera is read.
func (c *SnapshotConfig) SetDefaults() {
	*c = SnapshotConfig{
		Of: vision.SnapshotFrame, Every: vision.DefaultSnapshotEvery, Quality: vision.DefaultSnapshotQuality, MaxSide: vision.DefaultSnapshotSide,
	}
}

// options are those of the pipeline; maxBytes bounds one picture.
func (c *SnapshotConfig) options(maxBytes func() int) vision.SnapshotOptions {
	if c == nil {
		return vision.SnapshotOptions{}
	}
	return vision.SnapshotOptions{Of: c.Of, Every: c.Every, Quality: c.Quality, MaxSide: c.MaxSide, MaxBytes: maxBytes}
}

// SnapshotStoreConfig bounds the pictures that are kept here.
type SnapshotStoreConfig struct {
	MaxBytes Bytes         `yaml:"max_bytes"`
	MaxAge   time.Duration `yaml:"max_age"`
}

func defaultSnapshotStore() SnapshotStoreConfig {
	return SnapshotStoreConfig{MaxBytes: snapshots.DefaultMaxBytes, MaxAge: snapshots.DefaultMaxAge}
}

func (c *checker) snapshots(cfg VisionConfig) {
	if cfg.Snapshots.MaxBytes < 1<<20 {
		c.add("vision.snapshots.max_bytes", "expected at least 1MiB, got %d bytes", cfg.Snapshots.MaxBytes)
	}
	c.positive("vision.snapshots.max_age", cfg.Snapshots.MaxAge)
	for i, cam := range cfg.Cameras {
		if cam.Snapshot != nil {
			c.snapshot(fmt.Sprintf("vision.cameras[%d]", i), cam)
		}
	}
}

func (c *checker) snapshot(key string, cam CameraConfig) {
	s := cam.Snapshot
	if cam.Model == "" {
		c.add(key+".snapshot", "without a model the camera has no events to take pictures of; leave it out")
	}
	key += ".snapshot"
	c.oneOf(key+".of", s.Of, vision.SnapshotFrame, vision.SnapshotCrop)
	if s.Of == "" {
		c.add(key+".of", "expected %s or %s; to have no pictures, leave snapshot out", vision.SnapshotFrame, vision.SnapshotCrop)
	}
	if s.Every < 0 {
		c.add(key+".every", "expected 0s (every event) or more, got %v", s.Every)
	}
	if s.Quality < 1 || s.Quality > 100 {
		c.add(key+".quality", "expected 1 to 100, got %d", s.Quality)
	}
	if s.MaxSide < vision.MinSnapshotSide || s.MaxSide > 16384 {
		c.add(key+".max_side", "expected %d to 16384 pixels, got %d", vision.MinSnapshotSide, s.MaxSide)
	}
}
