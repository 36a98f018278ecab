package access

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxFile bounds a file of users or rules, in bytes.
const maxFile = 16 << 20

// maxName bounds a user's name, in bytes.
const maxName = 256

// ErrFile says that a file of users or rules cannot be used. Its text has one
// problem a line.
var ErrFile = errors.New("cannot be used")

// Users are the users of a file by name.
type Users struct {
	byName map[string]Hash
}

// ReadUsers reads a file of users: name:hash lines, beside empty ones and
// those that begin with #. Mosquitto's password_file is one.
func ReadUsers(file string) (*Users, error) {
	text, err := readFile(file)
	if err != nil {
		return nil, err
	}
	return ParseUsers(file, text)
}

// ParseUsers is ReadUsers for a text that was read; file is for errors.
func ParseUsers(file string, text []byte) (*Users, error) {
	u := &Users{byName: map[string]Hash{}}
	err := eachLine(file, text, func(line string) error {
		name, hash, ok := strings.Cut(line, ":")
		if !ok {
			return errors.New("expected name:hash")
		}
		if err := CheckName(name); err != nil {
			return err
		}
		if _, twice := u.byName[name]; twice {
			return fmt.Errorf("user %q is there twice", name)
		}
		h, err := ParseHash(hash)
		if err != nil {
			return fmt.Errorf("user %q: %w", name, err)
		}
		u.byName[name] = h
		return nil
	})
	if err != nil {
		return nil, err
	}
	return u, nil
}

// CheckName returns nil if a user can have this name in a file.
func CheckName(name string) error {
	switch {
	case name == "" || len(name) > maxName:
		return fmt.Errorf("user name: got %d bytes, expected 1 to %d", len(name), maxName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("user name %q: expected UTF-8 without control characters", name)
	case strings.Contains(name, ":") || strings.HasPrefix(name, "#") || strings.TrimSpace(name) != name:
		return fmt.Errorf("user name %q: expected no colon, no # in front and no space around it", name)
	}
	return nil
}

// Names are all names, sorted.
func (u *Users) Names() []string { return slices.Sorted(maps.Keys(u.byName)) }

// Lookup returns the hash of a user's password.
func (u *Users) Lookup(name string) (Hash, bool) {
	h, ok := u.byName[name]
	return h, ok
}

// With returns the users with one more, or with another hash.
func (u *Users) With(name string, h Hash) *Users {
	out := &Users{byName: maps.Clone(u.byName)}
	if out.byName == nil {
		out.byName = map[string]Hash{}
	}
	out.byName[name] = h
	return out
}

// Without returns the users without one.
func (u *Users) Without(name string) *Users {
	out := &Users{byName: maps.Clone(u.byName)}
	delete(out.byName, name)
	return out
}

// Write writes a file of users that only its owner can read, and returns when
// it is on disk. A reader sees the old file or the new one. A file that exists
// keeps its owner and its mode.
func (u *Users) Write(file string) (err error) {
	var b bytes.Buffer
	for _, name := range u.Names() {
		fmt.Fprintf(&b, "%s:%s\n", name, u.byName[name].text)
	}
	if target, err := filepath.EvalSymlinks(file); err == nil {
		file = target // the link stays
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".users-*") // of mode 0600
	if err != nil {
		return fmt.Errorf("write users: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(b.Bytes())
	err = errors.Join(err, keepMode(f, file), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err == nil {
		err = syncDir(filepath.Dir(file))
	}
	if err != nil {
		return fmt.Errorf("write users: %w", err)
	}
	return nil
}

// syncDir makes a rename durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// readFile reads a file of at most maxFile bytes.
func readFile(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err // it names the file
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s: more than %d bytes", file, maxFile)
	}
	return text, err
}

// eachLine calls f for each line that says something, and returns everything
// that is wrong.
func eachLine(file string, text []byte, f func(line string) error) error {
	var wrong []string
	in := bufio.NewScanner(bytes.NewReader(text))
	in.Buffer(nil, maxFile+1)
	for n := 1; in.Scan(); n++ {
		line := strings.TrimSpace(in.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		if err := f(line); err != nil {
			wrong = append(wrong, fmt.Sprintf("%s:%d: %v", file, n, err))
		}
	}
	if err := in.Err(); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%s %w:\n%s", file, ErrFile, strings.Join(wrong, "\n"))
	}
	return nil
}
