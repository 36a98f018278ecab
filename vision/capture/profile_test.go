//go:build !novision && matprofile

package capture

import (
	"image"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"gocv.io/x/gocv"

	"outstation/vision"
	"outstation/vision/capture/rtsptest"
)

// TestNoMatIsLeaked counts Mats with gocv's profile (-tags matprofile) over
// many connections, with frames that are closed before and after their source.
func TestNoMatIsLeaked(t *testing.T) {
	for _, url := range []string{clip(t, 4), "/nonexistent/a.avi"} {
		factory, err := Factory(Options{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		before := gocv.MatProfile.Count()
		for range 20 {
			connect(t, factory())
		}
		if after := gocv.MatProfile.Count(); after != before {
			t.Errorf("%s: %d Mats before, %d after", url, before, after)
		}
	}
}

// connect reads a source to its end and closes every second frame after it.
func connect(t *testing.T, src vision.Source) {
	t.Helper()
	var held []vision.Frame
	err := src.Open(t.Context())
	for i := 0; err == nil; i++ {
		var f vision.Frame
		if f, err = src.Read(); err != nil {
			break
		}
		grey(t, f)
		if _, err := f.Image.(vision.Cropper).Crop(0, 0, 2, 2); err != nil {
			t.Error(err)
		}
		if _, err := f.Image.(vision.JPEGer).AppendJPEG(nil, image.Rect(2, 2, 8, 8), 4, 85); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			f.Image.Close()
		} else {
			held = append(held, f)
		}
	}
	if err := src.Close(); err != nil {
		t.Error(err)
	}
	for _, f := range held {
		f.Image.Close()
	}
}

// TestNoMatIsLeakedByReconnects of live cameras that fail in each way that they
// can, with a frame out at the time.
func TestNoMatIsLeakedByReconnects(t *testing.T) {
	for _, decoder := range both {
		goroutines, files := runtime.NumGoroutine(), openFiles(t)
		s, err := rtsptest.Start(rtsptest.Options{Clip: coded(t, rtsptest.H264, 328, 250)})
		if err != nil {
			t.Fatal(err)
		}
		factory, err := Factory(Options{URL: s.URL(), Decoder: decoder, ReadTimeout: 300 * time.Millisecond, OpenTimeout: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		before := gocv.MatProfile.Count()
		for i := range 8 {
			src := factory()
			if err := src.Open(t.Context()); err != nil {
				t.Fatal(err)
			}
			f, err := src.Read()
			if err != nil {
				t.Fatal(err)
			}
			switch i % 4 {
			case 0:
				s.Stall(true)
				failure(src)
				s.Stall(false)
			case 1:
				s.Die(true)
				failure(src)
				s.Die(false)
			case 2:
				if g, ok := src.(vision.Grabber); ok {
					g.Grab() // and never retrieved
				}
			}
			if err := src.Close(); err != nil {
				t.Error(err)
			}
			f.Image.Close()
		}
		if after := gocv.MatProfile.Count(); after != before {
			t.Errorf("%s: %d Mats before, %d after", decoder, before, after)
		}
		s.Close()
		for deadline := time.Now().Add(20 * time.Second); runtime.NumGoroutine() > goroutines+2 || openFiles(t) > files+2; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Errorf("%s: %d goroutines and %d files before, %d and %d after", decoder, goroutines, files, runtime.NumGoroutine(), openFiles(t))
				break
			}
		}
	}
}

// openFiles counts this process's file descriptors.
func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestNoMatIsLeakedByADirectory, whose pictures are Mats of their own.
func TestNoMatIsLeakedByADirectory(t *testing.T) {
	dir := t.TempDir()
	picture(t, filepath.Join(dir, "a.png"), 10, 8, 8)
	picture(t, filepath.Join(dir, "b.png"), 20, 9, 9)
	if err := os.WriteFile(filepath.Join(dir, "c.png"), []byte("no picture"), 0o600); err != nil {
		t.Fatal(err)
	}
	factory, err := Factory(Options{URL: "dir://" + dir})
	if err != nil {
		t.Fatal(err)
	}
	before := gocv.MatProfile.Count()
	for range 20 {
		connect(t, factory())
	}
	if after := gocv.MatProfile.Count(); after != before {
		t.Errorf("%d Mats before, %d after", before, after)
	}
}
