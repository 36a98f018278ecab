package models

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// partialDir holds what has come of models whose fetching was interrupted.
const partialDir = ".partial"

// Bounds of what is kept there.
const (
	maxPartials = 4
	partialAge  = 7 * 24 * time.Hour
)

// partial is what has come of a model, and by what the server tells that the
// rest belongs to it.
type partial struct {
	path string // of the bytes; what is known of them is beside it

	ETag     string `json:"etag,omitempty"` // a strong one
	Modified string `json:"modified,omitempty"`
	Total    int64  `json:"total"` // -1 where it is not known
}

// partialOf is that of an address and a hash: the query is left out, so that a
// presigned address that was made anew goes on where the old one ended.
func (s *Store) partialOf(u *url.URL, sha string) *partial {
	sum := sha256.Sum256([]byte(Redact(u) + "\n" + sha))
	p := &partial{path: s.path(partialDir, hex.EncodeToString(sum[:8])+".part"), Total: -1}
	b, err := os.ReadFile(p.meta())
	if err == nil {
		err = json.Unmarshal(b, p)
	}
	if err != nil {
		p.ETag, p.Modified, p.Total = "", "", -1 // nothing can be asked for by number
	}
	return p
}

func (p *partial) meta() string { return p.path + ".json" }

// validator is what If-Range is sent with, or "" where the server gave
// nothing that identifies the content (RFC 9110, section 13.1.5).
func (p *partial) validator() string {
	if p.ETag != "" {
		return p.ETag
	}
	return p.Modified
}

// size is how many bytes have come that can be gone on from.
func (p *partial) size() int64 {
	info, err := os.Stat(p.path)
	if err != nil || p.validator() == "" {
		return 0
	}
	return info.Size()
}

// begin starts over with what a full answer says of its content.
func (p *partial) begin(h http.Header, total int64) error {
	p.ETag, p.Modified, p.Total = "", h.Get("Last-Modified"), total
	if tag := h.Get("ETag"); strings.HasPrefix(tag, `"`) {
		p.ETag = tag
	}
	if err := os.MkdirAll(filepath.Dir(p.path), 0o755); err != nil {
		return err
	}
	if err := os.Remove(p.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return replaceJSON(p.meta(), p)
}

// drop removes the partial file.
func (p *partial) drop() error {
	var errs []error
	for _, path := range []string{p.path, p.meta()} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// sweepPartials removes what is older than partialAge, and the oldest beyond
// maxPartials.
func (s *Store) sweepPartials() error {
	entries, err := os.ReadDir(s.path(partialDir))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	type aged struct {
		path string
		at   time.Time
	}
	var parts []aged
	for _, e := range entries {
		if info, err := e.Info(); err == nil && strings.HasSuffix(e.Name(), ".part") {
			parts = append(parts, aged{s.path(partialDir, e.Name()), info.ModTime()})
		}
	}
	slices.SortFunc(parts, func(a, b aged) int { return b.at.Compare(a.at) })
	var errs []error
	for i, p := range parts {
		if i >= maxPartials || s.now().Sub(p.at) > partialAge {
			errs = append(errs, (&partial{path: p.path}).drop())
		}
	}
	return errors.Join(errs...)
}
