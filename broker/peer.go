package broker

import (
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// maxConnectBytes bounds the first packet: whoever sends it is not known yet,
// and the server makes room for all that it promises.
const maxConnectBytes = 128 << 10

// errPacketTooLarge ends a connection. The server would end it too, but
// without a word.
var errPacketTooLarge = errors.New("packet too large")

// traffic is what one device has sent and was sent. It may be read at any
// time.
type traffic struct {
	messagesIn, messagesOut, bytesIn, bytesOut atomic.Int64
}

// peer is a device's connection as it was accepted, below the server and the
// gate. It sees every packet's header before the server does.
type peer struct {
	net.Conn
	hook     *hook
	listener string // type and address
	since    time.Time
	traffic  *traffic
	over     chan struct{} // closed when nothing of the connection is left

	// Only the goroutine that reads uses these.
	frames   framer
	tooLarge bool
	gate     *gate // after CONNECT
	id       string
}

// Read returns what came, up to a packet that is too large. That is refused
// when all before it has been handled.
func (p *peer) Read(b []byte) (int, error) {
	if p.tooLarge {
		return 0, p.refuse()
	}
	n, err := p.Conn.Read(b)
	good, publishes, ok := p.frames.feed(b[:n], p.hook.opt.Limits.MaxPacketBytes)
	p.traffic.bytesIn.Add(int64(good))
	p.traffic.messagesIn.Add(int64(publishes))
	if ok {
		return n, err
	}
	if p.tooLarge = true; good == 0 {
		return 0, p.refuse()
	}
	return good, nil
}

// refuse tells the device why its connection ends (MQTT 5, section 3.14.2.1).
func (p *peer) refuse() error {
	p.hook.over(packetSize, p.id, "a packet from "+p.RemoteAddr().String())
	if p.gate != nil && p.gate.version >= 5 {
		p.gate.send([]byte{packets.Disconnect << 4, 1, packets.ErrPacketTooLarge.Code})
	}
	return errPacketTooLarge
}

// framer finds the packets in a stream.
type framer struct {
	inLength bool // the first byte has been seen
	lost     bool // the stream is not MQTT; the server finds out too
	some     bool // the first packet has been seen
	kind     byte
	shift    int
	size     int
	skip     int // bytes of the packet that are still to come
}

// feed takes what came next. good is how much of it comes before a packet
// that is larger than most bytes; ok is false if there is one. publishes
// counts those that begin.
func (f *framer) feed(b []byte, most int) (good, publishes int, ok bool) {
	start := 0 // of the packet, in b
	for i := 0; i < len(b) && !f.lost; {
		if f.skip > 0 {
			n := min(f.skip, len(b)-i)
			f.skip -= n
			i += n
			continue
		}
		c := b[i]
		i++
		if !f.inLength {
			f.kind, f.inLength, f.shift, f.size, start = c>>4, true, 0, 0, i-1
			continue
		}
		f.size |= int(c&0x7f) << f.shift
		f.shift += 7
		if c&0x80 != 0 {
			f.lost = f.shift >= 28
			continue
		}
		if !f.fits(most) {
			return start, publishes, false
		}
		f.inLength, f.skip, f.some = false, f.size, true
		if f.kind == packets.Publish {
			publishes++
		}
	}
	return len(b), publishes, true
}

// fits reports whether a packet whose length is known is small enough.
func (f *framer) fits(most int) bool {
	if !f.some {
		most = min(most, maxConnectBytes)
	}
	return 1+f.shift/7+f.size <= most
}
