package uplink

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/badger/v4/y"
	"golang.org/x/sys/unix"
)

// errStore says that a store's files are damaged.
var errStore = errors.New("damaged store")

const (
	// verifyBytes bounds how much of the tables is read when a store is
	// opened, the newest first: those that a power cut may have caught.
	verifyBytes = 512 << 20
	// tornCommits is how many commits may stand behind damage in a
	// write-ahead log that a power cut explains: pages that were not synced
	// reach the disk in any order.
	tornCommits = 3
)

// preflight looks for damage that Badger does not survive, or heals by
// deletion: in a table that is cut off its own goroutines panic, what stands
// behind a bad page of a table or of a write-ahead log it drops without a
// word, and so it does with tables that its manifest does not know.
func preflight(o badger.Options) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // a bad sector below a mapped file
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errStore, p)
		}
	}()
	logs, err := checkLogs(o.Dir)
	if err != nil {
		return err
	}
	return checkTables(o, logs)
}

// checkLogs checks the write-ahead logs and returns the newest version in
// each. What a newer log holds stands behind damage in an older one. One
// without a byte was never written to and keeps Badger from opening; it is
// removed.
func checkLogs(dir string) (newest []uint64, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.mem"))
	if err != nil {
		return nil, err
	}
	slices.Reverse(files)
	later := 0
	for _, file := range files {
		err := mapped(file, func(b []byte) error {
			if len(b) == 0 {
				return os.Remove(file)
			}
			version, end, commits := measureLog(b)
			behind, damaged := commitsBehind(b, end)
			if damaged && behind+later > tornCommits {
				return fmt.Errorf("%w: %s: damaged at offset %d, with %d commits behind it", errStore, filepath.Base(file), end, behind+later)
			}
			newest = append(newest, version)
			later += commits + behind
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return newest, nil
}

// rawFin is the bit of the entry that ends a transaction in a log.
const rawFin = 1 << 7

// measureLog returns the newest version in a write-ahead log, where its first
// entry starts that is not whole, and how many commits are before that.
func measureLog(b []byte) (version uint64, end, commits int) {
	for end = rawLogHeader; end < len(b); {
		key, _, meta, n := parseRaw(b[end:])
		if n == 0 {
			break
		}
		version = max(version, y.ParseTs(key))
		if meta&rawFin != 0 {
			commits++
		}
		end += n
	}
	return version, end, commits
}

// commitsBehind counts whole commits from an offset on, where no whole entry
// starts, and reports whether anything but zeros stands there.
func commitsBehind(b []byte, at int) (commits int, damaged bool) {
	used := len(bytes.TrimRight(b, "\x00"))
	for damaged = at < used; at < used; {
		_, _, meta, n := parseRaw(b[at:])
		if n > 0 && meta&rawFin != 0 {
			commits++
		}
		at += max(1, n)
	}
	return commits, damaged
}

// checkTables opens the tables as Badger will. One that the manifest does not
// know is what a crash left of a flush or a compaction, and will be deleted;
// but then the write-ahead log or the tables that it was made of are still
// there.
func checkTables(o badger.Options, logs []uint64) error {
	files, err := filepath.Glob(filepath.Join(o.Dir, "*.sst"))
	if err != nil || len(files) == 0 {
		return err
	}
	known, err := manifestTables(o)
	if err != nil {
		return err
	}
	slices.Reverse(files) // the newest first
	var newest uint64
	var read int64
	orphans := map[string]uint64{}
	for _, file := range files {
		version, size, err := checkTable(file, read < verifyBytes)
		id, _ := table.ParseFileID(filepath.Base(file))
		switch {
		case known[id] && err != nil:
			return fmt.Errorf("%w: %s: %w", errStore, filepath.Base(file), err)
		case known[id]:
			newest = max(newest, version)
			read += size
		case err == nil:
			orphans[file] = version
		}
	}
	for file, version := range orphans {
		if version > newest && !slices.Contains(logs, version) {
			return fmt.Errorf("%w: %s has records of version %d, and the manifest does not know it", errStore, filepath.Base(file), version)
		}
	}
	return nil
}

// manifestTables are the numbers of the tables that the manifest names.
func manifestTables(o badger.Options) (map[uint64]bool, error) {
	known := map[uint64]bool{}
	f, err := os.Open(filepath.Join(o.Dir, badger.ManifestFilename))
	if errors.Is(err, os.ErrNotExist) {
		return known, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, _, err := badger.ReplayManifestFile(f, o.ExternalMagicVersion, o)
	if err != nil {
		return nil, fmt.Errorf("%w: manifest: %w", errStore, err)
	}
	for id := range m.Tables {
		known[id] = true
	}
	return known, nil
}

// checkTable opens a table, and reads all of it if whole is set. It returns
// the newest version in it, and its size.
func checkTable(file string, whole bool) (version uint64, size int64, err error) {
	err = mapped(file, func(b []byte) (err error) {
		defer recovered(&err)
		t, err := table.OpenInMemoryTable(b, 0, &table.Options{})
		if err != nil {
			return err
		}
		version, size = t.MaxVersion(), t.Size()
		if whole {
			return t.VerifyChecksum()
		}
		return nil
	})
	return version, size, err
}

// mapped calls f with a file's content, which is not in this process' own
// memory.
func mapped(file string, f func([]byte) error) (err error) {
	fd, err := os.Open(file)
	if err != nil {
		return err
	}
	defer fd.Close()
	info, err := fd.Stat()
	if err != nil {
		return err
	}
	if info.Size() == 0 {
		return f(nil)
	}
	b, err := unix.Mmap(int(fd.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map %s: %w", file, err)
	}
	defer func() { err = errors.Join(err, unix.Munmap(b)) }()
	return f(b)
}
