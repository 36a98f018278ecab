//go:build !novision

package onnx

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	ort "github.com/yalue/onnxruntime_go"
)

// maxEngines is how many directories of engines are kept: those used last.
const maxEngines = 8

// engineCache is the directory of one TensorRT engine. Its name has all that
// the engine depends on, so another model, library or GPU never meets it.
type engineCache struct {
	root, key string
}

// engines is the cache for batches of one size.
func (o Options) engines(size int) (engineCache, error) {
	sum, err := o.sum()
	if err != nil {
		return engineCache{}, fmt.Errorf("the key of the TensorRT engine: %w", err)
	}
	return engineCache{o.EngineDir, engineKey(sum, ort.GetVersion(), tensorRTVersion(systemLoader()), gpu("/"), size)}, nil
}

// lacksEngine reports whether an engine has to be built before the model runs
// on TensorRT.
func (o Options) lacksEngine() (bool, error) {
	if o.EngineDir == "" {
		return true, nil
	}
	var m model
	err := keepSignals(func() (err error) { m, err = settle(o); return err })
	if err != nil {
		return false, err
	}
	for _, size := range o.batches(m.shape.batch) {
		cache, err := o.engines(size)
		if err != nil || !cache.built() {
			return err == nil, err
		}
	}
	return false, nil
}

// guarded runs what makes a session; see engineCache.guard.
func (o Options) guarded(provider string, size int, open func() error) error {
	if provider != ProviderTensorRT || o.EngineDir == "" {
		return open()
	}
	cache, err := o.engines(size)
	if err != nil {
		return err
	}
	return cache.guard(open)
}

// sum is the SHA-256 of the model, in hex.
func (o Options) sum() (_ string, err error) {
	h := sha256.New()
	if o.Model != nil {
		h.Write(o.Model)
		return hex.EncodeToString(h.Sum(nil)), nil
	}
	f, err := os.Open(o.ModelPath)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}

// unsafeChars are what a directory's name does without.
var unsafeChars = regexp.MustCompile(`[^A-Za-z0-9.]+`)

func engineKey(modelSum, ortVersion, trtVersion, gpu string, size int) string {
	return unsafeChars.ReplaceAllString(fmt.Sprintf("%.16s ort%s trt%s %s b%d", modelSum, ortVersion, trtVersion, gpu, size), "-")
}

// tensorRTVersion is what the library's file is called: libnvinfer.so.10 is a
// link to libnvinfer.so.10.9.0.
func tensorRTVersion(l loader) string {
	for name := range l.cache {
		if !strings.HasPrefix(name, "libnvinfer.so.") {
			continue
		}
		if path, err := filepath.EvalSymlinks(l.find(name, nil)); err == nil {
			_, version, _ := strings.Cut(filepath.Base(path), ".so.")
			return version
		}
	}
	return "unknown"
}

// gpu names the GPU: what the driver says of the first, or the Jetson's model.
func gpu(root string) string {
	files, _ := filepath.Glob(filepath.Join(root, "proc/driver/nvidia/gpus/*/information")) // the pattern is good
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(raw)) {
			if name, ok := strings.CutPrefix(line, "Model:"); ok {
				return strings.TrimSpace(name)
			}
		}
	}
	raw, err := os.ReadFile(filepath.Join(root, "proc/device-tree/model"))
	if err != nil {
		return "unknown"
	}
	return strings.Trim(string(raw), "\x00\n ")
}

func (c engineCache) dir() string { return filepath.Join(c.root, c.key) }

// built reports whether an engine was built.
func (c engineCache) built() bool {
	engines, _ := filepath.Glob(filepath.Join(c.dir(), "*.engine")) // the pattern is good
	return len(engines) > 0
}

// asideMark is in the name of a directory of engines that were refused.
const asideMark = ".refused-"

// guard runs what makes use of the engine. Where that fails although the engine
// was there before, the engine may have been cut off by a kill or a full disk,
// and would be refused for ever: it is set aside, so that it is built anew.
func (c engineCache) guard(open func() error) error {
	was := c.built()
	err := open()
	if err == nil || !was {
		return err
	}
	aside, errAside := c.setAside(time.Now())
	if errAside != nil {
		return errors.Join(err, fmt.Errorf("nor can its engine be set aside, to be built anew: %w", errAside))
	}
	return fmt.Errorf("%w; its engine, which may be damaged, is set aside as %s and built anew", err, aside)
}

// setAside renames the directory, and removes what was set aside before.
func (c engineCache) setAside(now time.Time) (string, error) {
	entries, err := os.ReadDir(c.root)
	if err != nil {
		return "", err
	}
	aside := c.dir() + asideMark + now.UTC().Format("20060102T150405.000000000Z")
	if err := os.Rename(c.dir(), aside); err != nil {
		return "", err
	}
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), c.key+asideMark) {
			errs = append(errs, os.RemoveAll(filepath.Join(c.root, e.Name())))
		}
	}
	return aside, errors.Join(errs...)
}

// open makes the directory, notes that it is used, and removes those that
// were set aside or used longest ago.
func (c engineCache) open() error {
	if err := os.MkdirAll(c.dir(), 0o750); err != nil {
		return fmt.Errorf("the cache of TensorRT engines: %w", err)
	}
	now := time.Now()
	if err := os.Chtimes(c.dir(), now, now); err != nil {
		return fmt.Errorf("the cache of TensorRT engines: %w", err)
	}
	entries, err := os.ReadDir(c.root)
	if err != nil {
		return fmt.Errorf("the cache of TensorRT engines: %w", err)
	}
	used := func(e os.DirEntry) time.Time {
		info, err := e.Info()
		if err != nil || strings.Contains(e.Name(), asideMark) {
			return time.Time{}
		}
		return info.ModTime()
	}
	entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool { return e.Name() == c.key || !e.IsDir() })
	slices.SortFunc(entries, func(a, b os.DirEntry) int { return used(b).Compare(used(a)) })
	var errs []error
	for _, e := range entries[min(len(entries), maxEngines-1):] {
		errs = append(errs, os.RemoveAll(filepath.Join(c.root, e.Name())))
	}
	return errors.Join(errs...)
}

// options are those of ONNX Runtime's TensorRT provider for this cache.
func (c engineCache) options() map[string]string {
	return map[string]string{
		"trt_engine_cache_enable": "1", "trt_engine_cache_path": c.dir(),
		"trt_timing_cache_enable": "1", "trt_timing_cache_path": c.dir(),
	}
}
