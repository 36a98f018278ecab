package uplink

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// flight is a publish that waits for its PUBACK.
type flight struct {
	entry Entry
	token mqtt.Token
	sent  time.Time
}

// flights are the publishes of one generation: a sender that fills the window
// and a collector that settles in order, so that the watermark moves on.
type flights struct {
	link    *Link
	session session
	slots   chan struct{} // one for each publish in flight
	sent    chan flight   // in order; never full, since slots bounds it
	head    *flight       // taken from sent by the collector, unsettled
	moved   time.Time     // when the last one came
	acked   int           // how many came
	slowest time.Duration // of them

	boundary uint64        // what was queued before the connection is history
	history  atomic.Int64  // publishes of history in flight
	lowest   atomic.Int64  // bytes of the lowest lane that were taken from the queue and not acknowledged
	freed    chan struct{} // one of them was acknowledged
	backfill backfiller

	mu         sync.Mutex
	changed    *sync.Cond // publishing or ended changed
	inFlight   []Entry    // at the end, sent and not acknowledged
	unsent     []Entry
	publishing *Entry // the sender is inside paho with it
	ended      bool   // the sender returned
	closed     bool   // the sender owns nothing any more
}

func newFlights(l *Link, s session) *flights {
	f := &flights{
		link: l, session: s,
		slots: make(chan struct{}, l.opt.Window), sent: make(chan flight, l.opt.Window),
		unsent: l.unacked, freed: make(chan struct{}, 1), boundary: l.queue.LastSequence(),
	}
	f.changed = sync.NewCond(&f.mu)
	f.weigh(f.unsent)
	return f
}

// run sends and collects until the connection or ctx ends.
func (f *flights) run(ctx context.Context, lost <-chan error) error {
	sendCtx, cancel := context.WithCancel(ctx)
	go f.send(sendCtx) // joined by halt
	err := f.collect(ctx, lost)
	cancel()
	f.halt()
	f.collectDone()
	return err
}

// halt joins the sender. Paho can hold a publish for half a minute after its
// connection is gone; then what the sender owns is taken away from it, and it
// ends without touching anything when paho lets go.
func (f *flights) halt() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for !f.ended && f.publishing == nil {
		f.changed.Wait()
	}
	f.closed = true
}

// send publishes what a former generation left, then what the queue hands
// out, while the window has room.
func (f *flights) send(ctx context.Context) {
	defer func() {
		f.mu.Lock()
		f.ended = true
		f.changed.Broadcast()
		f.mu.Unlock()
	}()
	for ctx.Err() == nil {
		if len(f.unsent) == 0 {
			f.fetch(ctx)
			continue
		}
		select {
		case f.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		if !f.publish() {
			return
		}
	}
}

// fetch waits for records: what is new as far as the window has room, and
// history as far as the backfill allows.
func (f *flights) fetch(ctx context.Context) {
	room := max(1, cap(f.slots)-len(f.slots))
	f.backfill.limit = f.link.tuning().Backfill
	history := f.backfill.room(time.Now(), cap(f.slots), int(f.history.Load()))
	wait := ctx
	if f.backfill.held(time.Now()) { // look again soon
		var cancel context.CancelFunc
		wait, cancel = context.WithTimeout(ctx, backfillPause)
		defer cancel()
	}
	lowest := lowestBytes - f.lowest.Load()
	if lowest <= 0 {
		lowest = -1
	}
	entries, err := f.link.queue.Next(wait, Want{
		Max: room, MaxBytes: fetchBytes, Boundary: f.boundary, History: history, Lowest: lowest, Wake: f.freed,
	})
	if err != nil && wait.Err() == nil {
		f.link.opt.Logger.Error("queue cannot be read", "error", err)
		sleep(ctx, time.Second)
	}
	for _, e := range entries {
		if e.history {
			f.backfill.sent(time.Now(), e.sent())
		}
	}
	f.unsent = f.link.sift(entries)
	f.weigh(f.unsent)
}

// weigh counts what was taken of the lowest lane.
func (f *flights) weigh(entries []Entry) {
	for _, e := range entries {
		if e.Lane == MinLane {
			f.lowest.Add(e.bytes())
		}
	}
}

// publish sends the next entry; false means that the generation has ended.
func (f *flights) publish() bool {
	f.mu.Lock()
	e := f.unsent[0]
	f.unsent, f.publishing = f.unsent[1:], &e
	f.changed.Broadcast()
	f.mu.Unlock()
	if e.history {
		f.history.Add(1)
	}

	f.link.down.sending(e.Message)
	token := f.session.client.Publish(e.Topic, e.QoS, e.Retain, e.Payload)

	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	f.publishing = nil
	f.sent <- flight{e, token, time.Now()}
	f.link.inFlight(len(f.slots))
	return true
}

// collect settles publishes in order as their PUBACKs come in.
func (f *flights) collect(ctx context.Context, lost <-chan error) error {
	timer := time.NewTimer(f.link.ackTimeout())
	defer timer.Stop()
	for {
		if f.head == nil {
			select {
			case next := <-f.sent:
				f.head = &next
			case err := <-lost:
				return fmt.Errorf("%w: %w", errLost, cause(err))
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		since, timeout := f.head.sent, f.link.ackTimeout()
		if f.moved.After(since) { // a line that is slow, and not silent
			since = f.moved
		}
		timer.Reset(time.Until(since.Add(timeout)))
		select {
		case <-f.head.token.Done():
			if err := f.settleHead(); err != nil {
				return err
			}
		case err := <-lost:
			return fmt.Errorf("%w: %w", errLost, cause(err))
		case <-timer.C:
			if f.session.conn.busy() { // it may not have left yet; the connection minds a stall
				f.head.sent = time.Now()
				continue
			}
			return fmt.Errorf("%w within %v for seq %d", errLate, timeout, f.head.entry.Seq)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *flights) settleHead() error {
	if err := f.head.token.Error(); err != nil {
		return fmt.Errorf("publish seq %d: %w", f.head.entry.Seq, err)
	}
	f.link.queue.Settle(f.head.entry, Delivered)
	if f.head.entry.history {
		f.history.Add(-1)
		signal(f.freed)
	}
	if f.head.entry.Lane == MinLane {
		f.lowest.Add(-f.head.entry.bytes())
		signal(f.freed)
	}
	now := time.Now()
	f.moved, f.acked, f.slowest = now, f.acked+1, max(f.slowest, now.Sub(f.head.sent))
	f.link.suspects.passed = true
	f.link.acks.Add(now.Sub(f.head.sent))
	f.link.rate.add(now)
	f.head = nil
	<-f.slots
	f.link.inFlight(len(f.slots))
	return nil
}

// collectDone settles what was acknowledged before the connection ended and
// leaves the rest, in order, for the next generation. The client is still this
// generation's and has not been torn down, so that a finished token without
// an error is a PUBACK.
func (f *flights) collectDone() {
	var left []Entry
	keep := func(fl *flight) {
		select {
		case <-fl.token.Done():
			if f.head = fl; f.settleHead() == nil {
				return
			}
		default:
		}
		left = append(left, fl.entry)
	}
	if f.head != nil {
		keep(f.head)
	}
	for len(f.sent) > 0 {
		fl := <-f.sent
		keep(&fl)
	}
	if f.publishing != nil {
		left = append(left, *f.publishing)
	}
	f.inFlight = left
	f.link.unacked = append(left, f.unsent...)
}
