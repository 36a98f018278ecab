package broker

import (
	"encoding/binary"
	"net"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// Bounds of what waits for a device to read it.
const (
	// maxUnread is how many bytes may wait before messages of QoS 0 are
	// dropped; those of QoS 1 and 2 wait in the session.
	maxUnread = 8 << 20
	// maxAnswers is how many bytes may wait with the answers to a device that
	// goes on asking; beyond it the connection ends.
	maxAnswers = maxUnread + 1<<20
	// closeFlush is how long a closing connection may take to write its last
	// words.
	closeFlush = time.Second
)

// gate is the write side of a device's connection.
//
// The server acknowledges a publish as soon as its hook returns; the gate
// holds the bytes of that acknowledgement back until the message is durable,
// so that the device's read loop goes on meanwhile and one sync serves many
// publishes. Everything that is not a PUBACK or PUBREC passes at once.
// Acknowledgements leave in the order in which their publishes were expected.
//
// Nothing waits for the device's socket: the server holds the device's lock
// while it writes, and whoever publishes to that device needs it.
type gate struct {
	net.Conn
	stats *counters
	will  *will // of the device, or nil
	who   identity

	traffic *traffic
	over    <-chan struct{} // closed when the server has ended with the connection
	silence time.Duration   // after which the connection ends; 0 is none
	maxHeld int             // acknowledgements that may wait before the device is not read

	mu      sync.Mutex
	held    []*ack        // in the order of the publishes
	storing int           // publishes whose fate is still open
	out     []byte        // waits for the socket
	writing bool          // the writer is at work
	empty   func(*gate)   // called when nothing waits for the socket any more
	changed chan struct{} // for those who watch held and storing shrink; nil if there are none
	closed  bool
	comps   map[uint16][]byte // PUBCOMPs that wait for the disk, once the server wrote them

	// current is the publish that the server is fanning out, if it is being
	// stored, refused says that the sink did not take it, and known that the
	// hook has the gate in its map. Only the device's read goroutine touches
	// them.
	current *ack
	refused *refusal
	known   bool
	session *session
	version byte                   // of MQTT
	asked   []packets.Subscription // that the server is answering
	limited []byte                 // why each of asked is refused, or 0
	rate    bucket                 // of publishes
	leaving bool                   // DISCONNECT came, and with it the will went

	shortened bool // the session ends earlier than the device asked
}

// ack is the acknowledgement of one publish.
type ack struct {
	id      uint16
	stored  time.Time // when the publish came in, if it is being stored
	bytes   []byte    // what the server wrote, or nil so far
	settled bool      // durable, refused, or nothing to wait for
	failed  bool      // refused
	refusal []byte    // sent instead of bytes, if the publish was refused
}

// ready needs the server's bytes too when there is a refusal: they must not
// turn up after it.
func (a *ack) ready() bool { return a.settled && a.bytes != nil }

func newGate(c net.Conn, version byte, stats *counters) *gate {
	return &gate{Conn: c, version: version, stats: stats, traffic: &traffic{}, maxHeld: DefaultLimits.MaxInflight}
}

// expect registers a publish before the server writes its acknowledgement.
// One that is local waits for nothing itself, but its acknowledgement must
// not overtake those of earlier publishes. It returns nil if the connection
// is closed.
func (g *gate) expect(id uint16, local bool) *ack {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil
	}
	a := &ack{id: id, settled: local}
	g.held = append(g.held, a)
	g.stats.held.Add(1)
	if !local {
		g.storing++
		a.stored = time.Now()
	}
	return a
}

// resolve settles an acknowledgement: the one that the server wrote is sent,
// or, for a publish that failed, refusal in its place. It does not block.
func (g *gate) resolve(a *ack, failed bool, refusal []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	a.settled, a.failed, a.refusal = true, failed, refusal
	g.release()
	if g.storing--; g.storing == 0 {
		g.notify()
	}
}

// failed reports whether a publish was refused.
func (g *gate) failed(a *ack) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return a.failed
}

// release moves the acknowledgements that can go to the socket; mu is held.
func (g *gate) release() {
	n := 0
	for n < len(g.held) && g.held[n].ready() {
		if a := g.held[n]; a.refusal != nil {
			g.out = append(g.line(), a.refusal...)
		} else {
			g.out = append(g.line(), a.bytes...)
			g.tell(a)
		}
		n++
	}
	if n > 0 {
		g.drop(n)
		g.kick()
	}
}

// tell says how long a device waited for an acknowledgement that stands for a
// sync; mu is held.
func (g *gate) tell(a *ack) {
	if f := g.stats.acknowledged; f != nil && !a.stored.IsZero() {
		f(time.Since(a.stored))
	}
}

// drop forgets the n oldest; mu is held.
func (g *gate) drop(n int) {
	clear(g.held[:n])
	g.held = g.held[n:]
	g.stats.held.Add(-int64(n))
	g.notify()
}

// notify wakes those who watch the gate; mu is held.
func (g *gate) notify() {
	if g.changed != nil {
		close(g.changed)
		g.changed = nil
	}
}

// Write takes whole packets, as the server writes them, and returns at once.
func (g *gate) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return 0, net.ErrClosed
	}
	for rest := p; len(rest) > 0; {
		n := packetLen(rest)
		if packet := rest[:n]; !g.hold(packet) && !g.pass(packet) {
			g.shut()
			return 0, net.ErrClosed
		}
		rest = rest[n:]
	}
	g.release()
	g.kick()
	return len(p), nil
}

// pass puts a packet in the line for the socket. false means that the device
// does not read and the connection has to end; mu is held.
func (g *gate) pass(packet []byte) bool {
	switch waiting := len(g.out) + len(packet); {
	case packet[0]>>4 == packets.Disconnect && g.version < 5: // 3.1.1 has none in this direction
	case packet[0]>>4 == packets.Publish && waiting > maxUnread:
		g.stats.dropped.Add(1)
	case waiting > maxAnswers:
		return false
	default:
		g.out = append(g.line(), packet...)
		if packet[0]>>4 == packets.Publish {
			g.count()
		}
	}
	return true
}

// count counts a message to the device.
func (g *gate) count() {
	g.traffic.messagesOut.Add(1)
	g.stats.sent.Add(1)
}

// offer puts a message of QoS 0 in the line, unless too much waits already.
func (g *gate) offer(f *frame) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || len(g.out)+len(f.bytes) > maxUnread {
		return g.closed
	}
	g.out = append(g.line(), f.bytes...)
	g.count()
	g.kick()
	return true
}

// publish puts a message of QoS 1 or 2 in the line; the session bounds them.
func (g *gate) publish(f *frame, id uint16, dup bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.out = f.appendTo(g.line(), id, dup)
		g.count()
		g.kick()
	}
}

// send puts a packet in the line.
func (g *gate) send(packet []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	if !g.pass(packet) {
		g.shut()
		return
	}
	g.kick()
}

// unread is how many bytes wait for the socket.
func (g *gate) unread() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.out)
}

// drained sets what is called when nothing waits for the socket any more.
func (g *gate) drained(f func(*gate)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.empty = f
}

// hold keeps a packet if it is an acknowledgement that has to wait or to keep
// its place; mu is held.
func (g *gate) hold(packet []byte) bool {
	kind := packet[0] >> 4
	if kind == packets.Pubcomp && len(g.comps) > 0 {
		return g.holdComp(packet)
	}
	if len(g.held) == 0 || (kind != packets.Puback && kind != packets.Pubrec) {
		return false
	}
	_, width := binary.Uvarint(packet[1:])
	if width <= 0 || len(packet) < 1+width+2 {
		return false
	}
	id := binary.BigEndian.Uint16(packet[1+width:])
	own := append([]byte(nil), packet...)
	for i := len(g.held) - 1; i >= 0; i-- { // nearly always the newest
		if a := g.held[i]; a.id == id && a.bytes == nil {
			a.bytes = own
			return true
		}
	}
	// The server refused or repeated this one by itself: it keeps its place.
	g.held = append(g.held, &ack{id: id, bytes: own, settled: true})
	g.stats.held.Add(1)
	return true
}

// suspend keeps the PUBCOMP of a publish back until proceed.
func (g *gate) suspend(id uint16) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.comps == nil {
		g.comps = map[uint16][]byte{}
	}
	g.comps[id] = nil
}

// holdComp keeps a PUBCOMP if it has to wait; mu is held.
func (g *gate) holdComp(packet []byte) bool {
	_, width := binary.Uvarint(packet[1:])
	if width <= 0 || len(packet) < 1+width+2 {
		return false
	}
	id := binary.BigEndian.Uint16(packet[1+width:])
	if _, waits := g.comps[id]; !waits {
		return false
	}
	g.comps[id] = append([]byte(nil), packet...)
	return true
}

// proceed lets the PUBCOMP go, or the one that the server is still to write.
func (g *gate) proceed(id uint16) {
	g.mu.Lock()
	defer g.mu.Unlock()
	packet := g.comps[id]
	delete(g.comps, id)
	if packet != nil && !g.closed {
		g.out = append(g.line(), packet...)
		g.kick()
	}
}

// gone reports whether the connection has ended.
func (g *gate) gone() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}

// ended is gone for watch; mu is held.
func (g *gate) ended() bool { return g.closed }

// await blocks until free holds, stop is closed or the time is over; free is
// called with mu held.
func (g *gate) await(timeout time.Duration, stop <-chan struct{}, free func() bool) bool {
	changed := g.watch(free)
	if changed == nil { // nearly always
		return true
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for ; changed != nil; changed = g.watch(free) {
		select {
		case <-changed:
		case <-stop:
			return false
		case <-timer.C:
			return false
		}
	}
	return true
}

// watch returns nil if free holds, or what is closed when it may.
func (g *gate) watch(free func() bool) <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if free() {
		return nil
	}
	if g.changed == nil {
		g.changed = make(chan struct{})
	}
	return g.changed
}

// packetLen is the length of the first packet in p, which the server wrote
// and which is therefore well formed.
func packetLen(p []byte) int {
	n, width := binary.Uvarint(p[1:]) // MQTT's variable byte integer is a base-128 varint
	if width <= 0 || n > uint64(len(p)-1-width) {
		return len(p)
	}
	return 1 + width + int(n)
}
