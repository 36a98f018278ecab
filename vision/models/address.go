package models

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// Limits of one connection to a server.
const (
	connectTimeout = 15 * time.Second
	headerTimeout  = 60 * time.Second
	maxRedirects   = 10
)

// IsAddress reports whether a model is named by an address and not by a file.
func IsAddress(s string) bool { return strings.Contains(s, "://") }

// ParseAddress reads the address of a model, which has to be https.
func ParseAddress(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil { // its text repeats the address, which may hold a secret
		return nil, errors.New("expected an address such as https://example.com/model.onnx, got one that cannot be read")
	}
	if u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("expected an address that begins with https://, got %s", Redact(u))
	}
	return u, nil
}

// Redact is an address without user, password, query and fragment: a presigned
// one has its secret in the query.
func Redact(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}

// redacted is an error of net/http without the address that its text repeats.
func redacted(err error) error {
	for ue := (*url.Error)(nil); errors.As(err, &ue); {
		err = ue.Err
	}
	return err
}

// httpClient is a client that follows redirects to https alone, and trusts the
// authorities of the system and those of caFile. The proxy is the one that the
// environment names.
func httpClient(caFile string) (*http.Client, error) {
	t := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: connectTimeout}).DialContext,
		TLSHandshakeTimeout: connectTimeout, ResponseHeaderTimeout: headerTimeout,
		DisableCompression: true, // the bytes that have come are counted and asked for by number
		ForceAttemptHTTP2:  true,
		TLSClientConfig:    &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("authorities: %w", err)
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("authorities: %s holds no certificate in PEM form", caFile)
		}
		t.TLSClientConfig.RootCAs = pool
	}
	return &http.Client{Transport: t, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if r.URL.Scheme != "https" {
			return fmt.Errorf("%w: it redirects to %s; only https is followed", errRefused, Redact(r.URL))
		}
		if len(via) >= maxRedirects {
			return fmt.Errorf("%w: it redirects more than %d times", errRefused, maxRedirects)
		}
		r.Header.Del("Referer") // it would tell the next server the query of this address
		return nil
	}}, nil
}
