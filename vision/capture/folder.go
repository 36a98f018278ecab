//go:build !novision

package capture

import (
	"errors"
	"fmt"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// maxFiles bounds what is remembered of a directory.
const maxFiles = 100_000

// DefaultPictureRate is how many pictures of a directory are read a second
// where the address names no fps and the directory is not watched.
const DefaultPictureRate = 1.0

// folder is the address of a directory of pictures:
// dir:///PATH?fps=F&watch=1.
type folder struct {
	path     string
	interval time.Duration // between pictures; 0 is none
	watch    bool          // pictures that come later are read too
}

func parseFolder(o Options) (f folder, err error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host != "" || !filepath.IsAbs(u.Path) {
		return f, errors.New("want dir:///PATH with the whole path of a directory")
	}
	f.path = u.Path
	rate := -1.0
	for key, values := range u.Query() {
		value := values[0]
		switch key {
		case "watch":
			if value != "0" && value != "1" {
				return f, fmt.Errorf("watch: got %q, want 0 or 1", value)
			}
			f.watch = value == "1"
		case "fps":
			rate, err = strconv.ParseFloat(value, 64)
			if err != nil || !(rate > 0 && rate <= 1000) || math.IsNaN(rate) {
				return f, fmt.Errorf("fps: got %q, want a number above 0 and up to 1000", value)
			}
		default:
			return f, fmt.Errorf("%s: want fps or watch", key)
		}
	}
	if f.watch && o.Loop {
		return f, errors.New("a directory that is watched has no end, so it cannot loop: leave one of them out")
	}
	if rate < 0 && !f.watch {
		rate = DefaultPictureRate
	}
	if rate > 0 && o.Paced {
		f.interval = time.Duration(float64(time.Second) / rate)
	}
	return f, nil
}

// stamp is what tells one content of a file from the next.
type stamp struct {
	size  int64
	mtime time.Time
}

// listing is what is known of a watched directory: bounded by maxFiles and
// by what is in it.
type listing struct {
	took   time.Duration    // the last look
	taken  map[string]stamp // given to the reader
	before map[string]stamp // seen by the last look
}

// rest is how long to wait for the next look: so long that looking takes at
// most a tenth of the time, however many files there are.
func (l *listing) rest() time.Duration { return min(max(lookEvery, 9*l.took), lookAtLeast) }

// look reads the directory and returns, in the order of their names, the files
// that are new or changed. Where settled is set, a file must have been the same
// at the last look: it is being written otherwise. Hidden files and
// directories are no part of it.
func (l *listing) look(dir string, settled bool) (fresh []string, err error) {
	began := time.Now()
	defer func() { l.took = time.Since(began) }()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	if len(entries) > maxFiles {
		return nil, fmt.Errorf("%s holds %d files, at most %d are watched: move away what was read", dir, len(entries), maxFiles)
	}
	now, taken := make(map[string]stamp, len(entries)), make(map[string]stamp, len(entries))
	for _, e := range entries { // sorted by name
		if e.Name()[0] == '.' || e.IsDir() {
			continue
		}
		info, err := os.Stat(filepath.Join(dir, e.Name()))
		if err != nil || !info.Mode().IsRegular() {
			continue // gone again, or no file
		}
		s := stamp{info.Size(), info.ModTime()}
		now[e.Name()] = s
		if old, found := l.taken[e.Name()]; found && old == s {
			taken[e.Name()] = s
			continue
		}
		if last, found := l.before[e.Name()]; settled && (!found || last != s) {
			continue
		}
		taken[e.Name()] = s
		fresh = append(fresh, e.Name())
	}
	l.taken, l.before = taken, now
	return fresh, nil
}
