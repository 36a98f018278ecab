package uplink

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"
	"golang.org/x/sys/unix"
)

// ErrLocked says that another process has the queue open.
var ErrLocked = errors.New("queue is in use by another process")

// What bounds Badger's memory. A compaction has up to 13 table builders at
// work, each with twice the size of a table, and up to three memtables wait.
const (
	memTableBytes = 4 << 20
	minTableBytes = 1 << 20
	// valueLogFrom is the size from which values go to the value log: what
	// Badger takes in one transaction is 15 % of a memtable.
	valueLogFrom = 512 << 10
)

// badgerOptions are for a small, durable FIFO. Badger's defaults are for
// servers; the figures behind these are in README.md.
func badgerOptions(dir string, sync bool, maxBytes int64, log badgerLog) badger.Options {
	o := badger.DefaultOptions(dir).
		WithSyncWrites(sync).
		WithMemTableSize(memTableBytes).
		WithValueThreshold(valueLogFrom).
		WithNumMemtables(1).
		WithNumLevelZeroTables(2).
		WithNumLevelZeroTablesStall(12).
		WithBlockCacheSize(0).
		WithCompression(0).
		WithValueLogFileSize(16 << 20).
		WithBaseTableSize(tableBytes(maxBytes, openFiles())).
		WithNumCompactors(2).
		WithDetectConflicts(false).
		WithMetricsEnabled(false).
		WithLogger(log)
	o.TableSizeMultiplier = 1 // or tables and their builders grow with the store
	return o
}

// tableBytes is the size of a table so that a full store, with its garbage,
// needs three quarters of the files that the process may open. Badger keeps
// every table open, and a compaction that cannot open a new one goes on
// without it: its records would be lost.
func tableBytes(maxBytes int64, files uint64) int64 {
	return max(minTableBytes, diskFactor*maxBytes/int64(max(files/4*3, 1)))
}

// openFiles is how many files this process may have open.
func openFiles() uint64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 1024
	}
	return min(limit.Cur, 1<<20)
}

// openStore opens the Badger directory below dir and reads the queue's state
// from it. A store that cannot be read is moved to a dated directory beside
// it, whose path is returned, and an empty one is opened: nobody visits the
// appliance to repair it.
func openStore(dir string, o badger.Options, now time.Time, log *slog.Logger, read func(*badger.DB) error) (db *badger.DB, quarantined string, err error) {
	finished, err := startOpening(dir)
	if err != nil && !errors.Is(err, errStore) {
		return nil, "", err
	}
	defer func() { err = errors.Join(err, finished()) }()
	if err == nil {
		db, err = openAndRead(o, read)
	}
	if err == nil {
		return db, "", nil
	}
	if outside := probe(o.Dir); outside != nil {
		return nil, "", fmt.Errorf("open queue %s: %w: %w", o.Dir, outside, err)
	}
	former, err2 := quarantines(dir)
	if err2 != nil {
		return nil, "", errors.Join(err, err2)
	}
	quarantined = filepath.Join(dir, "store.quarantine-"+now.UTC().Format("20060102T150405.000"))
	if n := len(former); n > 0 && quarantined <= former[n-1] { // the clock was set back: the newest is the last by name
		quarantined = former[n-1] + "-1"
	}
	log.Error("the queue's store cannot be read; it is moved away and an empty one is started", "error", err, "moved_to", quarantined)
	if err := os.Rename(o.Dir, quarantined); err != nil {
		return nil, "", fmt.Errorf("quarantine the queue: %w", err)
	}
	if db, err = openAndRead(o, read); err != nil {
		return nil, "", fmt.Errorf("open an empty queue %s: %w", o.Dir, err)
	}
	return db, quarantined, nil
}

func openAndRead(o badger.Options, read func(*badger.DB) error) (*badger.DB, error) {
	if err := preflight(o); err != nil {
		return nil, err
	}
	db, err := openBadger(o)
	if err != nil {
		return nil, err
	}
	if err := readState(db, read); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// readState calls read; a fault below a mapped file is an error of it.
func readState(db *badger.DB, read func(*badger.DB) error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errStore, p)
		}
	}()
	return read(db)
}

// maxOpenings is how often in a row a process may end while it opens the
// store: then the store is what ends it, and is not opened again.
const maxOpenings = 10

// startOpening counts that the store is about to be opened; finished forgets
// it. It returns errStore, and finished too, when former processes ended there
// too often.
func startOpening(dir string) (finished func() error, err error) {
	file := filepath.Join(dir, "opening")
	b, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("queue: %w", err)
	}
	if err := os.WriteFile(file, append(b, '.'), 0o640); err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	finished = func() error { return os.Remove(file) }
	if len(b) >= maxOpenings {
		return finished, fmt.Errorf("%w: %d processes in a row ended while they opened it", errStore, len(b))
	}
	return finished, nil
}

// probe looks for a reason outside of the store's content for which it does
// not open: permissions, a full disk, too many open files. Badger's errors do
// not say. Only what the probe finds nothing against is quarantined.
func probe(dir string) error {
	scratch := filepath.Join(dir, "probe")
	f, err := os.OpenFile(scratch, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, probeBytes))
	if err = errors.Join(err, f.Sync(), f.Close(), os.Remove(scratch)); err != nil {
		return err
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, file := range files {
		f, err := os.OpenFile(filepath.Join(dir, file.Name()), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

// probeBytes is what Badger allocates when it opens, and a little more: its
// write-ahead log and memtable.
const probeBytes = 32 << 20

// openBadger opens a store; Badger can panic on one that a power failure
// left behind, which is an error here.
func openBadger(o badger.Options) (db *badger.DB, err error) {
	defer func() {
		if p := recover(); p != nil {
			db, err = nil, fmt.Errorf("badger panicked: %v", p)
		}
	}()
	return badger.Open(o)
}

// lockDir takes an exclusive lock on dir that ends with the process.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o640)
	if errors.Is(err, unix.EROFS) || errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("queue directory %s cannot be written: %w; mount its file system writable and give it to the user that runs this", dir, err)
	}
	if err != nil {
		return nil, fmt.Errorf("queue lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %s", ErrLocked, dir), f.Close()) // the system says only "try again"
	}
	return f, nil
}

// CheckUnused returns ErrLocked if a process has the queue in dir open.
func CheckUnused(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "lock")); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	f, err := lockDir(dir)
	if err != nil {
		return err
	}
	return f.Close()
}

// quarantines lists the stores that were moved away below dir, the oldest
// first.
func quarantines(dir string) ([]string, error) {
	return glob(dir, "store.quarantine-*")
}

// glob lists the files of a directory, whatever that is called, in order.
func glob(dir, pattern string) ([]string, error) {
	names, err := fs.Glob(os.DirFS(dir), pattern)
	for i, name := range names {
		names[i] = filepath.Join(dir, name)
	}
	slices.Sort(names)
	return names, err
}

// badgerLog hands Badger's log to slog; what Badger calls info is our debug.
type badgerLog struct {
	log *slog.Logger
	// hold is called by a compaction before it writes a table, if it is set,
	// and blocks while there is no room for one.
	hold func()
}

var _ badger.Logger = badgerLog{}

// beforeTable begins what a compaction logs when a table is complete in
// memory and not yet on disk. Badger has no other way to hold it there.
const beforeTable = "[%d] LOG Compact. Added"

func (l badgerLog) Errorf(f string, a ...any)   { l.write(slog.LevelError, f, a) }
func (l badgerLog) Warningf(f string, a ...any) { l.write(slog.LevelWarn, f, a) }
func (l badgerLog) Infof(f string, a ...any)    { l.write(slog.LevelDebug, f, a) }

func (l badgerLog) Debugf(f string, a ...any) {
	if l.hold != nil && strings.HasPrefix(f, beforeTable) {
		l.hold()
	}
	l.write(slog.LevelDebug, f, a)
}

func (l badgerLog) write(level slog.Level, format string, args []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "badger: "+fmt.Sprintf(format, args...))
	}
}
