package uplink

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	broker "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"outstation/uplink/mosquittotest"
)

// authority signs certificates for a test.
type authority struct {
	t     *testing.T
	dir   string
	key   *ecdsa.PrivateKey
	cert  *x509.Certificate
	until time.Time // end of what is signed; zero means in an hour
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.key, a.cert = a.sign(template, name, template, nil)
	return a
}

// sign makes a key pair and writes NAME.pem and NAME.key.
func (a *authority) sign(template *x509.Certificate, name string, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*ecdsa.PrivateKey, *x509.Certificate) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	if signer == nil {
		signer = key
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if !a.until.IsZero() {
		template.NotAfter = a.until
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		a.path(name, "pem"): {Type: "CERTIFICATE", Bytes: der}, a.path(name, "key"): {Type: "EC PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return key, cert
}

// issue writes a certificate for name, valid on loopback.
func (a *authority) issue(name string) {
	a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature,
	}, name, a.cert, a.key)
}

func (a *authority) path(name, kind string) string { return filepath.Join(a.dir, name+"."+kind) }

// secureMosquitto wants TLS, a client certificate, and a user with a password.
func secureMosquitto(t *testing.T, ca *authority) *mosquittotest.Server {
	t.Helper()
	ca.issue("server")
	users := filepath.Join(ca.dir, "users")
	if out, err := exec.Command("mosquitto_passwd", "-b", "-c", users, "press-7", "s3cret").CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_passwd: %v: %s", err, out)
	}
	s, err := mosquittotest.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s.Listen = fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous false\npassword_file %s\ncafile %s\ncertfile %s\nkeyfile %s\nrequire_certificate true\n",
		s.Port, users, ca.path("ca", "pem"), ca.path("server", "pem"), ca.path("server", "key"))
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop() })
	return s
}

func TestConnectWithTLSUserAndClientCertificate(t *testing.T) {
	ca, stranger := newAuthority(t, "ca"), newAuthority(t, "stranger")
	s := secureMosquitto(t, ca)
	ca.issue("device")
	password := filepath.Join(ca.dir, "password")
	if err := os.WriteFile(password, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	good := Centre{
		Brokers: []string{"tls://" + s.Address()}, Username: "press-7", PasswordFile: password,
		CAFile: ca.path("ca", "pem"), CertFile: ca.path("device", "pem"), KeyFile: ca.path("device", "key"),
		KeepAlive: DefaultKeepAlive, ConnectTimeout: 5 * time.Second,
	}
	for name, c := range map[string]struct {
		change func(*Centre)
		want   string // in the error, or empty for success
	}{
		"all right":        {func(*Centre) {}, ""},
		"another CA":       {func(c *Centre) { c.CAFile = stranger.path("stranger", "pem") }, "unknown authority"},
		"no certificate":   {func(c *Centre) { c.CertFile, c.KeyFile = "", "" }, "centre tls://"},
		"another password": {func(c *Centre) { c.PasswordFile = c.CertFile }, "centre tls://"},
		"no password file": {func(c *Centre) { c.PasswordFile = "/nonexistent" }, "password_file"},
		"no CA file":       {func(c *Centre) { c.CAFile = "/nonexistent" }, "ca_file"},
		"CA without PEM":   {func(c *Centre) { c.CAFile = password }, "found none"},
		"no key":           {func(c *Centre) { c.KeyFile = "/nonexistent" }, "key_file"},
		"plain TCP":        {func(c *Centre) { c.Brokers[0] = "tcp://" + s.Address() }, "centre tcp://"},
	} {
		t.Run(name, func(t *testing.T) {
			centre := good
			centre.Brokers = append([]string(nil), good.Brokers...)
			c.change(&centre)
			sess, err := centre.connect(context.Background(), dial{clientID: "dev", clean: true})
			if err == nil {
				sess.client.Disconnect(10)
			}
			if (err == nil) != (c.want == "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, expected %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the error tells the password: %v", err)
			}
		})
	}
}

func TestConnectOverWebSocket(t *testing.T) {
	// Debian's Mosquitto cannot bind its WebSocket listener to loopback.
	port, err := mosquittotest.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	ln := listeners.NewWebsocket(listeners.Config{ID: "ws", Address: fmt.Sprintf("127.0.0.1:%d", port)})
	server := broker.New(&broker.Options{Logger: slog.New(slog.DiscardHandler)})
	if err := errors.Join(server.AddHook(new(allowAll), nil), server.AddListener(ln), server.Serve()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	centre := Centre{Brokers: []string{"ws://" + ln.Address() + "/mqtt"}, KeepAlive: DefaultKeepAlive, ConnectTimeout: 5 * time.Second}
	var sess session
	eventually(t, "the listener", func() bool {
		sess, err = centre.connect(context.Background(), dial{clientID: "dev", clean: true})
		return err == nil
	})
	tok := sess.client.Publish("t", 1, false, "x")
	if !tok.WaitTimeout(5*time.Second) || tok.Error() != nil {
		t.Errorf("publish: %v", tok.Error())
	}
	sess.client.Disconnect(10)
}

func TestCheckBroker(t *testing.T) {
	for address, ok := range map[string]bool{
		"tcp://h": true, "tls://h:8883": true, "ws://h/mqtt": true, "wss://h:443/mqtt": true,
		"mqtt://h": false, "h:1883": false, "tcp://": false, "tls://user:pw@h": false, "": false, "tcp://h:x": false, "tcp://h:70000": false,
	} {
		err := CheckBroker(address)
		if (err == nil) != ok {
			t.Errorf("%s: got %v, expected ok=%v", address, err, ok)
		}
		if err != nil && strings.Contains(err.Error(), "pw") {
			t.Errorf("%s: the error tells the password: %v", address, err)
		}
	}
}

// allowAll lets every client in.
type allowAll struct{ broker.HookBase }

func (*allowAll) Provides(b byte) bool {
	return b == broker.OnConnectAuthenticate || b == broker.OnACLCheck
}

func (*allowAll) OnConnectAuthenticate(*broker.Client, packets.Packet) bool { return true }

func (*allowAll) OnACLCheck(*broker.Client, string, bool) bool { return true }
