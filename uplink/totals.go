package uplink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// totals are what has to outlive the store: a copy of the ledger and of the
// notes, for the day when the store is quarantined. It lies beside the store
// and is at most totalsEvery old, or that of a kill.
type totals struct {
	Format  int               `json:"format"`
	At      time.Time         `json:"at"`
	LastSeq uint64            `json:"last_seq"`
	Ledger  Ledger            `json:"ledger"`
	Notes   map[string]uint64 `json:"notes"`
}

const (
	totalsFormat = 1
	totalsFile   = "totals.json"
	totalsEvery  = 30 * time.Second
	// seqGap is more than any number of records between two copies, so that a
	// new store never uses a sequence number of the quarantined one.
	seqGap = 1 << 40
	// seqUnknown stands for the last sequence number where no copy says it.
	seqUnknown = 1 << 56
	// counterGap is more than a counter counts between two copies.
	counterGap = 100_000
	// baseKey notes the sequence number that a store began with.
	baseKey = "queue/base"
)

// keepTotals copies the totals until ctx ends.
func (q *Queue) keepTotals(ctx context.Context) {
	tick := time.NewTicker(totalsEvery)
	defer tick.Stop()
	var copied uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if n := q.timings.Histogram().Count; n != copied {
			copied = n
			q.copyTotals()
		}
	}
}

// copyTotals writes the copy; a failure shows in Stats until one succeeds.
func (q *Queue) copyTotals() {
	q.copying.Lock()
	defer q.copying.Unlock()
	q.mu.Lock()
	t := totals{Format: totalsFormat, At: q.opt.Now().UTC(), LastSeq: q.seq, Ledger: q.ledger.clone(), Notes: map[string]uint64{}}
	for k, v := range q.notes {
		t.Notes[k] = v
	}
	q.mu.Unlock()
	b, err := json.Marshal(t)
	if err == nil {
		err = replaceFile(filepath.Join(q.opt.Dir, totalsFile), b)
	}
	if err != nil {
		q.opt.Logger.Error("the copy of the ledger's totals cannot be written", "error", err)
	}
	q.mu.Lock()
	q.totalsError = err
	q.mu.Unlock()
}

// replaceFile writes a file so that after a crash it has the old content or
// the new one.
func replaceFile(path string, b []byte) error {
	next := path + ".new"
	f, err := os.OpenFile(next, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", next, err)
	}
	if err := os.Rename(next, path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// readTotals returns the copy below dir, or an empty one if there is none.
func readTotals(dir string) (totals, error) {
	var t totals
	b, err := os.ReadFile(filepath.Join(dir, totalsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &t)
	}
	if err == nil && t.Format != totalsFormat {
		err = fmt.Errorf("got format %d, expected %d", t.Format, totalsFormat)
	}
	if err != nil {
		return totals{}, fmt.Errorf("copy of the ledger's totals: %w", err)
	}
	return t, nil
}

// blank reports whether the store has never held anything.
func (q *Queue) blank() bool {
	return len(q.streams)+len(q.ledger)+len(q.notes)+len(q.dead) == 0
}

// adopt gives a blank store the totals of the one before it, which was
// quarantined: what was queued or dead there is "quarantined" until it is
// salvaged. The copy goes into the quarantined store as well, where the
// salvage compares it with that store's own ledger.
func (q *Queue) adopt() error {
	wrecks, err := quarantines(q.opt.Dir)
	if err != nil {
		return err
	}
	t, err := readTotals(q.opt.Dir)
	if err != nil {
		q.opt.Logger.Error("the ledger begins anew", "error", err)
		q.totalsError = err
	}
	if t.Format == 0 && len(wrecks) == 0 {
		return nil // the first start
	}
	if t.Format == 0 {
		t = totals{Format: totalsFormat, LastSeq: seqUnknown}
	}
	if n := len(wrecks); n > 0 {
		b, err := json.Marshal(t)
		if err == nil {
			err = replaceFile(filepath.Join(wrecks[n-1], totalsFile), b)
		}
		if err != nil {
			return fmt.Errorf("copy the totals to the quarantined store: %w", err)
		}
	}
	if err := q.begin(t.Ledger.quarantine(), t.successors()); err != nil {
		return err
	}
	q.copyTotals() // a store that is quarantined in a moment is followed by one that begins behind this one
	return nil
}

// successors are the notes that a new store begins with.
func (t totals) successors() map[string]uint64 {
	notes := map[string]uint64{baseKey: t.LastSeq + seqGap}
	for k, v := range t.Notes {
		switch {
		case strings.HasPrefix(k, CounterPrefix):
			notes[k] = v + counterGap
		case k != baseKey:
			notes[k] = v
		}
	}
	return notes
}

// begin stores what a new store begins with. When it returns nil, that is
// synced.
func (q *Queue) begin(l Ledger, notes map[string]uint64) error {
	if err := q.update(func(txn *badger.Txn) error {
		return change{ledger: l, notes: notes}.write(txn)
	}); err != nil {
		return fmt.Errorf("take over the ledger of the former store: %w", err)
	}
	q.ledger, q.notes, q.seq = l, notes, notes[baseKey]
	return nil
}

// quarantine is the ledger after its store was moved away.
func (l Ledger) quarantine() Ledger {
	out := Ledger{}
	for route, a := range l {
		a.Quarantined = a.Quarantined.plus(a.Queued).plus(a.Dead)
		a.Queued, a.Dead = Tally{}, Tally{}
		out[route] = a
	}
	return out
}
