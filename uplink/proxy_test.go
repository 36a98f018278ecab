package uplink

import (
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// viaProxy names the broker that the child process connects to.
const viaProxy = "OUTSTATION_TEST_VIA_PROXY"

// TestProxyFromTheEnvironment connects in a process of its own: the
// environment is read once a process.
func TestProxyFromTheEnvironment(t *testing.T) {
	if broker := os.Getenv(viaProxy); broker != "" {
		c := Centre{Brokers: []string{broker}, KeepAlive: DefaultKeepAlive, ConnectTimeout: 5 * time.Second}
		s, err := c.connect(t.Context(), dial{clientID: "dev", clean: true})
		if err != nil {
			t.Fatal(err)
		}
		s.client.Disconnect(10)
		return
	}
	s := startMosquitto(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var passed atomic.Value
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go socks(c, &passed)
		}
	}()
	connect := func(environ ...string) {
		t.Helper()
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProxyFromTheEnvironment$")
		child.Env = append(append(os.Environ(), viaProxy+"="+s.URL(), "ALL_PROXY=socks5://"+ln.Addr().String()), environ...)
		if out, err := child.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	connect("NO_PROXY=127.0.0.1")
	if to := passed.Load(); to != nil {
		t.Errorf("the proxy passed on to %s, which NO_PROXY names", to)
	}
	connect("NO_PROXY=")
	if to := passed.Load(); to != s.Address() {
		t.Errorf("the proxy passed on to %v, expected %s", to, s.Address())
	}
}

// socks serves one connection as RFC 1928 says, without authentication, for
// IPv4 addresses.
func socks(c net.Conn, passed *atomic.Value) {
	defer c.Close()
	greeting := make([]byte, 2)
	if _, err := io.ReadFull(c, greeting); err != nil {
		return
	}
	request := make([]byte, int(greeting[1])+10) // the methods, then the request
	if _, err := io.ReadFull(c, request[:greeting[1]]); err != nil {
		return
	}
	if _, err := c.Write([]byte{5, 0}); err != nil {
		return
	}
	if _, err := io.ReadFull(c, request[:10]); err != nil {
		return
	}
	port := int(request[8])<<8 | int(request[9])
	address := net.JoinHostPort(net.IP(request[4:8]).String(), strconv.Itoa(port))
	up, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer up.Close()
	passed.Store(address)
	if _, err := c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0}); err != nil {
		return
	}
	go func() { _, _ = io.Copy(up, c); up.Close() }()
	_, _ = io.Copy(c, up)
}
