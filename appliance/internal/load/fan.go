package load

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// fanHeader is the smallest payload of a Fan: publisher, number, and the
	// time of the publish in nanoseconds.
	fanHeader = 16
	// fanTick is how often a Fan with a rate publishes.
	fanTick = time.Millisecond
)

// Fan is a load on one broker alone: every subscriber gets what every
// publisher sends, at the QoS that it was published with. Whatever is lost,
// doubled or out of a publisher's order is an error.
type Fan struct {
	Address     string
	Publishers  int
	Subscribers int
	QoS         byte // 0 or 1
	Size        int  // of a payload, at least fanHeader bytes
	Messages    int  // of each publisher
	// Batch is how many messages a publisher sends at once. It may be two
	// batches ahead of the slowest subscriber, so that nothing has to be
	// dropped at QoS 0.
	Batch int
	// Rate of all publishers together, a second, whatever the subscribers do;
	// 0 means as fast as the batches allow.
	Rate int

	publishers  []*fanPublisher
	subscribers []*fanSubscriber
	began       time.Time
}

// FanResult is what a Fan measured.
type FanResult struct {
	Took    time.Duration   // from the first publish to the last arrival
	Latency []time.Duration // of each arrival; only with a Rate
}

// fanPublisher is one publisher's connection.
type fanPublisher struct {
	peer   *Peer
	packet []byte // PUBLISH, but for what differs
	body   []byte // the payload in packet
	id     []byte // the packet id in packet, or nil
	number uint32

	whole [2]atomic.Int32 // subscribers that have all of a batch, the even and the odd one
	room  chan struct{}   // a token for each batch that may be sent
}

// fanSubscriber is one subscriber's connection.
type fanSubscriber struct {
	peer    *Peer
	next    []uint32 // expected of each publisher
	latency []time.Duration
	last    time.Time
}

// Run connects, publishes, and waits until everything has arrived everywhere.
// Silence for longer than the given time is an error.
func (f *Fan) Run(ctx context.Context, silence time.Duration) (r FanResult, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if f.Size < fanHeader {
		return r, fmt.Errorf("payload: got %d bytes, expected at least %d", f.Size, fanHeader)
	}
	f.publishers, f.subscribers = nil, nil
	defer f.close()
	if err := f.connect(ctx); err != nil {
		return r, err
	}
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { f.close(); close(closed) }) // ends what reads and writes
	defer func() {
		if !stop() {
			<-closed // it must not meet the next run
		}
	}()
	f.began = time.Now()
	errs := make(chan error)
	n := len(f.subscribers)
	for _, s := range f.subscribers {
		go func() { errs <- f.collect(s, silence) }()
	}
	if f.QoS > 0 {
		n += len(f.publishers)
		for _, p := range f.publishers {
			go func() { errs <- f.acknowledged(p, silence) }()
		}
	}
	published := f.publish(ctx)
	for range n {
		if e := <-errs; e != nil {
			err = errors.Join(err, e)
			cancel() // the others
		}
	}
	if err = errors.Join(err, <-published); err != nil {
		return r, err
	}
	for _, s := range f.subscribers {
		r.Took = max(r.Took, s.last.Sub(f.began))
		r.Latency = append(r.Latency, s.latency...)
	}
	return r, nil
}

func (f *Fan) connect(ctx context.Context) error {
	for i := range f.Subscribers {
		p, err := Dial(ctx, f.Address, fmt.Sprintf("fan-sub-%d", i), true)
		if err != nil {
			return err
		}
		f.subscribers = append(f.subscribers, &fanSubscriber{peer: p, next: make([]uint32, f.Publishers)})
		if err := p.Subscribe("local/fan/+", f.QoS); err != nil {
			return err
		}
	}
	for i := range f.Publishers {
		p, err := Dial(ctx, f.Address, fmt.Sprintf("fan-pub-%d", i), true)
		if err != nil {
			return err
		}
		f.publishers = append(f.publishers, f.publisher(p, i))
	}
	return nil
}

// publisher draws a publisher's packet, of which only the packet id, the
// number and the time change.
func (f *Fan) publisher(peer *Peer, index int) *fanPublisher {
	p := &fanPublisher{peer: peer, room: make(chan struct{}, 2)}
	p.room <- struct{}{}
	p.room <- struct{}{}
	topic := mqttString(fmt.Sprintf("local/fan/%d", index))
	rest := len(topic) + f.Size
	if f.QoS > 0 {
		rest += 2
	}
	p.packet = binary.AppendUvarint([]byte{packetPublish | f.QoS<<1}, uint64(rest))
	p.packet = append(p.packet, topic...)
	at := len(p.packet)
	p.packet = append(p.packet, make([]byte, rest-len(topic))...)
	if f.QoS > 0 {
		p.id = p.packet[at : at+2]
	}
	p.body = p.packet[len(p.packet)-f.Size:]
	binary.BigEndian.PutUint32(p.body, uint32(index))
	return p
}

// send buffers the next message.
func (p *fanPublisher) send(since time.Duration) error {
	if p.id != nil {
		binary.BigEndian.PutUint16(p.id, packetID(p.number))
	}
	binary.BigEndian.PutUint32(p.body[4:], p.number)
	binary.BigEndian.PutUint64(p.body[8:], uint64(since))
	p.number++
	_, err := p.peer.out.Write(p.packet)
	return err
}

// publish sends everything and reports on the channel.
func (f *Fan) publish(ctx context.Context) <-chan error {
	done := make(chan error, 1)
	if f.Rate > 0 {
		go func() { done <- f.paced(ctx) }()
		return done
	}
	errs := make([]error, len(f.publishers))
	var all sync.WaitGroup
	for i, p := range f.publishers {
		all.Go(func() { errs[i] = f.batches(ctx, p) })
	}
	go func() {
		all.Wait()
		done <- errors.Join(errs...)
	}()
	return done
}

// batches sends a publisher's messages while its subscribers keep up.
func (f *Fan) batches(ctx context.Context, p *fanPublisher) error {
	for int(p.number) < f.Messages {
		select {
		case <-p.room:
		case <-ctx.Done():
			return ctx.Err()
		}
		for range min(f.Batch, f.Messages-int(p.number)) {
			if err := p.send(0); err != nil {
				return err
			}
		}
		if err := p.peer.out.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// paced sends the messages of all publishers in turn at the rate.
func (f *Fan) paced(ctx context.Context) error {
	tick := time.NewTicker(fanTick)
	defer tick.Stop()
	for sent, n := 0, f.Messages*len(f.publishers); sent < n; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		due := int(time.Since(f.began).Seconds() * float64(f.Rate))
		for ; sent < min(due, n); sent++ {
			p := f.publishers[sent%len(f.publishers)]
			if err := p.send(time.Since(f.began)); err != nil {
				return err
			}
			if err := p.peer.out.Flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// collect reads all that a subscriber is owed.
func (f *Fan) collect(s *fanSubscriber, silence time.Duration) error {
	for left := f.Messages * f.Publishers; left > 0; left-- {
		if s.peer.in.Buffered() == 0 {
			if err := s.peer.idle(silence); err != nil {
				return err
			}
		}
		body, err := s.peer.payload()
		if err == nil {
			err = f.arrived(s, body)
		}
		if err != nil {
			return fmt.Errorf("%d messages are missing, the run is void: %w", left, err)
		}
	}
	s.last = time.Now()
	return s.peer.out.Flush()
}

// idle flushes what was written before the reader waits.
func (p *Peer) idle(silence time.Duration) error {
	if err := p.out.Flush(); err != nil {
		return err
	}
	return p.conn.SetReadDeadline(time.Now().Add(silence))
}

// payload reads the next PUBLISH, without a copy, and acknowledges it if it
// asks for that. The payload is valid until the next read.
func (p *Peer) payload() ([]byte, error) {
	head, err := p.in.Peek(3) // no PUBLISH is shorter
	if err != nil {
		return nil, err
	}
	rest, width := binary.Uvarint(head[1:])
	if width <= 0 && head[0]>>4 == packetPublish>>4 {
		if head, err = p.in.Peek(5); err == nil {
			rest, width = binary.Uvarint(head[1:])
		}
	}
	if err != nil || head[0]>>4 != packetPublish>>4 || width <= 0 {
		return nil, errors.Join(err, fmt.Errorf("expected a PUBLISH, got % x", head))
	}
	packet, err := p.in.Peek(1 + width + int(rest))
	if err != nil {
		return nil, err
	}
	body := packet[1+width:]
	at := 2 + int(binary.BigEndian.Uint16(body))
	if packet[0]&0x06 != 0 {
		if err := p.buffer(packetPuback, body[at:at+2]); err != nil {
			return nil, err
		}
		at += 2
	}
	_, err = p.in.Discard(len(packet)) // it stays in the buffer until the next read
	return body[at:], err
}

// arrived notes a message at a subscriber.
func (f *Fan) arrived(s *fanSubscriber, body []byte) error {
	if len(body) != f.Size {
		return fmt.Errorf("payload: got %d bytes, expected %d", len(body), f.Size)
	}
	index, number := binary.BigEndian.Uint32(body), binary.BigEndian.Uint32(body[4:])
	if int(index) >= len(s.next) || s.next[index] != number {
		return fmt.Errorf("publisher %d: got message %d out of its order", index, number)
	}
	s.next[index]++
	if f.Rate > 0 {
		s.latency = append(s.latency, time.Since(f.began)-time.Duration(binary.BigEndian.Uint64(body[8:])))
		return nil
	}
	if int(number+1)%f.Batch == 0 {
		f.publishers[index].arrivedBatch(int(number)/f.Batch, f.Subscribers)
	}
	return nil
}

// arrivedBatch makes room for a batch when the last subscriber has one.
func (p *fanPublisher) arrivedBatch(batch, subscribers int) {
	whole := &p.whole[batch%2]
	if int(whole.Add(1)) == subscribers {
		whole.Store(0)
		p.room <- struct{}{}
	}
}

// acknowledged reads a publisher's PUBACKs.
func (f *Fan) acknowledged(p *fanPublisher, silence time.Duration) error {
	in := bufio.NewReaderSize(p.peer.conn, 4<<10)
	var packet [4]byte
	for n := range uint32(f.Messages) {
		if in.Buffered() == 0 {
			if err := p.peer.conn.SetReadDeadline(time.Now().Add(silence)); err != nil {
				return err
			}
		}
		if _, err := io.ReadFull(in, packet[:]); err != nil {
			return fmt.Errorf("PUBACK %d is missing: %w", packetID(n), err)
		}
		if packet[0] != packetPuback || binary.BigEndian.Uint16(packet[2:]) != packetID(n) {
			return fmt.Errorf("expected PUBACK %d, got % x", packetID(n), packet)
		}
	}
	return nil
}

// close ends every connection. It may be called more than once.
func (f *Fan) close() {
	for _, p := range f.publishers {
		_ = p.peer.Close() // what was expected has arrived, or an error says so
	}
	for _, s := range f.subscribers {
		_ = s.peer.Close()
	}
}
