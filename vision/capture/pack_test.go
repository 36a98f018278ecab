//go:build !novision

package capture

import (
	"bytes"
	"testing"
	"time"
)

// TestThePipesBytes: each picture ends with the delimiter of the next, so that
// it is decoded without waiting for that one.
func TestThePipesBytes(t *testing.T) {
	var out bytes.Buffer
	for codec, end := range map[string]string{codecH264: "\x00\x00\x00\x01\x09\xf0", codecH265: "\x00\x00\x00\x01\x46\x01\x50"} {
		out.Reset()
		p, err := newPack(DecoderNvidia, codec, &out)
		if err != nil {
			t.Fatal(err)
		}
		if err := p([][]byte{{0x65, 1}, {0x65, 2}}, 0); err != nil {
			t.Fatal(err)
		}
		if want := "\x00\x00\x00\x01\x65\x01\x00\x00\x00\x01\x65\x02" + end; out.String() != want {
			t.Errorf("%s: %x, want %x", codec, out.Bytes(), want)
		}
		out.Reset()
		if p, err = newPack(DecoderFFmpeg, codec, &out); err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			// Two at the same time must not go back.
			if err := p([][]byte{{0x65, byte(i)}}, time.Second); err != nil {
				t.Fatal(err)
			}
			if n := out.Len(); n == 0 || n%188 != 0 || !bytes.Contains(out.Bytes(), []byte(end)) {
				t.Errorf("%s: picture %d makes %d bytes of MPEG-TS", codec, i, n)
			}
			out.Reset()
		}
	}
}

// TestWhereDecodingCanBegin, by the types of NAL units.
func TestWhereDecodingCanBegin(t *testing.T) {
	for _, c := range []struct {
		codec string
		nal   []byte
		want  bool
	}{
		{codecH264, []byte{0x65, 0x88}, true}, {codecH264, []byte{0x41, 0x9a}, false}, {codecH264, []byte{0x06, 6, 1, 0xc4}, true},
		{codecH264, []byte{0x06, 5, 1, 0}, false}, {codecH264, []byte{0x06}, false},
		{codecH265, []byte{0x26, 1}, true}, {codecH265, []byte{0x02, 1}, false},
	} {
		s := session{codec: c.codec}
		if got := s.keyframe([][]byte{c.nal}); got != c.want {
			t.Errorf("%s %x: %v", c.codec, c.nal, got)
		}
	}
}
