package uplink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// Errors of Enqueue. A message that is refused was not stored.
var (
	// ErrFull says that a bound of the queue, or the disk's floor, is reached.
	ErrFull = errors.New("queue is full")
	// ErrBusy says that the disk does not keep up with what is offered.
	ErrBusy = errors.New("queue is busy")
	// ErrClosed says that the queue accepts nothing any more.
	ErrClosed = errors.New("queue is closed")
)

// Defaults of Options.
const (
	DefaultMaxBytes     = 8 << 30
	DefaultMinFreeBytes = 256 << 20
	// MaxMessageBytes is the largest topic and payload that is stored.
	MaxMessageBytes = 1 << 20
)

// Bounds of what waits in memory for its commit.
const (
	maxPendingRecords = 8192
	maxPendingBytes   = 16 << 20
)

// Options of a Queue. Zero values mean the defaults.
type Options struct {
	Dir          string
	MaxBytes     int64  // bound of what is queued, topics and payloads
	MinFreeBytes uint64 // nothing is accepted while the file system has less
	Logger       *slog.Logger
	Now          func() time.Time
	// Unsynced turns off the sync before the acknowledgement. It exists so
	// that the proof of durability can be seen to fail, and no configuration
	// reaches it.
	Unsynced bool
}

// Queue is the durable store between what the appliance accepts and the
// link. Its methods may be called from any goroutine, except that Next has
// one caller at a time.
type Queue struct {
	opt         Options
	db          *badger.DB
	lock        *os.File
	quarantined string // where a damaged store was moved at Open, or ""

	mu           sync.Mutex
	closed       bool
	seq          uint64 // last assigned
	pending      []pending
	pendingBytes int64
	settled      []settlement
	room         chan struct{} // closed and replaced when pending was taken
	lanes        [MaxLane + 1]lane
	ledger       Ledger
	notes        map[string]uint64
	lowDisk      error // why the disk's floor refuses, or nil
	failing      error // the last commit's error, or nil
	freeDisk     uint64

	wake    chan struct{} // something to commit
	ready   chan struct{} // something to read
	timings timings

	stop context.CancelFunc
	done sync.WaitGroup
}

type pending struct {
	entry Entry
	done  func(error)
}

// settlement is a record that left. Settlements are committed in their order,
// so that watermark, which holds once this one is stored, is never ahead.
type settlement struct {
	entry     Entry
	outcome   Outcome
	watermark uint64
}

// Open opens or creates the queue below opt.Dir and starts its goroutines. A
// store that cannot be read is quarantined, see Stats. It returns ErrLocked
// if another process has it open.
func Open(opt Options) (*Queue, error) {
	opt = withDefaults(opt)
	db, lock, quarantined, err := openStore(opt.Dir, !opt.Unsynced, opt.Now(), opt.Logger)
	if err != nil {
		return nil, err
	}
	q := &Queue{
		opt: opt, db: db, lock: lock, quarantined: quarantined,
		ledger: Ledger{}, notes: map[string]uint64{},
		room: make(chan struct{}), wake: make(chan struct{}, 1), ready: make(chan struct{}, 1),
	}
	if err := q.restore(); err != nil {
		return nil, errors.Join(err, db.Close(), lock.Close())
	}
	q.watchDisk()
	ctx, cancel := context.WithCancel(context.Background())
	q.stop = cancel
	q.done.Go(func() { q.commitLoop(ctx) })
	q.done.Go(func() { q.maintain(ctx) })
	return q, nil
}

func withDefaults(opt Options) Options {
	if opt.MaxBytes == 0 {
		opt.MaxBytes = DefaultMaxBytes
	}
	if opt.MinFreeBytes == 0 {
		opt.MinFreeBytes = DefaultMinFreeBytes
	}
	if opt.Logger == nil {
		opt.Logger = slog.Default()
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	return opt
}

// Enqueue offers a message and returns at once. A nil result means that done
// will be called exactly once, on the queue's goroutine, with nil after the
// record was synced to disk or with the error that prevented it; done must
// not block. Calls of done come in the order of Enqueue. Any other result is
// a refusal, and done is not called.
func (q *Queue) Enqueue(m Message, done func(error)) error {
	if err := check(m); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.admit(m); err != nil {
		return err
	}
	q.seq++
	e := Entry{Message: m, Seq: q.seq, Accepted: q.opt.Now()}
	q.pending = append(q.pending, pending{e, done})
	q.pendingBytes += m.bytes()
	signal(q.wake)
	return nil
}

// Room returns a channel that is closed when a message that was refused may
// be worth offering again.
func (q *Queue) Room() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.room
}

func check(m Message) error {
	switch {
	case m.Lane < MinLane || m.Lane > MaxLane:
		return fmt.Errorf("lane: got %d, expected %d to %d", m.Lane, MinLane, MaxLane)
	case m.QoS > 1:
		return fmt.Errorf("QoS to the centre: got %d, expected 0 or 1", m.QoS)
	case m.Route == "" || m.Topic == "":
		return fmt.Errorf("message: got route %q and topic %q, expected both", m.Route, m.Topic)
	case m.bytes() > MaxMessageBytes:
		return fmt.Errorf("%w: message has %d bytes, the largest is %d", ErrFull, m.bytes(), MaxMessageBytes)
	}
	return nil
}

// admit says whether there is room for m; q.mu is held.
func (q *Queue) admit(m Message) error {
	switch queued := q.queued().Bytes; {
	case q.closed:
		return ErrClosed
	case q.lowDisk != nil:
		return q.lowDisk
	case queued+q.pendingBytes+m.bytes() > q.opt.MaxBytes:
		return fmt.Errorf("%w: %d bytes are queued, the bound is %d", ErrFull, queued, q.opt.MaxBytes)
	case len(q.pending) >= maxPendingRecords || q.pendingBytes+m.bytes() > maxPendingBytes:
		return fmt.Errorf("%w: %d records wait for the disk", ErrBusy, len(q.pending))
	}
	return nil
}

// queued sums the lanes; q.mu is held.
func (q *Queue) queued() Tally {
	var sum Tally
	for i := range q.lanes {
		sum = sum.plus(q.lanes[i].queued)
	}
	return sum
}

// Note returns the latest stored value of a key, or 0.
func (q *Queue) Note(key string) uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.notes[key]
}

// Close stores what was accepted so far and closes the store. What is in
// flight stays queued. It is safe to call twice.
func (q *Queue) Close() error {
	q.mu.Lock()
	was := q.closed
	q.closed = true
	q.mu.Unlock()
	if was {
		return nil
	}
	q.stop()
	q.done.Wait()
	if err := errors.Join(q.db.Close(), q.lock.Close()); err != nil {
		return fmt.Errorf("close queue: %w", err)
	}
	return nil
}

// signal wakes the one reader of a channel of capacity one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
