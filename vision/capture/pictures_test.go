//go:build !novision

package capture

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gocv.io/x/gocv"

	"outstation/vision"
)

// picture writes a picture of one grey.
func picture(t *testing.T, path string, value, width, height int) {
	t.Helper()
	m := gocv.NewMatWithSizeFromScalar(gocv.NewScalar(float64(value), float64(value), float64(value), 0), height, width, gocv.MatTypeCV8UC3)
	defer m.Close()
	// As cameras do: written under another name, so that no half of it is seen.
	hidden := filepath.Join(filepath.Dir(path), ".part"+filepath.Ext(path))
	if !gocv.IMWrite(hidden, m) {
		t.Fatalf("%s cannot be written", path)
	}
	if err := os.Rename(hidden, path); err != nil {
		t.Fatal(err)
	}
}

// expectGrey reads a picture and checks what it shows.
func expectGrey(t *testing.T, src vision.Source, want, width, height int) {
	t.Helper()
	f, err := src.Read()
	if err != nil {
		t.Fatalf("want grey %d: %v", want, err)
	}
	defer f.Image.Close()
	if g := grey(t, f); g < want-4 || g > want+4 || f.Width != width || f.Height != height {
		t.Errorf("grey %d of %d×%d, want %d of %d×%d", g, f.Width, f.Height, want, width, height)
	}
}

// TestADirectoryIsReadInOrderOfNames with pictures of several kinds and sizes;
// what is no picture is told and left out, and no picture is seen twice for it.
func TestADirectoryIsReadInOrderOfNames(t *testing.T) {
	dir := t.TempDir()
	picture(t, filepath.Join(dir, "b.png"), 80, 64, 48)
	picture(t, filepath.Join(dir, "a.jpg"), 40, 64, 48)
	picture(t, filepath.Join(dir, "d.jpeg"), 160, 100, 30)
	whole, err := os.ReadFile(filepath.Join(dir, "d.jpeg"))
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"c-half.jpg": whole[:len(whole)/2], "c.txt": []byte("not a picture"), "c-empty.png": nil, ".hidden.jpg": whole} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "c-dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	var skipped []string
	src := open(t, Options{URL: "dir://" + dir, Skipped: func(file string, err error) {
		skipped = append(skipped, filepath.Base(file)+": "+err.Error())
	}})
	expectGrey(t, src, 40, 64, 48)
	expectGrey(t, src, 80, 64, 48)
	expectGrey(t, src, 160, 100, 30)
	for range 2 {
		if _, err := src.Read(); !errors.Is(err, io.EOF) {
			t.Errorf("after the last: %v, want io.EOF", err)
		}
	}
	got := strings.Join(skipped, "\n")
	if want := "c-empty.png: neither JPEG nor PNG\nc-half.jpg: a JPEG without its end\nc.txt: neither JPEG nor PNG"; got != want {
		t.Errorf("skipped\n%s\nwant\n%s", got, want)
	}
}

func TestADirectoryLoopsAtItsRate(t *testing.T) {
	dir := t.TempDir()
	picture(t, filepath.Join(dir, "1.png"), 10, 8, 8)
	picture(t, filepath.Join(dir, "2.png"), 20, 8, 8)
	src := open(t, Options{URL: "dir://" + dir + "?fps=100", Loop: true, Paced: true})
	began := time.Now()
	for i := range 6 {
		expectGrey(t, src, 10+10*(i%2), 8, 8)
	}
	if took := time.Since(began); took < 50*time.Millisecond {
		t.Errorf("6 pictures at 100 a second took %v, want at least 50 ms", took)
	}
}

// TestAWatchedDirectory: it may be empty at first; a picture is read once it
// no longer changes, once, and again when it was replaced.
func TestAWatchedDirectory(t *testing.T) {
	dir := t.TempDir()
	src := open(t, Options{URL: "dir://" + dir + "?watch=1", Paced: true})
	path := filepath.Join(dir, "part.png")
	picture(t, path, 50, 8, 8)
	expectGrey(t, src, 50, 8, 8)

	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(dir, "a-slow.png") // before the other by its name
	growing, err := os.Create(half)
	if err != nil {
		t.Fatal(err)
	}
	defer growing.Close()
	l := &src.(*pictures).listing
	for i := range whole { // it grows between all looks, so it is never taken
		if _, err := growing.Write(whole[i : i+1]); err != nil {
			t.Fatal(err)
		}
		if fresh, err := l.look(dir, true); err != nil || len(fresh) > 0 {
			t.Fatalf("after %d of %d bytes: %v, %v", i+1, len(whole), fresh, err)
		}
	}
	expectGrey(t, src, 50, 8, 8)
	picture(t, path, 90, 9, 9)
	expectGrey(t, src, 90, 9, 9)
}

func TestDirectoriesThatCannotBeRead(t *testing.T) {
	empty, words := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(words, "a.txt"), []byte("a"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{"dir://" + empty, "dir:///nonexistent/pictures", "dir:///nonexistent/pictures?watch=1"} {
		factory, err := Factory(Options{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		src := factory()
		if err := src.Open(t.Context()); !errors.Is(err, ErrOpen) {
			t.Errorf("%s: %v, want ErrOpen", url, err)
		}
		src.Close()
	}
	src := open(t, Options{URL: "dir://" + words, Loop: true})
	if _, err := src.Read(); !errors.Is(err, ErrRead) || errors.Is(err, io.EOF) {
		t.Errorf("a directory of words: %v, want ErrRead", err)
	}
}

// TestALargeDirectoryIsLookedAtLessOften: looking takes a tenth of the time.
func TestALargeDirectoryIsLookedAtLessOften(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a.png")
	picture(t, file, 80, 64, 48)
	for took, want := range map[time.Duration]time.Duration{
		time.Millisecond: lookEvery, 100 * time.Millisecond: 900 * time.Millisecond, time.Hour: lookAtLeast,
	} {
		synctest.Test(t, func(t *testing.T) {
			factory, err := Factory(Options{URL: "dir://" + dir + "?watch=1"})
			if err != nil {
				t.Fatal(err)
			}
			src := factory().(*pictures)
			if err := src.Open(t.Context()); err != nil {
				t.Fatal(err)
			}
			src.listing.took = took // as if there were many files; here looks take no time
			began := time.Now()
			expectGrey(t, src, 80, 64, 48)
			if waited := time.Since(began); waited != want {
				t.Errorf("after a look of %v: the next after %v, want %v", took, waited, want)
			}
			if err := src.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestALookSaysHowLongItTook.
func TestALookSaysHowLongItTook(t *testing.T) {
	dir := t.TempDir()
	picture(t, filepath.Join(dir, "a.png"), 80, 64, 48)
	var l listing
	if _, err := l.look(dir, true); err != nil || l.took <= 0 {
		t.Errorf("%v, %v", l.took, err)
	}
}
