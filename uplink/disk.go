package uplink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"
	"golang.org/x/sys/unix"
)

const (
	// diskEvery is how often the free space is looked at, beside every commit.
	diskEvery = 100 * time.Millisecond
	// maxReserve bounds the part of the floor below which nothing is written
	// at all. What Badger writes at the same moment has to fit into it, which
	// is about 32 MiB; one whole compaction has to fit between it and the
	// floor, or it would wait for the room that only its end frees.
	maxReserve = 64 << 20
)

// errNoRoom is an ErrFull because of the disk.
var errNoRoom = fmt.Errorf("%w: the disk is full", ErrFull)

// maintain looks at the free space until ctx ends.
func (q *Queue) maintain(ctx context.Context) {
	tick := time.NewTicker(diskEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			q.watchDisk()
		}
	}
}

// watchDisk sets the refusal that holds while the file system has less than
// the floor. Badger writes through maps of files
// with holes: a full disk would reach it as a SIGBUS.
func (q *Queue) watchDisk() {
	free, err := q.opt.free(q.opt.Dir)
	floor := q.bounds().MinFreeBytes
	low := err
	if err == nil && free < floor {
		low = fmt.Errorf("%w: %d bytes are free, the floor is %d", errNoRoom, free, floor)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.lowDisk != nil && low == nil {
		q.openRoom()
	}
	if errors.Is(q.failing, errNoRoom) && free >= reserve(floor) {
		q.failing = nil // there may be nothing to commit that would say so
		signal(q.ready)
	}
	q.lowDisk, q.freeDisk = low, free
}

// refusing is why the disk's floor refuses, or nil.
func (q *Queue) refusing() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.lowDisk
}

// reserve is the free space below which nothing is written: what is between
// it and the floor is for what was accepted before, and for draining.
func reserve(floor uint64) uint64 { return min(floor/4, maxReserve) }

// roomToWrite is asked before everything that is written to the store.
func (q *Queue) roomToWrite() error {
	q.watchDisk()
	q.mu.Lock()
	defer q.mu.Unlock()
	if need := reserve(q.opt.MinFreeBytes); q.freeDisk < need && q.lowDisk != nil {
		return fmt.Errorf("%w; a commit needs %d", q.lowDisk, need)
	}
	return nil
}

// roomToReclaim reports whether the free space is below the floor, and
// whether there is enough of it for the tables that a compaction writes before
// it deletes the old ones.
func (q *Queue) roomToReclaim() (low, room bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.lowDisk != nil, q.freeDisk >= q.opt.MinFreeBytes/4*3 || q.freeDisk >= 1<<30
}

// roomToOpen is asked before the store is opened.
func (q *Queue) roomToOpen() error {
	free, err := q.opt.free(q.opt.Dir)
	if err != nil {
		return err
	}
	if need := min(q.opt.MinFreeBytes, probeBytes); free < need {
		return fmt.Errorf("open queue %s: %w: %d bytes are free, expected at least %d", q.opt.Dir, errNoRoom, free, need)
	}
	return nil
}

// update is a transaction beside the commit loop's.
func (q *Queue) update(change func(*badger.Txn) error) error {
	if err := q.roomToWrite(); err != nil {
		return err
	}
	return q.db.Update(change)
}

// holdTable waits until there is room for a compaction's next table. It does
// not end with the queue: closeStore leaves a store that is held.
func (q *Queue) holdTable() {
	for {
		free, err := q.opt.free(q.opt.Dir)
		if err != nil || free >= reserve(q.bounds().MinFreeBytes) {
			return
		}
		time.Sleep(diskEvery / 10)
	}
}

// closeStore joins the queue's goroutines and closes the store. On a full
// disk that could not be written: then the store is left as a kill would leave
// it, with all that was synced, and stays locked until the process ends.
func (q *Queue) closeStore() error {
	closed := make(chan error, 1)
	go func() {
		q.done.Wait()
		err := q.roomToClose()
		if err == nil {
			if !q.opt.Inspect && q.LastSequence() > 0 && q.isBroken() == nil {
				q.storeClock()
			}
			q.copyTotals()
			err = errors.Join(q.db.Close(), q.lock.Close())
		}
		closed <- err
	}()
	tick := time.NewTicker(diskEvery)
	defer tick.Stop()
	late := time.After(closeTimeout)
	for {
		select {
		case <-late: // Badger tries for ever to write its memtable
			return fmt.Errorf("the disk takes nothing within %v; what was acknowledged is in the write-ahead log", closeTimeout)
		case err := <-closed:
			return err
		case <-tick.C:
			if err := q.roomToClose(); err != nil {
				return err
			}
		}
	}
}

func (q *Queue) roomToClose() error {
	free, err := q.opt.free(q.opt.Dir)
	if err != nil {
		return err
	}
	if need := reserve(q.bounds().MinFreeBytes); free < need {
		return fmt.Errorf("the store is left as it is: %w: %d bytes are free, closing needs %d", errNoRoom, free, need)
	}
	return nil
}

// freeBytes is the space that this process may still use on dir's file system.
func freeBytes(dir string) (uint64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return s.Bavail * uint64(s.Bsize), nil
}
