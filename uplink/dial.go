package uplink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
	"golang.org/x/net/proxy"
)

// Centre says how to reach the central broker. Files are read again for
// every connection and watched while one stands, so that a renewed
// certificate or password needs no restart.
type Centre struct {
	Brokers        []string // tcp://, tls://, ws:// or wss://, in the order of preference
	Username       string
	PasswordFile   string
	CAFile         string // PEM; empty means the system's
	CertFile       string // client certificate, PEM
	KeyFile        string
	KeepAlive      time.Duration
	ConnectTimeout time.Duration
	// FailBack is how often a connection to a broker that is not the first
	// looks for a preferred one; 0 means never.
	FailBack time.Duration
	// CheckFiles is how often the files are compared with those in use; 0
	// means DefaultCheckFiles.
	CheckFiles time.Duration
}

// Defaults of Centre.
const (
	DefaultKeepAlive      = 30 * time.Second
	DefaultConnectTimeout = 15 * time.Second
	DefaultFailBack       = 5 * time.Minute
	DefaultCheckFiles     = time.Minute
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
	files  credentials // what it was made with
	conn   *bufferedConn
	lost   <-chan error    // one error when the connection has ended by itself
	ended  <-chan struct{} // closed at the same time
	why    *error          // the same error; read after ended is closed
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

// cause is why a wait on the connection ended: its loss, also where err is
// only what followed from that.
func (s session) cause(err error) error {
	select {
	case <-s.ended:
		return errLost
	default:
		return err
	}
}

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
			return s.cause(context.Cause(ctx))
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
		return nil, s.cause(context.Cause(ctx))
	}
}

// subscribe asks the centre for a filter and waits for its answer: an error
// means that there is none, or that the centre refused. Paho can hold a
// subscription as it holds a publish.
func (s session) subscribe(ctx context.Context, filter string, qos byte, timeout time.Duration) error {
	answered := make(chan *mqtt.SubscribeToken, 1)
	go func() {
		token := s.client.Subscribe(filter, qos, nil).(*mqtt.SubscribeToken) // messages go to the default handler
		token.Wait()
		answered <- token
	}()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case token := <-answered:
		if err := token.Error(); err != nil {
			return s.cause(err)
		}
		if granted, ok := token.Result()[filter]; ok && granted < qos {
			return fmt.Errorf("%w: asked for QoS %d, the centre grants %d", errRefused, qos, granted)
		} else if !ok || granted > 2 {
			return errRefused
		}
		return nil
	case <-s.ended:
		return errLost
	case <-timer.C:
		return fmt.Errorf("no SUBACK within %v", timeout)
	case <-ctx.Done():
		return s.cause(context.Cause(ctx))
	}
}

// errRefused is the centre's answer to a subscription that it does not allow.
var errRefused = errors.New("refused")

// dial says what a connection is for.
type dial struct {
	clientID string
	clean    bool
	will     *willMessage
	// take gets every message that comes down, in order, from the moment the
	// centre accepts the connection; it must not block, and owes each its Ack.
	take func(mqtt.Message)
}

// connect opens one connection, trying the brokers in order. Every
// connection is a client of its own that never reconnects by itself: what
// paho reports after a reconnect could not be told from what was lost. The
// session says what files were read even where there is an error.
func (c Centre) connect(ctx context.Context, d dial) (session, error) {
	files, err := c.readFiles()
	if err != nil {
		return session{}, err
	}
	var errs []error
	for _, address := range c.Brokers {
		s, err := c.connectTo(ctx, address, files, d)
		if err == nil || ctx.Err() != nil {
			return s, err
		}
		errs = append(errs, fmt.Errorf("%w %s: %w", ErrCentre, address, cause(err)))
	}
	return session{files: files}, errors.Join(errs...)
}

// connectTo opens one connection to one broker.
func (c Centre) connectTo(ctx context.Context, address string, files credentials, d dial) (session, error) {
	s := session{broker: address, files: files}
	opts := c.options(files, d)
	opts.AddBroker(address)
	opts.SetCustomOpenConnectionFn(func(u *url.URL, o mqtt.ClientOptions) (net.Conn, error) {
		raw, err := openConn(u, o)
		if err != nil {
			return nil, err
		}
		s.conn = newBufferedConn(raw)
		return s.conn, nil
	})
	lost, over := make(chan error, 1), make(chan struct{})
	s.lost, s.ended, s.why = lost, over, new(error)
	why := s.why
	opts.SetConnectionLostHandler(func(_ mqtt.Client, err error) {
		*why = err
		close(over)
		lost <- err
	})
	s.client = mqtt.NewClient(opts)
	token := s.client.Connect()
	select {
	case <-token.Done():
		return s, token.Error()
	case <-ctx.Done():
		s.client.Disconnect(0)
		return session{files: files}, ctx.Err()
	}
}

// cause is what the network or TLS said, without the words that paho puts
// before it, and without our port, which is another one each time.
func cause(err error) error {
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		return cert
	}
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

func (c Centre) options(files credentials, d dial) *mqtt.ClientOptions {
	opts := mqtt.NewClientOptions().
		SetClientID(d.clientID).
		SetProtocolVersion(4).
		SetCleanSession(d.clean).
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetStore(noStore{}).
		SetKeepAlive(c.KeepAlive).
		SetPingTimeout(c.ConnectTimeout).
		SetConnectTimeout(c.ConnectTimeout).
		SetUsername(c.Username).
		SetPassword(files.password).
		SetTLSConfig(files.tls)
	if d.will != nil {
		opts.SetBinaryWill(d.will.topic, d.will.payload, 1, true)
	}
	if d.take != nil {
		opts.SetAutoAckDisabled(true)
		opts.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { d.take(m) })
	}
	return opts
}

// noStore keeps nothing: a client that never reconnects resumes nothing, and
// what the centre sends must not pile up here until it is acknowledged.
type noStore struct{}

func (noStore) Open()                             {}
func (noStore) Put(string, packets.ControlPacket) {}
func (noStore) Get(string) packets.ControlPacket  { return nil }
func (noStore) All() []string                     { return nil }
func (noStore) Del(string)                        {}
func (noStore) Close()                            {}
func (noStore) Reset()                            {}

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
