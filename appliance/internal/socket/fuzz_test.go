package socket

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"outstation/uplink/wire"
)

// chunks are read n bytes at a time.
type chunks struct {
	text []byte
	n    int
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.text) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), c.n)], c.text)
	c.text = c.text[n:]
	return n, nil
}

// FuzzLines compares the lines of a connection with those of bytes.Split.
func FuzzLines(f *testing.F) {
	f.Add([]byte("a\nb\r\n\nc"), uint16(1), uint32(0))
	f.Add([]byte("a\n@b\r\n@@@\nc\n"), uint16(4095), uint32(4096))
	f.Add([]byte("@\n@\r\n@x\n@"), uint16(5000), uint32(wire.MaxSocketLine))
	f.Fuzz(func(t *testing.T, text []byte, n uint16, fill uint32) {
		// Each @ stands for many bytes, so that lines pass every bound.
		if bytes.Count(text, []byte("@")) > 4 {
			return
		}
		text = bytes.ReplaceAll(text, []byte("@"), bytes.Repeat([]byte("-"), int(fill%(wire.MaxSocketLine+10))))
		places := make(chan struct{}, 1)
		l := lineReader{from: bufio.NewReaderSize(&chunks{text, int(n) + 1}, readBuffer), limit: func(time.Time) {}, places: places}
		want := bytes.Split(text, []byte("\n"))
		for i, w := range want {
			last := i == len(want)-1
			got, err := l.next(t.Context())
			got = bytes.Clone(got)
			if len(l.line) > wire.MaxSocketLine+2 {
				t.Fatalf("%d bytes are held", len(l.line))
			}
			l.letGo()
			cut := bytes.TrimSuffix(w, []byte("\r"))
			switch {
			case len(cut) > wire.MaxSocketLine:
				if !errors.Is(err, errTooLong) {
					t.Fatalf("line %d of %d bytes: got %d, %v", i, len(w), len(got), err)
				}
			case !bytes.Equal(got, cut) || (err != nil) != last || (last && !errors.Is(err, io.EOF)):
				t.Fatalf("line %d: got %.50q, %v, expected %.50q", i, got, err, cut)
			}
		}
		if len(places) != 0 {
			t.Fatal("a place is held")
		}
	})
}

// FuzzEvent makes sure that what is accepted is an event, of this appliance,
// with the bytes that were sent.
func FuzzEvent(f *testing.F) {
	for _, text := range []string{line(1, ""), "{" + body + "}", " {\t" + body + ",\"event_id\":\"" + id(1) + "\"} ", "{}", "null", "{\"a\":1}", "\xff"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		d, payload, err := readEvent(text, device)
		if err != nil {
			if payload != nil {
				t.Fatal("an event that was refused has a payload")
			}
			return
		}
		again, err := wire.ParseDetection(payload)
		if err != nil || again.EventID != d.EventID || d.EventID == "" || d.DeviceID != device || wire.CheckLevel(d.CameraID) != nil {
			t.Fatalf("got %+v, %v from %q", again, err, payload)
		}
		if sent := strings.TrimPrefix(strings.Trim(string(text), blanks), "{"); !strings.HasSuffix(string(payload), sent) || bytes.ContainsAny(payload, "\n") && !bytes.Contains(text, []byte("\n")) {
			t.Fatalf("got %q of %q", payload, text)
		}
	})
}
