package acceptance

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/proxy"
)

// dialTimeout bounds a connection to the centre.
const dialTimeout = 15 * time.Second

// line is the way of the appliance to its centre: a SOCKS 5 proxy (RFC 1928)
// on a loopback port, so that the names in certificates stay what they are. It
// can be cut, which resets every connection and each new one at once.
type line struct {
	ln net.Listener

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]struct{}
	used  int // connections that reached the centre
	done  sync.WaitGroup
}

// openLine listens on a free loopback port.
func openLine() (*line, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("the way to the centre: %w", err)
	}
	l := &line{ln: ln, conns: map[net.Conn]struct{}{}}
	l.done.Go(l.accept)
	return l, nil
}

// proxyVariables are what the environment may say about proxies.
var proxyVariables = []string{"ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "all_proxy", "http_proxy", "https_proxy", "no_proxy"}

// environ sends what a process dials through the line.
func (l *line) environ() []string {
	address := "socks5://" + l.ln.Addr().String()
	return []string{"ALL_PROXY=" + address, "HTTP_PROXY=" + address, "HTTPS_PROXY=" + address}
}

// Cut resets every connection, and new ones until Mend. The port stays taken:
// a client that is given it for its own end would connect to itself.
func (l *line) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	for c := range l.conns {
		reset(c)
	}
	clear(l.conns)
}

// Mend lets new connections through.
func (l *line) Mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = false
}

// Used is how many connections reached the centre.
func (l *line) Used() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.used
}

// Close cuts the line for good and waits for its goroutines.
func (l *line) Close() error {
	err := l.ln.Close()
	l.Cut()
	l.done.Wait()
	return err
}

func (l *line) accept() {
	for {
		near, err := l.ln.Accept()
		if err != nil {
			return // closed
		}
		if !l.keep(near) {
			continue
		}
		l.done.Go(func() { l.carry(near) })
	}
}

// carry serves one connection until either end closes it.
func (l *line) carry(near net.Conn) {
	defer l.drop(near)
	far, err := greet(near)
	if err != nil || !l.keep(far) {
		return // the appliance tries again, and says why it cannot connect
	}
	l.mu.Lock()
	l.used++
	l.mu.Unlock()
	var both sync.WaitGroup
	pump := func(to, from net.Conn) {
		_, _ = io.Copy(to, from) // it ends by a cut or by either end
		l.drop(near)
		l.drop(far)
	}
	both.Go(func() { pump(far, near) })
	both.Go(func() { pump(near, far) })
	both.Wait()
}

// keep remembers a connection for the next Cut, unless the line is cut now.
func (l *line) keep(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		reset(c)
		return false
	}
	l.conns[c] = struct{}{}
	return true
}

func (l *line) drop(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
	_ = c.Close() // twice does no harm
}

// reset closes a connection with RST instead of FIN, so that nothing more is
// sent.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // then it is closed in order
	}
	_ = c.Close() // it is given up
}

// errSOCKS says that a client does not speak what is expected here.
var errSOCKS = errors.New("not a SOCKS 5 CONNECT without authentication")

// Of RFC 1928, sections 3 to 6.
const (
	socksVersion, socksConnect         = 5, 1
	socksIPv4, socksDomain, socksIPv6  = 1, 3, 4
	socksSucceeded, socksUnreachable   = 0, 4
	socksNoAuthentication, socksLength = 0, 4 // the latter of a request before its address
)

// greet reads a client's wish and connects it.
func greet(c net.Conn) (net.Conn, error) {
	if err := c.SetDeadline(time.Now().Add(dialTimeout)); err != nil {
		return nil, err
	}
	address, err := request(c)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	far, err := onward(ctx, address)
	answer := []byte{socksVersion, socksSucceeded, 0, socksIPv4, 0, 0, 0, 0, 0, 0}
	if err != nil {
		answer[1] = socksUnreachable
	}
	if _, errWrite := c.Write(answer); errWrite != nil || err != nil {
		if far != nil {
			reset(far)
		}
		return nil, errors.Join(err, errWrite)
	}
	return far, c.SetDeadline(time.Time{})
}

// request reads the greeting and the address that a client wants.
func request(c net.Conn) (string, error) {
	read := func(n int) ([]byte, error) {
		b := make([]byte, n)
		_, err := io.ReadFull(c, b)
		return b, err
	}
	hello, err := read(2)
	if err != nil || hello[0] != socksVersion {
		return "", errors.Join(errSOCKS, err)
	}
	if _, err := read(int(hello[1])); err != nil { // its methods; the first that we offer is the only one
		return "", err
	}
	if _, err := c.Write([]byte{socksVersion, socksNoAuthentication}); err != nil {
		return "", err
	}
	head, err := read(socksLength)
	if err != nil || head[1] != socksConnect {
		return "", errors.Join(errSOCKS, err)
	}
	length := 0
	switch head[3] {
	case socksIPv4:
		length = net.IPv4len
	case socksIPv6:
		length = net.IPv6len
	case socksDomain:
		n, err := read(1)
		if err != nil {
			return "", err
		}
		length = int(n[0])
	default:
		return "", errSOCKS
	}
	rest, err := read(length + 2)
	if err != nil {
		return "", err
	}
	host, port := string(rest[:length]), binary.BigEndian.Uint16(rest[length:])
	if ip, ok := netip.AddrFromSlice(rest[:length]); ok && head[3] != socksDomain {
		host = ip.String()
	}
	return net.JoinHostPort(host, strconv.Itoa(int(port))), nil
}

// onward dials the centre as the appliance itself would: through the proxy
// that the environment names, unless the centre is on this machine.
func onward(ctx context.Context, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsLoopback() {
		return (&net.Dialer{}).DialContext(ctx, "tcp", address)
	}
	return proxy.Dial(ctx, "tcp", address)
}
