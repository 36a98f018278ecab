package uplink

import (
	"fmt"
	"strings"

	"github.com/dgraph-io/badger/v4"
)

// Notes returns the stored values whose keys begin with prefix.
func (q *Queue) Notes(prefix string) map[string]uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := map[string]uint64{}
	for key, value := range q.notes {
		if strings.HasPrefix(key, prefix) {
			out[key] = value
		}
	}
	return out
}

// DropNote removes a note. When it returns nil, that is synced.
func (q *Queue) DropNote(key string) error {
	if err := q.update(func(txn *badger.Txn) error { return txn.Delete(noteKey(key)) }); err != nil {
		return fmt.Errorf("note %q: %w", key, err)
	}
	q.mu.Lock()
	delete(q.notes, key)
	q.mu.Unlock()
	q.copyTotals()
	return nil
}
