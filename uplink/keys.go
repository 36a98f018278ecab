package uplink

import (
	"encoding/binary"
	"fmt"
)

// Keys of the store; README.md draws them.
const (
	prefixRecord = 'q' // q lane seq   -> record
	prefixLane   = 'w' // w lane       -> watermark, records, bytes
	prefixLedger = 'l' // l route      -> account
	prefixNote   = 'n' // n key        -> value
)

func recordKey(lane int, seq uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{prefixRecord, byte(lane)}, seq)
}

func seqOf(key []byte) uint64 { return binary.BigEndian.Uint64(key[2:]) }

func laneKey(lane int) []byte       { return []byte{prefixLane, byte(lane)} }
func ledgerKey(route string) []byte { return append([]byte{prefixLedger}, route...) }
func noteKey(key string) []byte     { return append([]byte{prefixNote}, key...) }
func encodeUint(v uint64) []byte    { return binary.BigEndian.AppendUint64(nil, v) }
func decodeUint(b []byte) (uint64, error) {
	if len(b) != 8 {
		return 0, fmt.Errorf("number: got %d bytes, expected 8", len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}

// laneMark is the stored state of a lane: every record with a sequence number
// up to watermark has left the queue.
type laneMark struct {
	watermark uint64
	queued    Tally
}

func (m laneMark) encode() []byte {
	b := encodeUint(m.watermark)
	b = binary.BigEndian.AppendUint64(b, uint64(m.queued.Records))
	return binary.BigEndian.AppendUint64(b, uint64(m.queued.Bytes))
}

func decodeLaneMark(b []byte) (laneMark, error) {
	if len(b) != 24 {
		return laneMark{}, fmt.Errorf("lane mark: got %d bytes, expected 24", len(b))
	}
	return laneMark{
		watermark: binary.BigEndian.Uint64(b),
		queued:    Tally{int64(binary.BigEndian.Uint64(b[8:])), int64(binary.BigEndian.Uint64(b[16:]))},
	}, nil
}
