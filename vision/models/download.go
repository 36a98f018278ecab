package models

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// errRefused is wrapped by errors that another attempt would meet again.
var errRefused = errors.New("the server refuses")

// errUntrusted is wrapped by errors about a server's certificate.
var errUntrusted = fmt.Errorf("%w to prove who it is", errRefused)

// Progress that a download has to make, or it counts as stuck.
const (
	stuckAfter = 60 * time.Second
	stuckBytes = 16 << 10 // within stuckAfter
	maxRetries = 5        // attempts in a row that brought less than stuckBytes
)

// Download fetches a model by HTTPS.
type Download struct {
	Address  *url.URL
	SHA256   string // expected, or ""
	CAFile   string // further authorities, PEM; "" for none
	Progress func(done, total int64)
	Retry    func(attempt int, err error, wait time.Duration) // told before each wait; nil for nobody

	wait  func(attempt int) time.Duration // tests only
	stuck time.Duration                   // tests only
}

// FromHTTPS fetches a model from an address. What has come stays when the
// fetching ends early, and the next one of the same address (whatever its
// query) asks for the rest, if the server says that the content is the same.
// Without an expected hash nothing would tell that what was kept is whole, so
// nothing is kept. Attempts are repeated while they make progress.
func (s *Store) FromHTTPS(d Download) func(context.Context, string) error {
	if d.wait == nil {
		d.wait = func(attempt int) time.Duration { return min(time.Second<<min(attempt, 5), 30*time.Second) }
	}
	if d.stuck == 0 {
		d.stuck = stuckAfter
	}
	return func(ctx context.Context, to string) error {
		client, err := httpClient(d.CAFile)
		if err != nil {
			return err
		}
		defer client.CloseIdleConnections()
		p := s.partialOf(d.Address, d.SHA256)
		err = s.attempts(ctx, d, client, p)
		if err == nil {
			err = p.finish(to)
		}
		if d.SHA256 == "" {
			err = errors.Join(err, p.drop())
		}
		if err != nil {
			return fmt.Errorf("%s: %w", Redact(d.Address), err)
		}
		return nil
	}
}

// attempts asks until everything has come.
func (s *Store) attempts(ctx context.Context, d Download, client *http.Client, p *partial) error {
	for failed := 0; ; {
		before := p.size()
		err := s.attempt(ctx, d, client, p)
		if err == nil || ctx.Err() != nil || errors.Is(err, errRefused) || errors.Is(err, ErrFull) || errors.Is(err, ErrTooLarge) {
			return errors.Join(err, ctx.Err())
		}
		if p.size()-before >= stuckBytes {
			failed = 0
		}
		if failed++; failed > maxRetries {
			return fmt.Errorf("given up after %d attempts without progress; %w", failed, err)
		}
		wait := d.wait(failed - 1)
		if d.Retry != nil {
			d.Retry(failed, err, wait)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// attempt asks for what is missing and keeps what comes.
func (s *Store) attempt(ctx context.Context, d Download, client *http.Client, p *partial) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.Address.String(), nil)
	if err != nil {
		return fmt.Errorf("%w: %w", errRefused, redacted(err))
	}
	have := p.size()
	if have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
		req.Header.Set("If-Range", p.validator())
	}
	resp, err := client.Do(req)
	if err != nil {
		if errors.As(err, new(*tls.CertificateVerificationError)) {
			err = fmt.Errorf("%w: %w", errUntrusted, redacted(err))
		}
		return redacted(err)
	}
	defer resp.Body.Close()
	at, err := p.answered(resp, have)
	if err != nil || at < 0 {
		return err
	}
	if err := s.room(max(p.Total-at, 0)); err != nil {
		return err
	}
	if p.Total > s.maxBytes {
		return fmt.Errorf("%w: the model has %d bytes, at most %d are taken", ErrTooLarge, p.Total, s.maxBytes)
	}
	watch := newWatch(d.stuck, cancel)
	defer watch.stop()
	err = s.keep(p, at, io.TeeReader(resp.Body, watch), d.Progress)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

// answered looks at the head of an answer and returns from which byte on its
// body is, or a negative number when nothing is missing.
func (p *partial) answered(resp *http.Response, have int64) (at int64, err error) {
	switch code := resp.StatusCode; {
	case code == http.StatusOK: // the whole: it is another content, or ranges are not known there
		return 0, p.begin(resp.Header, resp.ContentLength)
	case code == http.StatusPartialContent && have > 0:
		first, total, ok := contentRange(resp.Header.Get("Content-Range"))
		if !ok || first != have || (p.Total >= 0 && total >= 0 && total != p.Total) {
			return 0, errors.Join(fmt.Errorf("expected bytes from %d of %d, got %q; starting over", have, p.Total, resp.Header.Get("Content-Range")), p.drop())
		}
		return have, nil
	case code == http.StatusRequestedRangeNotSatisfiable && have > 0:
		if have == p.Total {
			return -1, nil
		}
		return 0, errors.Join(fmt.Errorf("%d bytes are more than there are; starting over", have), p.drop())
	case code >= 500 || code == http.StatusTooManyRequests || code == http.StatusRequestTimeout:
		return 0, fmt.Errorf("the server answers %s", resp.Status)
	case code == http.StatusForbidden || code == http.StatusUnauthorized:
		return 0, fmt.Errorf("%w: %s; a presigned address may have expired: make a new one and run the same command", errRefused, resp.Status)
	default:
		return 0, fmt.Errorf("%w: %s", errRefused, resp.Status)
	}
}

// contentRange reads "bytes 5-9/10" (RFC 9110, section 14.4); total is -1 for
// a "*".
func contentRange(s string) (first, total int64, ok bool) {
	rest, isBytes := strings.CutPrefix(s, "bytes ")
	span, size, hasSize := strings.Cut(rest, "/")
	from, _, hasSpan := strings.Cut(span, "-")
	first, err := strconv.ParseInt(from, 10, 64)
	total = -1
	var errTotal error
	if size != "*" {
		total, errTotal = strconv.ParseInt(size, 10, 64)
	}
	return first, total, isBytes && hasSize && hasSpan && err == nil && errTotal == nil
}

// keep writes a body behind the bytes that are there, from at on.
func (s *Store) keep(p *partial, at int64, body io.Reader, progress func(done, total int64)) (err error) {
	f, err := os.OpenFile(p.path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Sync(), f.Close()) }()
	if _, err := f.Seek(at, io.SeekStart); err != nil {
		return err
	}
	buf := make([]byte, 256<<10)
	for checked := at; ; {
		n, errRead := body.Read(buf)
		if _, err := f.Write(buf[:n]); err != nil {
			return err
		}
		at += int64(n)
		if progress != nil {
			progress(at, p.Total)
		}
		if at > s.maxBytes {
			return fmt.Errorf("%w: at most %d bytes are taken", ErrTooLarge, s.maxBytes)
		}
		if at-checked >= 16<<20 { // the server need not have said how much comes
			checked = at
			if err := s.room(0); err != nil {
				return err
			}
		}
		switch {
		case errRead == io.EOF && p.Total >= 0 && at != p.Total:
			return fmt.Errorf("the answer ended after %d of %d bytes: %w", at, p.Total, io.ErrUnexpectedEOF)
		case errRead == io.EOF:
			return nil
		case errRead != nil:
			return errRead
		}
	}
}

// finish hands the file over to whoever compares its hash.
func (p *partial) finish(to string) error {
	if err := os.Rename(p.path, to); err != nil {
		return err
	}
	return p.drop()
}
