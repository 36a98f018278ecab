// Package testfiles finds the model, the video and the library that tests and
// benchmarks on real input need. None of them is part of the repository.
package testfiles

import (
	"os"
	"path/filepath"
	"testing"
)

// File is one of the files, with the variable that overrides where it is.
type File struct {
	Variable string // of the environment
	Path     string // below the repository's root, when the variable is unset
	What     string
}

// Model is YOLOX-nano with COCO's classes.
func Model() File {
	return File{"OUTSTATION_TEST_MODEL", "models/yolox_nano.onnx", "the YOLOX-nano model"}
}

// Video is the pedestrians of Debian's package opencv-doc.
func Video() File {
	return File{"OUTSTATION_TEST_VIDEO", "media/vtest.avi", "the video vtest.avi"}
}

// Library is ONNX Runtime.
func Library() File {
	return File{"OUTSTATION_TEST_ORT", ".deps/onnxruntime/libonnxruntime.so.1", "the ONNX Runtime library"}
}

// GPULibrary is ONNX Runtime with its CUDA and TensorRT providers.
func GPULibrary() File {
	return File{"OUTSTATION_TEST_ORT_GPU", ".deps/onnxruntime-gpu/libonnxruntime.so.1", "the ONNX Runtime library with GPU providers"}
}

// Find returns the file's path, or false when it is not there. Without the
// variable it looks in the nearest directory above that has a go.mod.
func (f File) Find() (string, bool) {
	path := os.Getenv(f.Variable)
	if path == "" {
		path = filepath.Join(root(), f.Path)
	}
	info, err := os.Stat(path)
	return path, err == nil && info.Mode().IsRegular()
}

// Need returns the file's path, or skips the test and says which file is
// missing and which variable names it.
func (f File) Need(t testing.TB) string {
	t.Helper()
	path, ok := f.Find()
	if !ok {
		t.Skipf("skipping: %s is not at %s; put it there or set %s", f.What, path, f.Variable)
	}
	return path
}

// root is the directory of go.mod above the working directory, or "." .
func root() string {
	dir, err := os.Getwd()
	if err != nil {
		return "."
	}
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			return at
		}
		if at == filepath.Dir(at) {
			return "."
		}
	}
}
