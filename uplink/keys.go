package uplink

import (
	"encoding/binary"
	"fmt"
)

// Keys of the store; README.md draws them.
const (
	prefixRecord  = 'q' // q stream seq -> record
	prefixStream  = 'w' // w stream     -> watermark, newest, records, bytes
	prefixRoute   = 'r' // r name       -> number of the route
	prefixLedger  = 'l' // l route      -> account
	prefixNote    = 'n' // n key        -> value
	prefixDead    = 'd' // d seq        -> dead letter
	prefixAside   = 'x' // x stream seq -> a record that cannot be read
	prefixPadding = 'p' // never read, see rotate
)

// prefixes are those of all keys.
var prefixes = []byte{prefixRecord, prefixStream, prefixRoute, prefixLedger, prefixNote, prefixDead, prefixAside}

// streamID names a FIFO of records: those of one route, in one lane, of one
// class.
type streamID struct {
	lane  byte
	class byte
	route uint16
}

// Classes of streams. A route that keeps strict order has one stream; one
// that is ordered by lane has two, so that what is accepted while the link is
// up does not wait for what was accepted while it was down.
const (
	classStrict  = 0
	classLive    = 1
	classBacklog = 2
)

// streamKeyBytes is the length of a streamID in a key.
const streamKeyBytes = 4

func (id streamID) append(b []byte) []byte {
	return binary.BigEndian.AppendUint16(append(b, id.lane, id.class), id.route)
}

func parseStreamID(b []byte) (streamID, error) {
	if len(b) != streamKeyBytes {
		return streamID{}, fmt.Errorf("stream: got %d bytes, expected %d", len(b), streamKeyBytes)
	}
	return streamID{b[0], b[1], binary.BigEndian.Uint16(b[2:])}, nil
}

func recordPrefix(id streamID) []byte { return id.append([]byte{prefixRecord}) }

func recordKey(id streamID, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(recordPrefix(id), seq)
}

// asideKey is where the damaged record of a key is kept.
func asideKey(record []byte) []byte { return append([]byte{prefixAside}, record[1:]...) }

func seqOf(key []byte) uint64 { return binary.BigEndian.Uint64(key[1+streamKeyBytes:]) }

func streamKey(id streamID) []byte  { return id.append([]byte{prefixStream}) }
func routeKey(name string) []byte   { return append([]byte{prefixRoute}, name...) }
func ledgerKey(route string) []byte { return append([]byte{prefixLedger}, route...) }
func noteKey(key string) []byte     { return append([]byte{prefixNote}, key...) }
func encodeUint(v uint64) []byte    { return binary.BigEndian.AppendUint64(nil, v) }

func decodeUint(b []byte) (uint64, error) {
	if len(b) != 8 {
		return 0, fmt.Errorf("number: got %d bytes, expected 8", len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}

// mark is the stored state of a stream: every record with a sequence number
// up to watermark has left the queue, and none is newer than newest.
type mark struct {
	watermark uint64
	newest    uint64
	queued    Tally
}

func (m mark) encode() []byte {
	b := binary.BigEndian.AppendUint64(encodeUint(m.watermark), m.newest)
	b = binary.BigEndian.AppendUint64(b, uint64(m.queued.Records))
	return binary.BigEndian.AppendUint64(b, uint64(m.queued.Bytes))
}

func decodeMark(b []byte) (mark, error) {
	if len(b) != 32 {
		return mark{}, fmt.Errorf("stream mark: got %d bytes, expected 32", len(b))
	}
	return mark{
		watermark: binary.BigEndian.Uint64(b),
		newest:    binary.BigEndian.Uint64(b[8:]),
		queued:    Tally{int64(binary.BigEndian.Uint64(b[16:])), int64(binary.BigEndian.Uint64(b[24:]))},
	}, nil
}
