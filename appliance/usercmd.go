package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"outstation/broker/access"
)

// userCommand works with a file of users. Passwords come from the terminal or
// from standard input, never from the command line, which everybody sees.
type userCommand struct {
	Add    userAddCommand    `cmd:"" help:"Add a user; asks for the password, or reads a line from standard input."`
	Passwd userPasswdCommand `cmd:"" help:"Change a user's password."`
	Rm     userRmCommand     `cmd:"" help:"Remove a user."`
	Ls     userLsCommand     `cmd:"" help:"List the users."`
	Import userImportCommand `cmd:"" help:"Take over the users of Mosquitto's password_file, with their passwords."`
}

type usersFile struct {
	File string `required:"" type:"path" placeholder:"FILE" help:"File of users, as broker.users_file names it."`
}

// read reads the file; one that is not there has no users, if new is set.
func (f usersFile) read(create bool) (*access.Users, error) {
	users, err := access.ReadUsers(f.File)
	if create && errors.Is(err, fs.ErrNotExist) {
		return access.ParseUsers(f.File, nil)
	}
	return users, err
}

// change reads the file, changes the users and writes it, while no other such
// command does.
func (f usersFile) change(create bool, change func(*access.Users) (*access.Users, error)) error {
	dir, err := os.Open(filepath.Dir(f.File))
	if err != nil {
		return err
	}
	defer dir.Close() // it ends the lock
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", dir.Name(), err)
	}
	users, err := f.read(create)
	if err != nil {
		return err
	}
	if users, err = change(users); err != nil {
		return err
	}
	return users.Write(f.File)
}

type userAddCommand struct {
	Name string `arg:"" help:"Name of the user."`
	usersFile
}

// Run adds a user.
func (c *userAddCommand) Run(e *env) error {
	if err := access.CheckName(c.Name); err != nil {
		return usageError{err}
	}
	hash, err := askPassword(e, c.Name)
	if err != nil {
		return err
	}
	err = c.change(true, func(u *access.Users) (*access.Users, error) {
		if _, ok := u.Lookup(c.Name); ok {
			return nil, fmt.Errorf("%s: there is a user %q; outstation user passwd changes the password", c.File, c.Name)
		}
		return u.With(c.Name, hash), nil
	})
	return c.say(e, err, "added user "+c.Name)
}

type userPasswdCommand struct {
	Name string `arg:"" help:"Name of the user."`
	usersFile
}

// Run changes a password.
func (c *userPasswdCommand) Run(e *env) error {
	users, err := c.read(false)
	if err != nil {
		return err
	}
	if err := c.expect(users, c.Name); err != nil {
		return err // before anybody types
	}
	hash, err := askPassword(e, c.Name)
	if err != nil {
		return err
	}
	err = c.change(false, func(u *access.Users) (*access.Users, error) { return u.With(c.Name, hash), c.expect(u, c.Name) })
	return c.say(e, err, "changed the password of "+c.Name)
}

type userRmCommand struct {
	Name string `arg:"" help:"Name of the user."`
	usersFile
}

// Run removes a user.
func (c *userRmCommand) Run(e *env) error {
	err := c.change(false, func(u *access.Users) (*access.Users, error) { return u.Without(c.Name), c.expect(u, c.Name) })
	return c.say(e, err, "removed user "+c.Name)
}

// say tells what was done, unless it was not.
func (f usersFile) say(e *env, err error, what string) error {
	if err == nil {
		fmt.Fprintf(e.out, "%s; a running appliance takes it over with: outstation reload\n", what)
	}
	return err
}

func (f usersFile) expect(u *access.Users, name string) error {
	if _, ok := u.Lookup(name); !ok {
		return fmt.Errorf("%s: no user %q", f.File, name)
	}
	return nil
}

type userLsCommand struct{ usersFile }

// Run lists the names.
func (c *userLsCommand) Run(e *env) error {
	users, err := c.read(false)
	if err != nil {
		return err
	}
	for _, name := range users.Names() {
		fmt.Fprintln(e.out, name)
	}
	return nil
}

type userImportCommand struct {
	From string `arg:"" type:"path" help:"Mosquitto's password_file."`
	usersFile
}

// Run takes over users, all or, if one is there already, none.
func (c *userImportCommand) Run(e *env) error {
	from, err := access.ReadUsers(c.From)
	if err != nil {
		return err
	}
	err = c.change(true, func(u *access.Users) (*access.Users, error) {
		for _, name := range from.Names() {
			if _, ok := u.Lookup(name); ok {
				return nil, fmt.Errorf("%s: there is a user %q already; nothing was imported", c.File, name)
			}
			hash, _ := from.Lookup(name)
			u = u.With(name, hash)
		}
		return u, nil
	})
	if err == nil {
		fmt.Fprintf(e.out, "imported users: %d\n", len(from.Names()))
	}
	return err
}

// askPassword asks twice on a terminal, without showing what is typed, or
// reads one line.
func askPassword(e *env, name string) (access.Hash, error) {
	if in := int(os.Stdin.Fd()); term.IsTerminal(in) {
		first, err := typed(e, in, "Password for "+name+": ")
		if err != nil {
			return access.Hash{}, err
		}
		again, err := typed(e, in, "Again: ")
		if err != nil {
			return access.Hash{}, err
		}
		if string(first) != string(again) {
			return access.Hash{}, usageError{errors.New("the two passwords differ; nothing was changed")}
		}
		return newHash(first)
	}
	line, err := bufio.NewReader(io.LimitReader(os.Stdin, maxPassword)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return access.Hash{}, fmt.Errorf("password: %w", err)
	}
	return newHash([]byte(strings.TrimRight(line, "\r\n")))
}

// maxPassword is what MQTT can carry, in bytes.
const maxPassword = 65535

func newHash(password []byte) (access.Hash, error) {
	if len(password) == 0 {
		return access.Hash{}, usageError{errors.New("expected a password on the terminal or as a line on standard input, got nothing")}
	}
	return access.NewHash(password)
}

func typed(e *env, in int, prompt string) ([]byte, error) {
	fmt.Fprint(e.out, prompt)
	password, err := term.ReadPassword(in)
	fmt.Fprintln(e.out)
	if err != nil {
		return nil, fmt.Errorf("password: %w", err)
	}
	return password, nil
}
