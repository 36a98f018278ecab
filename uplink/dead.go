package uplink

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// ErrNoDeadLetter says that there is no dead letter with a number.
var ErrNoDeadLetter = errors.New("no such dead letter")

// DefaultMaxDeadBytes bounds the dead letters; beyond it the oldest is
// evicted.
const DefaultMaxDeadBytes = 64 << 20

// DeadLetter is a message that the centre would not take.
type DeadLetter struct {
	ID     uint64    `json:"id"`
	Route  string    `json:"route"`
	Lane   int       `json:"lane"`
	Topic  string    `json:"topic"`
	Reason string    `json:"reason"`
	Deaths int       `json:"deaths"` // how often it died, over its retries
	DiedAt time.Time `json:"died_at"`
	// Accepted is when it was accepted first.
	Accepted time.Time `json:"accepted_at"`
	Size     int64     `json:"bytes"`

	record []byte
}

func deadKey(id uint64) []byte { return binary.BigEndian.AppendUint64([]byte{prefixDead}, id) }

// A stored dead letter is its description as JSON, with its length before it,
// and then the record as it was queued.
func (d DeadLetter) encode() ([]byte, error) {
	head, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	return append(appendBytes(nil, head), d.record...), nil
}

func decodeDead(b []byte) (d DeadLetter, err error) {
	head, record, ok := cutBytes(b)
	if !ok {
		return d, fmt.Errorf("%w: a dead letter of %d bytes", errRecord, len(b))
	}
	err = json.Unmarshal(head, &d)
	d.record = record
	return d, err
}

// Message is the letter's message.
func (d DeadLetter) Message() (Message, error) {
	e := Entry{Seq: d.ID, Message: Message{Route: d.Route, Lane: d.Lane}}
	err := decodeRecord(&e, d.record)
	e.Deaths = d.Deaths // the record was written before it died
	return e.Message, err
}

// Kill moves an entry that Next handed out to the dead letters.
func (q *Queue) Kill(e Entry, reason string) {
	d := &DeadLetter{
		ID: e.Seq, Route: e.Route, Lane: e.Lane, Topic: e.Topic, Reason: reason, Deaths: e.Deaths + 1,
		DiedAt: q.opt.Now(), Accepted: q.age.wall(e.Accepted), Size: e.bytes(), record: encodeRecord(e),
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.leave(settlement{e.stream, e.Seq, e.bytes(), Dead, e.stream.settle(e.Seq), d, nil})
	signal(q.wake)
}

// DeadLetters lists what died, oldest first, without the messages.
func (q *Queue) DeadLetters() []DeadLetter {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.SortedFunc(maps.Values(q.dead), func(a, b DeadLetter) int { return int(int64(a.ID) - int64(b.ID)) })
}

// DeadLetter reads one with its message.
func (q *Queue) DeadLetter(id uint64) (d DeadLetter, err error) {
	err = q.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(deadKey(id))
		if errors.Is(err, badger.ErrKeyNotFound) {
			return fmt.Errorf("%w: %d", ErrNoDeadLetter, id)
		}
		if err != nil {
			return err
		}
		b, err := item.ValueCopy(nil)
		if err != nil {
			return err
		}
		d, err = decodeDead(b)
		return err
	})
	return d, err
}

// Retry moves a dead letter back to the end of its queue, and returns when
// that is durable.
func (q *Queue) Retry(id uint64) error {
	d, err := q.DeadLetter(id)
	if err != nil {
		return err
	}
	m, err := d.Message()
	if err != nil {
		return err
	}
	stored := make(chan error, 1)
	if err := q.revive(d, m, func(err error) { stored <- err }); err != nil {
		return err
	}
	return <-stored
}

func (q *Queue) revive(d DeadLetter, m Message, done func(error)) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, ok := q.dead[d.ID]; !ok || q.closed {
		return fmt.Errorf("%w: %d", ErrNoDeadLetter, d.ID)
	}
	delete(q.dead, d.ID) // so that it is not retried twice; apply puts it back after an error
	q.seq++
	q.push(pending{entry: Entry{Message: m, Seq: q.seq, Accepted: q.age.from(d.Accepted), stream: q.streamOf(m, q.online)}, done: done, dead: &d})
	return nil
}

// DropDead removes a dead letter for good; the ledger calls it purged.
func (q *Queue) DropDead(id uint64) error { return q.removeDead(id, Purged) }

func (q *Queue) removeDead(id uint64, o Outcome) error {
	q.committing.Lock() // the ledger has one writer at a time
	defer q.committing.Unlock()
	q.mu.Lock()
	d, ok := q.dead[id]
	delete(q.dead, id) // so that it is not retried meanwhile
	a := q.ledger[d.Route]
	q.mu.Unlock()
	if !ok {
		return fmt.Errorf("%w: %d", ErrNoDeadLetter, id)
	}
	a.Dead.sub(d.Size)
	a.of(o).add(d.Size)
	b, err := encodeAccount(a)
	if err == nil {
		err = q.update(func(txn *badger.Txn) error {
			return errors.Join(txn.Delete(deadKey(id)), txn.Set(ledgerKey(d.Route), b))
		})
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if err != nil {
		q.dead[id] = d
		return fmt.Errorf("remove dead letter %d: %w", id, err)
	}
	q.ledger[d.Route] = a
	return nil
}

// boundDead evicts the oldest dead letters beyond their bound.
func (q *Queue) boundDead() {
	letters, bound := q.DeadLetters(), q.bounds().MaxDeadBytes
	var size int64
	for _, d := range letters {
		size += d.Size
	}
	for _, d := range letters {
		if size <= bound {
			return
		}
		if err := q.removeDead(d.ID, Evicted); err != nil && !errors.Is(err, ErrNoDeadLetter) {
			q.opt.Logger.Error("a dead letter cannot be evicted", "id", d.ID, "error", err)
			return
		}
		size -= d.Size
	}
}

func (q *Queue) restoreDead(txn *badger.Txn) error {
	return each(txn, prefixDead, func(_ string, b []byte) error {
		d, err := decodeDead(b)
		d.record = nil
		q.dead[d.ID] = d
		q.seq = max(q.seq, d.ID)
		return err
	})
}
