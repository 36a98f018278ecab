//go:build !novision

package onnx

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// elfs are real shared libraries: libb.so.1 needs libcuda.so.1, liba.so.1 needs
// libb.so.1 and libcudart.so.13, and main needs liba.so.1, which it looks for
// in the directory lib beside it.
func elfs(t *testing.T) (main, lib string) {
	t.Helper()
	dir := t.TempDir()
	lib = filepath.Join(dir, "lib")
	if err := os.Mkdir(lib, 0o750); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, "empty.c")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	library := func(name string, needs ...string) string {
		args := append([]string{empty, "-nostdlib", "-Wl,--no-as-needed", "-Wl,-soname," + name}, needs...)
		return compiled(t, filepath.Join(lib, name), args...)
	}
	cuda, cudart := library("libcuda.so.1"), library("libcudart.so.13")
	b := library("libb.so.1", cuda)
	a := library("liba.so.1", b, cudart)
	main = compiled(t, filepath.Join(dir, "main.so"), empty, "-nostdlib", "-Wl,--no-as-needed", "-Wl,-rpath,$ORIGIN/lib", a)
	return main, lib
}

func TestMissingLibraries(t *testing.T) {
	main, lib := elfs(t)
	missing := func(l loader, want ...string) {
		t.Helper()
		if got, err := l.missing(main); err != nil || !slices.Equal(slices.Sorted(slices.Values(got)), want) {
			t.Errorf("missing %v (%v), want %v", got, err, want)
		}
	}
	// Only main says where to look: what liba needs is found through the environment or not at all.
	missing(loader{}, "libb.so.1", "libcudart.so.13")
	env := loader{dirs: []string{lib}}
	missing(env)
	for _, gone := range []string{"libcuda.so.1", "libcudart.so.13"} {
		if err := os.Rename(filepath.Join(lib, gone), filepath.Join(lib, gone+".away")); err != nil {
			t.Fatal(err)
		}
	}
	missing(env, "libcuda.so.1", "libcudart.so.13")
	missing(loader{dirs: []string{lib}, cache: map[string]string{"libcuda.so.1": filepath.Join(lib, "libcuda.so.1.away")}}, "libcudart.so.13")
	missing(loader{dirs: []string{lib}, cache: map[string]string{"libcuda.so.1": filepath.Join(lib, "stale")}}, "libcuda.so.1", "libcudart.so.13")
	if _, err := (loader{}).missing("missing_test.go"); err == nil {
		t.Error("a text was read as a library")
	}
}

// TestAProviderThatCannotBeLoaded says each library and what brings it.
func TestAProviderThatCannotBeLoaded(t *testing.T) {
	main, lib := elfs(t)
	for _, part := range []string{"shared", "cuda"} {
		if err := os.Link(main, library(main, part)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("LD_LIBRARY_PATH", lib)
	if err := usable(main, ProviderCUDA); err != nil {
		t.Errorf("all is there: %v", err)
	}
	for _, gone := range []string{"libcuda.so.1", "libcudart.so.13", "libb.so.1"} {
		if err := os.Remove(filepath.Join(lib, gone)); err != nil {
			t.Fatal(err)
		}
	}
	err := usable(main, ProviderCUDA)
	if err == nil || !strings.HasPrefix(err.Error(), "missing: CUDA (libcudart.so.13), packages of this system (libb.so.1); install it") {
		t.Errorf("error %v", err)
	}
	if err := usable(main, ProviderTensorRT); err == nil || !strings.Contains(err.Error(), "this ONNX Runtime has no provider tensorrt") {
		t.Errorf("error %v", err)
	}
}

func TestInstallNamesTheDriverFirst(t *testing.T) {
	got := install([]string{"libcublasLt.so.13", "libcudnn.so.9", "libcuda.so.1", "libcublas.so.13", "libnvinfer.so.10", "libx.so"})
	const want = "the NVIDIA driver (libcuda.so.1), cuDNN (libcudnn.so.9), TensorRT (libnvinfer.so.10), " +
		"CUDA (libcublasLt.so.13, libcublas.so.13), packages of this system (libx.so)"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestLoaderCache compares the cache of this system with what ldconfig says.
func TestLoaderCache(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "/sbin/ldconfig", "-p").Output()
	if err != nil {
		t.Fatal(err)
	}
	cache, n := systemLoader().cache, 0
	seen := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\t(\S+) \(.*\) => (\S+)$`).FindAllSubmatch(out, -1) {
		name := string(m[1])
		if seen[name] {
			continue // the first is the loader's choice
		}
		seen[name] = true
		n++
		if cache[name] != string(m[2]) {
			t.Errorf("%s: %q, ldconfig says %q", name, cache[name], m[2])
		}
	}
	if n < 10 || len(cache) != n {
		t.Errorf("%d libraries, ldconfig says %d", len(cache), n)
	}
	raw, err := os.ReadFile("/etc/ld.so.cache")
	if err != nil {
		t.Fatal(err)
	}
	for _, cut := range []int{0, 10, 47, 60, 1000, len(raw) - 1} {
		readCache(raw[:min(cut, len(raw))]) // no panic
	}
}

// TestTheFirstInTheCacheCounts: it is the one for this processor.
func TestTheFirstInTheCacheCounts(t *testing.T) {
	raw := []byte("glibc-ld.so.cache1.1")
	word := func(n uint32) { raw = binary.NativeEndian.AppendUint32(raw, n) }
	word(2) // libraries
	for range 6 {
		word(0)
	}
	const texts = 48 + 2*24
	for _, path := range []uint32{texts + 5, texts + 8} {
		word(1)
		word(texts) // the name
		word(path)
		for range 3 {
			word(0)
		}
	}
	raw = append(raw, "l.so\x00/a\x00/b\x00"...)
	if got := readCache(raw); len(got) != 1 || got["l.so"] != "/a" {
		t.Errorf("%q, want the first of l.so", got)
	}
}

// FuzzLoaderCache: whatever the file holds, nothing but names and paths of it comes out.
func FuzzLoaderCache(f *testing.F) {
	f.Add([]byte("glibc-ld.so.cache1.1\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00H\x00\x00\x00N\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for name, path := range readCache(raw) {
			if name == "" || !strings.Contains(string(raw), name) || !strings.Contains(string(raw), path) {
				t.Errorf("%q => %q is not in the file", name, path)
			}
		}
	})
}
