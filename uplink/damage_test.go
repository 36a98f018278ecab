package uplink

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// damage is a way to spoil a file.
type damage struct {
	name string
	cuts bool // what is gone is gone
	do   func(path string, rnd *rand.Rand) error
}

var damages = []damage{
	{"truncated", true, func(path string, rnd *rand.Rand) error {
		size, err := used(path)
		if err != nil {
			return err
		}
		return os.Truncate(path, rnd.Int64N(size))
	}},
	{"flipped", false, func(path string, rnd *rand.Rand) error {
		return overwrite(path, rnd.Int64N, 1, func(b []byte) { b[0] ^= 0x10 })
	}},
	{"zeroed page", false, func(path string, rnd *rand.Rand) error {
		return overwrite(path, rnd.Int64N, 4096, func(b []byte) { clear(b) })
	}},
	{"zeroed last page", false, func(path string, _ *rand.Rand) error {
		return overwrite(path, lastPage, 4096, func(b []byte) { clear(b) })
	}},
	{"deleted", true, func(path string, _ *rand.Rand) error { return os.Remove(path) }},
	{"emptied", true, func(path string, _ *rand.Rand) error { return os.Truncate(path, 0) }},
}

// used is the size of a file without the zeros at its end.
func used(path string) (int64, error) {
	b, err := os.ReadFile(path)
	return max(1, int64(len(bytes.TrimRight(b, "\x00")))), err
}

func lastPage(size int64) int64 { return size - 1 }

// overwrite changes n bytes where pick says of the used size.
func overwrite(path string, pick func(size int64) int64, n int, change func([]byte)) error {
	size, err := used(path)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	at := pick(size) &^ int64(n-1)
	b := make([]byte, n)
	read, err := f.ReadAt(b, at)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	change(b[:read])
	_, err = f.WriteAt(b[:read], at)
	return err
}

// copyDir copies a directory; zeros become holes.
func copyDir(to, from string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		if d.IsDir() {
			return os.MkdirAll(target, 0o750)
		}
		return copyFile(target, path)
	})
}

func copyFile(to, from string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	if err := f.Truncate(int64(len(b))); err != nil {
		return err
	}
	const page = 64 << 10
	zero := make([]byte, page)
	for at := 0; at < len(b); at += page {
		part := b[at:min(at+page, len(b))]
		if bytes.Equal(part, zero[:len(part)]) {
			continue
		}
		if _, err := f.WriteAt(part, int64(at)); err != nil {
			return err
		}
	}
	return f.Close()
}
