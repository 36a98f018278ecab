package uplink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"
)

const (
	// diskEvery is how often the free space is looked at.
	diskEvery = 500 * time.Millisecond
	// flattenAfter is how many deletions make a compaction worth its cost, as
	// long as they are more than what is queued: Badger does not reclaim a
	// queue's deletions by itself.
	flattenAfter = 100_000
)

// maintain watches the disk's floor and gives space back.
func (q *Queue) maintain(ctx context.Context) {
	tick := time.NewTicker(diskEvery)
	defer tick.Stop()
	var flattened int64
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		q.watchDisk()
		if q.opt.Inspect {
			continue
		}
		if left := q.left(); left-flattened >= max(flattenAfter, q.Depth().Records) {
			flattened = left
			q.reclaim()
		}
	}
}

// watchDisk sets the refusal that holds while the file system has less than
// the floor: a full disk would reach Badger's mapped files as a SIGBUS.
func (q *Queue) watchDisk() {
	free, err := q.opt.free(q.opt.Dir)
	if floor := q.bounds().MinFreeBytes; err == nil && free < floor {
		err = fmt.Errorf("%w: %d bytes are free on the disk, the floor is %d", ErrFull, free, floor)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.lowDisk != nil && err == nil {
		q.openRoom()
	}
	q.lowDisk, q.freeDisk = err, free
}

// refusing is why the disk's floor refuses, or nil.
func (q *Queue) refusing() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.lowDisk
}

// left counts the records that left the queue since it was created.
func (q *Queue) left() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	var n int64
	for _, a := range q.ledger {
		n += a.Accepted.Records - a.Queued.Records
	}
	return n
}

// reclaim rewrites the store without what was deleted.
func (q *Queue) reclaim() {
	if err := q.db.Flatten(1); err != nil {
		q.opt.Logger.Error("queue compaction failed", "error", err)
		return
	}
	if err := q.db.RunValueLogGC(0.5); err != nil && !errors.Is(err, badger.ErrNoRewrite) {
		q.opt.Logger.Error("queue value log collection failed", "error", err)
	}
}
