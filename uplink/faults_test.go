package uplink

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The store's faults are tested in processes of their own: what they find is
// whether Badger takes the process down.
const (
	childMode = "OUTSTATION_TEST_CHILD" // what TestChild does
	childDir  = "OUTSTATION_TEST_CHILD_DIR"
)

// child runs TestChild in a process of its own.
func child(t *testing.T, mode, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestChild$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), childMode+"="+mode, childDir+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// TestChild is not a test: it is what child runs.
func TestChild(t *testing.T) {
	switch dir := os.Getenv(childDir); os.Getenv(childMode) {
	case "fill":
		fillStore(t, dir)
		fmt.Println("filled")
		select {} // until it is killed
	case "drain":
		answer, err := json.Marshal(drainStore(dir))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("answer: %s\n", answer)
	case "read-only":
		readOnlyStore(t, dir)
		fmt.Println(readOnlyDone)
	}
}

// What fillStore leaves: records, the first of which were delivered, some too
// large for Badger's tables, and the last ones each in a commit of its own.
const (
	fillRecords   = 5_000
	fillDelivered = 500
	fillLarge     = 3
	fillSingles   = 60
	fillAll       = fillRecords + fillLarge + fillSingles
)

func fillStore(t *testing.T, dir string) {
	q, err := Open(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	message := func(i, size int) Message {
		m := testMessage(5, i)
		m.Payload = fmt.Appendf(nil, "m%d %s", i, bytes.Repeat([]byte{'x'}, size))
		return m
	}
	for i := range fillRecords - 1 {
		offer(t, q, message(i, 2_000), nil)
	}
	store(t, q, message(fillRecords-1, 2_000))
	for _, e := range next(t, q, fillDelivered) { // at once, since all are committed
		q.Settle(e, Delivered)
	}
	for i := range fillLarge {
		store(t, q, message(fillRecords+i, 1_100_000))
	}
	for i := range fillSingles {
		store(t, q, message(fillRecords+fillLarge+i, 100))
	}
}

// drained is what was found in a store.
type drained struct {
	Err         string
	Quarantined string
	IDs         []int
	Left        Tally // that is counted as queued and was not handed out
	Account     Account
	Stored      bool // a new message could be stored
}

// drainStore opens a store and takes everything out of it.
func drainStore(dir string) (d drained) {
	q, err := Open(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		d.Err = err.Error()
		return d
	}
	defer q.Close()
	d.Quarantined = q.Stats().Quarantined
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := q.AwaitSalvage(ctx); err != nil {
		d.Err = err.Error()
		return d
	}
	for deadline := time.Now().Add(30 * time.Second); q.Depth() != (Tally{}) && time.Now().Before(deadline); {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		entries, err := q.Next(ctx, Want{Max: 100, History: 100})
		cancel()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			d.Err = err.Error()
		}
		for _, e := range entries {
			var id int
			if _, err := fmt.Sscanf(string(e.Payload), "m%d", &id); err != nil {
				id = -1
			}
			d.IDs = append(d.IDs, id)
			q.Settle(e, Delivered)
		}
	}
	d.Left, d.Account = q.Depth(), q.Ledger()["r5"]
	stored := make(chan error, 1)
	if q.Enqueue(testMessage(4, 0), func(err error) { stored <- err }) == nil {
		d.Stored = <-stored == nil
	}
	return d
}

// killedStore makes the directory of a queue whose process was killed.
func killedStore(t *testing.T, dir string) {
	t.Helper()
	cmd := child(t, "fill", dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make([]byte, 64)
	if n, err := io.ReadAtLeast(out, read, len("filled")); err != nil || !strings.HasPrefix(string(read[:n]), "filled") {
		t.Fatalf("filling the store: %q (%v)", read[:n], err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
}

// drain opens a store in another process.
func drainInProcess(t *testing.T, dir string) drained {
	t.Helper()
	out, err := child(t, "drain", dir).CombinedOutput()
	_, answer, found := bytes.Cut(out, []byte("answer: "))
	if err != nil || !found {
		t.Fatalf("the process ended with %v: %.3000s", err, out)
	}
	var d drained
	if err := json.NewDecoder(bytes.NewReader(answer)).Decode(&d); err != nil {
		t.Fatal(err)
	}
	return d
}

// faultSeed is another one in each run; it is printed with a failure.
func faultSeed(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return seed
}

// TestDamagedStores spoils each kind of file of a store that was killed. The
// queue has to open, without what is damaged or with the whole set aside, and
// to account for everything it counted.
func TestDamagedStores(t *testing.T) {
	t.Parallel()
	base := filepath.Join(t.TempDir(), "base")
	killedStore(t, base)
	whole := filepath.Join(t.TempDir(), "whole")
	if err := copyDir(whole, base); err != nil {
		t.Fatal(err)
	}
	if d := drainInProcess(t, whole); d.Err != "" || len(d.IDs) != fillAll-fillDelivered && len(d.IDs) != fillAll || d.Left.Records != 0 {
		t.Fatalf("undamaged: %d records, %+v", len(d.IDs), d)
	}
	for _, pattern := range []string{"*.mem", "*.sst", "*.vlog", "MANIFEST", "DISCARD", "KEYREGISTRY"} {
		files, err := filepath.Glob(filepath.Join(base, "store", pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("no %s in the store (%v)", pattern, err)
		}
		for _, dam := range damages {
			t.Run(pattern+" "+dam.name, func(t *testing.T) {
				t.Parallel()
				rnd := rand.New(rand.NewPCG(faultSeed(t), 0))
				dir := filepath.Join(t.TempDir(), "queue")
				if err := copyDir(dir, base); err != nil {
					t.Fatal(err)
				}
				file := filepath.Base(files[rnd.IntN(len(files))])
				path := filepath.Join(dir, "store", file)
				before := logged(t, path)
				if err := dam.do(path, rnd); err != nil {
					t.Fatal(err)
				}
				cut := strings.HasSuffix(file, ".mem") && dam.cuts
				checkDrained(t, file, cut, before-logged(t, path), drainInProcess(t, dir))
			})
		}
	}
}

// TestDamageInAnOlderLogIsNoTornTail: what a power cut tears is at the end of
// the newest write-ahead log.
func TestDamageInAnOlderLogIsNoTornTail(t *testing.T) {
	t.Parallel()
	base := filepath.Join(t.TempDir(), "base")
	killedStore(t, base)
	logs, err := filepath.Glob(filepath.Join(base, "store", "*.mem"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("no write-ahead log in the store (%v)", err)
	}
	newest, dir := logs[len(logs)-1], t.TempDir()
	torn := filepath.Join(dir, "00001.mem")
	if err := copyFile(torn, newest); err != nil {
		t.Fatal(err)
	}
	if err := overwrite(torn, func(size int64) int64 { return size - 20 }, 1, func(b []byte) { b[0] ^= 1 }); err != nil {
		t.Fatal(err)
	}
	if _, err := checkLogs(dir); err != nil {
		t.Fatalf("alone: %v", err)
	}
	if err := copyFile(filepath.Join(dir, "00002.mem"), newest); err != nil {
		t.Fatal(err)
	}
	if _, err := checkLogs(dir); !errors.Is(err, errStore) {
		t.Fatalf("with a newer log: got %v, expected %v", err, errStore)
	}
}

// logged is how many whole commits a write-ahead log has; other files have none.
func logged(t *testing.T, path string) int {
	t.Helper()
	if filepath.Ext(path) != ".mem" {
		return 0
	}
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	_, end, commits := measureLog(b)
	behind, _ := commitsBehind(b, end)
	return commits + behind
}

// checkDrained has what came out of a store with a damaged file. destroyed is
// how many commits were damaged in a write-ahead log: at its end they, and
// tornCommits behind them, cannot be told from ones that never were synced.
func checkDrained(t *testing.T, file string, cut bool, destroyed int, d drained) {
	t.Helper()
	if d.Err != "" || !d.Stored {
		t.Fatalf("%s: the queue does not work: %q, stored %v", file, d.Err, d.Stored)
	}
	if !d.Account.Balanced() {
		t.Errorf("%s: %+v does not balance", file, d.Account)
	}
	if d.Left != (Tally{}) {
		t.Errorf("%s: %+v are counted as queued and never come (%d came)", file, d.Left, len(d.IDs))
	}
	if d.Quarantined != "" {
		if _, err := os.Stat(d.Quarantined); err != nil {
			t.Errorf("%s: the quarantined store is not kept: %v", file, err)
		}
	}
	if !slices.IsSorted(d.IDs) || slices.Contains(d.IDs, -1) {
		t.Errorf("%s: out of order: %v", file, d.IDs)
	}
	if cut {
		return // what is gone cannot come, and no other file says that it was there
	}
	owed := fillAll - fillDelivered // whether the first ones come again is open
	came := len(slices.DeleteFunc(slices.Clone(d.IDs), func(id int) bool { return id < fillDelivered }))
	lost := int(d.Account.Quarantined.Records)
	missing := owed - came - lost
	t.Logf("%s: %d of %d came, %d are quarantined, %d are missing; set aside: %v", file, came, owed, lost, missing, d.Quarantined != "")
	if missing > destroyed+tornCommits {
		t.Errorf("%s: %d records are lost without a word", file, missing)
	}
}

// TestStoreThatEndsProcessesIsSetAside has former processes that ended while
// they opened the store.
func TestStoreThatEndsProcessesIsSetAside(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := openTestQueue(t, Options{Dir: dir})
	store(t, q, testMessage(5, 0))
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	for expected, ended := range []int{maxOpenings - 1, maxOpenings} {
		if err := os.WriteFile(filepath.Join(dir, "opening"), make([]byte, ended), 0o600); err != nil {
			t.Fatal(err)
		}
		q = openTestQueue(t, Options{Dir: dir})
		if got := q.Stats().Quarantines; got != expected {
			t.Errorf("after %d processes: got %d quarantined stores, expected %d", ended, got, expected)
		}
		if _, err := os.Stat(filepath.Join(dir, "opening")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("after %d processes: the count is left (%v)", ended, err)
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReadOnlyDirectory opens a queue on a file system that is mounted
// read-only.
func TestReadOnlyDirectory(t *testing.T) {
	t.Parallel()
	cmd := child(t, "read-only", t.TempDir())
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS
	cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
	cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || bytes.Contains(out, []byte(noMount)) {
		t.Skip("hardware: this machine lets nobody mount in a namespace of their own")
	}
	if err != nil || !bytes.Contains(out, []byte(readOnlyDone)) {
		t.Fatalf("%v: %s", err, out)
	}
}

// readOnlyDone is what the child says at its end, and noMount is what it says
// where it may not mount.
const (
	readOnlyDone = "read-only: done"
	noMount      = "mount is not permitted"
)

func readOnlyStore(t *testing.T, dir string) {
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=128m"); err != nil {
		t.Fatalf("%s: %v", noMount, err)
	}
	q := openTestQueue(t, Options{Dir: dir})
	store(t, q, testMessage(5, 0))
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	_, err := Open(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err == nil || !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), "mount its file system writable") {
		t.Fatalf("read-only: got %v", err)
	}
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	q = openTestQueue(t, Options{Dir: dir})
	if got := q.Stats(); got.Quarantines != 0 || got.Queued.Records != 1 {
		t.Errorf("writable again: %+v", got)
	}
}

// TestFailedDiskNeedsARestart has one sync that fails, as on a file system
// that the kernel has made read-only.
func TestFailedDiskNeedsARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var failures atomic.Int32
	q := openTestQueue(t, Options{Dir: dir, fault: func() error {
		if failures.Add(-1) == 0 {
			return fmt.Errorf("commit: %w", syscall.EROFS)
		}
		return nil
	}})
	store(t, q, testMessage(5, 0))
	e := next(t, q, 1)[0]
	failures.Store(1)
	told := make(chan error, 1)
	if err := q.Enqueue(testMessage(5, 1), func(err error) { told <- err }); err != nil {
		t.Fatal(err)
	}
	if err := <-told; !errors.Is(err, ErrBroken) || !errors.Is(err, syscall.EROFS) {
		t.Errorf("the producer was told %v", err)
	}
	if err := q.Enqueue(testMessage(5, 2), nil); !errors.Is(err, ErrBroken) {
		t.Errorf("afterwards: got %v, expected ErrBroken", err)
	}
	q.Settle(e, Delivered)
	if s := q.Stats(); !errors.Is(s.Failing, ErrBroken) || !errors.Is(s.Refusing, ErrBroken) {
		t.Errorf("stats: failing %v, refusing %v", s.Failing, s.Refusing)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = openTestQueue(t, Options{Dir: dir})
	expectList(t, payloads(t, q, 1), "m0")
	if got := q.Depth().Records; got != 1 {
		t.Errorf("%d are queued after the restart, expected the one that was acknowledged", got)
	}
	store(t, q, testMessage(5, 3))
}
