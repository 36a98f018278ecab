package snapshots

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// jpeg is the n-th picture, of so many bytes.
func jpeg(n, bytes int) (sum string, b []byte) {
	b = slices.Repeat([]byte(fmt.Sprintf("%7d ", n)), bytes/8)
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:]), b
}

// bench is a store on a clock of its own.
type bench struct {
	*Store
	t    *testing.T
	now  time.Time
	free uint64
	dir  string
}

func newBench(t *testing.T, opt Options) *bench {
	t.Helper()
	b := &bench{t: t, now: time.Date(2026, 11, 21, 1, 0, 0, 0, time.UTC), free: 1 << 40, dir: filepath.Join(t.TempDir(), "snapshots")}
	b.reopen(opt)
	return b
}

func (b *bench) reopen(opt Options) {
	b.t.Helper()
	opt.Dir, opt.Now = b.dir, func() time.Time { return b.now }
	opt.free = func(string) (uint64, error) { return b.free, nil }
	var err error
	if b.Store, err = Open(opt); err != nil {
		b.t.Fatal(err)
	}
}

// put stores the n-th picture a second after the one before.
func (b *bench) put(n, bytes int) error {
	b.now = b.now.Add(time.Second)
	sum, data := jpeg(n, bytes)
	return b.Put(sum, data)
}

// expect compares the pictures that are there with the numbers of some.
func (b *bench) expect(bytes int, numbers ...int) {
	b.t.Helper()
	var want, files []string
	for _, n := range numbers {
		sum, data := jpeg(n, bytes)
		want = append(want, sum+".jpg")
		got, _, err := b.Get(sum)
		if err != nil || string(got) != string(data) || !b.Has(sum) {
			b.t.Errorf("picture %d: %v", n, err)
		}
	}
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, e := range entries {
		files = append(files, e.Name())
	}
	slices.Sort(want)
	if !slices.Equal(files, want) {
		b.t.Errorf("files %v, want those of %v", files, numbers)
	}
	s := b.Stats()
	if s.Pictures != len(numbers) || s.Bytes != int64(len(numbers))*blocks(int64(bytes)) {
		b.t.Errorf("%+v, want %d pictures", s, len(numbers))
	}
}

func TestTheOldestGoFirst(t *testing.T) {
	opt := Options{MaxBytes: 3 * 8192, MaxAge: time.Hour}
	b := newBench(t, opt)
	for n := range 3 {
		if err := b.put(n, 5000); err != nil {
			t.Fatal(err)
		}
	}
	b.expect(5000, 0, 1, 2)
	if err := b.put(0, 5000); err != nil { // again: it is the newest now
		t.Fatal(err)
	}
	if err := b.put(3, 5000); err != nil {
		t.Fatal(err)
	}
	b.expect(5000, 0, 2, 3)
	b.reopen(opt) // the order is that of the files
	if err := b.put(4, 5000); err != nil {
		t.Fatal(err)
	}
	b.expect(5000, 0, 3, 4)
	if s := b.Stats(); s.Evicted != 1 || s.Stored != 1 || s.Expired != 0 {
		t.Errorf("%+v", s)
	}
	b.now = b.now.Add(time.Hour - 500*time.Millisecond)
	b.Tidy()
	b.expect(5000, 4)
	b.now = b.now.Add(time.Second)
	b.reopen(opt)
	b.expect(5000)
	if s := b.Stats(); s.Expired != 1 || s.Evicted != 0 {
		t.Errorf("%+v", s)
	}
	if err := b.put(9, 3*8192+8); !errors.Is(err, ErrNoRoom) || b.Stats().Failing == nil {
		t.Errorf("larger than the store: %v", err)
	}
	if err := b.put(9, 3*8192); err != nil || b.Stats().Failing != nil {
		t.Errorf("as large as the store: %v, %v", err, b.Stats().Failing)
	}
	for n := range 200 {
		if err := b.put(n, 5000); err != nil {
			t.Fatal(err)
		}
		if s := b.Stats(); s.Bytes > opt.MaxBytes || s.Pictures > 3 {
			t.Fatalf("%+v", s)
		}
	}
	b.expect(5000, 197, 198, 199)
}

func TestAFullDiskMeansNoPicture(t *testing.T) {
	b := newBench(t, Options{Floor: 1 << 20})
	b.free = 1<<20 + 1<<18 + 8191
	if err := b.put(1, 5000); !errors.Is(err, ErrNoRoom) {
		t.Errorf("got %v", err)
	}
	b.expect(5000)
	b.free++
	if err := b.put(1, 5000); err != nil {
		t.Error(err)
	}
	b.SetFloor(1 << 21)
	if err := b.put(2, 5000); !errors.Is(err, ErrNoRoom) {
		t.Errorf("got %v", err)
	}
	if err := b.put(1, 5000); err != nil { // it is there, and needs no room
		t.Error(err)
	}
	if s := b.Stats(); s.Failed != 2 || s.Stored != 2 {
		t.Errorf("%+v", s)
	}
	b.expect(5000, 1)
}

// TestGarbageIsLeftAlone finds other things in the directory, and what a
// crash leaves.
func TestGarbageIsLeftAlone(t *testing.T) {
	b := newBench(t, Options{})
	for n := range 2 {
		if err := b.put(n, 100); err != nil {
			t.Fatal(err)
		}
	}
	sum, _ := jpeg(7, 100)
	half := sum + ".jpg.new-12"
	foreign := []string{"notes.txt", "ABC.jpg", strings.ToUpper(sum) + ".jpg", sum + ".jpeg", sum[1:] + ".jpg"}
	for _, name := range append([]string{half}, foreign...) {
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(b.dir, sum+".jpg"), 0o700); err != nil {
		t.Fatal(err)
	}
	b.reopen(Options{MaxBytes: 4096})
	if s := b.Stats(); s.Pictures != 1 || s.Foreign != len(foreign)+1 || s.Example == "" {
		t.Errorf("%+v", s)
	}
	for _, name := range append([]string{sum + ".jpg"}, foreign...) {
		if _, err := os.Stat(filepath.Join(b.dir, name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(b.dir, half)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what a crash left is still there: %v", err)
	}
	sum, data := jpeg(7, 100)
	if err := b.Put(sum, data); err == nil || b.Has(sum) {
		t.Error("a picture was put over a directory")
	}
}

func TestADamagedPictureIsNotGiven(t *testing.T) {
	b := newBench(t, Options{})
	if err := b.put(1, 100); err != nil {
		t.Fatal(err)
	}
	sum, data := jpeg(1, 100)
	path := filepath.Join(b.dir, sum+".jpg")
	if err := os.WriteFile(path, data[1:], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Get(sum); !errors.Is(err, ErrDamaged) || b.Stats().Damaged != 1 {
		t.Errorf("got %v", err)
	}
	if err := b.Put(sum, data); err != nil { // it is put right
		t.Fatal(err)
	}
	b.expect(100, 1)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Get(sum); !errors.Is(err, ErrNone) {
		t.Errorf("got %v", err)
	}
	if err := b.Put(sum, data); err != nil { // it comes back
		t.Fatal(err)
	}
	b.expect(100, 1)
	for _, bad := range []string{"", "../../etc/passwd", sum[:63], sum + "0", sum + "00", strings.Repeat("g", 64)} {
		if _, _, err := b.Get(bad); !errors.Is(err, ErrNone) || b.Has(bad) {
			t.Errorf("%q: got %v", bad, err)
		}
		if err := b.Put(bad, nil); err == nil {
			t.Errorf("%q was stored", bad)
		}
	}
}
