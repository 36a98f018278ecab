package uplink

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"outstation/uplink/mosquittotest"
	"outstation/uplink/wire"
)

func TestLinkAndPresencesGoBackToThePreferredBroker(t *testing.T) {
	first, second := startMosquitto(t), startMosquitto(t)
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	centre := Centre{Brokers: []string{first.URL(), second.URL()}, FailBack: 50 * time.Millisecond}
	q := openTestQueue(t, Options{})
	l := startLink(t, q, LinkOptions{Centre: centre, Canary: testOrigin.Canary()})
	pr := startPresence(t, PresenceOptions{Centre: centre, Origin: testOrigin})
	eventually(t, "the second broker", func() bool { st := l.Stats(); return st.State == LinkConnected && st.Broker == second.URL() && pr.Up() })
	atSecond := watch(t, second, "#")
	eventually(t, "the presence at the second", func() bool { return presenceAt(atSecond).State == wire.Online })
	eventually(t, "the reason to stay", func() bool { return strings.Contains(l.Stats().PreferredError, first.Address()) })

	done := make(chan struct{})
	const n = 3000
	go func() { // records are in flight all the time
		defer close(done)
		for i := range n {
			offer(t, q, testMessage(5, i), nil)
			if i == n/2 {
				if err := first.Start(); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	<-done
	atFirst := watchAs(t, first, "first", "#")
	eventually(t, "the first broker", func() bool { st := l.Stats(); return st.State == LinkConnected && st.Broker == first.URL() })
	eventually(t, "the presence at the first", func() bool { return presenceAt(atFirst).State == wire.Online })
	eventually(t, "the presence's leave of the second", func() bool {
		m := presenceAt(atSecond)
		return m.State == wire.Offline && m.Reason == "reconnecting"
	})
	eventually(t, "an empty queue", func() bool { return q.Depth().Records == 0 })
	if a := q.Ledger()["r5"]; !a.Balanced() || a.Delivered.Records != n || a.Dead.Records != 0 {
		t.Errorf("ledger: %+v", a)
	}
	if st := l.Stats(); st.PreferredError != "" || st.Generation != 2 {
		t.Errorf("stats: %+v", st)
	}
}

// presenceAt is the newest status that a watcher has seen.
func presenceAt(w *watcher) wire.Presence {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := len(w.seen) - 1; i >= 0; i-- {
		if w.seen[i].Topic() == testOrigin.Status() {
			m, _ := wire.ParsePresence(w.seen[i].Payload())
			return m
		}
	}
	return wire.Presence{}
}

func TestNoFailBackWhereItIsOff(t *testing.T) {
	r := renewal{centre: Centre{Brokers: []string{"tcp://a", "tcp://b"}}, session: session{broker: "tcp://b"}}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.watch(ctx); err != nil {
		t.Error(err)
	}
}

func TestABrokerThatSaysNothingDoesNotKeepTheSecondOut(t *testing.T) {
	for _, scheme := range []string{"tcp", "tls", "ws"} {
		t.Run(scheme, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0") // accepts into its backlog, and that is all
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			s := startMosquitto(t)
			q := openTestQueue(t, Options{})
			l := startLink(t, q, LinkOptions{Centre: Centre{
				Brokers: []string{scheme + "://" + ln.Addr().String(), s.URL()}, ConnectTimeout: 300 * time.Millisecond,
			}})
			eventually(t, "the second", func() bool { st := l.Stats(); return st.State == LinkConnected && st.Broker == s.URL() })
		})
	}
}

// secureLink is a link with a client certificate of ca.
func secureLink(t *testing.T, s *mosquittotest.Server, ca *authority) *Link {
	t.Helper()
	password := filepath.Join(ca.dir, "password")
	if err := os.WriteFile(password, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return startLink(t, openTestQueue(t, Options{}), LinkOptions{Centre: Centre{
		Brokers: []string{"tls://" + s.Address()}, Username: "press-7", PasswordFile: password, CAFile: ca.path("ca", "pem"),
		CertFile: ca.path("device", "pem"), KeyFile: ca.path("device", "key"), CheckFiles: 20 * time.Millisecond,
	}})
}

func TestARenewedCertificateIsTakenUp(t *testing.T) {
	ca := newAuthority(t, "ca")
	s := secureMosquitto(t, ca)
	ca.issueUntil("device", time.Now().Add(2*time.Second))
	l := secureLink(t, s, ca)
	eventually(t, "the link", func() bool { return l.Stats().State == LinkConnected })
	old := l.Stats().CertExpires
	if left := time.Until(old); left > 2*time.Second || old.IsZero() {
		t.Errorf("the certificate expires in %v", left)
	}
	eventually(t, "the end of the certificate", func() bool { return time.Now().After(old) })
	if st := l.Stats(); st.State != LinkConnected || st.Generation != 1 { // nobody looks at it again
		t.Errorf("stats: %+v", st)
	}
	ca.issue("device")
	eventually(t, "the new one in use", func() bool {
		st := l.Stats()
		return st.State == LinkConnected && st.CertExpires.After(old) && st.FilesError == ""
	})
	if g := l.Stats().Generation; g != 2 {
		t.Errorf("it took %d connections", g)
	}
}

func TestATornCertificateKeepsTheLink(t *testing.T) {
	ca := newAuthority(t, "ca")
	s := secureMosquitto(t, ca)
	ca.issue("device")
	l := secureLink(t, s, ca)
	eventually(t, "the link", func() bool { return l.Stats().State == LinkConnected })
	whole, err := os.ReadFile(ca.path("device", "pem"))
	if err != nil {
		t.Fatal(err)
	}
	rewrite := func(file string, b []byte) {
		t.Helper()
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rewrite(ca.path("device", "pem"), whole[:len(whole)/2])
	eventually(t, "the complaint", func() bool { return strings.Contains(l.Stats().FilesError, "cert_file") })
	rewrite(ca.path("device", "pem"), whole)
	eventually(t, "no complaint", func() bool { return l.Stats().FilesError == "" })
	key, err := os.ReadFile(ca.path("device", "key"))
	if err != nil {
		t.Fatal(err)
	}
	ca.issue("device")
	renewed, err := os.ReadFile(ca.path("device", "key"))
	if err != nil {
		t.Fatal(err)
	}
	rewrite(ca.path("device", "key"), key) // a new certificate with the old key
	eventually(t, "the complaint about the key", func() bool { return strings.Contains(l.Stats().FilesError, "private key") })
	if st := l.Stats(); st.State != LinkConnected || st.Generation != 1 {
		t.Errorf("stats: %+v", st)
	}
	rewrite(ca.path("device", "key"), renewed)
	eventually(t, "the renewal", func() bool {
		st := l.Stats()
		return st.State == LinkConnected && st.Generation == 2 && st.FilesError == ""
	})
}

// TestAChangeHasToSettle rewrites a file between any two looks.
func TestAChangeHasToSettle(t *testing.T) {
	password := filepath.Join(t.TempDir(), "password")
	c := Centre{PasswordFile: password, CheckFiles: time.Millisecond}
	looks := 0
	write := func() {
		if err := os.WriteFile(password, fmt.Appendf(nil, "password %d", min(looks, 20)), 0o600); err != nil {
			t.Error(err)
		}
	}
	write()
	files, err := c.readFiles()
	if err != nil {
		t.Fatal(err)
	}
	r := renewal{centre: c, session: session{files: files}, filesTold: func(error) { looks++; write() }}
	if err := r.watch(t.Context()); err == nil || !strings.Contains(err.Error(), "credentials changed") || looks < 21 {
		t.Errorf("got %v after %d looks", err, looks)
	}
}

func TestTLSFailuresSayWhy(t *testing.T) {
	ca := newAuthority(t, "ca")
	ca.issue("server")
	pair, err := tls.LoadX509KeyPair(ca.path("server", "pem"), ca.path("server", "key"))
	if err != nil {
		t.Fatal(err)
	}
	serve := func(cfg *tls.Config) string {
		cfg.Certificates = []tls.Certificate{pair}
		ln, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				_ = c.(*tls.Conn).Handshake() // the client says what went wrong
				c.Close()
			}
		}()
		_, port, _ := net.SplitHostPort(ln.Addr().String())
		return port
	}
	stranger := newAuthority(t, "stranger")
	for name, c := range map[string]struct{ address, ca, want string }{
		"wrong host": {"tls://localhost:" + serve(&tls.Config{}), ca.path("ca", "pem"), "match localhost"},
		"wrong CA":   {"tls://127.0.0.1:" + serve(&tls.Config{}), stranger.path("stranger", "pem"), "unknown authority"},
		"TLS 1.1": {"tls://127.0.0.1:" + serve(&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}), ca.path("ca", "pem"),
			"protocol version"},
	} {
		centre := Centre{Brokers: []string{c.address}, CAFile: c.ca, KeepAlive: DefaultKeepAlive, ConnectTimeout: 5 * time.Second}
		_, err := centre.connect(t.Context(), dial{clientID: "dev", clean: true})
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.address) || strings.Contains(err.Error(), "network Error") {
			t.Errorf("%s: got %v, expected %q", name, err, c.want)
		}
	}
}

// issueUntil writes a client certificate that ends at a given time.
func (a *authority) issueUntil(name string, end time.Time) {
	a.until = end
	defer func() { a.until = time.Time{} }()
	a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature,
	}, name, a.cert, a.key)
}
