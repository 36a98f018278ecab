//go:build !novision

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"outstation/broker/access"
)

const (
	loginDevices = 1000
	// loginPassword is that of every user: to check it costs the same as if
	// each had another, and they are made in no time.
	loginPassword = "bench"
	// loginRetry is how long a device waits that was told to come later, and
	// loginPatience how long it waits for CONNACK: paho's 30 s.
	loginRetry    = time.Second
	loginPatience = 30 * time.Second
	loginsAtMost  = 5 * time.Minute
)

// loginsLine is a storm of devices with names and passwords (argon2id), all at
// once: on a fresh process, and again when it remembers them.
type loginsLine struct {
	Bench     string  `json:"bench"`
	Case      string  `json:"case"`
	Devices   int     `json:"devices"`
	Addresses int     `json:"addresses"` // that they come from
	AllInS    float64 `json:"all_in_s"`
	P50MS     float64 `json:"connack_p50_ms"` // of the CONNACK that let a device in, from its CONNECT on
	P99MS     float64 `json:"connack_p99_ms"`
	SlowestMS float64 `json:"connack_slowest_ms"` // of all, refusals too
	Later     int     `json:"told_to_come_later"` // CONNACKs with code 3
	Failures  int     `json:"failures"`           // any other CONNACK, no CONNACK, and failed logins that the broker counted
}

// benchLogins measures a reconnect storm.
func benchLogins(ctx context.Context, o options, emit func(any) error) (err error) {
	if err := raiseFileLimit(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.dir, "bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	users := filepath.Join(dir, "users")
	if err := writeLogins(users); err != nil {
		return err
	}
	for _, addresses := range []int{loginDevices, 1} {
		if err := stormBoth(ctx, filepath.Join(dir, fmt.Sprint(addresses)), users, addresses, emit); err != nil {
			return err
		}
	}
	return nil
}

func loginName(i int) string { return fmt.Sprintf("device-%d", i) }

func writeLogins(file string) error {
	hash, err := access.NewHash([]byte(loginPassword))
	if err != nil {
		return err
	}
	var text bytes.Buffer
	for i := range loginDevices {
		fmt.Fprintf(&text, "%s:%s\n", loginName(i), hash.Text())
	}
	return os.WriteFile(file, text.Bytes(), 0o600)
}

// stormBoth is one process with two storms.
func stormBoth(ctx context.Context, dir, users string, addresses int, emit func(any) error) error {
	p, err := startBrokerProcess(ctx, dir, "-sessions-users", users)
	if err != nil {
		return err
	}
	defer p.kill()
	var failed int64
	for _, name := range []string{"fresh", "remembered"} {
		s := storm{server: p.first.Address, addresses: addresses}
		line := s.run(ctx)
		r, err := p.report()
		if err != nil {
			return err
		}
		line.Case, line.Failures = name, line.Failures+int(r.LoginsFailed-failed)
		failed = r.LoginsFailed
		if err := emit(line); err != nil {
			return err
		}
		for r.Clients > 0 {
			if r, err = p.report(); err != nil {
				return err
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	return nil
}

// storm is devices that connect at once.
type storm struct {
	server    string
	addresses int

	mu       sync.Mutex
	in       []time.Duration
	slowest  time.Duration
	later    int
	failures int
}

// run lets all devices in and then ends their connections.
func (s *storm) run(ctx context.Context) loginsLine {
	ctx, cancel := context.WithTimeout(ctx, loginsAtMost)
	defer cancel()
	began := time.Now()
	var devices sync.WaitGroup
	conns := make([]net.Conn, loginDevices)
	for i := range loginDevices {
		devices.Go(func() { conns[i] = s.device(ctx, i) })
	}
	devices.Wait()
	took := time.Since(began)
	for _, c := range conns {
		if c != nil {
			_ = c.Close() // it was only read
		}
	}
	line := loginsLine{
		Bench: "logins", Devices: loginDevices, Addresses: s.addresses, AllInS: took.Seconds(), SlowestMS: milliseconds(s.slowest),
		Later: s.later, Failures: s.failures,
	}
	if slices.Sort(s.in); len(s.in) > 0 {
		line.P50MS, line.P99MS = milliseconds(s.in[len(s.in)/2]), milliseconds(s.in[len(s.in)*99/100])
	}
	return line
}

// device connects until it is in or has failed, which is nil.
func (s *storm) device(ctx context.Context, i int) net.Conn {
	for ctx.Err() == nil {
		c, code, took, err := s.connect(ctx, i)
		s.mu.Lock()
		s.slowest = max(s.slowest, took)
		switch {
		case err == nil && code == 0:
			s.in = append(s.in, took)
			s.mu.Unlock()
			return c
		case err == nil && code == 3:
			s.later++
		default:
			s.failures++
		}
		s.mu.Unlock()
		if c != nil {
			_ = c.Close() // the broker has closed it already, or does not answer
		}
		if err != nil || code != 3 {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(loginRetry):
		}
	}
	return nil
}

// connect sends one CONNECT and returns the code of its CONNACK. Each device
// has an address of its own on this machine, or all have the same.
func (s *storm) connect(ctx context.Context, i int) (c net.Conn, code byte, took time.Duration, err error) {
	from := net.IPv4(127, 0, 0, 1)
	if s.addresses > 1 {
		from = net.IPv4(127, 1, byte(i>>8), byte(i))
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from}}
	if c, err = d.DialContext(ctx, "tcp", s.server); err != nil {
		return nil, 0, 0, err
	}
	began := time.Now()
	if err = c.SetDeadline(began.Add(loginPatience)); err != nil {
		return c, 0, 0, err
	}
	name := loginName(i)
	body := bytes.Join([][]byte{{0, 4, 'M', 'Q', 'T', 'T', 4, 0xc2, 0, 0}, field(name), field(name), field(loginPassword)}, nil)
	ack := make([]byte, 4)
	if _, err = c.Write(packet(0x10, body)); err == nil {
		_, err = io.ReadFull(bufio.NewReader(c), ack)
	}
	return c, ack[3], time.Since(began), err
}
