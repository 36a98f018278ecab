package models

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// far is a server that has one model, and faults.
type far struct {
	*httptest.Server
	t  *testing.T
	ca string // file

	mu       sync.Mutex
	model    []byte
	etag     string
	requests []*http.Request
	faults   []func(w http.ResponseWriter, r *http.Request) bool // one for each request; true: it has answered
}

func newFar(t *testing.T, model []byte) *far {
	f := &far{t: t, model: model, etag: `"one"`}
	f.Server = httptest.NewTLSServer(f)
	t.Cleanup(f.Close)
	f.ca = filepath.Join(t.TempDir(), "ca.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Certificate().Raw})
	if err := os.WriteFile(f.ca, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *far) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, r.Clone(r.Context()))
	if r.Method != http.MethodGet { // a presigned address is signed for GET alone
		http.Error(w, "SignatureDoesNotMatch", http.StatusForbidden)
		return
	}
	w.Header().Set("ETag", f.etag)
	if len(f.faults) > 0 {
		fault := f.faults[0]
		f.faults = f.faults[1:]
		if fault(w, r) {
			return
		}
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.model))
}

// ranges are the Range headers that have come.
func (f *far) ranges() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, r := range f.requests {
		out = append(out, orNone(r.Header.Get("Range")))
	}
	return strings.Join(out, " ")
}

func orNone(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// cut answers the first n bytes of the model and ends the connection.
func (f *far) cut(n int) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Length", fmt.Sprint(len(f.model)))
		_, _ = w.Write(f.model[:n]) // what matters is what the other side has
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// abort ends the connection without an answer.
func abort(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }

func status(code int) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		http.Error(w, "", code)
		return true
	}
}

// fetch adds what a server has; the address has a secret in each place that
// can have one.
func (f *far) fetch(ctx context.Context, s *Store, sum string, change ...func(*Download)) error {
	f.t.Helper()
	u, err := url.Parse(strings.Replace(f.URL, "https://", "https://user:s3cret@", 1) + "/bucket/press.onnx?X-Amz-Signature=s3cret&X-Amz-Expires=60")
	if err != nil {
		f.t.Fatal(err)
	}
	d := Download{Address: u, SHA256: sum, CAFile: f.ca, wait: func(int) time.Duration { return time.Millisecond }}
	for _, c := range change {
		c(&d)
	}
	_, err = s.Add(ctx, Addition{Name: "press", Source: Redact(u), SHA256: sum, Fetch: s.FromHTTPS(d)})
	if err != nil && strings.Contains(err.Error(), "s3cret") {
		f.t.Errorf("the error repeats the secret: %v", err)
	}
	return err
}

// large is a model of some hundred kilobytes.
func large(seed byte) []byte {
	b := make([]byte, 600<<10)
	for i := range b {
		b[i] = byte(i*7) ^ byte(i>>8) ^ seed
	}
	return b
}

func expectAdded(t *testing.T, s *Store, model []byte) {
	t.Helper()
	m, err := s.Check("press", sumOf(model))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(m.Source, "s3cret") || !strings.HasSuffix(m.Source, "/bucket/press.onnx") {
		t.Errorf("source: %s", m.Source)
	}
	expectNoPartial(t, s)
}

func expectNoPartial(t *testing.T, s *Store) {
	t.Helper()
	if left, _ := filepath.Glob(filepath.Join(s.dir, partialDir, "*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestDownloadGoesOnWhereItWasCut(t *testing.T) {
	f, s := newFar(t, large(1)), newStore(t)
	f.faults = []func(http.ResponseWriter, *http.Request) bool{f.cut(200 << 10), status(503), status(429), abort}
	var progress []int64
	err := f.fetch(t.Context(), s, sumOf(f.model), func(d *Download) {
		d.Progress = func(done, total int64) { progress = append(progress, done) }
	})
	if err != nil {
		t.Fatal(err)
	}
	expectAdded(t, s, f.model)
	if got := f.ranges(); !strings.HasPrefix(got, "- bytes=") || strings.Count(got, "bytes=") != 4 {
		t.Errorf("asked for %s", got)
	}
	if last := progress[len(progress)-1]; last != int64(len(f.model)) {
		t.Errorf("progress ends at %d", last)
	}
}

// TestDownloadGoesOnAfterAnEnd: what has come is kept for the next command,
// also when the address was presigned anew, but not what nobody could check.
func TestDownloadGoesOnAfterAnEnd(t *testing.T) {
	for name, sum := range map[string]bool{"with a hash": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			f, s := newFar(t, large(1)), newStore(t)
			expected := ""
			if sum {
				expected = sumOf(f.model)
			}
			ctx, cancel := context.WithCancel(t.Context())
			err := f.fetch(ctx, s, expected, func(d *Download) {
				d.Progress = func(done, _ int64) {
					if done > 64<<10 {
						cancel()
					}
				}
			})
			if !errors.Is(err, context.Canceled) {
				t.Fatalf("got %v", err)
			}
			if err := f.fetch(t.Context(), s, expected, func(d *Download) { d.Address.RawQuery = "X-Amz-Signature=s3cret2" }); err != nil {
				t.Fatal(err)
			}
			expectAdded(t, s, f.model)
			if resumed := strings.HasPrefix(f.ranges(), "- bytes="); resumed != sum {
				t.Errorf("asked for %s", f.ranges())
			}
		})
	}
}

func TestDownloadStartsOver(t *testing.T) {
	other := large(2)
	for name, fault := range map[string]func(f *far) func(http.ResponseWriter, *http.Request) bool{
		"when the content has changed meanwhile": func(f *far) func(http.ResponseWriter, *http.Request) bool {
			return func(http.ResponseWriter, *http.Request) bool { return false } // If-Range does it
		},
		"when ranges are not known there": func(f *far) func(http.ResponseWriter, *http.Request) bool {
			return func(_ http.ResponseWriter, r *http.Request) bool { r.Header.Del("Range"); return false }
		},
		"when the range is another one": func(f *far) func(http.ResponseWriter, *http.Request) bool {
			return func(w http.ResponseWriter, r *http.Request) bool {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes 5-%d/%d", len(other)-1, len(other)))
				w.WriteHeader(http.StatusPartialContent)
				_, _ = w.Write(other[5:])
				return true
			}
		},
		"when there is less than was there": func(f *far) func(http.ResponseWriter, *http.Request) bool {
			return func(w http.ResponseWriter, r *http.Request) bool {
				http.Error(w, "", http.StatusRequestedRangeNotSatisfiable)
				return true
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, s := newFar(t, large(1)), newStore(t)
			changed := func(w http.ResponseWriter, r *http.Request) bool { // with the lock
				f.model, f.etag = other, `"two"`
				w.Header().Set("ETag", f.etag)
				return fault(f)(w, r)
			}
			f.faults = []func(http.ResponseWriter, *http.Request) bool{f.cut(200 << 10), changed}
			if err := f.fetch(t.Context(), s, sumOf(other)); err != nil {
				t.Fatal(err)
			}
			expectAdded(t, s, other)
			want := "- bytes=204800-" // and the answer is the whole
			if strings.Contains(name, "when the range") || strings.Contains(name, "less") {
				want += " -"
			}
			if got := f.ranges(); got != want {
				t.Errorf("asked for %s, want %s", got, want)
			}
		})
	}
}

func TestDownloadWithoutAValidatorIsNotResumed(t *testing.T) {
	f, s := newFar(t, large(1)), newStore(t)
	f.etag = `W/"weak"`
	f.faults = []func(http.ResponseWriter, *http.Request) bool{f.cut(200 << 10)}
	if err := f.fetch(t.Context(), s, sumOf(f.model)); err != nil {
		t.Fatal(err)
	}
	if got := f.ranges(); got != "- -" {
		t.Errorf("asked for %s", got)
	}
}

func TestDownloadThatIsRefused(t *testing.T) {
	cases := map[string]struct {
		fault func(f *far) func(http.ResponseWriter, *http.Request) bool
		want  string
	}{
		"an expired address": {func(*far) func(http.ResponseWriter, *http.Request) bool { return status(403) }, "may have expired"},
		"no such file":       {func(*far) func(http.ResponseWriter, *http.Request) bool { return status(404) }, "404 Not Found"},
		"plain http": {func(*far) func(http.ResponseWriter, *http.Request) bool {
			return func(w http.ResponseWriter, r *http.Request) bool {
				http.Redirect(w, r, "http://127.0.0.1:1/x?sig=s3cret", http.StatusFound)
				return true
			}
		}, "it redirects to http://127.0.0.1:1/x; only https is followed"},
		"round and round": {func(f *far) func(http.ResponseWriter, *http.Request) bool {
			return func(w http.ResponseWriter, r *http.Request) bool {
				f.faults = append(f.faults, func(w http.ResponseWriter, r *http.Request) bool {
					f.faults = append(f.faults, f.faults...)
					http.Redirect(w, r, "/again?sig=s3cret", http.StatusFound)
					return true
				})
				for range maxRedirects + 1 {
					f.faults = append(f.faults, f.faults[0])
				}
				http.Redirect(w, r, "/again?sig=s3cret", http.StatusFound)
				return true
			}
		}, "more than 10 times"},
		"too large": {func(f *far) func(http.ResponseWriter, *http.Request) bool {
			return func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Content-Length", fmt.Sprint(3<<30))
				w.WriteHeader(http.StatusOK)
				return true
			}
		}, "3221225472 bytes"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f, s := newFar(t, large(1)), newStore(t)
			f.faults = []func(http.ResponseWriter, *http.Request) bool{c.fault(f)}
			err := f.fetch(t.Context(), s, sumOf(f.model))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestDownloadWithTheWrongHashIsThrownAway(t *testing.T) {
	f, s := newFar(t, large(1)), newStore(t)
	err := f.fetch(t.Context(), s, sumOf(large(2)))
	if !errors.Is(err, ErrHash) || !strings.Contains(err.Error(), sumOf(f.model)) || !strings.Contains(err.Error(), sumOf(large(2))) {
		t.Errorf("got %v", err)
	}
	expectNoPartial(t, s)
	if list, err := s.List(); err != nil || len(list) != 0 {
		t.Errorf("got %+v, %v", list, err)
	}
	if f.ranges() != "-" {
		t.Errorf("asked for %s", f.ranges())
	}
}

// TestDownloadThatTricklesIsGivenUp serves a byte now and then.
func TestDownloadThatTricklesIsGivenUp(t *testing.T) {
	f, s := newFar(t, large(1)), newStore(t)
	trickle := func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Length", fmt.Sprint(len(f.model)))
		for i := 0; r.Context().Err() == nil; i++ {
			_, _ = w.Write(f.model[i : i+1])
			_ = http.NewResponseController(w).Flush()
			time.Sleep(5 * time.Millisecond) // the fault itself
		}
		return true
	}
	for range maxRetries + 1 {
		f.faults = append(f.faults, trickle)
	}
	retries := 0
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := f.fetch(ctx, s, sumOf(f.model), func(d *Download) {
		d.stuck = 500 * time.Millisecond
		d.Retry = func(_ int, err error, _ time.Duration) {
			retries++
			if !errors.Is(err, errStuck) {
				t.Errorf("got %v", err)
			}
		}
	})
	if !errors.Is(err, errStuck) || retries != maxRetries {
		t.Errorf("got %v after %d retries", err, retries)
	}
}

func TestDownloadFollowsToAnotherServerWithoutSecrets(t *testing.T) {
	f, s := newFar(t, large(1)), newStore(t)
	other := newFar(t, f.model)
	there := other.URL + "/x?sig=s3cret"
	f.faults = []func(http.ResponseWriter, *http.Request) bool{func(w http.ResponseWriter, r *http.Request) bool {
		if user, _, ok := r.BasicAuth(); !ok || user != "user" {
			t.Error("the first server is not given the password")
		}
		http.Redirect(w, r, there, http.StatusTemporaryRedirect)
		return true
	}}
	pems, err := os.ReadFile(other.ca)
	if err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(f.ca)
	if err == nil {
		err = os.WriteFile(f.ca, append(first, pems...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := f.fetch(t.Context(), s, sumOf(f.model)); err != nil {
		t.Fatal(err)
	}
	expectAdded(t, s, f.model)
	r := other.requests[0]
	if _, _, ok := r.BasicAuth(); ok || r.Header.Get("Referer") != "" {
		t.Errorf("the other server is given the password or the address: %v", r.Header)
	}
}

func TestOnlyTrustedServersAreAsked(t *testing.T) {
	f, s := newFar(t, large(1)), newStore(t)
	err := f.fetch(t.Context(), s, sumOf(f.model), func(d *Download) { d.CAFile = "" })
	if err == nil || !strings.Contains(err.Error(), "certificate") || len(f.requests) > 0 {
		t.Errorf("got %v", err)
	}
	if err := f.fetch(t.Context(), s, "", func(d *Download) { d.CAFile = os.DevNull }); err == nil || !strings.Contains(err.Error(), "no certificate") {
		t.Errorf("got %v", err)
	}
}

func TestPartialsAreBounded(t *testing.T) {
	s := newStore(t)
	dir := filepath.Join(s.dir, partialDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range maxPartials + 3 {
		path := filepath.Join(dir, fmt.Sprint(i, ".part"))
		at := time.Now().Add(-time.Duration(i) * 24 * time.Hour * 3)
		for _, p := range []string{path, path + ".json"} {
			if err := errors.Join(os.WriteFile(p, nil, 0o600), os.Chtimes(p, at, at)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := s.Sweep(); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 6 { // those of 0, 3 and 6 days
		t.Errorf("left: %v", left)
	}
}

func TestAddressesThatAreNotTaken(t *testing.T) {
	for _, a := range []string{"http://example.com/x.onnx?sig=s3cret", "ftp://example.com/x", "https://", "https://us:s3cret@%zz/"} {
		if _, err := ParseAddress(a); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: got %v", a, err)
		}
	}
}
