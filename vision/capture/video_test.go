//go:build !novision

package capture

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"outstation/vision"
)

// TestVideoCanBePlayed writes frames of one brightness each and reads them.
func TestVideoCanBePlayed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "grey.avi")
	v, err := CreateVideo(path, 15, 64, 48)
	if err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, 3*64*48)
	for n := range 10 {
		fill(frame, byte(20*n))
		if err := v.Write(frame); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.Write(frame[1:]); !errors.Is(err, ErrWrite) {
		t.Errorf("a frame that is too small: %v", err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	for n, f := range frames(t, path) {
		if got := int(f[len(f)/2]); got < 20*n-4 || got > 20*n+4 {
			t.Errorf("frame %d has brightness %d, want about %d", n, got, 20*n)
		}
	}
	if n := len(frames(t, path)); n != 10 {
		t.Errorf("%d frames, want 10", n)
	}
}

// frames reads a recording of 64×48 pixels.
func frames(t *testing.T, path string) (all [][]byte) {
	t.Helper()
	src := open(t, Options{URL: path})
	for {
		f, err := src.Read()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, pixels(t, f))
	}
}

func pixels(t *testing.T, f vision.Frame) []byte {
	t.Helper()
	defer f.Image.Close()
	dst := make([]byte, 3*64*48)
	if _, err := f.Image.Letterbox(dst, 64, 48, 0); err != nil {
		t.Fatal(err)
	}
	return dst
}

func TestVideoThatCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{filepath.Join(dir, "missing", "x.avi"), filepath.Join(dir, "x.nonsense")} {
		if _, err := CreateVideo(path, 15, 64, 48); !errors.Is(err, ErrWrite) {
			t.Errorf("%s: %v, want ErrWrite", path, err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is there", path)
		}
	}
}
