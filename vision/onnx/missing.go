//go:build !novision

package onnx

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// loader finds shared libraries as the dynamic loader does (ld.so(8)), so that
// everything that is missing can be named at once; the loader itself names the
// first.
type loader struct {
	dirs  []string          // of LD_LIBRARY_PATH, looked in first, and the default ones, last
	cache map[string]string // of ld.so.cache: the path of each name
}

// systemLoader is the one of this process. Without a readable cache only
// directories are looked in.
func systemLoader() loader {
	raw, err := os.ReadFile("/etc/ld.so.cache")
	if err != nil {
		raw = nil
	}
	return loader{dirs: filepath.SplitList(os.Getenv("LD_LIBRARY_PATH")), cache: readCache(raw)}
}

// maxLibraries bounds the walk.
const maxLibraries = 500

// missing returns the names of the libraries that a file needs, directly or
// through others, and that are not to be found.
func (l loader) missing(path string) ([]string, error) {
	var absent []string
	seen, todo := map[string]bool{}, []string{path}
	for len(todo) > 0 && len(seen) < maxLibraries {
		file := todo[0]
		todo = todo[1:]
		needed, dirs, err := needs(file)
		if err != nil {
			if file == path {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			continue // the loader will say what is wrong with it
		}
		for _, name := range needed {
			if seen[name] {
				continue
			}
			seen[name] = true
			if found := l.find(name, dirs); found != "" {
				todo = append(todo, found)
			} else {
				absent = append(absent, name)
			}
		}
	}
	return absent, nil
}

// find returns where a library is, or "".
func (l loader) find(name string, dirs []string) string {
	for _, dir := range slices.Concat(l.dirs, dirs) {
		if path := filepath.Join(dir, name); isFile(path) {
			return path
		}
	}
	if path := l.cache[name]; path != "" && isFile(path) {
		return path
	}
	for _, dir := range []string{"/lib64", "/usr/lib64", "/lib", "/usr/lib"} {
		if path := filepath.Join(dir, name); isFile(path) {
			return path
		}
	}
	return ""
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// needs reads from a library what it needs and where it wants that looked for.
func needs(path string) (names, dirs []string, err error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if names, err = f.DynString(elf.DT_NEEDED); err != nil {
		return nil, nil, err
	}
	for _, tag := range []elf.DynTag{elf.DT_RPATH, elf.DT_RUNPATH} {
		lists, err := f.DynString(tag)
		if err != nil {
			return nil, nil, err
		}
		for _, list := range lists {
			list = strings.NewReplacer("$ORIGIN", filepath.Dir(path), "${ORIGIN}", filepath.Dir(path)).Replace(list)
			dirs = append(dirs, filepath.SplitList(list)...)
		}
	}
	return names, dirs, nil
}

// readCache reads ld.so.cache in the form that glibc writes since 2.2
// (struct cache_file_new in its dl-cache.h). What it cannot read it leaves out.
func readCache(raw []byte) map[string]string {
	const magic, header, entry = "glibc-ld.so.cache1.1", 48, 24
	at := bytes.Index(raw, []byte(magic))
	if at < 0 || len(raw) < at+header {
		return nil
	}
	raw = raw[at:]
	text := func(offset uint32) string {
		if int64(offset) >= int64(len(raw)) {
			return ""
		}
		s, _, _ := bytes.Cut(raw[offset:], []byte{0})
		return string(s)
	}
	cache := map[string]string{}
	count := binary.NativeEndian.Uint32(raw[len(magic):])
	for i := range int(min(count, uint32(len(raw)/entry))) {
		start := header + i*entry
		if start+entry > len(raw) {
			break
		}
		name := text(binary.NativeEndian.Uint32(raw[start+4:]))
		if _, known := cache[name]; !known && name != "" { // the first is the loader's choice
			cache[name] = text(binary.NativeEndian.Uint32(raw[start+8:]))
		}
	}
	return cache
}

// source says where libraries come from whose names begin with prefix.
type source struct{ prefix, from string }

// sources end with one for every name.
var sources = []source{
	{"libcuda.so", "the NVIDIA driver"},
	{"libnvidia-", "the NVIDIA driver"},
	{"libcudnn", "cuDNN"},
	{"libnvinfer", "TensorRT"},
	{"libnvonnxparser", "TensorRT"},
	{"libcublas", "CUDA"},
	{"libcudart", "CUDA"},
	{"libcufft", "CUDA"},
	{"libcurand", "CUDA"},
	{"libnvrtc", "CUDA"},
	{"libnvJitLink", "CUDA"},
	{"", "packages of this system"},
}

// install says what to install for the missing libraries, each source once
// with the libraries that it brings: "the NVIDIA driver (libcuda.so.1)".
func install(missing []string) string {
	by := map[string][]string{}
	for _, name := range missing {
		at := slices.IndexFunc(sources, func(s source) bool { return strings.HasPrefix(name, s.prefix) })
		from := sources[at].from
		by[from] = append(by[from], name)
	}
	var parts []string
	for _, s := range sources { // the driver first: it is what the others need
		if libraries := by[s.from]; libraries != nil {
			parts = append(parts, s.from+" ("+strings.Join(libraries, ", ")+")")
			delete(by, s.from)
		}
	}
	return strings.Join(parts, ", ")
}
