package access

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// keepMode gives a new file the owner and the group's right of the one that it will
// replace, if there is one. Only root can give a file away.
func keepMode(f *os.File, former string) error {
	info, err := os.Stat(former)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		if err := f.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
			return err
		}
	}
	return f.Chmod(info.Mode().Perm()&0o640 | 0o600) // a group may go on reading it
}
