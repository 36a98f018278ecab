package uplink

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// smallDiskEnv names the directory on which the test's second process mounts
// its small disk.
const smallDiskEnv = "OUTSTATION_TEST_SMALL_DISK"

const (
	smallDisk      = 448 << 20
	smallDiskFloor = 192 << 20
	cannotMount    = 77 // exit status
)

// TestFullDiskRefusesAndRecovers fills a small tmpfs from outside while
// producers run at full speed. A write that finds no room in a mapped file
// kills a process, so the queue runs in one of its own, in a mount namespace:
// with a user namespace where one may be made, or else as root.
func TestFullDiskRefusesAndRecovers(t *testing.T) {
	if dir := os.Getenv(smallDiskEnv); dir != "" {
		fullDisk(t, dir)
		return
	}
	var refusals []string
	for _, flags := range []uintptr{syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS, syscall.CLONE_NEWNS} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=4m")
		cmd.Env = append(os.Environ(), smallDiskEnv+"="+t.TempDir())
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL}
		if flags&syscall.CLONE_NEWUSER != 0 {
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
			cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
		}
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() != cannotMount || err == nil {
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			t.Logf("%s", out)
			return
		}
		refusals = append(refusals, fmt.Sprintf("flags %#x: %v %s", flags, err, out))
	}
	t.Fatalf("the test needs a tmpfs of its own; allow user namespaces or run it as root:\n%s", strings.Join(refusals, "\n"))
}

// fullDisk is the process on the small disk.
func fullDisk(t *testing.T, dir string) {
	err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	if err == nil {
		err = unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", smallDisk))
	}
	if err != nil {
		fmt.Println("mount:", err)
		os.Exit(cannotMount)
	}
	d := &diskTest{t: t, dir: dir, acked: map[uint64]bool{}, seen: map[uint64]bool{}}
	d.open()
	for _, size := range []int{256, 4 << 10, 700 << 10, 256} {
		d.round(size)
	}
	if err := d.q.Close(); err != nil {
		t.Fatal(err)
	}
	d.open()
	eventually(t, "all to be drained", func() bool { d.drain(); return d.q.Depth().Records == 0 })
	lost := 0
	for id := range d.acked {
		if !d.seen[id] {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d acknowledged records are lost", lost, len(d.acked))
	}
	if a := d.q.Ledger()["r"]; !a.Balanced() || a.Accepted.Records < int64(len(d.acked)) {
		t.Errorf("ledger %+v for %d acknowledged records", a, len(d.acked))
	}
	t.Logf("%d acknowledged, %d drained", len(d.acked), len(d.seen))
	if err := d.q.Close(); err != nil {
		t.Error(err)
	}
}

// diskTest is a queue on a small disk, with a producer and a filler.
type diskTest struct {
	t   *testing.T
	dir string
	q   *Queue

	mu    sync.Mutex
	next  uint64
	acked map[uint64]bool
	seen  map[uint64]bool
}

func (d *diskTest) open() {
	d.q = openTestQueue(d.t, Options{Dir: filepath.Join(d.dir, "queue"), MinFreeBytes: smallDiskFloor})
}

// round fills the disk to the last byte while a producer runs, expects the
// refusal, frees the disk, and expects to be accepted again without help.
func (d *diskTest) round(size int) {
	var stop atomic.Bool
	var producer sync.WaitGroup
	producer.Go(func() {
		for !stop.Load() {
			if d.offer(size) != nil {
				time.Sleep(time.Millisecond) // as a device that tries again
			}
		}
	})
	defer producer.Wait()
	defer stop.Store(true)
	filler := d.fill()
	d.t.Logf("%d-byte records: %+v", size, d.q.Depth())
	eventually(d.t, "a refusal that names the disk", func() bool {
		s := d.q.Stats()
		return s.Pending == 0 && errors.Is(s.Refusing, ErrFull) && strings.Contains(s.Refusing.Error(), "bytes are free")
	})
	if err := d.offer(size); !errors.Is(err, errNoRoom) {
		d.t.Errorf("a producer was told %v, expected %v", err, errNoRoom)
	}
	if err := d.q.SetNote(Note{"n", 1}); !errors.Is(err, errNoRoom) {
		d.t.Errorf("a note on a full disk: got %v, expected %v", err, errNoRoom)
	}
	if err := os.Remove(filler); err != nil {
		d.t.Fatal(err)
	}
	before := d.count()
	eventually(d.t, "room again", func() bool { return d.count() > before })
	stop.Store(true)
	producer.Wait()
	eventually(d.t, "most to be drained", func() bool { d.drain(); return d.q.Depth().Records <= 1000 })
}

// fill takes the disk's space: all but a little above the floor, and, once
// the producer runs, 64 MiB at once and the rest in steps.
func (d *diskTest) fill() string {
	f, err := os.Create(filepath.Join(d.dir, "filler"))
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	write := func(n int) bool {
		_, err := f.Write(make([]byte, n))
		if err != nil && !errors.Is(err, unix.ENOSPC) {
			d.t.Fatal(err)
		}
		return err == nil
	}
	for d.free() > smallDiskFloor+64<<20 {
		write(1 << 20)
	}
	before := d.count()
	eventually(d.t, "the producer", func() bool { return d.count() > before+10 || d.free() < smallDiskFloor })
	for _, step := range []int{64 << 20, 8 << 20, 4 << 10, 1} {
		for write(step) && step < 64<<20 {
		}
	}
	if left := d.free(); left != 0 {
		d.t.Fatalf("%d bytes are free, expected none", left)
	}
	return f.Name()
}

func (d *diskTest) free() uint64 {
	free, err := freeBytes(d.dir)
	if err != nil {
		d.t.Fatal(err)
	}
	return free
}

func (d *diskTest) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.acked)
}

// offer enqueues a numbered record and notes when it is acknowledged.
func (d *diskTest) offer(size int) error {
	d.mu.Lock()
	d.next++
	id := d.next
	d.mu.Unlock()
	m := Message{Route: "r", Lane: 5, Topic: "t", QoS: 1, Payload: make([]byte, size)}
	binary.BigEndian.PutUint64(m.Payload, id)
	return d.q.Enqueue(m, func(err error) {
		if err == nil {
			d.mu.Lock()
			d.acked[id] = true
			d.mu.Unlock()
		}
	})
}

func (d *diskTest) see(e Entry) {
	d.seen[binary.BigEndian.Uint64(e.Payload)] = true
	d.q.Settle(e, Delivered)
}

// drain takes some records out; all may be out already, though not all of
// that is written down.
func (d *diskTest) drain() {
	ctx, cancel := context.WithTimeout(d.t.Context(), 100*time.Millisecond)
	defer cancel()
	entries, err := d.q.Next(ctx, Want{Max: 256, History: 256})
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		d.t.Fatal(err)
	}
	for _, e := range entries {
		d.see(e)
	}
}
