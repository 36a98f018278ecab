package uplink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
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
	Expiry  time.Time // after which it is not sent any more; zero means never
	// Properties are the MQTT 5 properties of the publish without its expiry,
	// encoded as in a PUBLISH without the length before them. They are kept and
	// counted, though the 3.1.1 link does not send them.
	Properties []byte
	Deaths     int // how often it was a dead letter and retried
	// Note, if its Key is set, is stored in the record's own transaction.
	Note Note
}

// CounterPrefix begins the keys of notes that count upwards, such as the last
// sequence number of a producer. After a store was quarantined they go on with
// a gap, so that no number is used twice.
const CounterPrefix = "seq/"

// Note is a small value that is stored together with a record, such as the
// last sequence number of its producer. The latest value of a key wins.
type Note struct {
	Key   string
	Value uint64
}

// bytes is the size that bounds and the ledger count.
func (m Message) bytes() int64 { return m.sent() + int64(len(m.Properties)) }

// sent is what of a message travels: its topic and payload.
func (m Message) sent() int64 { return int64(len(m.Topic) + len(m.Payload)) }

// Entry is a stored Message.
type Entry struct {
	Message
	Seq      uint64    // grows in the order of acceptance, over all lanes
	Accepted time.Time // when Enqueue was called; on the age clock, see ageClock

	stream  *stream // that it is in
	history bool    // handed out as history
}

// expired reports whether the entry is no longer worth sending.
func (e Entry) expired(now time.Time) bool { return !e.Expiry.IsZero() && now.After(e.Expiry) }

// A stored record is drawn in README.md under "Stored format".
const (
	recordFormat   = 1
	maskQoS        = 3
	flagRetain     = 1 << 2
	flagExpiry     = 1 << 3
	flagProperties = 1 << 4
	flagDeaths     = 1 << 5
	recordHeader   = 2 + 8
	recordSum      = 4
)

// castagnoli is the CRC that the processor computes.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errRecord = errors.New("damaged record")

// encodeRecord draws the value of an entry. The stream, and so the route and
// the lane, and the sequence number are in its key.
func encodeRecord(e Entry) []byte {
	b := make([]byte, 0, recordHeader+recordSum+8+2*binary.MaxVarintLen32+len(e.Properties)+len(e.Topic)+len(e.Payload))
	flags := e.QoS & maskQoS
	if e.Retain {
		flags |= flagRetain
	}
	if !e.Expiry.IsZero() {
		flags |= flagExpiry
	}
	if len(e.Properties) > 0 {
		flags |= flagProperties
	}
	if e.Deaths > 0 {
		flags |= flagDeaths
	}
	b = append(b, recordFormat, flags)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Accepted.UnixNano()))
	if flags&flagExpiry != 0 {
		b = binary.BigEndian.AppendUint64(b, uint64(e.Expiry.UnixNano()))
	}
	if flags&flagProperties != 0 {
		b = appendBytes(b, e.Properties)
	}
	if flags&flagDeaths != 0 {
		b = binary.AppendUvarint(b, uint64(e.Deaths))
	}
	b = appendBytes(b, []byte(e.Topic))
	b = append(b, e.Payload...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// decodeRecord reads a value into e; its payload and properties are parts of
// b.
func decodeRecord(e *Entry, b []byte) error {
	if len(b) < recordHeader+recordSum || b[0] != recordFormat {
		return fmt.Errorf("%w: seq %d: got %d bytes of format %v, expected format %d",
			errRecord, e.Seq, len(b), b[:min(len(b), 1)], recordFormat)
	}
	sum := binary.BigEndian.Uint32(b[len(b)-recordSum:])
	b = b[:len(b)-recordSum]
	if got := crc32.Checksum(b, castagnoli); got != sum {
		return fmt.Errorf("%w: seq %d: got the checksum %08x, expected %08x", errRecord, e.Seq, got, sum)
	}
	flags := b[1]
	e.QoS, e.Retain = flags&maskQoS, flags&flagRetain != 0
	e.Accepted = time.Unix(0, int64(binary.BigEndian.Uint64(b[2:])))
	rest, ok := b[recordHeader:], true
	if flags&flagExpiry != 0 {
		if len(rest) < 8 {
			return fmt.Errorf("%w: seq %d: no room for the expiry", errRecord, e.Seq)
		}
		e.Expiry, rest = time.Unix(0, int64(binary.BigEndian.Uint64(rest))), rest[8:]
	}
	if flags&flagProperties != 0 {
		e.Properties, rest, ok = cutBytes(rest)
	}
	if ok && flags&flagDeaths != 0 {
		n, w := binary.Uvarint(rest)
		if ok = w > 0; ok {
			e.Deaths, rest = int(n), rest[w:]
		}
	}
	var topic []byte
	if ok {
		topic, rest, ok = cutBytes(rest)
	}
	if !ok {
		return fmt.Errorf("%w: seq %d: a field runs past the record's end", errRecord, e.Seq)
	}
	e.Topic, e.Payload = string(topic), rest
	return nil
}

func appendBytes(b, s []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func cutBytes(b []byte) (s, rest []byte, ok bool) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w) {
		return nil, nil, false
	}
	return b[w : w+int(n)], b[w+int(n):], true
}
