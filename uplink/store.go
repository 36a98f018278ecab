package uplink

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/dgraph-io/badger/v4"
	"golang.org/x/sys/unix"
)

// ErrLocked says that another process has the queue open.
var ErrLocked = errors.New("queue is in use by another process")

// badgerOptions are for a small, durable FIFO. Badger's defaults are for
// servers; the figures behind these are in README.md.
func badgerOptions(dir string, sync bool, log *slog.Logger) badger.Options {
	return badger.DefaultOptions(dir).
		WithSyncWrites(sync).
		WithMemTableSize(8 << 20).
		WithNumMemtables(2).
		WithNumLevelZeroTables(2).
		WithNumLevelZeroTablesStall(6).
		WithBlockCacheSize(0).
		WithCompression(0).
		WithValueLogFileSize(16 << 20).
		WithBaseTableSize(2 << 20).
		WithNumCompactors(2).
		WithDetectConflicts(false).
		WithMetricsEnabled(false).
		WithLogger(badgerLog{log})
}

// openStore opens the Badger directory below dir and takes dir's lock, which
// the caller releases by closing it. A store that cannot be read is moved to
// a dated directory beside it, whose path is returned, and an empty one is
// opened: nobody visits the appliance to repair it.
func openStore(dir string, sync bool, now time.Time, log *slog.Logger) (db *badger.DB, lock *os.File, quarantined string, err error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, nil, "", fmt.Errorf("queue directory: %w", err)
	}
	lock, err = lockDir(dir)
	if err != nil {
		return nil, nil, "", err
	}
	path := filepath.Join(dir, "store")
	db, err = openBadger(badgerOptions(path, sync, log))
	if err != nil && damaged(err) {
		quarantined = path + ".quarantine-" + now.UTC().Format("20060102T150405.000")
		log.Error("the queue does not open; it is moved away and an empty one is started", "error", err, "moved_to", quarantined)
		if err = os.Rename(path, quarantined); err == nil {
			db, err = openBadger(badgerOptions(path, sync, log))
		}
	}
	if err != nil {
		return nil, nil, "", errors.Join(fmt.Errorf("open queue %s: %w", path, err), lock.Close())
	}
	return db, lock, quarantined, nil
}

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

// damaged reports whether an error of opening speaks of the store's content,
// and not of the machine around it: only content is quarantined.
func damaged(err error) bool {
	for _, outside := range []error{fs.ErrPermission, syscall.ENOSPC, syscall.EROFS, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EIO, syscall.EDQUOT} {
		if errors.Is(err, outside) {
			return false
		}
	}
	return true
}

// lockDir takes an exclusive lock on dir that ends with the process.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return nil, fmt.Errorf("queue lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %s: %w", ErrLocked, dir, err), f.Close())
	}
	return f, nil
}

// quarantines lists the stores that were moved away below dir.
func quarantines(dir string) ([]string, error) {
	return filepath.Glob(filepath.Join(dir, "store.quarantine-*"))
}

// freeBytes is the space that this process may still use on dir's file system.
func freeBytes(dir string) (uint64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return s.Bavail * uint64(s.Bsize), nil
}

// badgerLog hands Badger's log to slog; what Badger calls info is our debug.
type badgerLog struct{ log *slog.Logger }

var _ badger.Logger = badgerLog{}

func (l badgerLog) Errorf(f string, a ...any)   { l.write(slog.LevelError, f, a) }
func (l badgerLog) Warningf(f string, a ...any) { l.write(slog.LevelWarn, f, a) }
func (l badgerLog) Infof(f string, a ...any)    { l.write(slog.LevelDebug, f, a) }
func (l badgerLog) Debugf(f string, a ...any)   { l.write(slog.LevelDebug, f, a) }

func (l badgerLog) write(level slog.Level, format string, args []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "badger: "+fmt.Sprintf(format, args...))
	}
}
