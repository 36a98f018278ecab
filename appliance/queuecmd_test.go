package main

import (
	"bytes"
	"strings"
	"testing"
)

// TestAPeekIsALineARecord, whatever is in it.
func TestAPeekIsALineARecord(t *testing.T) {
	var out bytes.Buffer
	err := printPeeked(&out, []peeked{
		{Route: "r", Topic: "a/b", Bytes: 7, Text: "{\n \"x\":\t1\n}"}, {Topic: "a/\x1b[2Jb\nc", Text: strings.Repeat("é", 61)},
		{Payload: []byte{0, 1, 0xff}}, {Payload: make([]byte, 17)}, {},
	})
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if err != nil || len(lines) != 6 || strings.Contains(out.String(), "\x1b") {
		t.Fatalf("%d lines (%v):\n%s", len(lines), err, out.String())
	}
	for i, want := range []string{"payload", `  7      { "x": 1 }`, strings.Repeat("é", 60) + "…", "00 01 ff", strings.Repeat("00 ", 16) + "…", "0"} {
		if !strings.HasSuffix(strings.TrimSpace(lines[i]), want) {
			t.Errorf("line %d is %q, want its end to be %q", i, lines[i], want)
		}
	}
}
