package broker

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certCheck is the least time between looks at the files of a listener.
const certCheck = time.Second

// certificates are those of a listener. A handshake looks whether the files
// have changed, so a renewed certificate is used by the next device that
// connects; the others keep their connections. One that cannot be used changes
// nothing, and is reported.
type certificates struct {
	listener Listener
	log      *slog.Logger
	base     *tls.Config // asks current

	mu      sync.Mutex
	config  *tls.Config
	expires time.Time
	used    stamp
	tried   stamp
	checked time.Time
	err     error
}

// stamp tells one state of the files from another.
type stamp [3]struct {
	size     int64
	modified time.Time
}

func newCertificates(l Listener, log *slog.Logger) (*certificates, error) {
	c := &certificates{listener: l, log: log, used: stampOf(l)}
	c.base = &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.current(time.Now()), nil },
	}
	var err error
	if c.config, err = loadTLS(l); err != nil {
		return nil, err
	}
	c.tried, c.expires = c.used, c.config.Certificates[0].Leaf.NotAfter
	return c, nil
}

// current is the configuration of the files as they are now, if they can be
// used.
func (c *certificates) current(now time.Time) *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.checked) < certCheck {
		return c.config
	}
	c.checked = now
	seen := stampOf(c.listener)
	switch seen {
	case c.used:
		c.err, c.tried = nil, seen
		return c.config
	case c.tried:
		return c.config
	}
	c.tried = seen
	config, err := loadTLS(c.listener)
	if c.err = err; err != nil {
		c.log.Error("the changed certificate cannot be used; the old one stays", "address", c.listener.Address, "error", err)
		return c.config
	}
	c.config, c.used, c.expires = config, seen, config.Certificates[0].Leaf.NotAfter
	c.log.Info("the certificate was changed", "address", c.listener.Address, "expires", c.expires)
	return config
}

func (c *certificates) state() (expires time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.expires, c.err
}

func stampOf(l Listener) (s stamp) {
	for i, file := range []string{l.CertFile, l.KeyFile, l.ClientCAFile} {
		if info, err := os.Stat(file); err == nil {
			s[i].size, s[i].modified = info.Size(), info.ModTime()
		}
	}
	return s
}

// loadTLS reads the files of a listener.
func loadTLS(l Listener) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(l.CertFile, l.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("%w: cert_file %s: %w", ErrListener, l.CertFile, err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	if l.webSocket() {
		config.NextProtos = []string{"http/1.1"}
	}
	if l.ClientCAFile == "" {
		return config, nil
	}
	pem, err := os.ReadFile(l.ClientCAFile)
	if err != nil {
		return nil, fmt.Errorf("%w: client_ca_file: %w", ErrListener, err)
	}
	config.ClientCAs = x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, wrong("client_ca_file %s: no certificate in PEM is in it", l.ClientCAFile)
	}
	config.ClientAuth = tls.VerifyClientCertIfGiven
	if l.RequireClientCert {
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	config.SessionTicketsDisabled = true // a ticket would outlive the authority that was taken away
	return config, nil
}
