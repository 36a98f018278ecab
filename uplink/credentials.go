package uplink

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"time"
)

// credentials are the contents of a Centre's files.
type credentials struct {
	password string
	tls      *tls.Config
	expires  time.Time // of the client certificate; zero without one
	sum      [sha256.Size]byte
}

// readFiles reads and parses the files. The error says which one is wrong.
func (c Centre) readFiles() (credentials, error) {
	out := credentials{tls: &tls.Config{MinVersion: tls.VersionTLS12}}
	sum := sha256.New()
	read := func(key, file string) ([]byte, error) {
		if file == "" {
			return nil, nil
		}
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrCentre, key, err)
		}
		fmt.Fprintf(sum, "%s %d ", key, len(b)) // so that no two sets of files look alike
		sum.Write(b)
		return b, nil
	}
	password, err := read("password_file", c.PasswordFile)
	if err != nil {
		return out, err
	}
	out.password = strings.TrimRight(string(password), "\r\n")
	ca, err := read("ca_file", c.CAFile)
	if err != nil {
		return out, err
	}
	if c.CAFile != "" {
		out.tls.RootCAs = x509.NewCertPool()
		if !out.tls.RootCAs.AppendCertsFromPEM(ca) {
			return out, fmt.Errorf("%w: ca_file %s: expected a PEM certificate, found none", ErrCentre, c.CAFile)
		}
	}
	cert, err := read("cert_file", c.CertFile)
	if err != nil {
		return out, err
	}
	key, err := read("key_file", c.KeyFile)
	if err != nil {
		return out, err
	}
	if c.CertFile != "" {
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return out, fmt.Errorf("%w: cert_file %s and key_file %s: %w", ErrCentre, c.CertFile, c.KeyFile, err)
		}
		out.tls.Certificates, out.expires = []tls.Certificate{pair}, pair.Leaf.NotAfter
	}
	sum.Sum(out.sum[:0])
	return out, nil
}

// hasFiles reports whether there is a file that could change.
func (c Centre) hasFiles() bool {
	return c.PasswordFile != "" || c.CAFile != "" || c.CertFile != ""
}
