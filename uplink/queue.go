package uplink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
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
	// MaxMessageBytes is the largest topic, payload and properties that are
	// stored: what a device can send in one packet, under the longest topic of a
	// route.
	MaxMessageBytes = 1<<20 + 1<<17
)

// Bounds of what waits in memory for its commit.
const (
	maxPendingRecords = 8192
	maxPendingBytes   = 16 << 20
)

// Options of a Queue. Zero values mean the defaults.
type Options struct {
	Dir          string
	MaxBytes     int64             // bound of what is queued, as Tally counts it
	MaxRecords   int64             // bound of what is queued; 0 means none
	MaxDeadBytes int64             // bound of the dead letters
	MinFreeBytes uint64            // nothing is accepted while the file system has less
	Policies     map[string]Policy // by route; see SetPolicies
	Logger       *slog.Logger
	Now          func() time.Time
	// mono is the monotonic clock beside Now; nil means Now's own reading.
	// Tests set it, to step the one and not the other.
	mono func() time.Duration
	// slack is what the store may take beside what it has to; 0 means the
	// default. Tests set it.
	slack int64
	// fault is asked before a commit; its error is the commit's. Tests set it.
	fault func() error
	// free is the free space of a directory's file system. Tests set it.
	free         func(dir string) (uint64, error)
	salvageAgain time.Duration // tests set it
	// Inspect opens the store for a tool: nothing is evicted, expired or
	// salvaged, and a store that cannot be read is an error and stays where it
	// is.
	Inspect bool
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
	age         ageClock
	quarantined string // where a damaged store was moved at Open, or ""

	// committing is held while the store's ledger is written. It is taken
	// before mu.
	committing sync.Mutex

	copying   sync.Mutex // held while the totals are copied
	importing sync.Mutex // held by an import

	// reading is held while records are taken from the head of a stream: by
	// Next, and by the keeper that evicts and expires. It is taken before mu.
	reading sync.Mutex

	mu           sync.Mutex
	closed       bool
	online       bool
	seq          uint64 // last assigned
	pending      []pending
	pendingBytes int64
	settled      []settlement
	leaves       uint64 // settlements so far
	leavesStored uint64 // of them stored
	salvaging    bool   // streams in which salvaged records belong are held
	salvaged     []Salvage
	unsalvaged   map[string]error // why quarantined stores could not be salvaged
	salvageDone  chan struct{}    // closed when each was salvaged, or could not be
	totalsError  error            // why the copy of the totals is not written, or nil
	writing      bool             // a batch was taken from pending and settled, and is not in the store yet
	room         chan struct{}    // closed and replaced when there may be room
	streams      map[streamID]*stream
	order        []*stream         // highest lane first
	routes       map[string]uint16 // numbers of routes
	load         map[string]Tally  // of each route: queued or pending
	total        Tally             // of all routes: queued or pending
	policies     map[string]Policy
	ledger       Ledger
	notes        map[string]uint64
	dead         map[uint64]DeadLetter // without their records
	deaths       map[string]uint64     // by route, since the start
	lowDisk      error                 // why the disk's floor refuses, or nil
	failing      error                 // the last commit's error, or nil
	broken       error                 // why nothing can be committed until the store is opened anew, or nil
	freeDisk     uint64
	reclaimError error // why disk space could not be given back, or nil

	wake       chan struct{} // something to commit
	wakeKeeper chan struct{} // something to evict or expire
	ready      chan struct{} // something to read
	timings    Timings       // of commits
	pace       pace

	stop context.CancelFunc
	done sync.WaitGroup
}

// pending is a message that waits for its commit.
type pending struct {
	entry Entry
	done  func(error)
	dead  *DeadLetter // that it is revived from, or nil
	chain *chain      // that it belongs to, or nil
}

// settlement is a record that left. Settlements are committed in their order,
// so that watermark, which holds once this one is stored, is never ahead.
type settlement struct {
	stream    *stream
	seq       uint64
	size      int64
	outcome   Outcome
	watermark uint64
	dead      *DeadLetter // that it becomes, or nil
	damaged   []byte      // the record that could not be read, which is kept
}

// Open opens or creates the queue below opt.Dir and starts its goroutines. A
// store that cannot be read is quarantined, and what is readable in it is
// queued again in the background, see Stats. It returns ErrLocked if another
// process has it open.
func Open(opt Options) (*Queue, error) {
	opt = withDefaults(opt)
	if err := os.MkdirAll(opt.Dir, 0o750); err != nil {
		return nil, fmt.Errorf("queue directory: %w; data_dir must be where this user may write", err)
	}
	lock, err := lockDir(opt.Dir)
	if err != nil {
		return nil, err
	}
	q := &Queue{
		opt: opt, lock: lock, policies: opt.Policies, deaths: map[string]uint64{}, unsalvaged: map[string]error{},
		room: make(chan struct{}), wake: make(chan struct{}, 1), wakeKeeper: make(chan struct{}, 1), ready: make(chan struct{}, 1),
	}
	if err := q.roomToOpen(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	options := badgerOptions(filepath.Join(opt.Dir, "store"), !opt.Unsynced, opt.MaxBytes, badgerLog{opt.Logger, q.holdTable})
	if opt.Inspect {
		if q.db, err = openAndRead(options, q.restore); err != nil {
			err = fmt.Errorf("open queue %s: %w", opt.Dir, err)
		}
	} else {
		q.db, q.quarantined, err = openStore(opt.Dir, options, opt.Now(), opt.Logger, q.restore)
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	wrecks, err := q.succeed()
	if err != nil {
		return nil, errors.Join(err, q.db.Close(), lock.Close())
	}
	q.age.begin(opt, q.notes)
	q.start(wrecks)
	return q, nil
}

// succeed takes over what former stores left, and returns those that are to
// be salvaged.
func (q *Queue) succeed() ([]string, error) {
	if q.blank() {
		if err := q.adopt(); err != nil {
			return nil, err
		}
	}
	if q.opt.Inspect {
		return nil, nil
	}
	return q.wrecks()
}

// start starts the queue's goroutines.
func (q *Queue) start(wrecks []string) {
	ctx, cancel := context.WithCancel(context.Background())
	q.stop = cancel
	signal(q.ready)
	q.watchDisk()
	q.done.Go(func() { q.commitLoop(ctx) })
	q.salvageDone = make(chan struct{})
	if len(wrecks) == 0 {
		close(q.salvageDone)
	}
	q.done.Go(func() { q.maintain(ctx) })
	if q.opt.Inspect {
		return
	}
	if q.salvaging = len(wrecks) > 0; q.salvaging {
		q.done.Go(func() { q.salvageAll(ctx, wrecks) })
	}
	q.done.Go(func() { q.keep(ctx) })
	q.done.Go(func() { q.reclaimLoop(ctx) })
	q.done.Go(func() { q.keepTotals(ctx) })
}

func withDefaults(opt Options) Options {
	if opt.MaxBytes == 0 {
		opt.MaxBytes = DefaultMaxBytes
	}
	if opt.MaxDeadBytes == 0 {
		opt.MaxDeadBytes = DefaultMaxDeadBytes
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
	if opt.free == nil {
		opt.free = freeBytes
	}
	if opt.salvageAgain == 0 {
		opt.salvageAgain = salvageAgain
	}
	if opt.slack == 0 {
		opt.slack = diskSlack
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
	now := q.age.at()
	m.Expiry = q.policies[m.Route].expiry(now, q.age.due(m.Expiry))
	q.seq++
	e := Entry{Message: m, Seq: q.seq, Accepted: now, stream: q.streamOf(m, q.online)}
	q.push(pending{entry: e, done: done})
	return nil
}

// push hands a message to the committer; mu is held.
func (q *Queue) push(p pending) {
	size := p.entry.bytes()
	q.pending = append(q.pending, p)
	q.pendingBytes += size
	q.account(p.entry.Route, size, 1)
	p.entry.stream.waiting++
	signal(q.wake)
}

// account changes what a route has queued or pending; mu is held.
func (q *Queue) account(route string, bytes, records int64) {
	delta := Tally{records, bytes}
	q.load[route] = q.load[route].plus(delta)
	q.total = q.total.plus(delta)
}

// streamOf returns the stream that a message goes to, and makes it if it is
// new; mu is held. live says that it does not belong to what an outage left.
func (q *Queue) streamOf(m Message, live bool) *stream {
	id := streamID{lane: byte(m.Lane), class: classStrict, route: q.routeNumber(m.Route)}
	if q.policies[m.Route].Order == ByLane && !m.Retain {
		id.class = classBacklog
		if live {
			id.class = classLive
		}
	}
	return q.streamByID(id, m.Route)
}

func (q *Queue) streamByID(id streamID, route string) *stream {
	s, ok := q.streams[id]
	if !ok {
		s = &stream{id: id, route: route, last: q.notes[baseKey], tailFrom: q.notes[baseKey]}
		q.relate(s)
		q.streams[id] = s
		q.order = append(slices.Clone(q.order), s) // byLane has handed out the former one
		slices.SortStableFunc(q.order, func(a, b *stream) int { return int(b.id.lane) - int(a.id.lane) })
	}
	return s
}

// routeNumber returns a route's number, and gives it one if it is new; mu is
// held. The next commit stores it.
func (q *Queue) routeNumber(name string) uint16 {
	n, ok := q.routes[name]
	if !ok {
		n = uint16(len(q.routes) + 1)
		q.routes[name] = n
	}
	return n
}

// Room returns a channel that is closed when a message that is refused from
// now on may be worth offering again. Take it before Enqueue: room that is
// made between a refusal and Room is not told again.
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

// admit says whether there is room for m; mu is held. At a bound that is kept
// by eviction it says ErrBusy while the keeper makes room.
func (q *Queue) admit(m Message) error {
	if err := q.accepting(m); err != nil {
		return err
	}
	p := q.policies[m.Route]
	if over(q.load[m.Route], p.MaxBytes, p.MaxRecords, m.bytes()) {
		if p.Overflow == Reject {
			return fmt.Errorf("%w: route %s has %d records with %d bytes, its bound", ErrFull, m.Route, q.load[m.Route].Records, q.load[m.Route].Bytes)
		}
		signal(q.wakeKeeper)
		return fmt.Errorf("%w: route %s makes room at its bound", ErrBusy, m.Route)
	}
	if over(q.total, q.opt.MaxBytes, q.opt.MaxRecords, m.bytes()) {
		signal(q.wakeKeeper)
		if p.Overflow == Reject || !q.evictable() {
			return fmt.Errorf("%w: %d records with %d bytes are queued, the bound", ErrFull, q.total.Records, q.total.Bytes)
		}
		return fmt.Errorf("%w: the queue makes room at its bound", ErrBusy)
	}
	return nil
}

// accepting says whether anything is accepted now, apart from the bounds; mu
// is held.
func (q *Queue) accepting(m Message) error {
	switch {
	case q.closed:
		return ErrClosed
	case q.broken != nil:
		return q.broken
	case q.lowDisk != nil:
		return q.lowDisk
	case len(q.pending) >= maxPendingRecords || q.pendingBytes+m.bytes() > maxPendingBytes:
		return fmt.Errorf("%w: %d records wait for the disk", ErrBusy, len(q.pending))
	}
	return nil
}

// over reports whether one more message of the given size passes a bound.
func over(t Tally, maxBytes, maxRecords, size int64) bool {
	return (maxBytes > 0 && t.Bytes+size > maxBytes) || (maxRecords > 0 && t.Records+1 > maxRecords)
}

// Note returns the latest stored value of a key, or 0.
func (q *Queue) Note(key string) uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.notes[key]
}

// SetNote stores a note by itself. When it returns nil, the note is synced.
func (q *Queue) SetNote(n Note) error {
	q.committing.Lock()
	err := q.update(func(txn *badger.Txn) error { return txn.Set(noteKey(n.Key), encodeUint(n.Value)) })
	q.committing.Unlock()
	if err != nil {
		return fmt.Errorf("note %q: %w", n.Key, err)
	}
	q.mu.Lock()
	q.notes[n.Key] = n.Value
	q.mu.Unlock()
	q.copyTotals()
	return nil
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
	if err := q.closeStore(); err != nil {
		return fmt.Errorf("close queue: %w", err)
	}
	return nil
}

// closeTimeout is how long Close waits for the disk. The lock is kept beyond
// it, until the process ends.
const closeTimeout = 30 * time.Second

// use keeps the store open until the returned function is called, for what
// reads it for long; it returns ErrClosed if that is too late.
func (q *Queue) use() (end func(), err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, ErrClosed
	}
	q.done.Add(1)
	return q.done.Done, nil
}

// signal wakes the one reader of a channel of capacity one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
