package broker

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

const (
	// socketMode lets the group of the appliance in.
	socketMode = 0o660
	// maxSocketPath is what fits into sockaddr_un, in bytes; one more is taken
	// by the zero at its end, and some by the name before the socket is ready.
	maxSocketPath = 90
)

func checkSocketPath(path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || len(path) > maxSocketPath {
		return wrong("address: got %q, expected the full path of a Unix socket, of at most %d bytes", path, maxSocketPath)
	}
	return nil
}

// unixListener removes its socket when it is closed, if it is still its own.
type unixListener struct {
	*net.UnixListener
	path string
	own  os.FileInfo
}

// ListenUnix listens on a Unix socket of mode 0660, of the given group or, for
// -1, of that of the process. A socket that a killed process left is replaced;
// one on which somebody listens (EADDRINUSE), and any other file, is not. Close
// removes it.
func ListenUnix(path string, group int) (net.Listener, error) {
	if err := stale(path); err != nil {
		return nil, err
	}
	// Made out of sight and then renamed: nobody connects before its mode is set.
	dir, err := os.MkdirTemp(filepath.Dir(path), ".")
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	defer os.RemoveAll(dir)
	hidden := filepath.Join(dir, "s")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: hidden, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	ln.SetUnlinkOnClose(false)
	err = os.Chmod(hidden, socketMode)
	if err == nil && group >= 0 {
		err = os.Chown(hidden, -1, group)
	}
	if err == nil {
		err = os.Rename(hidden, path)
	}
	own, statErr := os.Lstat(path)
	if err = errors.Join(err, statErr); err != nil {
		return nil, errors.Join(fmt.Errorf("socket %s: %w", path, err), ln.Close())
	}
	return &unixListener{ln, path, own}, nil
}

// stale returns nil if a socket can be put at path.
func stale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is there and is no socket; it was left alone", path)
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		_ = c.Close() // it has told what it could
		return fmt.Errorf("%s: %w", path, syscall.EADDRINUSE)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("socket %s: %w", path, err)
	}
	return nil
}

// Addr is where the socket is.
func (l *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Close ends the listener.
func (l *unixListener) Close() error {
	if info, err := os.Lstat(l.path); err == nil && os.SameFile(info, l.own) {
		_ = os.Remove(l.path) // what is left of it is replaced at the next start
	}
	return l.UnixListener.Close()
}
