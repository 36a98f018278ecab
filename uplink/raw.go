package uplink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/badger/v4/y"
)

// rawEntry is one version of a key in a file of Badger's.
type rawEntry struct {
	key     []byte
	version uint64
	deleted bool
	value   []byte // nil if it was in a value log that cannot be read
}

// Bits of an entry's meta byte, and the bytes before the first entry of a
// log, as Badger v4 writes them.
const (
	rawDeleted   = 1 << 0
	rawPointer   = 1 << 1 // the value is where a value log pointer says
	rawLogHeader = 20
	rawVersion   = 8 // bytes of the version at the end of a key
)

// readRaw reads the tables and logs of a Badger directory one by one, without
// Badger's manifest, and hands every entry that is whole to emit, in no
// order. It returns the files that are damaged. The error is emit's, or that
// of reading the directory.
func readRaw(dir string, emit func(rawEntry) error) (damaged []string, err error) {
	for _, kind := range []struct {
		pattern string
		read    func(file string, emit func(rawEntry) error) error
	}{{"*.sst", readTable}, {"*.mem", readLog}} {
		files, err := glob(dir, kind.pattern)
		if err != nil {
			return damaged, err
		}
		for _, file := range files {
			var stopped error
			err := kind.read(file, func(e rawEntry) error {
				stopped = emit(e)
				return stopped
			})
			if stopped != nil {
				return damaged, stopped
			}
			if err != nil {
				damaged = append(damaged, fmt.Sprintf("%s: %v", filepath.Base(file), err))
			}
		}
	}
	return damaged, nil
}

// readTable reads one table, block by block. Badger's reader panics on what
// it does not expect.
func readTable(file string, emit func(rawEntry) error) (err error) {
	defer recovered(&err)
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	opt := table.Options{ChkMode: options.OnBlockRead}
	t, damage := table.OpenInMemoryTable(data, 0, &opt)
	if damage != nil { // perhaps only its last block: records have a checksum of their own
		opt.ChkMode = options.NoVerification
		if t, err = table.OpenInMemoryTable(data, 0, &opt); err != nil {
			return err
		}
	}
	blocks := t.KeySplits(math.MaxInt, nil)
	for i, first := range blocks {
		var next string
		if i+1 < len(blocks) {
			next = blocks[i+1]
		}
		whole, err := readBlock(t, first, next, filepath.Dir(file), emit)
		if err != nil && whole {
			return err
		}
		damage = errors.Join(damage, err)
	}
	return damage
}

// readBlock reads the entries of a table from first to next. whole is false
// where the block itself is at fault.
func readBlock(t *table.Table, first, next, dir string, emit func(rawEntry) error) (whole bool, err error) {
	defer recovered(&err)
	it := t.NewIterator(table.NOCACHE)
	defer it.Close()
	n := 0
	for it.Seek([]byte(first)); it.Valid() && (next == "" || y.CompareKeys(it.Key(), []byte(next)) < 0); it.Next() {
		v := it.ValueCopy()
		if err := emitRaw(dir, slices.Clone(it.Key()), v.Meta, v.Value, emit); err != nil {
			return true, err
		}
		n++
	}
	if n == 0 {
		return false, fmt.Errorf("the block at %q cannot be read", first)
	}
	return true, nil
}

// readLog reads the write-ahead log of a memtable. After a damaged entry it
// looks for the next whole one. What a transaction wrote before it was cut off
// is taken as well: nobody was told of it, and nobody is harmed.
func readLog(file string, emit func(rawEntry) error) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	skipped := 0
	for at := rawLogHeader; at < len(b); {
		key, value, meta, n := parseRaw(b[at:])
		if n == 0 {
			if b[at] != 0 { // the space behind the last entry is zero
				skipped++
			}
			at++
			continue
		}
		if err := emitRaw(filepath.Dir(file), key, meta, value, emit); err != nil {
			return err
		}
		at += n
	}
	if skipped > 0 {
		return fmt.Errorf("%d bytes are no whole entry", skipped)
	}
	return nil
}

// emitRaw hands on an entry of ours; Badger has keys of its own.
func emitRaw(dir string, key []byte, meta byte, value []byte, emit func(rawEntry) error) error {
	if len(key) <= rawVersion || !slices.Contains(prefixes, key[0]) {
		return nil
	}
	e := rawEntry{key: y.ParseKey(key), version: y.ParseTs(key), deleted: meta&rawDeleted != 0, value: value}
	if meta&rawPointer != 0 {
		var err error
		if e.value, err = readPointed(dir, value); err != nil {
			e.value = nil
		}
	}
	return emit(e)
}

// maxRawKey is longer than any key of ours: a route's name is a topic filter.
const maxRawKey = 1 + maxTopic + rawVersion

// parseRaw reads the entry at the start of b: meta, user meta, the lengths of
// key and value and the expiry as uvarints, key, value and the CRC-32C of all
// of them. n is its length, or 0 if there is no whole entry.
func parseRaw(b []byte) (key, value []byte, meta byte, n int) {
	if len(b) < 2 {
		return nil, nil, 0, 0
	}
	at := 2
	var field [3]uint64
	for i := range field {
		v, w := binary.Uvarint(b[at:])
		if w <= 0 {
			return nil, nil, 0, 0
		}
		field[i], at = v, at+w
	}
	keyLen, valueLen := field[0], field[1]
	if keyLen <= rawVersion || keyLen > maxRawKey || valueLen > 2*MaxMessageBytes || uint64(len(b)-at) < keyLen+valueLen+crc32.Size {
		return nil, nil, 0, 0
	}
	mid, end := at+int(keyLen), at+int(keyLen+valueLen)
	if crc32.Checksum(b[:end], castagnoli) != binary.BigEndian.Uint32(b[end:]) {
		return nil, nil, 0, 0
	}
	return b[at:mid], b[mid:end], b[0], end + crc32.Size
}

// readPointed reads the value that a value log pointer names: file, length
// and offset, in the machine's byte order, which is little-endian on all that
// we run on.
func readPointed(dir string, pointer []byte) ([]byte, error) {
	if len(pointer) != 12 {
		return nil, fmt.Errorf("value pointer: got %d bytes, expected 12", len(pointer))
	}
	file, size, offset := binary.LittleEndian.Uint32(pointer), binary.LittleEndian.Uint32(pointer[4:]), binary.LittleEndian.Uint32(pointer[8:])
	if size > 4*MaxMessageBytes {
		return nil, fmt.Errorf("value pointer: got %d bytes", size)
	}
	f, err := os.Open(filepath.Join(dir, fmt.Sprintf("%06d.vlog", file)))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, size)
	if _, err := f.ReadAt(b, int64(offset)); err != nil {
		return nil, err
	}
	_, value, _, n := parseRaw(b)
	if n == 0 {
		return nil, fmt.Errorf("value log %d: no whole entry at %d", file, offset)
	}
	return value, nil
}

// recovered turns a panic into an error.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = errors.Join(*err, fmt.Errorf("panic: %.200v", p))
	}
}
