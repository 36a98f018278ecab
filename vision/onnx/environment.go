//go:build !novision

package onnx

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	ort "github.com/yalue/onnxruntime_go"
)

// ErrLibrary is wrapped by every error about the ONNX Runtime library.
var ErrLibrary = errors.New("ONNX Runtime library")

// environment is the process' one ONNX Runtime: the library keeps its state in
// globals of its own, so which file was loaded has to be known process-wide.
var environment struct {
	mu     sync.Mutex
	loaded string // absolute path of the loaded file; "" before the first success
}

// load initialises ONNX Runtime from the library at path, once per process. A
// second call with another file is an error; one after a failure tries again.
func load(path string) error {
	full, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("onnx: %w %q: %w", ErrLibrary, path, err)
	}
	environment.mu.Lock()
	defer environment.mu.Unlock()
	switch environment.loaded {
	case full:
		return nil
	case "":
	default:
		return fmt.Errorf("onnx: %w %s: this process already runs %s; use one library for all models, and restart to change it", ErrLibrary, full, environment.loaded)
	}
	if _, err := os.Stat(full); err != nil {
		return fmt.Errorf("onnx: %w: %w; install it there or set its path (vision.onnxruntime)", ErrLibrary, err)
	}
	ort.SetSharedLibraryPath(full)
	if err := keepSignals(func() error { return ort.InitializeEnvironment(ort.WithLogLevelError()) }); err != nil {
		return fmt.Errorf("onnx: %w %s: %w; it must be for this machine's architecture and of version 1.22 or newer", ErrLibrary, full, err)
	}
	environment.loaded = full
	return nil
}
