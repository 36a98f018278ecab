//go:build !novision

package capture

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/bluenviron/mediacommon/v2/pkg/formats/mpegts"
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
	}
}

// TestTheTransportStreamCanBeRead by the library's own reader, with times that
// go on although two pictures arrived at once.
func TestTheTransportStreamCanBeRead(t *testing.T) {
	var out bytes.Buffer
	p, err := newPack(DecoderFFmpeg, codecH264, &out)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		if err := p([][]byte{{0x65, byte(i + 1)}}, time.Second); err != nil {
			t.Fatal(err)
		}
	}
	r := mpegts.Reader{R: &out}
	if err := r.Initialize(); err != nil {
		t.Fatal(err)
	}
	var pictures []byte
	last := int64(-1)
	r.OnDataH264(r.Tracks()[0], func(_, dts int64, au [][]byte) error {
		if dts <= last || len(au) != 2 || !bytes.Equal(au[1], delimiter(codecH264)) {
			t.Errorf("after the time %d: %d, %x", last, dts, au)
		}
		last, pictures = dts, append(pictures, au[0][1]) // the reader drops the first delimiter
		return nil
	})
	for err == nil {
		err = r.Read()
	}
	if !errors.Is(err, io.EOF) || !bytes.Equal(pictures, []byte{1, 2, 3, 4}) {
		t.Errorf("pictures %v, %v", pictures, err)
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
