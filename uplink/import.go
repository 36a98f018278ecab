package uplink

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
)

// Imported says what an import queued. Skipped were imported before.
type Imported struct {
	Queued  Tally `json:"queued"`
	Dead    Tally `json:"dead"`
	Skipped int64 `json:"skipped"`
}

// maxExportLine holds the largest message in base64, and its fields.
const maxExportLine = 4 * MaxMessageBytes

// importKey notes how many lines of an export were imported.
func importKey(id string) string { return "import/" + id }

// Import queues what an export holds. It returns when that is durable. An
// import that is interrupted goes on where it was when it is started again,
// and one that is repeated does nothing. At a bound it stops with ErrFull.
func (q *Queue) Import(ctx context.Context, r io.Reader) (Imported, error) {
	x := newExportReader(r)
	head, err := x.head()
	if err != nil {
		return Imported{}, err
	}
	end, err := q.use()
	if err != nil {
		return Imported{}, err
	}
	defer end()
	if !q.importing.TryLock() {
		return Imported{}, fmt.Errorf("%w: another import is under way", ErrBusy)
	}
	defer q.importing.Unlock()
	im := importer{chain: chain{queue: q}, key: importKey(head.ID)}
	im.from = q.Note(im.key)
	for err == nil {
		var line exportLine
		if line, err = x.next(); err == nil {
			err = im.take(ctx, line, x.lines)
		}
	}
	failed := im.chain.wait()
	if errors.Is(err, io.EOF) {
		err = failed
	}
	return im.out, err
}

// VerifyExport reads an export to its end without importing it.
func VerifyExport(r io.Reader) (ExportEnd, error) {
	x := newExportReader(r)
	_, err := x.head()
	for err == nil {
		_, err = x.next()
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return x.end, err
}

type importer struct {
	chain chain
	key   string
	from  uint64 // lines that were imported before
	out   Imported
}

// take queues one line's record, or keeps its dead letter.
func (im *importer) take(ctx context.Context, l exportLine, n uint64) error {
	if n <= im.from {
		im.out.Skipped++
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	e := im.chain.queue.age.entryFrom(l.entry())
	e.Note = Note{im.key, n}
	if l.Dead != nil {
		d := *l.Dead
		d.record, d.Size = encodeRecord(e), e.bytes()
		if err := im.chain.keepDead(d, e.Note); err != nil {
			return fmt.Errorf("line %d: %w", n+1, err)
		}
		im.out.Dead.add(d.Size)
		return nil
	}
	if err := im.chain.add(ctx, e); err != nil {
		return fmt.Errorf("line %d: %w", n+1, err)
	}
	im.out.Queued.add(e.bytes())
	return nil
}

// exportReader reads the lines of an export and checks its end.
type exportReader struct {
	in    *bufio.Scanner
	sum   hash.Hash
	read  uint64 // lines so far, the head too
	lines uint64 // records and dead letters so far
	end   ExportEnd
}

func newExportReader(r io.Reader) *exportReader {
	x := &exportReader{in: bufio.NewScanner(r), sum: sha256.New()}
	x.in.Buffer(make([]byte, 64<<10), maxExportLine)
	return x
}

// line returns the next line, or what is wrong with it.
func (x *exportReader) line(v any) error {
	x.read++
	if !x.in.Scan() {
		if err := x.in.Err(); err != nil {
			return fmt.Errorf("%w: line %d: %w", ErrExport, x.read, err)
		}
		return fmt.Errorf("%w: it ends after %d records, without its last line: it was cut off", ErrExport, x.lines)
	}
	dec := json.NewDecoder(bytes.NewReader(x.in.Bytes()))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("%w: line %d: %w", ErrExport, x.read, err)
	}
	return nil
}

// add sums the line that was read last.
func (x *exportReader) add() {
	x.sum.Write(x.in.Bytes())
	x.sum.Write([]byte{'\n'})
}

func (x *exportReader) head() (h exportHead, err error) {
	if err := x.line(&h); err != nil {
		return h, err
	}
	if h.Format != ExportFormat || h.ID == "" {
		return h, fmt.Errorf("%w: got the format %q, expected %q and an id", ErrExport, h.Format, ExportFormat)
	}
	x.add()
	return h, nil
}

// next returns a record or a dead letter, or io.EOF after a good end.
func (x *exportReader) next() (l exportLine, err error) {
	if err := x.line(&l); err != nil {
		return l, err
	}
	if l.End != nil {
		return l, x.finish(*l.End)
	}
	x.add()
	x.lines++
	if l.Dead != nil {
		x.end.Dead++
	} else {
		x.end.Records++
	}
	if err := check(l.entry().Message); err != nil {
		return l, fmt.Errorf("%w: line %d: %w", ErrExport, x.read, err)
	}
	return l, nil
}

func (x *exportReader) finish(said ExportEnd) error {
	x.end.Unread = said.Unread // of which there are no lines
	x.end.SHA256 = hex.EncodeToString(x.sum.Sum(nil))
	if said != x.end {
		return fmt.Errorf("%w: it was changed or damaged: got %+v, its end says %+v", ErrExport, x.end, said)
	}
	return io.EOF
}
