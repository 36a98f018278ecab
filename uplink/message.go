package uplink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Lanes are priorities: 1 is the lowest, 10 the highest.
const (
	MinLane = 1
	MaxLane = 10
)

// Message is one publish for the centre, already routed.
type Message struct {
	Route   string // name of the route, for the ledger
	Lane    int    // MinLane to MaxLane
	Topic   string // at the centre
	Payload []byte // kept by the queue; the caller must not change it
	QoS     byte   // 0 or 1
	Retain  bool
	// Note, if its Key is set, is stored in the record's own transaction.
	Note Note
}

// Note is a small value that is stored together with a record, such as the
// last sequence number of its producer. The latest value of a key wins.
type Note struct {
	Key   string
	Value uint64
}

// bytes is the size that bounds and the ledger count.
func (m Message) bytes() int64 { return int64(len(m.Topic) + len(m.Payload)) }

// Entry is a stored Message.
type Entry struct {
	Message
	Seq      uint64    // grows in the order of acceptance, over all lanes
	Accepted time.Time // when Enqueue was called
}

// A stored record is drawn in README.md under "Stored format".
const (
	recordFormat = 1
	flagRetain   = 1 << 2
	maskQoS      = 3
	recordHeader = 2 + 8
)

var errRecord = errors.New("damaged record")

// encodeRecord draws the value of an entry; lane and sequence are its key.
func encodeRecord(e Entry) []byte {
	b := make([]byte, 0, recordHeader+2*binary.MaxVarintLen32+len(e.Route)+len(e.Topic)+len(e.Payload))
	flags := e.QoS & maskQoS
	if e.Retain {
		flags |= flagRetain
	}
	b = append(b, recordFormat, flags)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Accepted.UnixNano()))
	b = appendString(b, e.Route)
	b = appendString(b, e.Topic)
	return append(b, e.Payload...)
}

// decodeRecord reads a value; the entry's payload is a part of b.
func decodeRecord(lane int, seq uint64, b []byte) (Entry, error) {
	e := Entry{Seq: seq, Message: Message{Lane: lane}}
	if len(b) < recordHeader || b[0] != recordFormat {
		return e, fmt.Errorf("%w: lane %d seq %d: got %d bytes of format %v, expected format %d",
			errRecord, lane, seq, len(b), b[:min(len(b), 1)], recordFormat)
	}
	e.QoS, e.Retain = b[1]&maskQoS, b[1]&flagRetain != 0
	e.Accepted = time.Unix(0, int64(binary.BigEndian.Uint64(b[2:])))
	var ok bool
	rest := b[recordHeader:]
	if e.Route, rest, ok = cutString(rest); ok {
		e.Topic, rest, ok = cutString(rest)
	}
	if !ok {
		return e, fmt.Errorf("%w: lane %d seq %d: a string runs past the record's end", errRecord, lane, seq)
	}
	e.Payload = rest
	return e, nil
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func cutString(b []byte) (s string, rest []byte, ok bool) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w) {
		return "", nil, false
	}
	return string(b[w : w+int(n)]), b[w+int(n):], true
}
