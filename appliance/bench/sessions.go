//go:build !novision

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"outstation/broker"
	"outstation/broker/access"
)

const (
	idleConnections = 10_000
	awaySessions    = 20
	sessionWriters  = 4
	sessionWindow   = 256 // publishes of one writer that wait for PUBACK
	spareFiles      = 200 // of the limit, for everything else
)

// idleLine is a broker with devices that are silent.
type idleLine struct {
	Bench        string  `json:"bench"`
	Connections  int     `json:"connections"`
	FileLimit    uint64  `json:"file_limit"`
	BaseMiB      float64 `json:"rss_anon_base_mib"`
	RSSMiB       float64 `json:"rss_anon_mib"`
	PerConnKiB   float64 `json:"kib_per_connection"`
	ConnectsPerS float64 `json:"connects_per_s"`
}

// awayLine is a broker that owes messages to devices that are away.
type awayLine struct {
	Bench      string  `json:"bench"`
	Messages   int     `json:"messages"`
	Payload    int     `json:"payload"`
	Sessions   int     `json:"sessions"`
	PerS       float64 `json:"queued_per_s"` // by 4 devices with 256 in flight each
	PeakMiB    float64 `json:"rss_anon_peak_mib"`
	RestMiB    float64 `json:"rss_anon_mib"` // when all is queued and the store is at rest
	DiskMiB    float64 `json:"disk_mib"`
	RestartS   float64 `json:"restart_s"` // after kill -9, until it listens
	RestartMiB float64 `json:"rss_anon_restarted_mib"`
	DrainPerS  float64 `json:"drained_per_s"` // by one device
}

// sessionsReport is what the process under test says of itself.
type sessionsReport struct {
	Address string  `json:"address"`
	RSSMiB  float64 `json:"rss_mib"`
	PeakMiB float64 `json:"peak_mib"`
	Owed    int64   `json:"owed"`
	Clients int64   `json:"clients"`

	LoginsFailed int64 `json:"logins_failed"`
}

// sessionsChild is a process that holds only a broker, with the users of a file
// or none. It reports for every line that it reads.
func sessionsChild(dir, usersFile string, emit func(any) error) (err error) {
	if err := raiseFileLimit(); err != nil {
		return err
	}
	var users *access.Users
	if usersFile != "" {
		if users, err = access.ReadUsers(usersFile); err != nil {
			return err
		}
	}
	b := broker.New(broker.Options{
		Users: users, Limits: broker.Limits{MaxConnections: 2 * idleConnections},
		Dir: dir, MinFreeBytes: 16 << 20, Listeners: []broker.Listener{{Type: broker.TypeTCP, Address: "127.0.0.1:0"}},
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err := b.Listen(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	rss := watchRSS()
	defer rss.end()
	for lines := bufio.NewScanner(os.Stdin); ; {
		s := b.Stats()
		if err := emit(sessionsReport{b.Addresses()[0], float64(rssAnonKiB()) / 1024, rss.highest(), s.Sessions.Owed, s.Clients, s.LoginsFailed}); err != nil {
			return err
		}
		if !lines.Scan() {
			return lines.Err()
		}
	}
}

// raiseFileLimit lets this process open as many files as the system permits.
func raiseFileLimit() error {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return fmt.Errorf("file limit: %w", err)
	}
	r.Cur = r.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return fmt.Errorf("file limit: %w", err)
	}
	return nil
}

// brokerProcess is that process, seen from outside.
type brokerProcess struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	reports *json.Decoder
	first   sessionsReport
}

func startBrokerProcess(ctx context.Context, dir string, more ...string) (*brokerProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &brokerProcess{cmd: exec.CommandContext(ctx, self, append([]string{"-sessions-child", dir}, more...)...)}
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	p.reports = json.NewDecoder(out)
	if err := p.reports.Decode(&p.first); err != nil {
		p.kill()
		return nil, fmt.Errorf("the process with the broker: %w", err)
	}
	return p, nil
}

func (p *brokerProcess) report() (r sessionsReport, err error) {
	if _, err = p.in.Write([]byte("\n")); err == nil {
		err = p.reports.Decode(&r)
	}
	return r, err
}

func (p *brokerProcess) kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	_ = p.cmd.Wait()         // it was killed
}

// benchSessions measures memory for devices that are silent and for devices
// that are away.
func benchSessions(ctx context.Context, o options, emit func(any) error) (err error) {
	dir, err := os.MkdirTemp(o.dir, "bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := benchIdle(ctx, filepath.Join(dir, "idle"), emit); err != nil {
		return err
	}
	return benchAway(ctx, filepath.Join(dir, "away"), o.memory, emit)
}

func benchIdle(ctx context.Context, dir string, emit func(any) error) error {
	if err := raiseFileLimit(); err != nil {
		return err
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	line := idleLine{Bench: "sessions-idle", Connections: int(min(idleConnections, limit.Cur-spareFiles)), FileLimit: limit.Cur}
	p, err := startBrokerProcess(ctx, dir)
	if err != nil {
		return err
	}
	defer p.kill()
	line.BaseMiB = p.first.RSSMiB
	began := time.Now()
	for i := range line.Connections {
		c, err := connectMQTT(p.first.Address, fmt.Sprintf("idle-%d", i), true)
		if err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
		defer c.Close()
	}
	line.ConnectsPerS = float64(line.Connections) / time.Since(began).Seconds()
	time.Sleep(5 * time.Second) // what connecting left is collected
	r, err := p.report()
	if err != nil {
		return err
	}
	if r.Clients != int64(line.Connections) {
		return fmt.Errorf("%d devices are connected, expected %d", r.Clients, line.Connections)
	}
	line.RSSMiB = r.RSSMiB
	line.PerConnKiB = (r.RSSMiB - line.BaseMiB) * 1024 / float64(line.Connections)
	return emit(line)
}

func benchAway(ctx context.Context, dir string, messages int, emit func(any) error) error {
	line := awayLine{Bench: "sessions-away", Messages: messages, Payload: uplinkPayload, Sessions: awaySessions}
	p, err := startBrokerProcess(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { p.kill() }()
	for i := range awaySessions {
		c, err := connectMQTT(p.first.Address, fmt.Sprintf("away-%d", i), false)
		if err != nil {
			return err
		}
		if _, err = c.Write(subscribePacket(fmt.Sprintf("away/%d", i))); err == nil {
			_, err = io.ReadFull(c.in, make([]byte, 5))
		}
		if err = errors.Join(err, c.Close()); err != nil {
			return fmt.Errorf("subscribe: %w", err)
		}
	}
	began := time.Now()
	if err := queueForAway(p.first.Address, messages); err != nil {
		return err
	}
	line.PerS = float64(messages) / time.Since(began).Seconds()
	r, err := p.report()
	if err != nil {
		return err
	}
	if line.PeakMiB = r.PeakMiB; r.Owed != int64(messages) {
		return fmt.Errorf("%d messages are owed, expected %d", r.Owed, messages)
	}
	if err := settleDown(ctx, dir); err != nil {
		return err
	}
	if r, err = p.report(); err != nil {
		return err
	}
	line.RestMiB = r.RSSMiB
	if line.DiskMiB, err = diskMiB(dir); err != nil {
		return err
	}
	p.kill()
	began = time.Now()
	if p, err = startBrokerProcess(ctx, dir); err != nil {
		return err
	}
	line.RestartS, line.RestartMiB = time.Since(began).Seconds(), p.first.RSSMiB
	if line.DrainPerS, err = drainAway(p.first.Address, messages/awaySessions); err != nil {
		return err
	}
	return emit(line)
}

// queueForAway publishes with several devices, each with a window.
func queueForAway(address string, messages int) error {
	var writers sync.WaitGroup
	failed := make(chan error, sessionWriters)
	for w := range sessionWriters {
		writers.Go(func() { failed <- queueFrom(address, w, messages/sessionWriters) })
	}
	writers.Wait()
	var err error
	for range sessionWriters {
		err = errors.Join(err, <-failed)
	}
	return err
}

func queueFrom(address string, writer, messages int) error {
	c, err := connectMQTT(address, fmt.Sprintf("writer-%d", writer), true)
	if err != nil {
		return err
	}
	defer c.Close()
	window := make(chan struct{}, sessionWindow)
	acked := make(chan error, 1)
	go func() {
		ack := make([]byte, 4)
		for range messages {
			if _, err := io.ReadFull(c.in, ack); err != nil {
				acked <- err
				return
			}
			<-window
		}
		acked <- nil
	}()
	payload := make([]byte, uplinkPayload)
	for i := range messages {
		select {
		case window <- struct{}{}:
		case err := <-acked:
			return err
		}
		topic := fmt.Sprintf("away/%d", (i*sessionWriters+writer)%awaySessions)
		if _, err := c.Write(publishPacket(topic, uint16(i%60_000)+1, payload)); err != nil {
			return err
		}
	}
	return <-acked
}

// drainAway is one device that comes back.
func drainAway(address string, messages int) (perSecond float64, err error) {
	c, err := connectMQTT(address, "away-0", false)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	began := time.Now()
	for range messages {
		head := make([]byte, 1)
		if _, err := io.ReadFull(c.in, head); err != nil {
			return 0, err
		}
		n, err := binary.ReadUvarint(c.in)
		if err != nil {
			return 0, err
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(c.in, body); err != nil {
			return 0, err
		}
		id := body[2+binary.BigEndian.Uint16(body):]
		if _, err := c.Write([]byte{0x40, 2, id[0], id[1]}); err != nil {
			return 0, err
		}
	}
	return float64(messages) / time.Since(began).Seconds(), nil
}

// mqttConn is a connection that speaks as much MQTT 3.1.1 as is needed here.
type mqttConn struct {
	net.Conn
	in *bufio.Reader
}

func connectMQTT(address, id string, clean bool) (*mqttConn, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	w := &mqttConn{c, bufio.NewReaderSize(c, 64<<10)}
	flags := byte(0)
	if clean {
		flags = 2
	}
	body := append([]byte{0, 4, 'M', 'Q', 'T', 'T', 4, flags, 0, 0}, field(id)...)
	ack := make([]byte, 4)
	if _, err = c.Write(packet(0x10, body)); err == nil {
		_, err = io.ReadFull(w.in, ack)
	}
	if err == nil && ack[3] != 0 {
		err = fmt.Errorf("CONNACK: got code %d, expected 0", ack[3])
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return w, nil
}

func field(s string) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...) }

func packet(kind byte, body []byte) []byte {
	return append(binary.AppendUvarint([]byte{kind}, uint64(len(body))), body...)
}

func subscribePacket(filter string) []byte {
	return packet(0x82, append(append([]byte{0, 1}, field(filter)...), 1))
}

func publishPacket(topic string, id uint16, payload []byte) []byte {
	body := binary.BigEndian.AppendUint16(field(topic), id)
	return packet(0x32, bytes.Join([][]byte{body, payload}, nil))
}
