package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
	"golang.org/x/sys/unix"
)

// Errors of the store.
var (
	// ErrStoreLocked says that another process has the sessions open.
	ErrStoreLocked = errors.New("the broker's sessions are in use by another process")
	// ErrStoreFull says that a bound, or the disk's floor, is reached.
	ErrStoreFull = errors.New("no room for what subscribers are owed")
	// ErrStoreBusy says that the disk does not keep up.
	ErrStoreBusy = errors.New("the disk does not keep up with what subscribers are owed")
)

// store keeps what outlives the process: sessions that persist, what they are
// owed, and retained messages. Its methods may be called from any goroutine.
type store struct {
	dir      string
	floor    atomic.Uint64 // of the disk's free bytes
	unsynced bool
	log      *slog.Logger
	clock    clock
	lock     *os.File
	db       *badger.DB
	cancel   context.CancelFunc
	loops    sync.WaitGroup
	wake     chan struct{}
	fault    func() error // for tests: called before each commit

	maxBytes  int64        // that all sessions may be owed
	owed      atomic.Int64 // messages
	owedBytes atomic.Int64
	damaged   atomic.Int64 // records that cannot be read

	reading sync.RWMutex // held shared while a session reads, which no loop waits for
	shut    bool         // the files are closed; guarded by reading

	mu           sync.Mutex
	pending      []*bundle
	pendingBytes int64
	gone         [][]byte // keys that the next commit deletes
	going        [][]byte // those that a commit deletes now
	shared       map[uint64]*content
	number       uint64 // of the newest shared message
	session      uint64 // number of the newest session
	condemned    []uint64
	deleted      int64 // keys, since the last compaction
	lowDisk      error
	failing      error // the last commit
	unread       error // the last read
	quarantined  string
	closed       bool
}

// content is a message that several keys refer to.
type content struct {
	refs int
	op   *op // that writes it, until it is committed
}

// badgerOptions are for a small, durable store; uplink's README has the
// figures behind them.
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

// openStore opens the store in dir, reads it, and starts to commit. One that
// cannot be read is moved to a dated directory beside it, and an empty one is
// opened: nobody visits the appliance to repair it.
func openStore(opt Options, read func(*store) error) (*store, error) {
	if err := os.MkdirAll(opt.Dir, 0o750); err != nil {
		return nil, fmt.Errorf("broker's sessions: %w", err)
	}
	lock, err := lockDir(opt.Dir)
	if err != nil {
		return nil, err
	}
	st := &store{dir: opt.Dir, unsynced: opt.Unsynced, log: opt.Logger, lock: lock, wake: make(chan struct{}, 1), fault: opt.fault, maxBytes: opt.Sessions.MaxTotalBytes}
	st.floor.Store(opt.MinFreeBytes)
	if err := st.openBadger(read); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	st.cancel = cancel
	st.loops.Go(func() { st.commitLoop(ctx) })
	st.loops.Go(func() { st.maintain(ctx) })
	return st, nil
}

func (st *store) openBadger(read func(*store) error) error {
	o := badgerOptions(filepath.Join(st.dir, "store"), !st.unsynced, st.log)
	err := st.openAndRead(o, read)
	if err == nil {
		return nil
	}
	if outside := probe(o.Dir); outside != nil {
		return fmt.Errorf("open the broker's sessions %s: %w: %w", o.Dir, outside, err)
	}
	st.quarantined = filepath.Join(st.dir, "store.quarantine-"+time.Now().UTC().Format("20060102T150405.000"))
	st.log.Error("the store of sessions and retained messages cannot be read; it is moved away and an empty one is started", "error", err, "moved_to", st.quarantined)
	if err := os.Rename(o.Dir, st.quarantined); err != nil {
		return fmt.Errorf("quarantine the broker's sessions: %w", err)
	}
	if err := st.openAndRead(o, read); err != nil {
		return fmt.Errorf("open empty sessions %s: %w", o.Dir, err)
	}
	return nil
}

// openAndRead opens Badger, which can panic on what a power failure left.
func (st *store) openAndRead(o badger.Options, read func(*store) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("badger panicked: %v", p)
		}
	}()
	st.shared, st.number, st.session = map[uint64]*content{}, 0, 0
	if st.db, err = badger.Open(o); err != nil {
		return err
	}
	if err := read(st); err != nil {
		return errors.Join(err, st.db.Close())
	}
	return nil
}

// probe looks for a reason outside of the store's content for which it does
// not open; Badger's errors do not say. Only what it finds nothing against is
// quarantined.
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

// probeBytes is what Badger allocates when it opens, and a little more.
const probeBytes = 32 << 20

// lockDir takes an exclusive lock on dir that ends with the process.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return nil, fmt.Errorf("lock of the broker's sessions: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %s", ErrStoreLocked, dir), f.Close()) // the system says only "try again"
	}
	return f, nil
}

// Close commits what waits and closes the store.
func (st *store) Close() error {
	st.cancel()
	st.loops.Wait()
	st.reading.Lock() // a read of a closed store would be one of unmapped memory
	st.shut = true
	st.reading.Unlock()
	return errors.Join(st.db.Close(), st.lock.Close())
}

// Bounds of what waits for the disk.
const (
	maxPendingGroups = 16_384
	maxPendingBytes  = 16 << 20
	// overBytes is how far the bound of all sessions may be passed while the
	// keeper drops what is oldest.
	overBytes = 4 * maxPendingBytes
	// ownFactor is how much more the appliance's own messages may fill.
	ownFactor = 4
)

// admit says why nothing more can be stored, or nil. A message of the
// appliance's own, which nobody offers again, may use the last of the room.
func (st *store) admit(own bool) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case st.closed:
		return errClosing
	case st.lowDisk != nil:
		return st.lowDisk
	case st.owedBytes.Load() > st.maxBytes+overBytes:
		return fmt.Errorf("%w: %d bytes are owed to sessions, the bound is %d", ErrStoreFull, st.owedBytes.Load(), st.maxBytes)
	case !own && (len(st.pending) >= maxPendingGroups || st.pendingBytes >= maxPendingBytes),
		len(st.pending) >= ownFactor*maxPendingGroups, st.pendingBytes >= ownFactor*maxPendingBytes:
		return fmt.Errorf("%w: %d messages with %d bytes wait", ErrStoreBusy, len(st.pending), st.pendingBytes)
	}
	return nil
}

// readFailed notes an error of the disk, which is shown until a read succeeds.
func (st *store) readFailed(err error) {
	st.log.Error("what a session is owed cannot be read", "error", err)
	st.mu.Lock()
	defer st.mu.Unlock()
	st.unread = err
}

// watchDisk sets the refusal that holds while the file system has less than
// the floor: a full disk would reach Badger's mapped files as a SIGBUS.
func (st *store) watchDisk() {
	var s unix.Statfs_t
	err := unix.Statfs(st.dir, &s)
	if free := s.Bavail * uint64(s.Bsize); err == nil && free < st.floor.Load() {
		err = fmt.Errorf("%w: %d bytes are free on the disk, the floor is %d", ErrStoreFull, free, st.floor.Load())
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.lowDisk = err
}

// fails reports whether the last commit failed: another one is to show when
// the disk is well again.
func (st *store) fails() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.failing != nil && len(st.pending) == 0
}

const (
	// diskEvery is how often the free space is looked at.
	diskEvery = 500 * time.Millisecond
	// flattenAfter is how many deletions make a compaction worth its cost:
	// Badger does not reclaim a queue's deletions by itself.
	flattenAfter = 100_000
	// clockEvery is how often the broker's time is stored.
	clockEvery = time.Minute
)

// maintain watches the disk's floor, gives space back and stores the time.
func (st *store) maintain(ctx context.Context) {
	tick := time.NewTicker(diskEvery)
	defer tick.Stop()
	var told time.Time
	for {
		st.watchDisk()
		if now := time.Now(); now.Sub(told) >= clockEvery || st.fails() {
			told = now
			st.submit(&bundle{ops: []*op{{key: []byte{prefixClock}, value: st.clock.encode(now)}}, sure: true})
		}
		st.sweep(ctx)
		st.reclaim()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// reclaim rewrites the store without what was deleted, when that is much.
func (st *store) reclaim() {
	st.mu.Lock()
	due := st.deleted >= flattenAfter && len(st.gone) < maxBatchOps // not while more follows
	if due {
		st.deleted = 0
	}
	st.mu.Unlock()
	if !due {
		return
	}
	if err := st.db.Flatten(1); err != nil {
		st.log.Error("compaction of the broker's sessions failed", "error", err)
		return
	}
	if err := st.db.RunValueLogGC(0.5); err != nil && !errors.Is(err, badger.ErrNoRewrite) {
		st.log.Error("value log collection of the broker's sessions failed", "error", err)
	}
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
