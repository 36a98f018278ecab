package uplink

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/dgraph-io/badger/v4"
	"golang.org/x/sys/unix"
)

// Badger never reclaims a queue's deletions by itself, see README.md.
const (
	reclaimEvery = 2 * time.Second
	// The store takes at most diskFactor times what is kept in it, and
	// diskSlack, before it is compacted.
	diskFactor = 2
	diskSlack  = 48 << 20
	// recordOverhead is about what a record takes beside topic and payload.
	recordOverhead = 64
	// maxCollections bounds the value log files that one reclaim rewrites.
	maxCollections = 256
)

// reclaimLoop compacts the store when what was deleted takes more room than
// what is kept. It has a goroutine of its own, since a compaction takes
// seconds and waits while the disk is full.
func (q *Queue) reclaimLoop(ctx context.Context) {
	tick := time.NewTicker(reclaimEvery)
	defer tick.Stop()
	var before int64 // bytes that had left at the last compaction; unknown after a start, so at most one is for nothing
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		kept, left := q.sizes()
		if left-before < q.opt.slack/2 {
			continue
		}
		size, err := allocated(filepath.Join(q.opt.Dir, "store"))
		low, room := q.roomToReclaim()
		if err == nil && room && (low || size > diskFactor*kept+q.opt.slack) {
			before = left
			err = q.reclaim(ctx)
		}
		if err != nil {
			q.opt.Logger.Error("the queue's disk space is not given back", "error", err)
		}
		q.mu.Lock()
		q.reclaimError = err
		q.mu.Unlock()
	}
}

// sizes are about what is kept in the store, and what left it since it was
// created, in bytes.
func (q *Queue) sizes() (kept, left int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	stored := func(t Tally) int64 { return t.Bytes + recordOverhead*t.Records }
	for _, a := range q.ledger {
		kept += stored(a.Queued) + stored(a.Dead)
		left += stored(a.Accepted) - stored(a.Queued)
	}
	return kept, left
}

// allocated is what the files below dir take of the disk, without holes.
func allocated(dir string) (bytes int64, err error) {
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			var st unix.Stat_t
			if err = unix.Lstat(path, &st); err == nil {
				bytes += st.Blocks * 512
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("size of %s: %w", dir, err)
	}
	return bytes, nil
}

// reclaim rewrites the store without what was deleted.
func (q *Queue) reclaim(ctx context.Context) error {
	if err := q.rotate(ctx); err != nil {
		return err
	}
	if err := q.db.Flatten(1); err != nil {
		return fmt.Errorf("compaction: %w", err)
	}
	for range maxCollections { // each rewrites one file
		if _, room := q.roomToReclaim(); !room || ctx.Err() != nil {
			return nil
		}
		err := q.collect()
		if errors.Is(err, badger.ErrNoRewrite) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("value log collection: %w", err)
		}
	}
	return nil
}

// collect rewrites one file of the value log. Badger reads the state of its
// memtable for that without a lock, so nothing is committed meanwhile.
func (q *Queue) collect() error {
	q.committing.Lock()
	defer q.committing.Unlock()
	return q.db.RunValueLogGC(0.5)
}

// rotate makes Badger write its memtable to a table. It learns from tables
// alone what is garbage in the value log, and large records, which lie there,
// leave too little behind in the memtable to fill it. What fills it here has
// expired, so that nobody reads it.
func (q *Queue) rotate(ctx context.Context) error {
	logs, err := filepath.Glob(filepath.Join(q.opt.Dir, "store", "*.vlog"))
	if err != nil || len(logs) < 2 {
		return err
	}
	padding := make([]byte, memTableBytes/10)
	for range memTableBytes/len(padding) + 1 {
		if err := q.update(func(txn *badger.Txn) error {
			return txn.SetEntry(&badger.Entry{Key: []byte{prefixPadding}, Value: padding, ExpiresAt: 1})
		}); err != nil {
			return fmt.Errorf("fill the memtable: %w", err)
		}
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		tables, err := filepath.Glob(filepath.Join(q.opt.Dir, "store", "*.mem"))
		if err != nil || len(tables) < 2 {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
