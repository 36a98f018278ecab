package main

import (
	"time"

	"outstation/vision"
)

// BatchConfig says how frames of a model's cameras are put together in one run.
type BatchConfig struct {
	MaxBatch int           `yaml:"max_batch"` // frames in a run; 0: chosen by measuring when the model is loaded
	MaxWait  time.Duration `yaml:"max_wait"`  // of a frame for those of other cameras; 0: vision.DefaultMaxWait
}

// Bounds of BatchConfig: memory grows with the batch, and no frame should wait
// for others as long as several runs take.
const (
	largestBatch = 64
	longestWait  = time.Second
)

func (c *checker) batch(key string, b BatchConfig) {
	if b.MaxBatch < 0 || b.MaxBatch > largestBatch {
		c.add(key+".max_batch", "expected 1 (no batches) to %d frames in one run, or 0 (chosen by measuring), got %d", largestBatch, b.MaxBatch)
	}
	if b.MaxWait < 0 || b.MaxWait > longestWait {
		c.add(key+".max_wait", "expected 0s (which means %v) to %v, got %v", vision.DefaultMaxWait, longestWait, b.MaxWait)
	}
}

// camerasOf is how many cameras a model has.
func (c VisionConfig) camerasOf(model string) (n int) {
	for _, cam := range c.Cameras {
		if cam.Model == model {
			n++
		}
	}
	return n
}
