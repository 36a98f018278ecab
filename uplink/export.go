package uplink

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/uuid"
)

// ExportFormat is the first word of an export: JSON objects, one a line, a
// head, the records in the order in which they are to go, the dead letters,
// and an end that counts and sums the lines before it.
const ExportFormat = "outstation-queue.v1"

// ErrExport says that an export cannot be read.
var ErrExport = errors.New("export of a queue")

// exportHead is the first line.
type exportHead struct {
	Format string    `json:"format"`
	ID     string    `json:"id"` // of this export: it is imported once
	At     time.Time `json:"at"`
}

// exportLine is a record, a dead letter or the end.
type exportLine struct {
	Route      string      `json:"route,omitempty"`
	Lane       int         `json:"lane,omitempty"`
	Topic      string      `json:"topic,omitempty"`
	QoS        byte        `json:"qos"`
	Retain     bool        `json:"retain,omitempty"`
	AcceptedAt time.Time   `json:"accepted_at,omitzero"`
	ExpiresAt  time.Time   `json:"expires_at,omitzero"`
	Deaths     int         `json:"deaths,omitempty"`
	Properties []byte      `json:"properties_base64,omitempty"`
	Payload    []byte      `json:"payload_base64,omitempty"`
	Dead       *DeadLetter `json:"dead,omitempty"`
	End        *ExportEnd  `json:"end,omitempty"`
}

// ExportEnd is what the last line of an export says.
type ExportEnd struct {
	Records int64  `json:"records"`
	Dead    int64  `json:"dead"`
	Unread  int64  `json:"unread,omitempty"` // that are damaged, and not in the export
	SHA256  string `json:"sha256"`           // of all lines before, in hex
}

func (l exportLine) entry() Entry {
	return Entry{Accepted: l.AcceptedAt, Message: Message{
		Route: l.Route, Lane: l.Lane, Topic: l.Topic, QoS: l.QoS, Retain: l.Retain, Expiry: l.ExpiresAt,
		Deaths: l.Deaths, Properties: l.Properties, Payload: l.Payload,
	}}
}

func lineOf(e Entry) exportLine {
	return exportLine{
		Route: e.Route, Lane: e.Lane, Topic: e.Topic, QoS: e.QoS, Retain: e.Retain, AcceptedAt: e.Accepted.UTC(), ExpiresAt: e.Expiry,
		Deaths: e.Deaths, Properties: e.Properties, Payload: e.Payload,
	}
}

// Export writes everything that is queued and dead, as it is at one moment.
// What the link delivers meanwhile is in it as well. What cannot be read is
// counted at its end.
func (q *Queue) Export(ctx context.Context, w io.Writer) (records, dead int64, err error) {
	end, err := q.use()
	if err != nil {
		return 0, 0, fmt.Errorf("export the queue: %w", err)
	}
	defer end()
	buffered := bufio.NewWriterSize(w, 64<<10)
	x := exporter{ctx: ctx, age: &q.age, sum: sha256.New()}
	x.enc = json.NewEncoder(io.MultiWriter(buffered, x.sum))
	err = q.db.View(func(txn *badger.Txn) error {
		if err := x.enc.Encode(exportHead{ExportFormat, uuid.NewString(), q.opt.Now().UTC()}); err != nil {
			return err
		}
		if err := x.readRoutes(txn); err != nil {
			return err
		}
		for _, id := range x.ids {
			if err := x.stream(txn, id); err != nil {
				return err
			}
		}
		return each(txn, prefixDead, x.deadLetter)
	})
	if err == nil {
		err = x.enc.Encode(exportLine{End: &ExportEnd{x.records, x.dead, x.unread, hex.EncodeToString(x.sum.Sum(nil))}})
	}
	if err = errors.Join(err, buffered.Flush()); err != nil {
		return x.records, x.dead, fmt.Errorf("export the queue: %w", err)
	}
	return x.records, x.dead, nil
}

type exporter struct {
	ctx    context.Context
	age    *ageClock
	enc    *json.Encoder
	sum    hash.Hash
	routes map[uint16]string
	ids    []streamID

	records, dead, unread int64
}

// readRoutes reads the names of the routes and the streams, the highest lane
// first, and within a lane what is older first.
func (x *exporter) readRoutes(txn *badger.Txn) error {
	x.routes = map[uint16]string{}
	if err := each(txn, prefixRoute, func(name string, b []byte) error {
		n, err := decodeUint(b)
		x.routes[uint16(n)] = name
		return err
	}); err != nil {
		return err
	}
	if err := each(txn, prefixStream, func(key string, _ []byte) error {
		id, err := parseStreamID([]byte(key))
		x.ids = append(x.ids, id)
		return err
	}); err != nil {
		return err
	}
	slices.SortStableFunc(x.ids, func(a, b streamID) int {
		if a.lane != b.lane {
			return int(b.lane) - int(a.lane)
		}
		return int(b.class) - int(a.class) // the backlog before what came in live
	})
	return nil
}

func (x *exporter) stream(txn *badger.Txn, id streamID) error {
	return eachBelow(txn, recordPrefix(id), func(key []byte, b []byte) error {
		e := Entry{Seq: seqOf(key), Message: Message{Route: x.routes[id.route], Lane: int(id.lane)}}
		if decodeRecord(&e, b) != nil {
			x.unread++
			return nil
		}
		x.records++
		return errors.Join(x.ctx.Err(), x.enc.Encode(lineOf(x.age.entryWall(e))))
	})
}

func (x *exporter) deadLetter(_ string, b []byte) error {
	d, err := decodeDead(b)
	e := Entry{Seq: d.ID, Message: Message{Route: d.Route, Lane: d.Lane}}
	if err != nil || decodeRecord(&e, d.record) != nil {
		x.unread++
		return nil
	}
	line := lineOf(x.age.entryWall(e))
	line.Dead = &d
	x.dead++
	return errors.Join(x.ctx.Err(), x.enc.Encode(line))
}
