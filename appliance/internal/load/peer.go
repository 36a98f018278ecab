// Package load is what benchmarks and endurance tests of the appliance share:
// devices that publish, a consumer at the centre, the appliance as a process,
// a Mosquitto that bridges in its place, and a line to the centre that can be
// cut. It speaks MQTT 3.1.1 by itself: a client library would take more of
// the machine than what is measured, and would repeat and reorder what is
// counted here.
package load

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"
)

// Fixed headers of MQTT 3.1.1, section 2.2.
const (
	packetConnect    = 0x10
	packetConnack    = 0x20
	packetPublish    = 0x30
	packetPublishQ1  = 0x32
	packetPuback     = 0x40
	packetSubscribe  = 0x82
	packetSuback     = 0x90
	packetDisconnect = 0xe0
	publishDup       = 0x08
	connackTimeout   = 2 * time.Second
	flagCleanSession = 0x02
	flagPassword     = 0x40
	flagUsername     = 0x80
)

// Every peer logs in as User. Users is the appliance's file of users for that,
// where it listens to more than its own machine; others do not ask.
const (
	User     = "load"
	Password = "load"
	Users    = "load:$7$101$fqTywTUqv7LsIxsW$LH8HcU6nv3pZgv+zj0YJxutiS42r9w6/jCcEdz546hYGEiXbhU7GN7K23X5t2jDvqwme/4fc80dKe82e3gJq/A==\n"
)

// HeaderBytes is the smallest payload: device and number, 4 bytes each.
const HeaderBytes = 8

// ID names one message: the device that published it, and its number there.
type ID struct{ Device, Number uint32 }

// Peer is one connection to a broker. One goroutine may write while another
// reads.
type Peer struct {
	conn net.Conn
	in   *bufio.Reader
	out  *bufio.Writer
	body []byte // of the packet that was read last
}

// Dial connects as a client of the given id. Without a clean session the
// broker keeps subscriptions and QoS 1 messages for the id.
func Dial(ctx context.Context, address, id string, clean bool) (*Peer, error) {
	d := net.Dialer{Timeout: connackTimeout}
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	p := &Peer{conn: c, in: bufio.NewReaderSize(c, 64<<10), out: bufio.NewWriterSize(c, 32<<10)}
	if err := p.connect(id, clean); err != nil {
		_ = c.Close() // the connection was no use
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	return p, nil
}

func (p *Peer) connect(id string, clean bool) error {
	flags := byte(flagUsername | flagPassword)
	if clean {
		flags |= flagCleanSession
	}
	if err := p.conn.SetDeadline(time.Now().Add(connackTimeout)); err != nil {
		return err
	}
	body := append([]byte{0, 4, 'M', 'Q', 'T', 'T', 4, flags, 0, 0}, mqttString(id)...)
	body = append(append(body, mqttString(User)...), mqttString(Password)...)
	if err := p.send(packetConnect, body); err != nil {
		return err
	}
	kind, body, err := p.packet()
	if err != nil {
		return err
	}
	if kind != packetConnack || len(body) != 2 || body[1] != 0 {
		return fmt.Errorf("expected a CONNACK of success, got packet %#x % x", kind, body)
	}
	return p.conn.SetDeadline(time.Time{})
}

// Close ends the connection without a DISCONNECT.
func (p *Peer) Close() error { return p.conn.Close() }

// Subscribe asks for a filter and waits for the SUBACK.
func (p *Peer) Subscribe(filter string, qos byte) error {
	body := append([]byte{0, 1}, mqttString(filter)...)
	if err := p.send(packetSubscribe, append(body, qos)); err != nil {
		return fmt.Errorf("subscribe %s: %w", filter, err)
	}
	kind, body, err := p.packet()
	if err != nil {
		return fmt.Errorf("subscribe %s: %w", filter, err)
	}
	if kind != packetSuback || len(body) != 3 || body[2] > qos {
		return fmt.Errorf("subscribe %s: expected a SUBACK, got packet %#x % x", filter, kind, body)
	}
	return nil
}

func (p *Peer) send(kind byte, body []byte) error {
	if err := p.buffer(kind, body); err != nil {
		return err
	}
	return p.out.Flush()
}

func (p *Peer) buffer(kind byte, body []byte) error {
	head := binary.AppendUvarint([]byte{kind}, uint64(len(body))) // MQTT's variable byte integer is a base-128 varint
	if _, err := p.out.Write(head); err != nil {
		return err
	}
	_, err := p.out.Write(body)
	return err
}

// publish buffers a QoS 1 publish; the packet id follows from the number.
func (p *Peer) publish(topic string, id ID, size int) error {
	body := make([]byte, 0, 4+len(topic)+size)
	body = append(body, mqttString(topic)...)
	body = binary.BigEndian.AppendUint16(body, packetID(id.Number))
	body = binary.BigEndian.AppendUint32(body, id.Device)
	body = binary.BigEndian.AppendUint32(body, id.Number)
	body = append(body, make([]byte, max(0, size-HeaderBytes))...)
	return p.buffer(packetPublishQ1, body)
}

func packetID(number uint32) uint16 { return uint16(number%65535 + 1) }

func mqttString(s string) []byte { return append([]byte{byte(len(s) >> 8), byte(len(s))}, s...) }

// packet reads the next packet: its first byte and what follows the header,
// which is valid until the next call.
func (p *Peer) packet() (byte, []byte, error) {
	kind, err := p.in.ReadByte()
	if err != nil {
		return 0, nil, err
	}
	n, err := binary.ReadUvarint(p.in)
	if err != nil {
		return 0, nil, err
	}
	if n > 1<<20 {
		return 0, nil, fmt.Errorf("packet %#x of %d bytes: nothing here sends that", kind, n)
	}
	if uint64(cap(p.body)) < n {
		p.body = make([]byte, n)
	}
	p.body = p.body[:n]
	_, err = io.ReadFull(p.in, p.body)
	return kind, p.body, err
}

// arrival is one message at a subscriber.
type arrival struct {
	ID
	again bool // the broker says that it delivers this a second time
}

// receive reads the next message and acknowledges it, if it asks for that;
// acknowledgements leave when nothing more is there to be read.
func (p *Peer) receive() (arrival, error) {
	for {
		if p.in.Buffered() == 0 {
			if err := p.out.Flush(); err != nil {
				return arrival{}, err
			}
		}
		kind, body, err := p.packet()
		if err != nil {
			return arrival{}, err
		}
		if kind&0xf0 != packetPublish || len(body) < 2 {
			continue
		}
		at := 2 + int(binary.BigEndian.Uint16(body))
		if kind&0x06 != 0 {
			if err := p.buffer(packetPuback, body[at:at+2]); err != nil {
				return arrival{}, err
			}
			at += 2
		}
		if len(body) < at+HeaderBytes {
			continue // not one of ours
		}
		id := ID{binary.BigEndian.Uint32(body[at:]), binary.BigEndian.Uint32(body[at+4:])}
		return arrival{id, kind&publishDup != 0}, nil
	}
}
