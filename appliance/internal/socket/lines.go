package socket

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"outstation/uplink/wire"
)

// Bounds of lines that are being read.
const (
	readBuffer = 4 << 10
	// shortLine is what each connection may hold of a line that has not ended,
	// in bytes. For more it needs one of maxLong places, and the rest of the
	// line has to come within longPatience, since others wait for the place.
	shortLine    = 16 << 10
	maxLong      = 8
	longPatience = 10 * time.Second
)

// Errors of lines. The line is skipped, and the next one can be read.
var (
	errTooLong = fmt.Errorf("expected a line of at most %d bytes, got more", wire.MaxSocketLine)
	errTooSlow = fmt.Errorf("expected the rest of a line of more than %d bytes within %v", shortLine, longPatience)
)

// lineReader cuts what a connection sends into lines. One goroutine uses it.
type lineReader struct {
	from  *bufio.Reader
	limit func(time.Time) // of the next reads; zero means none

	places   chan struct{} // for long lines, of all connections
	held     bool          // one of them
	skipping bool          // the rest of a line that was refused
	line     []byte        // what is held of a line that does not fit into from
}

// next returns the next line without its newline, which holds until letGo or
// the next call. The last one may lack its newline and then comes with io.EOF.
// After errTooLong and errTooSlow, which come as soon as they are known, the
// next line can be read; any other error is final.
func (l *lineReader) next(ctx context.Context) ([]byte, error) {
	for l.skipping {
		_, err := l.from.ReadSlice('\n')
		l.skipping = errors.Is(err, bufio.ErrBufferFull)
		if err != nil && !l.skipping {
			return nil, err
		}
	}
	for {
		part, err := l.from.ReadSlice('\n')
		if len(l.line) == 0 && !errors.Is(err, bufio.ErrBufferFull) {
			return l.ended(part, err)
		}
		if errHold := l.hold(ctx, part, err == nil); errHold != nil {
			return nil, errHold
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if l.held && ctx.Err() == nil && errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, l.skip(errTooSlow, false)
		}
		return l.ended(l.line, err)
	}
}

// hold keeps a part of a line.
func (l *lineReader) hold(ctx context.Context, part []byte, last bool) error {
	if len(l.line)+len(part) > wire.MaxSocketLine+len("\r\n") {
		return l.skip(errTooLong, last)
	}
	if !l.held && len(l.line)+len(part) > shortLine {
		select {
		case l.places <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		l.held = true
		l.limit(time.Now().Add(longPatience))
	}
	l.line = append(l.line, part...)
	return nil
}

// ended returns a line that is over, or why there is none.
func (l *lineReader) ended(line []byte, err error) ([]byte, error) {
	if err != nil && (!errors.Is(err, io.EOF) || len(line) == 0) {
		return nil, err
	}
	line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
	if len(line) > wire.MaxSocketLine {
		return nil, l.skip(errTooLong, true)
	}
	return line, err
}

// skip refuses a line. whole says that it was read to its end.
func (l *lineReader) skip(why error, whole bool) error {
	l.skipping = !whole
	l.letGo()
	return why
}

// letGo gives back what is held of a line. It is called after each line.
func (l *lineReader) letGo() {
	l.line = nil
	if l.held {
		l.held = false
		<-l.places
		l.limit(time.Time{})
	}
}
