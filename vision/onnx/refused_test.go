//go:build !novision

package onnx

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// cached writes an engine file for batches of one size.
func cached(t *testing.T, o Options, size int) engineCache {
	t.Helper()
	c, err := o.engines(size)
	if err == nil {
		err = c.open()
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(c.dir(), "TensorrtExecutionProvider.engine"), []byte("cut o"), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestAnEngineThatIsRefusedIsSetAside, once, and only when it was there before.
func TestAnEngineThatIsRefusedIsSetAside(t *testing.T) {
	o := options(t)
	o.EngineDir = filepath.Join(t.TempDir(), "engines")
	refused := errors.New("could not deserialize")
	refuse := func() error { return refused }
	c := cached(t, o, 1)
	if err := o.guarded(ProviderTensorRT, 1, func() error { return nil }); err != nil || !c.built() {
		t.Errorf("an engine that serves: %v", err)
	}
	if err := o.guarded(ProviderCUDA, 1, refuse); err != refused || !c.built() { //nolint:errorlint // not even wrapped
		t.Errorf("another provider: %v", err)
	}
	err := o.guarded(ProviderTensorRT, 1, refuse)
	if !errors.Is(err, refused) || !strings.Contains(err.Error(), "set aside as "+c.dir()+asideMark) || c.built() {
		t.Errorf("got %v", err)
	}
	if err := o.guarded(ProviderTensorRT, 1, refuse); err != refused { //nolint:errorlint // not even wrapped
		t.Errorf("where no engine was: %v", err)
	}
	cached(t, o, 1)
	if err := o.guarded(ProviderTensorRT, 1, refuse); !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
	aside, err := filepath.Glob(filepath.Join(o.EngineDir, "*"+asideMark+"*", "*.engine"))
	if err != nil || len(aside) != 1 {
		t.Errorf("set aside: %v, %v; want the latest", aside, err)
	}
	for i := range maxEngines { // all of them newer than what is set aside or not: that goes first
		other := engineCache{o.EngineDir, string(rune('a' + i))}
		if err := other.open(); err != nil {
			t.Fatal(err)
		}
		old := time.Now().Add(-time.Hour)
		if err := os.Chtimes(other.dir(), old, old); err != nil {
			t.Fatal(err)
		}
	}
	left, err := os.ReadDir(o.EngineDir)
	if err != nil || len(left) != maxEngines || strings.Contains(left[0].Name(), asideMark) {
		t.Errorf("%v, %v", left, err)
	}
}

// TestTheEngineOfAFixedBatchIsFound: its key has the graph's batch, whatever is
// configured, and with a dynamic one each size has an engine.
func TestTheEngineOfAFixedBatchIsFound(t *testing.T) {
	newDetector(t, nil) // the library is loaded
	for _, c := range []struct {
		graph    string
		maxBatch int
		sizes    []int
	}{
		{"yolov8-batch2", 0, []int{2}},
		{"yolov8", 0, []int{1}},
		{"yolov8-dynamic", 0, []int{1}},
		{"yolov8-dynamic", 4, []int{1, 2, 4}},
	} {
		o, err := Options{Library: options(t).Library, ModelPath: "testdata/heads/" + c.graph + ".onnx", ModelName: "m", Threads: 1, Cameras: 4,
			MaxBatch: c.maxBatch, Providers: []string{ProviderTensorRT, ProviderCPU}, EngineDir: t.TempDir()}.check()
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range c.sizes {
			if lacks, err := o.lacksEngine(); !lacks || err != nil {
				t.Errorf("%+v, before that of %d: lacks %v, %v", c, size, lacks, err)
			}
			cached(t, o, size)
		}
		if lacks, err := o.lacksEngine(); lacks || err != nil {
			t.Errorf("%+v: lacks %v, %v", c, lacks, err)
		}
	}
	if lacks, err := (Options{EngineDir: "x", ModelPath: "absent"}).lacksEngine(); lacks || err == nil {
		t.Errorf("of a model that is not there: %v, %v", lacks, err)
	}
}

// TestARefusedEngineIsBuiltAnew beside the next provider, or at once where
// there is none. What stands in for TensorRT refuses the engine that is cached.
func TestARefusedEngineIsBuiltAnew(t *testing.T) {
	o := options(t)
	o.Providers, o.EngineDir = []string{ProviderTensorRT, ProviderCPU}, t.TempDir()
	newDetector(t, nil) // the library is loaded
	c := cached(t, o, 1)
	anew := 0
	m := maker{
		awaits: func(o Options) bool { return o.Providers[0] == ProviderTensorRT && !c.built() },
		build: func(o Options) (*Detector, error) {
			if o.Providers[0] == ProviderTensorRT && c.built() {
				if err := c.guard(func() error { return errors.New("cut off") }); len(o.Providers) == 1 {
					return nil, err
				}
			} else if len(o.Providers) == 1 {
				anew++
				o.Providers = []string{ProviderCPU}
			}
			return build(o)
		},
	}
	d, err := m.make(o)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	settings := strings.Join(d.Info().Settings, "; ")
	if info := d.Info(); info.Provider != ProviderCPU || len(info.Refused) != 0 || !strings.Contains(d.Pending(), "anew") || !strings.Contains(settings, "tensorrt: ") {
		t.Errorf("%+v, pending %q", info, d.Pending())
	}
	cached(t, o, 1)
	alone, err := m.make(*o.first())
	if err != nil || anew != 1 {
		t.Fatalf("without another provider: %v, built anew %d times", err, anew)
	}
	defer alone.Close()
}
