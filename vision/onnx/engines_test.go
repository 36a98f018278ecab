//go:build !novision

package onnx

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestEngineKey: another model, library, GPU or batch has another directory.
func TestEngineKey(t *testing.T) {
	keys := map[string]bool{}
	for _, k := range []string{
		engineKey("aaaaaaaaaaaaaaaabbbb", "1.29.0", "10.9.0", "NVIDIA H200", 1),
		engineKey("caaaaaaaaaaaaaaabbbb", "1.29.0", "10.9.0", "NVIDIA H200", 1),
		engineKey("aaaaaaaaaaaaaaaabbbb", "1.30.0", "10.9.0", "NVIDIA H200", 1),
		engineKey("aaaaaaaaaaaaaaaabbbb", "1.29.0", "10.10.0", "NVIDIA H200", 1),
		engineKey("aaaaaaaaaaaaaaaabbbb", "1.29.0", "10.9.0", "Jetson/Orin ../x", 1),
		engineKey("aaaaaaaaaaaaaaaabbbb", "1.29.0", "10.9.0", "NVIDIA H200", 8),
	} {
		keys[k] = true
		if filepath.Base(k) != k {
			t.Errorf("%q is not one name", k)
		}
	}
	if len(keys) != 6 || !keys["aaaaaaaaaaaaaaaa-ort1.29.0-trt10.9.0-NVIDIA-H200-b1"] {
		t.Errorf("%v, want six", keys)
	}
}

func TestEnginesAreBounded(t *testing.T) {
	root := filepath.Join(t.TempDir(), "engines")
	open := func(i int) engineCache {
		c := engineCache{root, fmt.Sprint("engine-", i)}
		if err := c.open(); err != nil {
			t.Fatal(err)
		}
		return c
	}
	for i := range maxEngines + 3 {
		c := open(i)
		if i == 4 {
			if err := os.WriteFile(filepath.Join(c.dir(), "x.engine"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		then := time.Now().Add(time.Duration(i-100) * time.Minute)
		if err := os.Chtimes(c.dir(), then, then); err != nil {
			t.Fatal(err)
		}
	}
	if c := open(4); !c.built() { // used again: now the newest
		t.Error("the engine is gone")
	}
	open(100)
	open(101)
	left, err := os.ReadDir(root)
	if err != nil || len(left) != maxEngines {
		t.Fatalf("%v are left (%v), want %d", left, err, maxEngines)
	}
	for _, gone := range []int{0, 1, 2, 3, 5} {
		if _, err := os.Stat(filepath.Join(root, fmt.Sprint("engine-", gone))); err == nil {
			t.Errorf("engine %d is still there", gone)
		}
	}
	if !open(4).built() || open(6).built() {
		t.Error("engine 4, which was used last but two, is gone, or engine 6 was never built")
	}
}

func TestGPU(t *testing.T) {
	for want, file := range map[string]struct{ path, text string }{
		"unknown":                               {"proc/version", "Linux"},
		"NVIDIA H200":                           {"proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: \t\t NVIDIA H200\nIRQ:   	 16\n"},
		"NVIDIA Jetson Orin Nano Developer Kit": {"proc/device-tree/model", "NVIDIA Jetson Orin Nano Developer Kit\x00"},
	} {
		root := t.TempDir()
		path := filepath.Join(root, file.path)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(file.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := gpu(root); got != want {
			t.Errorf("%s: %q, want %q", file.path, got, want)
		}
	}
}

func TestTensorRTVersion(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "libnvinfer.so.10.9.0"), filepath.Join(dir, "libnvinfer.so.10")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	if got := tensorRTVersion(loader{cache: map[string]string{"libnvinfer.so.10": link}}); got != "10.9.0" {
		t.Errorf("version %q", got)
	}
	if got := tensorRTVersion(loader{}); got != "unknown" {
		t.Errorf("without one: %q", got)
	}
}

// TestSumOfTheModel: in a file and in memory.
func TestSumOfTheModel(t *testing.T) {
	raw, err := os.ReadFile("testdata/batch_2.onnx")
	if err != nil {
		t.Fatal(err)
	}
	file, err := Options{ModelPath: "testdata/batch_2.onnx"}.sum()
	if err != nil {
		t.Fatal(err)
	}
	if memory, err := (Options{Model: raw}).sum(); err != nil || memory != file || len(file) != 64 {
		t.Errorf("%s in memory (%v), %s in the file", memory, err, file)
	}
	if _, err := (Options{ModelPath: "absent", EngineDir: "x"}).engines(1); err == nil {
		t.Error("a key for a model that is not there")
	}
}
