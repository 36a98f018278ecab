package acceptance

import (
	"io"
	"net"
	"net/url"
	"testing"
	"time"

	"golang.org/x/net/proxy"
)

// echo answers what it is sent, on a loopback port.
func echo(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
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
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return ln
}

func TestLine(t *testing.T) {
	far := echo(t)
	l, err := openLine()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	u, _ := url.Parse("socks5://" + l.ln.Addr().String())
	dialer, err := proxy.FromURL(u, proxy.Direct)
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(far.Addr().String())
	talk := func(c net.Conn) error {
		if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return err
		}
		if _, err := c.Write([]byte("hello")); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 5))
		return err
	}
	var open []net.Conn
	for _, host := range []string{"127.0.0.1", "localhost"} { // an address and a name
		c, err := dialer.Dial("tcp", net.JoinHostPort(host, port))
		if err != nil {
			t.Fatalf("%s: %v", host, err)
		}
		defer c.Close()
		if err := talk(c); err != nil {
			t.Fatalf("%s: %v", host, err)
		}
		open = append(open, c)
	}
	if n := l.Used(); n != 2 {
		t.Errorf("%d connections, expected 2", n)
	}
	l.Cut()
	for _, c := range open {
		if err := talk(c); err == nil {
			t.Error("a connection outlives the cut")
		}
	}
	if _, err := dialer.Dial("tcp", far.Addr().String()); err == nil {
		t.Error("a new connection in spite of the cut")
	}
	l.Mend()
	c, err := dialer.Dial("tcp", far.Addr().String())
	if err != nil {
		t.Fatalf("after mending: %v", err)
	}
	defer c.Close()
	if err := talk(c); err != nil {
		t.Errorf("after mending: %v", err)
	}
	far.Close()
	if _, err := dialer.Dial("tcp", far.Addr().String()); err == nil {
		t.Error("a connection to nobody")
	}
}

// TestChildEnvironment keeps what is set for this process from the child.
func TestChildEnvironment(t *testing.T) {
	got := withoutOurs([]string{"HOME=/x", "OUTSTATION_WEB_LISTEN=a", "OUTSTATION_TEST_ORT=b", "https_proxy=c", "NO_PROXY=d"})
	if len(got) != 2 || got[0] != "HOME=/x" || got[1] != "OUTSTATION_TEST_ORT=b" {
		t.Errorf("got %v", got)
	}
}
