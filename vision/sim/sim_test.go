package sim

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"outstation/vision"
)

func open(t *testing.T, o Options) vision.Source {
	t.Helper()
	factory, err := Factory(o)
	if err != nil {
		t.Fatal(err)
	}
	src := factory()
	if err := src.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return src
}

func TestFramesComeAtTheirRateAndEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		src := open(t, Options{URL: "sim://pattern?fps=20&width=640&height=360&frames=41"})
		for i := range 41 {
			f, err := src.Read()
			if err != nil {
				t.Fatal(err)
			}
			if want := began.Add(time.Duration(i) * 50 * time.Millisecond); !f.Arrived.Equal(want) || f.Width != 640 || f.Height != 360 {
				t.Fatalf("frame %d: %+v, want it at %v", i, f, want)
			}
		}
		if _, err := src.Read(); !errors.Is(err, io.EOF) {
			t.Errorf("after the last frame: %v, want io.EOF", err)
		}
	})
}

func TestReadEndsWithItsContext(t *testing.T) {
	factory, err := Factory(Options{URL: "sim://pattern?fps=0.1"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	src := factory()
	if err := src.Open(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := src.Read(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := src.Read(); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

// TestPixelsFollowFromTheIndex: the same frame twice is the same picture, the
// next one is another, and the square is where Square says.
func TestPixelsFollowFromTheIndex(t *testing.T) {
	draw := func(index int) []byte {
		src := open(t, Options{URL: "sim://pattern?width=640&height=360", Unpaced: true})
		for range index {
			if _, err := src.Read(); err != nil {
				t.Fatal(err)
			}
		}
		f, err := src.Read()
		if err != nil {
			t.Fatal(err)
		}
		dst := bytes.Repeat([]byte{1}, 3*416*416)
		if scale, err := f.Image.Letterbox(dst, 416, 416, 114); err != nil || scale != 0.65 {
			t.Fatalf("scale %v, %v", scale, err)
		}
		return dst
	}
	a, b, c := draw(7), draw(7), draw(8)
	if !bytes.Equal(a, b) || bytes.Equal(a, c) {
		t.Error("the picture does not follow from the index alone")
	}
	box := (&Image{Index: 7, Width: 640, Height: 360}).Square()
	x, y := int((box.X+box.W/2)*0.65), int((box.Y+box.H/2)*0.65)
	if at := (y*416 + x) * 3; !bytes.Equal(a[at:at+3], []byte{0, 140, 255}) {
		t.Errorf("pixel %d,%d is %v, want the square", x, y, a[at:at+3])
	}
	if last := a[len(a)-3:]; !bytes.Equal(last, []byte{114, 114, 114}) {
		t.Errorf("the padding is %v", last)
	}
}

func TestTheSquareStaysInsideAndMoves(t *testing.T) {
	seen := map[vision.Box]bool{}
	for i := range 5000 {
		b := (&Image{Index: i, Width: 320, Height: 240}).Square()
		if b.X < 0 || b.Y < 0 || b.X+b.W > 320 || b.Y+b.H > 240 {
			t.Fatalf("frame %d: %+v is outside", i, b)
		}
		seen[b] = true
	}
	if len(seen) < 50 {
		t.Errorf("only %d places", len(seen))
	}
}

func TestFactoryRefuses(t *testing.T) {
	for url, want := range map[string]string{
		"sim://lines":            "sim://pattern",
		"sim://pattern?fps=0":    "fps=0",
		"sim://pattern?width=x":  "not a number",
		"sim://pattern?size=3":   `"size"`,
		"sim://pattern?fps=NaN":  "fps=NaN",
		"rtsp://h/":              "sim://pattern",
		"sim://pattern?height=9": "height=9",
	} {
		if _, err := Factory(Options{URL: url}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error that says %s", url, err, want)
		}
	}
}

func BenchmarkLetterbox(b *testing.B) {
	m, dst := &Image{Width: DefaultWidth, Height: DefaultHeight}, make([]byte, 3*416*416)
	b.ReportAllocs()
	for b.Loop() {
		m.Index++
		if _, err := m.Letterbox(dst, 416, 416, 114); err != nil {
			b.Fatal(err)
		}
	}
}
