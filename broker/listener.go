package broker

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// Listener is an address to listen on.
type Listener struct {
	Type    string // TypeTCP, TypeTLS, TypeWS, TypeWSS or TypeUnix
	Address string // host:port, or the path of a Unix socket
	// CertFile and KeyFile are PEM files for TypeTLS and TypeWSS. They are
	// read again when they change.
	CertFile, KeyFile string
	// ClientCAFile has the authorities of client certificates, whose common
	// name is then the name of the user.
	ClientCAFile      string
	RequireClientCert bool
	// Origins are the pages of other sites that may connect by WebSocket,
	// such as https://hmi.example.com.
	Origins []string
}

// Types of listeners.
const (
	TypeTCP  = "tcp"
	TypeTLS  = "tls"
	TypeWS   = "ws"  // MQTT over WebSocket on WebSocketPath
	TypeWSS  = "wss" // the same over TLS
	TypeUnix = "unix"
)

// ErrListener says that a listener cannot be used as it is configured.
var ErrListener = errors.New("listener")

func wrong(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrListener}, args...)...)
}

func (l Listener) encrypted() bool { return l.Type == TypeTLS || l.Type == TypeWSS }
func (l Listener) webSocket() bool { return l.Type == TypeWS || l.Type == TypeWSS }

// local reports whether only programs on this machine can reach l.
func (l Listener) local() bool {
	if l.Type == TypeUnix {
		return true
	}
	host, _, err := net.SplitHostPort(l.Address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || (ip != nil && ip.IsLoopback()))
}

// asks reports whether everybody who connects to l is asked who they are.
func (l Listener) asks(users bool) bool {
	return users || (l.ClientCAFile != "" && l.RequireClientCert)
}

// CheckListener returns nil if l can be listened on; it reads l's
// certificates. users says whether the broker has a file of users.
func CheckListener(l Listener, users bool) error {
	if err := l.check(); err != nil {
		return err
	}
	if !l.local() && !l.asks(users) {
		return wrong("address %s would let anybody on the network in: set broker.users_file (outstation user add makes the file), "+
			"or use type tls with client_ca_file and require_client_cert: true, or listen on 127.0.0.1", l.Address)
	}
	if l.encrypted() {
		_, err := loadTLS(l)
		return err
	}
	return nil
}

// check looks at what l says of itself.
func (l Listener) check() error {
	switch l.Type {
	case TypeTCP, TypeTLS, TypeWS, TypeWSS:
		if err := checkAddress(l.Address); err != nil {
			return err
		}
	case TypeUnix:
		if err := checkSocketPath(l.Address); err != nil {
			return err
		}
	default:
		return wrong("type: got %q, expected tcp, tls, ws, wss or unix", l.Type)
	}
	switch {
	case l.encrypted() && (l.CertFile == "" || l.KeyFile == ""):
		return wrong("type %s needs cert_file and key_file", l.Type)
	case !l.encrypted() && (l.CertFile != "" || l.KeyFile != "" || l.ClientCAFile != ""):
		return wrong("type %s has no certificates: leave cert_file, key_file and client_ca_file out, or use tls or wss", l.Type)
	case l.RequireClientCert && l.ClientCAFile == "":
		return wrong("require_client_cert needs client_ca_file, which says whose certificates are good")
	case len(l.Origins) > 0 && !l.webSocket():
		return wrong("origins are for types ws and wss")
	}
	for _, o := range l.Origins {
		u, err := url.Parse(o)
		if err != nil || u.Host == "" || strings.TrimSuffix(o, "/") != u.Scheme+"://"+u.Host {
			return wrong("origins: got %q, expected such as https://hmi.example.com", o)
		}
	}
	return nil
}

func checkAddress(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return wrong("address: got %q, expected host:port", address)
	}
	return nil
}
