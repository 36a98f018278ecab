package uplink

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"golang.org/x/net/proxy"
)

// Centre says how to reach the central broker. Files are read again for
// every connection, so that a renewed certificate or password needs no
// restart.
type Centre struct {
	Brokers        []string // tcp://, tls://, ws:// or wss://, in the order of preference
	Username       string
	PasswordFile   string
	CAFile         string // PEM; empty means the system's
	CertFile       string // client certificate, PEM
	KeyFile        string
	KeepAlive      time.Duration
	ConnectTimeout time.Duration
}

// Defaults of Centre.
const (
	DefaultKeepAlive      = 30 * time.Second
	DefaultConnectTimeout = 15 * time.Second
)

// ErrCentre says that the centre cannot be reached as it is configured.
var ErrCentre = errors.New("centre")

// CheckBroker returns nil if address can stand in Centre.Brokers.
func CheckBroker(address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return fmt.Errorf("%w: address %q: %w", ErrCentre, address, err)
	}
	switch u.Scheme {
	case "tcp", "tls", "ws", "wss":
	default:
		return fmt.Errorf("%w: address %q: expected tcp://, tls://, ws:// or wss://", ErrCentre, address)
	}
	if u.Hostname() == "" {
		return fmt.Errorf("%w: address %q: expected a host", ErrCentre, address)
	}
	if port := u.Port(); port != "" {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return fmt.Errorf("%w: address %q: expected a port up to 65535", ErrCentre, address)
		}
	}
	if u.User != nil {
		return fmt.Errorf("%w: address: expected no user name or password in it; use username and password_file", ErrCentre)
	}
	return nil
}

// session is one connection to the centre.
type session struct {
	client mqtt.Client
	broker string
	conn   *bufferedConn
	lost   <-chan error    // one error when the connection has ended by itself
	ended  <-chan struct{} // closed at the same time
}

// errLost says that a connection ended by itself.
var errLost = errors.New("connection lost")

// deliver publishes one message at QoS 1 and waits for its PUBACK.
func (s session) deliver(ctx context.Context, m Message, timeout time.Duration) error {
	m.QoS = 1
	token, err := s.publish(ctx, m)
	if err != nil {
		return err
	}
	return s.await(ctx, token, timeout)
}

// roundTrip sees the centre answer: it takes back a subscription that was
// never made, which no centre forbids.
func (s session) roundTrip(ctx context.Context, timeout time.Duration) error {
	token, err := s.handOver(ctx, func() mqtt.Token { return s.client.Unsubscribe("outstation/none") })
	if err != nil {
		return err
	}
	return s.await(ctx, token, timeout)
}

// errLate says that the centre did not acknowledge in time.
var errLate = errors.New("no acknowledgement")

// await waits for a token, for timeout after the connection has nothing left
// to write.
func (s session) await(ctx context.Context, token mqtt.Token, timeout time.Duration) error {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		select {
		case <-token.Done():
			return token.Error()
		case <-s.ended:
			return errLost
		case <-timer.C:
			if !s.conn.busy() { // else it may not have left yet; the connection minds a stall
				return fmt.Errorf("%w within %v", errLate, timeout)
			}
			timer.Reset(timeout)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// abort ends the connection without a DISCONNECT, so that the centre sends
// its will.
func (s session) abort() {
	_ = s.conn.Conn.Close() // it is given up
	s.client.Disconnect(0)
}

// publish hands a message to paho.
func (s session) publish(ctx context.Context, m Message) (mqtt.Token, error) {
	return s.handOver(ctx, func() mqtt.Token { return s.client.Publish(m.Topic, m.QoS, m.Retain, m.Payload) })
}

// handOver calls paho, which can hold a packet for half a minute after the
// connection is gone; so it is not waited for longer than ctx.
func (s session) handOver(ctx context.Context, call func() mqtt.Token) (mqtt.Token, error) {
	handed := make(chan mqtt.Token, 1)
	go func() { handed <- call() }()
	select {
	case token := <-handed:
		return token, nil
	case <-s.ended:
		return nil, errLost
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// connect opens one connection, trying the brokers in order. Every
// connection is a client of its own that never reconnects by itself: what
// paho reports after a reconnect could not be told from what was lost.
func (c Centre) connect(ctx context.Context, clientID string, clean bool, will *willMessage) (session, error) {
	opts, err := c.options(clientID, clean, will)
	if err != nil {
		return session{}, err
	}
	var conn *bufferedConn
	opts.SetCustomOpenConnectionFn(func(u *url.URL, o mqtt.ClientOptions) (net.Conn, error) {
		c, err := openConn(u, o)
		if err != nil {
			return nil, err
		}
		conn = newBufferedConn(c)
		return conn, nil
	})
	lost, over := make(chan error, 1), make(chan struct{})
	opts.SetConnectionLostHandler(func(_ mqtt.Client, err error) {
		lost <- err
		close(over)
	})
	var errs []error
	for _, address := range c.Brokers {
		opts.Servers = nil
		opts.AddBroker(address)
		client := mqtt.NewClient(opts)
		token := client.Connect()
		select {
		case <-token.Done():
		case <-ctx.Done():
			client.Disconnect(0)
			return session{}, ctx.Err()
		}
		if token.Error() == nil {
			return session{client, address, conn, lost, over}, nil
		}
		errs = append(errs, fmt.Errorf("%w %s: %w", ErrCentre, address, cause(token.Error())))
	}
	return session{}, errors.Join(errs...)
}

// cause is what the network said, without the words that paho puts before it,
// and without our port, which is another one each time.
func cause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return fmt.Errorf("%s: %w", op.Op, op.Err)
	}
	return err
}

// willMessage is the last will of a connection: retained, QoS 1.
type willMessage struct {
	topic   string
	payload []byte
}

func (c Centre) options(clientID string, clean bool, will *willMessage) (*mqtt.ClientOptions, error) {
	tlsConfig, err := c.tlsConfig()
	if err != nil {
		return nil, err
	}
	opts := mqtt.NewClientOptions().
		SetClientID(clientID).
		SetProtocolVersion(4).
		SetCleanSession(clean).
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetStore(mqtt.NewMemoryStore()).
		SetKeepAlive(c.KeepAlive).
		SetPingTimeout(c.ConnectTimeout).
		SetConnectTimeout(c.ConnectTimeout).
		SetUsername(c.Username).
		SetTLSConfig(tlsConfig)
	if c.PasswordFile != "" {
		b, err := os.ReadFile(c.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("%w: password_file: %w", ErrCentre, err)
		}
		opts.SetPassword(strings.TrimRight(string(b), "\r\n"))
	}
	if will != nil {
		opts.SetBinaryWill(will.topic, will.payload, 1, true)
	}
	return opts, nil
}

func (c Centre) tlsConfig() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("%w: ca_file: %w", ErrCentre, err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%w: ca_file %s: expected a PEM certificate, found none", ErrCentre, c.CAFile)
		}
	}
	if c.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("%w: cert_file and key_file: %w", ErrCentre, err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// openConn dials one broker, through the proxy that the environment names.
func openConn(u *url.URL, opts mqtt.ClientOptions) (net.Conn, error) {
	var c net.Conn
	var err error
	switch u.Scheme {
	case "ws":
		c, err = mqtt.NewWebsocket(u.String(), nil, opts.ConnectTimeout, opts.HTTPHeaders, opts.WebsocketOptions)
	case "wss":
		c, err = mqtt.NewWebsocket(u.String(), opts.TLSConfig, opts.ConnectTimeout, opts.HTTPHeaders, opts.WebsocketOptions)
	case "tls":
		c, err = dialTLS(withPort(u, "8883"), u.Hostname(), opts)
	default:
		c, err = dialTCP(withPort(u, "1883"), opts.ConnectTimeout)
	}
	return c, err
}

func withPort(u *url.URL, port string) string {
	if u.Port() != "" {
		port = u.Port()
	}
	return net.JoinHostPort(u.Hostname(), port)
}

func dialTCP(address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	c, err := proxy.Dial(ctx, "tcp", address)
	if tcp, ok := c.(*net.TCPConn); ok && err == nil {
		err = tcp.SetWriteBuffer(socketBuffer)
	}
	return c, err
}

// socketBuffer bounds what waits in the kernel, so that a PUBACK of a message
// on a slow line is not waited for before the message has left.
const socketBuffer = 128 << 10

func dialTLS(address, host string, opts mqtt.ClientOptions) (net.Conn, error) {
	raw, err := dialTCP(address, opts.ConnectTimeout)
	if err != nil {
		return nil, err
	}
	cfg := opts.TLSConfig.Clone()
	cfg.ServerName = host
	c := tls.Client(raw, cfg)
	ctx, cancel := context.WithTimeout(context.Background(), opts.ConnectTimeout)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return c, nil
}
