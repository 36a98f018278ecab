// Package snapshots is a store of JPEGs in one directory: SUM.jpg, where SUM
// is the SHA-256 of the file in lower-case hex.
//
// It owns its directory and bounds it by bytes and by age; the oldest go
// first, and are counted. It promises that a picture is on the disk, synced,
// once Put returns nil, that a file with a picture's name holds all of it also
// after a crash, and that nothing is written while the disk has less free
// space than the floor. It refuses to touch files that are not its own: they
// are counted and left.
//
// A crash leaves at most a file SUM.jpg.new-*, which the next Open removes.
package snapshots

import (
	"bytes"
	"container/list"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Errors of Put and Get.
var (
	// ErrNoRoom says that the disk has too little free space, or the picture
	// is larger than the whole store may be.
	ErrNoRoom = errors.New("no room for a picture")
	// ErrNone says that there is no such picture.
	ErrNone = errors.New("no such picture")
	// ErrDamaged says that a file does not hold what its name says.
	ErrDamaged = errors.New("picture is damaged")
)

// Defaults of Options.
const (
	DefaultMaxBytes = 512 << 20
	DefaultMaxAge   = 7 * 24 * time.Hour
)

// block is what a file's size is rounded up to, as file systems do.
const block = 4096

// Options of a Store. MaxBytes and MaxAge of 0 mean the defaults.
type Options struct {
	Dir      string
	MaxBytes int64 // of files, each rounded up to 4 KiB
	MaxAge   time.Duration
	Floor    uint64 // bytes of free disk; see Put
	Now      func() time.Time
	// free is the free space of a directory's file system. Tests set it.
	free func(dir string) (uint64, error)
}

// Store is safe for concurrent use.
type Store struct {
	opt Options

	writing sync.Mutex // held while files are made and removed; taken before mu

	mu    sync.Mutex                 // for what follows, which changes only while writing is held too, but for stats and floor
	index map[[32]byte]*list.Element // of picture
	order *list.List                 // oldest first
	floor uint64
	stats Stats
}

// picture is one file.
type picture struct {
	sum   [32]byte
	at    time.Time // of its file
	bytes int64     // rounded up
}

// Stats is a snapshot of a Store. Counters start with Open.
type Stats struct {
	Pictures int
	Bytes    int64 // of files, each rounded up to 4 KiB
	MaxBytes int64
	Stored   uint64 // by Put, also those that were there already
	Evicted  uint64 // because of MaxBytes
	Expired  uint64 // because of MaxAge
	Failed   uint64 // Puts that stored nothing
	Damaged  uint64 // Gets of files that do not hold what their name says
	Foreign  int    // files that were found by Open and are none of the store's
	Example  string // name of one of them
	Failing  error  // why the last Put or removal failed, or nil
}

// own matches the store's files and those that a crash left half written.
var own = regexp.MustCompile(`^([0-9a-f]{64})\.jpg(\.new-.*)?$`)

// Open makes the directory if it is missing and reads what is in it.
func Open(opt Options) (*Store, error) {
	if opt.MaxBytes == 0 {
		opt.MaxBytes = DefaultMaxBytes
	}
	if opt.MaxAge == 0 {
		opt.MaxAge = DefaultMaxAge
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.free == nil {
		opt.free = freeBytes
	}
	s := &Store{opt: opt, index: map[[32]byte]*list.Element{}, order: list.New(), floor: opt.Floor}
	if err := os.MkdirAll(opt.Dir, 0o750); err != nil {
		return nil, fmt.Errorf("snapshots: %w", err)
	}
	if err := s.read(); err != nil {
		return nil, fmt.Errorf("snapshots: %w", err)
	}
	s.Tidy()
	return s, nil
}

// read builds the index from the directory.
func (s *Store) read() error {
	entries, err := os.ReadDir(s.opt.Dir)
	if err != nil {
		return err
	}
	var found []picture
	for _, e := range entries {
		name := own.FindStringSubmatch(e.Name())
		info, err := e.Info()
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			return err
		case name == nil || !info.Mode().IsRegular():
			s.stats.Foreign++
			s.stats.Example = e.Name()
		case name[2] != "":
			if err := os.Remove(filepath.Join(s.opt.Dir, e.Name())); err != nil {
				return fmt.Errorf("what a crash left: %w", err)
			}
		default:
			key, _ := parse(name[1]) // the pattern says that it is one
			found = append(found, picture{key, info.ModTime(), blocks(info.Size())})
		}
	}
	slices.SortFunc(found, func(a, b picture) int { return a.at.Compare(b.at) })
	s.adopt(found)
	return nil
}

// Put stores a picture and returns when it is synced. sum is the SHA-256 of b
// in hex. With an error nothing is stored, and ErrNoRoom is wrapped where the
// disk would have less free space than a quarter above the floor: the queue,
// which stops at the floor, has to have what is left.
func (s *Store) Put(sum string, b []byte) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	err := s.put(sum, b)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Failing = err
	if err != nil {
		s.stats.Failed++
		return fmt.Errorf("snapshots: %w", err)
	}
	s.stats.Stored++
	return nil
}

// put is Put; writing is held.
func (s *Store) put(sum string, b []byte) error {
	key, ok := parse(sum)
	if !ok {
		return fmt.Errorf("got the name %.80q, expected a SHA-256 in hex", sum)
	}
	p := picture{sum: key, at: s.opt.Now(), bytes: blocks(int64(len(b)))}
	path := s.path(p.sum)
	if e, ok := s.index[p.sum]; ok {
		was, err := os.ReadFile(path)
		if err == nil && bytes.Equal(was, b) && os.Chtimes(path, p.at, p.at) == nil {
			s.mu.Lock()
			s.order.MoveToBack(e)
			e.Value.(*picture).at = p.at
			s.mu.Unlock()
			return nil
		}
		s.forget(e) // someone else removed or changed it: write it again
	}
	if p.bytes > s.opt.MaxBytes {
		return fmt.Errorf("%w: it has %d bytes, the store holds %d", ErrNoRoom, p.bytes, s.opt.MaxBytes)
	}
	if err := s.bound(p.bytes); err != nil {
		return err
	}
	free, err := s.opt.free(s.opt.Dir)
	if err != nil {
		return err
	}
	s.mu.Lock()
	need := s.floor + s.floor/4 + uint64(p.bytes)
	s.mu.Unlock()
	if free < need {
		return fmt.Errorf("%w: %d bytes are free on the disk, expected %d", ErrNoRoom, free, need)
	}
	if err := write(path, b, p.at); err != nil {
		return err
	}
	s.adopt([]picture{p})
	return nil
}

// Get returns a picture and when it was stored last. The error wraps ErrNone
// or ErrDamaged.
func (s *Store) Get(sum string) ([]byte, time.Time, error) {
	key, ok := parse(sum)
	if !ok {
		return nil, time.Time{}, fmt.Errorf("snapshots: %w: got %.80q, expected a SHA-256 in hex", ErrNone, sum)
	}
	s.mu.Lock()
	e, ok := s.index[key]
	var at time.Time
	if ok {
		at = e.Value.(*picture).at
	}
	s.mu.Unlock()
	if !ok {
		return nil, at, fmt.Errorf("snapshots: %w: %s", ErrNone, sum)
	}
	b, err := os.ReadFile(s.path(key))
	if errors.Is(err, os.ErrNotExist) { // evicted in between
		return nil, at, fmt.Errorf("snapshots: %w: %s", ErrNone, sum)
	}
	if err == nil && sha256.Sum256(b) != key {
		s.mu.Lock()
		s.stats.Damaged++
		s.mu.Unlock()
		err = fmt.Errorf("%w: the content of %s has another SHA-256", ErrDamaged, s.path(key))
	}
	if err != nil {
		return nil, at, fmt.Errorf("snapshots: %w", err)
	}
	return b, at, nil
}

// Has reports whether there is such a picture.
func (s *Store) Has(sum string) bool {
	key, ok := parse(sum)
	s.mu.Lock()
	defer s.mu.Unlock()
	_, have := s.index[key]
	return ok && have
}

// parse reads a SHA-256 in hex.
func parse(sum string) (key [32]byte, ok bool) {
	if len(sum) != hex.EncodedLen(len(key)) {
		return key, false
	}
	_, err := hex.Decode(key[:], []byte(sum))
	return key, err == nil
}

// Tidy removes what is too old. It is to be called now and then.
func (s *Store) Tidy() {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.bound(0); err != nil {
		s.mu.Lock()
		s.stats.Failing = fmt.Errorf("snapshots: %w", err)
		s.mu.Unlock()
	}
}

// SetFloor changes Options.Floor.
func (s *Store) SetFloor(bytes uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.floor = bytes
}

// Stats returns a snapshot.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.stats
	out.MaxBytes = s.opt.MaxBytes
	return out
}

func (s *Store) path(sum [32]byte) string {
	return filepath.Join(s.opt.Dir, hex.EncodeToString(sum[:])+".jpg")
}

func blocks(n int64) int64 { return (n + block - 1) / block * block }

// freeBytes is the space that this process may still use on dir's file system.
func freeBytes(dir string) (uint64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return s.Bavail * uint64(s.Bsize), nil
}
