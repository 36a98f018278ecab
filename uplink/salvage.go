package uplink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// Salvage says what came out of a quarantined store.
type Salvage struct {
	Dir     string    `json:"dir"` // below the queue's directory
	At      time.Time `json:"at"`
	Queued  Tally     `json:"queued"`         // queued again
	Dead    Tally     `json:"dead"`           // dead letters that are dead letters again
	Left    Tally     `json:"left,omitzero"`  // for which there was no room; they stay in Dir
	Unread  int64     `json:"unread_records"` // that are there and cannot be read
	Damaged []string  `json:"damaged_files"`  // of which a part is lost
}

const (
	// salvageFile is where the outcome is kept, in the quarantined store, which
	// is not salvaged again.
	salvageFile = "salvage.json"
	// salvageAgain is how often the space is looked at that a salvage lacked.
	salvageAgain = time.Minute
	// keepQuarantines is how many quarantined stores are kept; beyond it the
	// oldest that was salvaged goes.
	keepQuarantines = 3
)

// progressKey notes how many records of a quarantined store were looked at.
// It is stored together with the last of them that was queued.
func progressKey(dir string) string { return "salvage/" + dir }

// ledgerKnownKey notes that the ledger of a quarantined store was read.
func ledgerKnownKey(dir string) string { return "salvage-ledger/" + dir }

// wrecks lists the quarantined stores that have not been salvaged, the oldest
// first.
func (q *Queue) wrecks() ([]string, error) {
	paths, err := quarantines(q.opt.Dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, p := range paths {
		if !isSalvaged(p) {
			out = append(out, filepath.Base(p))
		}
	}
	return out, nil
}

// isSalvaged reports whether the salvage of a quarantined store has ended.
func isSalvaged(path string) bool {
	_, err := os.Stat(filepath.Join(path, salvageFile))
	return err == nil
}

// salvageAll queues again what is readable in quarantined stores. Until it
// has ended, streams in which salvaged records belong before new ones are
// held back. Where the disk lacks the space they are not, since space may come
// of what they deliver; then the salvage waits, and its records come last.
func (q *Queue) salvageAll(ctx context.Context, dirs []string) {
	dirs = q.salvageEach(ctx, dirs)
	q.release()
	close(q.salvageDone)
	tick := time.NewTicker(q.opt.salvageAgain)
	defer tick.Stop()
	for len(dirs) > 0 {
		select {
		case <-tick.C:
			dirs = q.salvageEach(ctx, dirs)
		case <-ctx.Done():
			return
		}
	}
}

// salvageEach returns those for which the disk has no space.
func (q *Queue) salvageEach(ctx context.Context, dirs []string) (waiting []string) {
	for _, dir := range dirs {
		s, err := q.salvage(ctx, dir)
		if errors.Is(err, context.Canceled) || errors.Is(err, ErrClosed) {
			return nil
		}
		q.salvageEnded(dir, s, err)
		if errors.Is(err, ErrFull) {
			waiting = append(waiting, dir)
		}
	}
	q.dropOldQuarantines()
	return waiting
}

// salvageEnded notes the outcome for Stats.
func (q *Queue) salvageEnded(dir string, s Salvage, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err == nil {
		delete(q.unsalvaged, dir)
		q.salvaged = append(q.salvaged, s)
		q.opt.Logger.Warn("a quarantined store was salvaged", "dir", dir, "queued", s.Queued.Records, "dead", s.Dead.Records,
			"left", s.Left.Records, "unread", s.Unread, "damaged_files", len(s.Damaged))
		return
	}
	if q.unsalvaged[dir] == nil {
		q.opt.Logger.Error("a quarantined store cannot be salvaged; it stays where it is", "dir", dir, "error", err)
	}
	q.unsalvaged[dir] = fmt.Errorf("salvage of %s: %w", dir, err)
}

// AwaitSalvage waits until no quarantined store is being salvaged.
func (q *Queue) AwaitSalvage(ctx context.Context) error {
	select {
	case <-q.salvageDone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// release lets the streams go that a salvage held.
func (q *Queue) release() {
	q.mu.Lock()
	q.salvaging = false
	q.mu.Unlock()
	signal(q.ready)
}

// salvage queues again what is readable in one quarantined store. It goes on
// where a former process was interrupted.
func (q *Queue) salvage(ctx context.Context, dir string) (Salvage, error) {
	out := Salvage{Dir: dir, At: q.opt.Now().UTC()}
	scratch := filepath.Join(q.opt.Dir, "salvage")
	if err := os.RemoveAll(scratch); err != nil { // of a former process
		return out, err
	}
	if err := q.spaceFor(filepath.Join(q.opt.Dir, dir)); err != nil {
		return out, err
	}
	db, err := badger.OpenManaged(badgerOptions(scratch, false, q.opt.MaxBytes, badgerLog{q.opt.Logger, q.holdTable}))
	if err != nil {
		return out, fmt.Errorf("scratch store: %w", err)
	}
	out.Damaged, err = q.gather(ctx, db, filepath.Join(q.opt.Dir, dir))
	if err == nil {
		txn := db.NewTransactionAt(math.MaxUint64, false)
		w := &wreck{chain: chain{queue: q, recovered: true}, txn: txn, out: &out}
		err = w.salvage(ctx)
		txn.Discard()
	}
	if err = errors.Join(err, db.Close(), os.RemoveAll(scratch)); err != nil {
		return out, err
	}
	b, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return out, err
	}
	if err := replaceFile(filepath.Join(q.opt.Dir, dir, salvageFile), append(b, '\n')); err != nil {
		return out, err
	}
	q.copyTotals()
	return out, nil
}

// spaceFor returns an error if the disk has no room for a copy of a store
// above the floor.
func (q *Queue) spaceFor(store string) error {
	files, err := os.ReadDir(store)
	if err != nil {
		return err
	}
	var size uint64
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			return err
		}
		size += uint64(info.Size())
	}
	free, err := q.opt.free(q.opt.Dir)
	if floor := q.bounds().MinFreeBytes; err == nil && free < floor+size {
		err = fmt.Errorf("%w: %d bytes are free on the disk, a copy needs %d above the floor of %d", ErrFull, free, size, floor)
	}
	return err
}

// gather copies what is readable in a damaged Badger directory into db, which
// puts the versions of each key in order.
func (q *Queue) gather(ctx context.Context, db *badger.DB, dir string) (damaged []string, err error) {
	batch := db.NewManagedWriteBatch()
	damaged, err = readRaw(dir, func(e rawEntry) error {
		if err := errors.Join(ctx.Err(), q.refusing()); err != nil {
			return err
		}
		if e.deleted {
			return batch.DeleteAt(e.key, e.version)
		}
		return batch.SetEntryAt(badger.NewEntry(e.key, e.value), e.version)
	})
	if err != nil {
		batch.Cancel()
		return damaged, err
	}
	return damaged, batch.Flush()
}

// wreck is what could be gathered of a damaged store.
type wreck struct {
	chain chain
	txn   *badger.Txn
	out   *Salvage

	routes map[uint16]string
	marks  map[streamID]mark
	seen   uint64 // records and dead letters looked at
	from   uint64 // those that a former process has dealt with
}

func (w *wreck) salvage(ctx context.Context) error {
	if err := w.readState(); err != nil {
		return err
	}
	if err := w.takeOverLedger(); err != nil {
		return err
	}
	w.from = w.chain.queue.Note(progressKey(w.out.Dir))
	err := each(w.txn, prefixRecord, func(key string, b []byte) error {
		return errors.Join(ctx.Err(), w.record(ctx, []byte(key), b))
	})
	if err == nil {
		err = each(w.txn, prefixDead, func(_ string, b []byte) error { return errors.Join(ctx.Err(), w.deadLetter(b)) })
	}
	return errors.Join(err, w.chain.wait())
}

// readState reads the names of the routes and the marks of the streams, as
// far as they are readable.
func (w *wreck) readState() error {
	w.routes, w.marks = map[uint16]string{}, map[streamID]mark{}
	if err := each(w.txn, prefixRoute, func(name string, b []byte) error {
		if n, err := decodeUint(b); err == nil {
			w.routes[uint16(n)] = name
		}
		return nil
	}); err != nil {
		return err
	}
	return each(w.txn, prefixStream, func(key string, b []byte) error {
		id, err := parseStreamID([]byte(key))
		if m, damage := decodeMark(b); err == nil && damage == nil {
			w.marks[id] = m
		}
		return nil
	})
}

// takeOverLedger replaces the copy of the totals, which this process began
// with, by the store's own ledger, where that is readable and newer.
func (w *wreck) takeOverLedger() error {
	q, dir := w.chain.queue, w.out.Dir
	copied, err := readTotals(filepath.Join(q.opt.Dir, dir))
	if err != nil { // the records are worth more than what was counted since
		q.opt.Logger.Error("the ledger of a quarantined store is not compared", "dir", dir, "error", err)
	}
	if copied.Format == 0 || q.Note(ledgerKnownKey(dir)) != 0 {
		return nil
	}
	was, now := copied.Ledger.quarantine(), Ledger{}
	if err := each(w.txn, prefixLedger, func(route string, b []byte) error {
		if a, err := decodeAccount(route, b); err == nil && a.Balanced() && a.Accepted.Records >= copied.Ledger[route].Accepted.Records {
			now[route] = a
		}
		return nil
	}); err != nil {
		return err
	}
	return q.correct(was, now.quarantine(), Note{ledgerKnownKey(dir), 1})
}

// record queues one record again, unless it had left.
func (w *wreck) record(ctx context.Context, key, b []byte) error {
	if w.seen++; w.seen <= w.from {
		return nil
	}
	if len(key) != streamKeyBytes+8 {
		w.out.Unread++
		return nil
	}
	id, err := parseStreamID(key[:streamKeyBytes])
	if err != nil {
		return err
	}
	e := Entry{Seq: seqOf(append([]byte{prefixRecord}, key...)), Message: Message{Lane: int(id.lane), Route: w.route(id.route)}}
	if e.Seq <= w.marks[id].watermark {
		return nil
	}
	if decodeRecord(&e, slices.Clone(b)) != nil || check(e.Message) != nil {
		w.out.Unread++
		return nil
	}
	e.Note = Note{progressKey(w.out.Dir), w.seen}
	e.stream = w.chain.queue.successor(id, e.Route)
	if has, err := w.chain.queue.has(recordKey(e.stream.id, e.Seq)); has || err != nil {
		return err // an older store held it as well
	}
	err = w.chain.add(ctx, e)
	switch {
	case errors.Is(err, errBound):
		w.out.Left.add(e.bytes())
		return nil
	case err == nil:
		w.out.Queued.add(e.bytes())
	}
	return err
}

// has reports whether a key is stored.
func (q *Queue) has(key []byte) (bool, error) {
	err := q.db.View(func(txn *badger.Txn) error {
		_, err := txn.Get(key)
		return err
	})
	if errors.Is(err, badger.ErrKeyNotFound) {
		return false, nil
	}
	return err == nil, err
}

// successor is the stream in which records of a quarantined stream belong.
func (q *Queue) successor(id streamID, route string) *stream {
	q.mu.Lock()
	defer q.mu.Unlock()
	id.route = q.routeNumber(route)
	if id.class == classLive {
		id.class = classBacklog
	}
	return q.streamByID(id, route)
}

// route is the name of a route, or one that says that it is lost.
func (w *wreck) route(n uint16) string {
	if name, ok := w.routes[n]; ok {
		return name
	}
	return fmt.Sprintf("lost-%d", n)
}

// deadLetter keeps a dead letter again.
func (w *wreck) deadLetter(b []byte) error {
	if w.seen++; w.seen <= w.from {
		return nil
	}
	d, err := decodeDead(slices.Clone(b))
	if err == nil {
		_, err = d.Message()
	}
	if err != nil {
		w.out.Unread++
		return nil
	}
	if has, err := w.chain.queue.has(deadKey(d.ID)); has || err != nil {
		return err
	}
	if err := w.chain.keepDead(d, Note{progressKey(w.out.Dir), w.seen}); err != nil {
		return err
	}
	w.out.Dead.add(d.Size)
	return nil
}

// dropOldQuarantines removes the oldest salvaged stores beyond those that are
// kept.
func (q *Queue) dropOldQuarantines() {
	paths, err := quarantines(q.opt.Dir)
	for i := 0; err == nil && i < len(paths)-keepQuarantines; i++ {
		if isSalvaged(paths[i]) {
			q.opt.Logger.Warn("an old quarantined store, which was salvaged, is removed", "dir", filepath.Base(paths[i]))
			err = os.RemoveAll(paths[i])
		}
	}
	if err != nil {
		q.opt.Logger.Error("old quarantined stores cannot be removed", "error", err)
	}
}
