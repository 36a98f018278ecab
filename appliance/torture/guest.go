package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"outstation/appliance/internal/load"
	"outstation/uplink/mosquittotest"
	"outstation/web"
)

// The power cut.
//
// kill -9 of a process proves little about the disk: what it wrote lies in
// the kernel's page cache and survives it. So here the appliance runs in an
// emulated machine, and the emulator is killed. The guest's kernel dies with
// it, and so does everything that the guest had in its page cache and never
// sent to its disk. That is what a power cut does to it.
//
// The disk is a file of the host with cache=writeback, on purpose. What has
// reached the emulated disk is in the host's page cache, and the host lives
// on: so it counts as stored, although the host may not have synced it. What
// is tested is therefore whether the appliance made its own kernel write
// before it acknowledged, no more: a disk that lies about a flush is not. With
// cache=none or directsync nothing would change but the speed. The mode
// still passes the guest's flushes on (cache=unsafe would not), so the guest
// sees a disk with a volatile cache and its kernel and ext4 behave as on one.
//
// The guest's kernel writes dirty pages back by itself after 30 s
// (vm.dirty_expire_centisecs) and what its journal needs every 5 s; a load
// lasts about as long, so that a missing sync shows.
var guestPace = pace{
	devices: 4, window: 64, size: 1024, between: 500 * time.Microsecond,
	load: span{time.Second, 5 * time.Second}, early: 0.1, earlyLoad: span{0, 10 * time.Second},
	cut: 0.7, from: span{0, 3 * time.Second}, outage: span{0, 20 * time.Second},
}

// unsyncedPace keeps the centre away, so that the disk is all there is.
var unsyncedPace = pace{
	devices: 4, window: 64, size: 1024, between: 500 * time.Microsecond,
	load: span{3 * time.Second, 5 * time.Second},
	cut:  1, from: span{0, time.Millisecond}, outage: span{10 * time.Second, 11 * time.Second}, earlyLoad: span{0, 1},
}

const (
	guestDisk   = 1 << 30 // bytes; the file is sparse
	guestMemory = "512M"
	guestMQTT   = "0.0.0.0:1883"
	guestWeb    = "0.0.0.0:8080"
	guestUsers  = "/users"
	guestHost   = "10.0.2.2" // how the guest names this machine's loopback
)

// guestOptions say what runs in the machine.
type guestOptions struct {
	deps     string // kernel, modules and shell
	program  string // the appliance, without cgo
	dir      string
	centre   string // host:port on this machine's loopback
	unsynced bool   // program is a test binary; turn its sync off
}

// guest is an emulated machine with the appliance in it.
type guest struct {
	page
	dir, kernel string
	mqtt, web   string // on this machine's loopback
	cmd         *exec.Cmd
	done        chan error
}

func newGuest(o guestOptions) (edge, error) {
	g := &guest{dir: o.dir, kernel: filepath.Join(o.deps, "vmlinuz")}
	g.until = g.poll
	for _, address := range []*string{&g.mqtt, &g.web} {
		port, err := mosquittotest.FreePort()
		if err != nil {
			return nil, err
		}
		*address = fmt.Sprintf("127.0.0.1:%d", port)
	}
	if err := os.MkdirAll(o.dir, 0o750); err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(o.centre)
	if err != nil {
		return nil, err
	}
	config := load.Config("/data", guestHost+":"+port, guestMQTT, guestWeb)
	environ := []string{"OUTSTATION_BROKER_USERS_FILE=" + guestUsers}
	if o.unsynced {
		environ = append(environ, "OUTSTATION_TEST_BE_PROGRAM=1", "OUTSTATION_TEST_BE_UNSYNCED=1")
	}
	if err := writeInitramfs(g.initramfs(), o.deps, o.program, config, environ); err != nil {
		return nil, err
	}
	return g, g.makeDisk()
}

func (g *guest) initramfs() string { return filepath.Join(g.dir, "initramfs") }
func (g *guest) disk() string      { return filepath.Join(g.dir, "disk") }

func (g *guest) makeDisk() error {
	f, err := os.Create(g.disk())
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(guestDisk), f.Close()); err != nil {
		return err
	}
	mke2fs, err := exec.LookPath("mke2fs")
	if err != nil {
		mke2fs = "/usr/sbin/mke2fs"
	}
	if out, err := exec.Command(mke2fs, "-q", "-t", "ext4", g.disk()).CombinedOutput(); err != nil {
		return fmt.Errorf("mke2fs: %w: %s", err, out)
	}
	return nil
}

// Start switches the machine on.
func (g *guest) Start() error {
	console, err := os.OpenFile(filepath.Join(g.dir, "console.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer console.Close()
	g.cmd = exec.Command("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", guestMemory,
		"-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot", "-nodefaults",
		"-kernel", g.kernel, "-initrd", g.initramfs(), "-append", "console=ttyS0 quiet panic=-1 mitigations=off",
		"-drive", "if=virtio,format=raw,cache=writeback,file="+g.disk(),
		"-device", "virtio-net-pci,netdev=net,romfile=",
		"-netdev", fmt.Sprintf("user,id=net,hostfwd=tcp:%s-:1883,hostfwd=tcp:%s-:8080", g.mqtt, g.web))
	g.cmd.Stdout, g.cmd.Stderr = console, console
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := g.cmd.Start(); err != nil {
		return fmt.Errorf("%w; .ci/deps powercut installs it", err)
	}
	g.done = make(chan error, 1)
	cmd, done := g.cmd, g.done
	go func() { done <- cmd.Wait() }()
	return nil
}

// Ready waits until the page answers.
func (g *guest) Ready(ctx context.Context) error {
	_, err := g.poll(ctx, func(web.Snapshot) bool { return true })
	return err
}

func (g *guest) poll(ctx context.Context, ok func(web.Snapshot) bool) (s web.Snapshot, err error) {
	err = load.Until(ctx, g.done, func() bool {
		var failed error
		s, failed = load.Status(ctx, g.web)
		return failed == nil && ok(s)
	})
	if err != nil {
		err = fmt.Errorf("the guest, see %s: %w", filepath.Join(g.dir, "console.log"), err)
	}
	return s, err
}

// Address is where devices connect.
func (g *guest) Address() string { return g.mqtt }

// Kill is the power cut.
func (g *guest) Kill() error { return load.End(g.cmd, g.done, syscall.SIGKILL) }

// Stop is a power cut too: the page has been asked for all there is to know.
func (g *guest) Stop() error { return g.Kill() }

// Final compares the ledger that the page showed last with what arrived.
func (g *guest) Final(r *result) error {
	l := g.last
	accepted := int64(l.Accepted.Records)
	r.Accepted = &accepted
	r.ledger(balanced(l) && l.Accepted == l.Delivered && accepted == int64(r.Arrived),
		"at the end: %d arrived, ledger %+v", r.Arrived, l)
	return nil
}
