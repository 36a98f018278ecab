package broker

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/mochi-mqtt/server/v2/packets"
)

// authority signs certificates for a test.
type authority struct {
	t    testing.TB
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.key, a.cert = a.sign(template, template, nil)
	a.write("ca.pem", "CERTIFICATE", a.cert.Raw)
	return a
}

func (a *authority) sign(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*ecdsa.PrivateKey, *x509.Certificate) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return key, cert
}

func (a *authority) write(name, kind string, der []byte) string {
	a.t.Helper()
	file := filepath.Join(a.dir, name)
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return file
}

// issue writes a certificate for 127.0.0.1 and a device, and its key.
func (a *authority) issue(name string, serial int64) (cert, key string) {
	a.t.Helper()
	private, made := a.sign(&x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, a.key)
	der, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.write(name+".pem", "CERTIFICATE", made.Raw), a.write(name+".key", "EC PRIVATE KEY", der)
}

func (a *authority) ca() string { return filepath.Join(a.dir, "ca.pem") }

// client is how a device reaches the broker over TLS, with a certificate of
// its own if it has a name.
func (a *authority) client(name string) *tls.Config {
	a.t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	c := &tls.Config{RootCAs: pool}
	if name != "" {
		cert, key := a.issue(name, 100)
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			a.t.Fatal(err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c
}

// over is a device on a connection that was made before.
func over(t testing.TB, c net.Conn) *device {
	t.Cleanup(func() { c.Close() })
	return &device{t: t, conn: c, in: bufio.NewReader(c), v: 5}
}

func (d *device) connects(p packets.ConnectParams) byte {
	d.t.Helper()
	p.ProtocolName, p.Keepalive, p.Clean = []byte("MQTT"), 60, true
	d.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}, Connect: p})
	return d.expect(packets.Connack).ReasonCode
}

// roundTrip publishes to itself, more than fits one frame or record.
func (d *device) roundTrip() {
	d.t.Helper()
	payload := strings.Repeat("x", 100_000)
	d.subscribe("round/trip")
	d.publish("round/trip", 1, 1, payload)
	var got string
	for range 2 {
		if pk := d.read(); pk.FixedHeader.Type == packets.Publish {
			got = string(pk.Payload)
		}
	}
	if got != payload {
		d.t.Errorf("got %d bytes back, expected %d", len(got), len(payload))
	}
}

func TestARenewedCertificateIsUsedAndConnectionsStay(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.issue("broker", 2)
	b := startBroker(t, Options{Listeners: []Listener{{Type: TypeTLS, Address: "127.0.0.1:0", CertFile: cert, KeyFile: key}}})
	serial := func() (*tls.Conn, int64) {
		c, err := tls.Dial("tcp", b.Addresses()[0], a.client(""))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c, c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	first, n := serial()
	if n != 2 {
		t.Fatalf("got certificate %d, expected 2", n)
	}
	d := over(t, first)
	if code := d.connects(packets.ConnectParams{ClientIdentifier: "d"}); code != 0 {
		t.Fatalf("got %#x", code)
	}
	if err := os.WriteFile(key, []byte("half a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the broken key is reported, and the old certificate used", func() bool {
		_, n := serial()
		return n == 2 && b.Stats().Listeners[0].CertError != nil
	})
	a.issue("broker", 3)
	eventually(t, "the new certificate is used", func() bool {
		_, n := serial()
		return n == 3 && b.Stats().Listeners[0].CertError == nil
	})
	d.roundTrip()
	if left := time.Until(b.Stats().Listeners[0].CertExpires); left < 50*time.Minute || left > time.Hour {
		t.Errorf("the certificate expires in %v, expected an hour", left)
	}
}

func TestTheNameInAClientCertificateIsTheUser(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	cert, key := a.issue("broker", 2)
	b := startBroker(t, Options{
		Listeners: []Listener{{Type: TypeTLS, Address: "127.0.0.1:0", CertFile: cert, KeyFile: key, ClientCAFile: a.ca(), RequireClientCert: true}},
		ACL:       aclOf(t, "user press-7\ntopic readwrite round/#\n"),
	})
	dial := func(c *tls.Config) (*device, error) {
		conn, err := tls.Dial("tcp", b.Addresses()[0], c)
		if err != nil {
			return nil, err
		}
		d := over(t, conn)
		if _, err := conn.Write([]byte{0x10, 16, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 60, 0, 0, 3, 'd', 'e', 'v'}); err != nil {
			return nil, err
		}
		pk, err := d.readFor(10 * time.Second)
		if err == nil && pk.ReasonCode != 0 {
			err = packets.Code{Code: pk.ReasonCode}
		}
		return d, err
	}
	d, err := dial(a.client("press-7"))
	if err != nil {
		t.Fatal(err)
	}
	d.roundTrip()
	d.conn.Close()
	eventually(t, "it is gone", func() bool { return b.Stats().Clients == 0 })
	foreign := a.client("")
	foreign.Certificates = stranger.client("press-7").Certificates
	for name, c := range map[string]*tls.Config{"without one": a.client(""), "of another authority": foreign, "with a bad name": a.client("a:b")} {
		if _, err := dial(c); err == nil {
			t.Errorf("%s: let in", name)
		}
	}
}

func TestACertificateOrAPasswordLetsIn(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.issue("broker", 2)
	b := startBroker(t, Options{
		Listeners: []Listener{{Type: TypeTLS, Address: "127.0.0.1:0", CertFile: cert, KeyFile: key, ClientCAFile: a.ca()}}, Users: usersOf(t, "u:p"),
	})
	for name, c := range map[string]struct {
		tls     *tls.Config
		connect packets.ConnectParams
		want    byte
	}{
		"certificate": {a.client("dev"), packets.ConnectParams{}, 0},
		"password":    {a.client(""), as("", "u", "p"), 0},
		"neither":     {a.client(""), packets.ConnectParams{}, 0x87},
	} {
		conn, err := tls.Dial("tcp", b.Addresses()[0], c.tls)
		if err != nil {
			t.Fatal(err)
		}
		if code := over(t, conn).connects(c.connect); code != c.want {
			t.Errorf("%s: got %#x, expected %#x", name, code, c.want)
		}
	}
}

func TestMosquittosClientSpeaksTLS(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.issue("broker", 2)
	b := startBroker(t, Options{Listeners: []Listener{{Type: TypeTLS, Address: "127.0.0.1:0", CertFile: cert, KeyFile: key}}})
	_, port, _ := strings.Cut(b.Addresses()[0], ":")
	if out, err := exec.Command("mosquitto_pub", "-h", "127.0.0.1", "-p", port, "--cafile", a.ca(), "-q", "1", "-t", "a", "-m", "x").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// overWS is a device's end of a WebSocket.
type overWS struct {
	*websocket.Conn
	rest bytes.Buffer
}

func (w *overWS) Read(p []byte) (int, error) {
	for w.rest.Len() == 0 {
		_, b, err := w.ReadMessage()
		if err != nil {
			return 0, err
		}
		w.rest.Write(b)
	}
	return w.rest.Read(p)
}

// Write sends every byte in a message of its own up to a point, as a packet
// may be in many.
func (w *overWS) Write(p []byte) (int, error) {
	for i := range min(3, len(p)) {
		if err := w.WriteMessage(websocket.BinaryMessage, p[i:i+1]); err != nil {
			return 0, err
		}
	}
	return len(p), w.WriteMessage(websocket.BinaryMessage, p[min(3, len(p)):])
}

func (w *overWS) SetDeadline(t time.Time) error { return w.SetReadDeadline(t) }

func dialWS(t testing.TB, url string, c *tls.Config, header http.Header, protocols ...string) (*device, *websocket.Conn, error) {
	dialer := websocket.Dialer{TLSClientConfig: c, Subprotocols: protocols, HandshakeTimeout: 10 * time.Second}
	ws, resp, err := dialer.Dial(url, header)
	if resp != nil {
		resp.Body.Close()
	}
	if err != nil {
		return nil, nil, err
	}
	if ws.Subprotocol() != "mqtt" {
		t.Errorf("got subprotocol %q, expected mqtt", ws.Subprotocol())
	}
	return over(t, &overWS{Conn: ws}), ws, nil
}

func TestMQTTOverWebSocket(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.issue("broker", 2)
	b := startBroker(t, Options{Listeners: []Listener{
		{Type: TypeWS, Address: "127.0.0.1:0"}, {Type: TypeWSS, Address: "127.0.0.1:0", CertFile: cert, KeyFile: key},
	}})
	for i, scheme := range []string{"ws", "wss"} {
		d, ws, err := dialWS(t, scheme+"://"+b.Addresses()[i]+"/mqtt", a.client(""), nil, "mqtt")
		if err != nil {
			t.Fatalf("%s: %v", scheme, err)
		}
		if code := d.connects(packets.ConnectParams{ClientIdentifier: scheme}); code != 0 {
			t.Fatalf("%s: got %#x", scheme, code)
		}
		d.roundTrip()
		ponged := make(chan struct{}, 1)
		ws.SetPongHandler(func(string) error { ponged <- struct{}{}; return nil })
		if err := ws.WriteControl(websocket.PingMessage, []byte("x"), time.Now().Add(time.Second)); err != nil {
			t.Error(err)
		}
		d.roundTrip()
		if len(ponged) == 0 {
			t.Errorf("%s: a ping was not answered", scheme)
		}
		if err := ws.WriteMessage(websocket.TextMessage, []byte("hello")); err != nil {
			t.Error(err)
		}
		if _, err := d.readFor(10 * time.Second); !websocket.IsCloseError(err, websocket.CloseUnsupportedData) {
			t.Errorf("%s: text: got %v, expected that the data is unsupported", scheme, err)
		}
	}
	for _, s := range b.Stats().Listeners {
		if s.Accepted != 1 {
			t.Errorf("%s: got %d accepted, expected 1", s.Type, s.Accepted)
		}
	}
	eventually(t, "no connection is open", func() bool {
		s := b.Stats()
		return s.Listeners[0].Open+s.Listeners[1].Open+s.Listeners[0].Unproven == 0
	})
}

// TestAWebSocketOutlivesItsHandshake waits past the deadlines that belong to
// the time before CONNECT.
func TestDeadlinesOfTheHandshakeEndWithIt(t *testing.T) {
	b := startBroker(t, Options{Listeners: []Listener{{Type: TypeWS, Address: "127.0.0.1:0"}}})
	d, _, err := dialWS(t, "ws://"+b.Addresses()[0]+"/mqtt", nil, nil, "mqtt")
	if err != nil {
		t.Fatal(err)
	}
	if code := d.connects(packets.ConnectParams{ClientIdentifier: "d"}); code != 0 {
		t.Fatalf("got %#x", code)
	}
	cl, _ := b.server.Clients.Get("d")
	s := cl.Net.Conn.(*gate).Conn.(*connection).Conn.(*stream)
	if err := s.SetWriteDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	d.publish("x", 1, 1, "x") // its PUBACK cannot be written
	d.expectEnd()
}

func TestOnlyPagesOfTheSameSiteConnect(t *testing.T) {
	b := startBroker(t, Options{Listeners: []Listener{{Type: TypeWS, Address: "127.0.0.1:0", Origins: []string{"https://hmi.example.com"}}}})
	address := b.Addresses()[0]
	for _, c := range []struct {
		origin, host string
		protocol     string
		path         string
		ok           bool
	}{
		{"", "", "mqtt", "/mqtt", true},
		{"http://127.0.0.1:8080", "", "mqtt", "/mqtt", true},
		{"https://hmi.example.com", "", "mqtt", "/mqtt", true},
		{"https://hmi.example.com.evil.com", "", "mqtt", "/mqtt", false},
		{"http://hmi.example.com", "", "mqtt", "/mqtt", false},
		{"http://evil.example", "", "mqtt", "/mqtt", false},
		{"http://evil.example", "evil.example", "mqtt", "/mqtt", false}, // DNS rebinding
		{"null", "", "mqtt", "/mqtt", false},
		{"", "", "mqttv3.1", "/mqtt", false},
		{"", "", "mqtt", "/", false},
	} {
		header := http.Header{}
		if c.origin != "" {
			header.Set("Origin", c.origin)
		}
		if c.host != "" {
			header.Set("Host", c.host)
		}
		_, _, err := dialWS(t, "ws://"+address+c.path, nil, header, c.protocol)
		if (err == nil) != c.ok {
			t.Errorf("%+v: got %v", c, err)
		}
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mqtt.sock")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"}) // as a killed process leaves it
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	opt := Options{Listeners: []Listener{{Type: TypeUnix, Address: path}}, Logger: slog.New(slog.DiscardHandler)}
	if err := New(opt).Listen(); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("while somebody listens: got %v, expected that it is in use", err)
	}
	if err := left.Close(); err != nil {
		t.Fatal(err)
	}
	b := startBroker(t, opt)
	info, err := os.Stat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o660 {
		t.Fatalf("got %v %v, expected a socket of mode 660", info.Mode(), err)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	d := over(t, c)
	if code := d.connects(packets.ConnectParams{ClientIdentifier: "d"}); code != 0 {
		t.Fatalf("got %#x", code)
	}
	d.roundTrip()
	if got := b.Addresses()[0]; got != path {
		t.Errorf("got address %s, expected %s", got, path)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	left2, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
	hidden, err2 := filepath.Glob(filepath.Join(filepath.Dir(path), ".*"))
	if err := errors.Join(err, err2); err != nil || len(left2)+len(hidden) > 0 {
		t.Errorf("left behind: %v %v %v", left2, hidden, err)
	}
	other, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	if err := New(opt).Listen(); err == nil {
		t.Error("a socket of another kind was replaced")
	}
	if err := errors.Join(other.Close(), os.Remove(path)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := New(opt).Listen(); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("another file: got %v, expected a refusal", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "mine" {
		t.Errorf("the file is not what it was: %q %v", text, err)
	}
}

// TestConnectionsThatSayNothingHoldNobodyUp opens more of them than may be
// open, on TLS, without a handshake.
func TestConnectionsThatSayNothingHoldNobodyUp(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.issue("broker", 2)
	b := startBroker(t, Options{Listeners: []Listener{{Type: TypeTLS, Address: "127.0.0.1:0", CertFile: cert, KeyFile: key}}})
	l := b.listening[0]
	var silent []net.Conn
	for range 50 {
		c, err := net.Dial("tcp", b.Addresses()[0])
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		silent = append(silent, c)
	}
	eventually(t, "they are accepted", func() bool { return l.unproven.Load() == 50 })
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", b.Addresses()[0], a.client(""))
	if err != nil {
		t.Fatal(err)
	}
	d := over(t, c)
	if code := d.connects(packets.ConnectParams{ClientIdentifier: "d"}); code != 0 {
		t.Fatalf("got %#x", code)
	}
	if s := b.Stats().Listeners[0]; s.Open != 51 || s.Unproven != 50 || s.Accepted != 51 {
		t.Errorf("got %+v, expected 51 open, 50 of them silent", s)
	}
	l.unproven.Add(maxUnproven)
	turned, err := net.Dial("tcp", b.Addresses()[0])
	if err != nil {
		t.Fatal(err)
	}
	over(t, turned).expectEnd()
	l.unproven.Add(-maxUnproven)
	if n := l.turnedAway.Load(); n != 1 {
		t.Errorf("got %d turned away, expected 1", n)
	}
	for _, c := range silent[1:] {
		c.Close()
	}
	eventually(t, "they are gone", func() bool { s := b.Stats().Listeners[0]; return s.Open == 2 && s.Unproven == 1 })
	closed := make(chan error)
	go func() { closed <- b.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(connectTimeout * 3 / 4):
		t.Error("Close waits for a connection that says nothing")
	}
}

func TestEveryMistakeInAListenerIsNamed(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.issue("broker", 2)
	_, other := a.issue("other", 3)
	for want, l := range map[string]Listener{
		"expected tcp, tls, ws, wss or unix":                         {Type: "udp", Address: "127.0.0.1:1"},
		"expected host:port":                                         {Type: TypeTCP, Address: "1883"},
		"needs cert_file and key_file":                               {Type: TypeTLS, Address: "127.0.0.1:1"},
		"has no certificates":                                        {Type: TypeTCP, Address: "127.0.0.1:1", CertFile: cert, KeyFile: key},
		"needs client_ca_file":                                       {Type: TypeTLS, Address: "127.0.0.1:1", CertFile: cert, KeyFile: key, RequireClientCert: true},
		"private key does not match public key":                      {Type: TypeTLS, Address: "127.0.0.1:1", CertFile: cert, KeyFile: other},
		"no such file":                                               {Type: TypeTLS, Address: "127.0.0.1:1", CertFile: cert + "x", KeyFile: key},
		"no certificate in PEM":                                      {Type: TypeTLS, Address: "127.0.0.1:1", CertFile: cert, KeyFile: key, ClientCAFile: key},
		"origins are for types ws and wss":                           {Type: TypeTCP, Address: "127.0.0.1:1", Origins: []string{"http://x"}},
		"expected such as https://hmi.example.com":                   {Type: TypeWS, Address: "127.0.0.1:1", Origins: []string{"hmi.example.com"}},
		"expected the full path of a Unix socket":                    {Type: TypeUnix, Address: "mqtt.sock"},
		"would let anybody on the network in: set broker.users_file": {Type: TypeTCP, Address: "0.0.0.0:1883"},
		"192.0.2.1:1883 would let anybody on the network in":         {Type: TypeTLS, Address: "192.0.2.1:1883", CertFile: cert, KeyFile: key, ClientCAFile: a.ca()},
		"use type tls with client_ca_file and require_client_cert":   {Type: TypeWS, Address: ":1883"},
		"or listen on 127.0.0.1":                                     {Type: TypeTLS, Address: "example.com:8883", CertFile: cert, KeyFile: key},
	} {
		if err := CheckListener(l, false); !errors.Is(err, ErrListener) || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v:\n got %v\n expected %s", l, err, want)
		}
	}
	if err := CheckListener(Listener{Type: TypeTLS, Address: ":8883", CertFile: cert, KeyFile: key, ClientCAFile: a.ca(), RequireClientCert: true}, false); err != nil {
		t.Errorf("client certificates on the network: %v", err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	err = New(Options{Listeners: []Listener{{Type: TypeTCP, Address: taken.Addr().String()}}, Logger: slog.New(slog.DiscardHandler)}).Listen()
	if want := fmt.Sprintf("%s is in use", taken.Addr()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, expected %s", err, want)
	}
}
