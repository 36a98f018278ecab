package main

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"outstation/uplink/wire"
)

// token is one that machines on the site's network post with. Only its hash is
// kept: it is random and long, so that a fast hash does.
type token struct {
	name  string
	sum   [sha256.Size]byte
	added time.Time
}

const (
	tokenPrefix = "ost_"
	tokenBytes  = 32
	tokenHead   = "# Tokens of machines that post events: name, SHA-256 of the token, when it was added.\n"
)

// newToken returns a token and what is kept of it.
func newToken(name string, now time.Time) (secret string, t token, err error) {
	if err := wire.CheckLevel(name); err != nil {
		return "", t, err
	}
	b := make([]byte, tokenBytes)
	if _, err := rand.Read(b); err != nil {
		return "", t, fmt.Errorf("token: %w", err)
	}
	secret = tokenPrefix + base64.RawURLEncoding.EncodeToString(b)
	return secret, token{name, sha256.Sum256([]byte(secret)), now.UTC().Truncate(time.Second)}, nil
}

// readTokens reads a file of tokens. One that is not there has none.
func readTokens(file string) ([]token, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	var out []token
	for i, line := range strings.Split(string(b), "\n") {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		t, err := parseToken(line)
		if err != nil {
			return nil, fmt.Errorf("tokens: %s:%d: %w", file, i+1, err)
		}
		out = append(out, t)
	}
	return out, nil
}

func parseToken(line string) (t token, err error) {
	f := strings.Fields(line)
	if len(f) != 3 {
		return t, fmt.Errorf("got %d words, expected a name, a SHA-256 and a time", len(f))
	}
	t.name = f[0]
	sum, err := hex.DecodeString(f[1])
	if err != nil || copy(t.sum[:], sum) != len(t.sum) || len(sum) != len(t.sum) {
		return t, errors.New("expected a SHA-256 in hex as the second word")
	}
	t.added, err = time.Parse(time.RFC3339, f[2])
	return t, err
}

// writeTokens replaces the file, so that after a crash it is the old one or
// the new one. It keeps the file's owner and mode; a new one belongs to the
// owner of its directory, whom the appliance runs as.
func writeTokens(file string, tokens []token) error {
	text := tokenHead
	for _, t := range tokens {
		text += fmt.Sprintf("%s %s %s\n", t.name, hex.EncodeToString(t.sum[:]), t.added.Format(time.RFC3339))
	}
	if err := replaceFile(file, []byte(text), func(f *os.File) error { return inherit(f, file) }); err != nil {
		return fmt.Errorf("tokens: %w", err)
	}
	return nil
}

// inherit gives a file the mode and the owner that it shall have in the place
// of another.
func inherit(f *os.File, former string) error {
	info, err := os.Stat(former)
	if errors.Is(err, fs.ErrNotExist) {
		info, err = os.Stat(filepath.Dir(former))
	} else if err == nil {
		err = f.Chmod(info.Mode().Perm())
	}
	owner, ok := (*syscall.Stat_t)(nil), false
	if err == nil {
		owner, ok = info.Sys().(*syscall.Stat_t)
	}
	if err != nil || !ok || os.Geteuid() != 0 {
		return err
	}
	return f.Chown(int(owner.Uid), int(owner.Gid))
}

// tokenFile is a file of tokens that is read again when it changes. It is safe
// for concurrent use.
type tokenFile struct {
	path string

	mu     sync.Mutex
	read   os.FileInfo // the file that tokens came from, or nil
	tokens []token
	err    error
}

// check returns the name of a token, or an empty one for a token that is not
// known, and whether there are any. The time that it takes says nothing about
// the tokens.
func (f *tokenFile) check(secret string) (name string, some bool, err error) {
	tokens, err := f.current()
	sum := sha256.Sum256([]byte(secret))
	for _, t := range tokens {
		if subtle.ConstantTimeCompare(sum[:], t.sum[:]) == 1 {
			name = t.name
		}
	}
	return name, len(tokens) > 0, err
}

// failure says why the file cannot be used, or nothing.
func (f *tokenFile) failure() error {
	_, err := f.current()
	return err
}

func (f *tokenFile) current() ([]token, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		f.read, f.tokens, f.err = nil, nil, nil
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	if was := f.read; was != nil && os.SameFile(was, info) && was.ModTime().Equal(info.ModTime()) && was.Size() == info.Size() {
		return f.tokens, f.err
	}
	f.read = info
	f.tokens, f.err = readTokens(f.path)
	return f.tokens, f.err
}

// tokensFile is where the tokens are.
func (c Config) tokensFile() string {
	if c.Web.TokensFile != "" {
		return c.Web.TokensFile
	}
	return filepath.Join(c.DataDir, "tokens")
}

// without is the tokens but one; found says whether it was there.
func without(tokens []token, name string) (rest []token, found bool) {
	i := slices.IndexFunc(tokens, func(t token) bool { return t.name == name })
	if i < 0 {
		return tokens, false
	}
	return slices.Delete(slices.Clone(tokens), i, i+1), true
}
