package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"outstation/appliance/internal/load"
)

// guestInit is process 1 of the guest. The last line of the console says why
// a guest does not come up.
const guestInit = `#!/bin/busybox sh
export PATH=/bin
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /bin
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in /modules/*.ko; do insmod "$module"; done
ip link set lo up
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2
mount -t ext4 /dev/vda /data || echo "guest: no file system on the disk"
%s/bin/outstation run --config /outstation.yaml
echo "guest: the appliance ended: $?"
sync
poweroff -f
`

// writeInitramfs makes the guest's first file system: a shell, the kernel's
// modules, and the appliance with its configuration. environ is set for the
// appliance.
func writeInitramfs(file, deps, program string, config []byte, environ []string) error {
	var a archive
	for _, dir := range []string{"bin", "proc", "sys", "dev", "data", "modules", "tmp"} {
		a.add(dir, 0o040755, nil)
	}
	var export strings.Builder
	for _, e := range environ {
		export.WriteString(e + " ")
	}
	a.add("init", 0o100755, fmt.Appendf(nil, guestInit, export.String()))
	a.add("outstation.yaml", 0o100644, config)
	a.add(strings.TrimPrefix(guestUsers, "/"), 0o100600, []byte(load.Users))
	files := map[string]string{"bin/busybox": filepath.Join(deps, "busybox"), "bin/outstation": program}
	modules, err := filepath.Glob(filepath.Join(deps, "modules", "*.ko"))
	if err != nil {
		return fmt.Errorf("initramfs: %w", err)
	}
	for _, m := range modules {
		files["modules/"+filepath.Base(m)] = m
	}
	for name, from := range files {
		data, err := os.ReadFile(from)
		if err != nil {
			return fmt.Errorf("initramfs: %w", err)
		}
		a.add(name, 0o100755, data)
	}
	a.add("TRAILER!!!", 0, nil)
	if err := os.WriteFile(file, a.buf.Bytes(), 0o600); err != nil {
		return fmt.Errorf("initramfs: %w", err)
	}
	return nil
}

// archive is a cpio archive of the format "newc", which the kernel unpacks:
// Documentation/driver-api/early-userspace/buffer-format.rst.
type archive struct {
	buf   bytes.Buffer
	inode int
}

func (a *archive) add(name string, mode int, data []byte) {
	a.inode++
	fields := []int{a.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0}
	a.buf.WriteString("070701")
	for _, f := range fields {
		fmt.Fprintf(&a.buf, "%08X", f)
	}
	a.buf.WriteString(name + "\x00")
	a.pad()
	a.buf.Write(data)
	a.pad()
}

func (a *archive) pad() { a.buf.Write(make([]byte, -a.buf.Len()&3)) }
