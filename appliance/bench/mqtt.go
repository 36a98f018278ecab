//go:build !novision

package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"
)

// The load speaks MQTT 3.1.1 by itself: a client library would take more of
// the machine than what is measured.

// peer is one connection to a broker.
type peer struct {
	net.Conn
	in *bufio.Reader
}

func dial(ctx context.Context, address, id string) (*peer, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	p := &peer{c, bufio.NewReaderSize(c, 64<<10)}
	body := append([]byte{0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0}, mqttString(id)...)
	if _, err := c.Write(append([]byte{0x10, byte(len(body))}, body...)); err != nil {
		return nil, err
	}
	if kind, body, err := p.packet(); err != nil || kind != 0x20 || body[1] != 0 {
		return nil, fmt.Errorf("connect to %s: got packet %#x (%w)", address, kind, err)
	}
	return p, nil
}

func mqttString(s string) []byte { return append([]byte{byte(len(s) >> 8), byte(len(s))}, s...) }

// packet reads the next packet: its first byte and what follows the header.
func (p *peer) packet() (byte, []byte, error) {
	kind, err := p.in.ReadByte()
	if err != nil {
		return 0, nil, err
	}
	n, err := binary.ReadUvarint(p.in) // MQTT's variable byte integer is a base-128 varint
	if err != nil {
		return 0, nil, err
	}
	body := make([]byte, n)
	_, err = io.ReadFull(p.in, body)
	return kind, body, err
}

func (p *peer) subscribe(filter string) error {
	body := append([]byte{0, 1}, mqttString(filter)...)
	body = append(body, 0)
	if _, err := p.Write(append([]byte{0x82, byte(len(body))}, body...)); err != nil {
		return err
	}
	if kind, _, err := p.packet(); err != nil || kind != 0x90 {
		return fmt.Errorf("subscribe %s: got packet %#x (%w)", filter, kind, err)
	}
	return nil
}

// publish sends n messages of the given size at QoS 1 with at most window in
// flight. The first four bytes of each payload are its number.
func (p *peer) publish(topic string, n, size, window int) error {
	slots := make(chan struct{}, window)
	acked := make(chan error, 1)
	go func() { acked <- p.collectAcks(n, slots) }()
	out := bufio.NewWriterSize(p, 32<<10)
	for i := range n {
		select {
		case slots <- struct{}{}:
		default: // the window is full: what is buffered must leave first
			if err := out.Flush(); err != nil {
				return err
			}
			select {
			case slots <- struct{}{}:
			case err := <-acked:
				return err
			}
		}
		if _, err := out.Write(publishPacket(topic, i, size)); err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return <-acked
}

func publishPacket(topic string, i, size int) []byte {
	body := mqttString(topic)
	body = binary.BigEndian.AppendUint16(body, uint16(i%65535+1))
	payload := make([]byte, size)
	binary.BigEndian.PutUint32(payload, uint32(i))
	body = append(body, payload...)
	return append(binary.AppendUvarint([]byte{0x32}, uint64(len(body))), body...)
}

// collectAcks reads n PUBACKs, which must come in order.
func (p *peer) collectAcks(n int, slots chan struct{}) error {
	for i := range n {
		kind, body, err := p.packet()
		if err != nil {
			return err
		}
		if kind != 0x40 || binary.BigEndian.Uint16(body) != uint16(i%65535+1) {
			return fmt.Errorf("ack %d: got packet %#x % x", i, kind, body)
		}
		<-slots
	}
	return nil
}

// collect reads publishes until each of n numbers was seen once, and returns
// the time of the last.
func (p *peer) collect(n int, deadline time.Duration) (time.Time, error) {
	seen := make([]bool, n)
	for left := n; left > 0; {
		if err := p.SetReadDeadline(time.Now().Add(deadline)); err != nil {
			return time.Time{}, err
		}
		kind, body, err := p.packet()
		if err != nil {
			return time.Time{}, fmt.Errorf("%d of %d messages are missing, the run is void: %w", left, n, err)
		}
		if kind>>4 != 3 {
			continue
		}
		topic := 2 + int(binary.BigEndian.Uint16(body))
		if i := binary.BigEndian.Uint32(body[topic:]); !seen[i] {
			seen[i] = true
			left--
		}
	}
	return time.Now(), nil
}
