package uplink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// Defaults of LinkOptions.
const (
	DefaultWindow     = 256
	DefaultAckTimeout = 30 * time.Second
	// DefaultMaxPacketBytes is EMQX's and Mosquitto's.
	DefaultMaxPacketBytes = 1 << 20
	// fetchBytes bounds what is taken from the queue at once.
	fetchBytes = 1 << 20
)

// LinkOptions of a Link. Zero values mean the defaults.
type LinkOptions struct {
	Centre     Centre
	ClientID   string
	Window     int           // publishes that may wait for their PUBACK at once
	AckTimeout time.Duration // a PUBACK that is later ends the connection
	Backoff    Backoff
	Backfill   Backfill
	// MaxPacketBytes is the largest packet that the centre takes; what is
	// larger becomes a dead letter.
	MaxPacketBytes int64
	Canary         string // the appliance's own topic for canaries; empty means none
	CanaryEvery    time.Duration
	CanaryTimeout  time.Duration
	ProbeGap       time.Duration // between connections that isolate a poison message
	Pauser         *Pauser       // shared with the presences; nil means one of its own
	// Down says what comes down from the centre, and Deliver hands it to the
	// local broker; where either is nil, nothing comes down.
	Down    *DownRouter
	Deliver Deliver
	Logger  *slog.Logger
}

// Link carries records from the queue to the centre over one connection at a
// time, and what the centre sends to the local broker. A record is settled only on the PUBACK of the connection generation
// that sent it; what a lost connection leaves unacknowledged goes out first
// on the next one, in order.
type Link struct {
	opt   LinkOptions
	queue *Queue

	unacked  []Entry // handed out by the queue, not settled; owned by Serve
	suspects suspects
	canary   canary
	down     *downlink

	mu    sync.Mutex
	stats LinkStats
	acks  Timings
	rate  rate
}

// Link states.
const (
	LinkConnecting = "connecting" // for the first time
	LinkConnected  = "connected"
	LinkDown       = "down" // and being tried again
	LinkPaused     = "paused"
)

// LinkStats is a snapshot of the link.
type LinkStats struct {
	State       string
	Broker      string // that is connected, or was last
	Since       time.Time
	Reason      string // why it is not connected
	Generation  uint64 // connections that were made
	Window      int
	InFlight    int
	NextAttempt time.Time // while down
	Delivered   uint64    // PUBACKs since the start
	Proven      bool      // a canary came back at least once
	CanaryAt    time.Time // when the last one came back
	CanaryTrip  time.Duration
	// DeliveredPerS is the rate of PUBACKs over the last whole seconds.
	DeliveredPerS float64
	PubackP50     time.Duration
	PubackP99     time.Duration
	PubackTimes   Histogram     // from PUBLISH to PUBACK, since the start
	Backoff       time.Duration // the wait that was drawn before NextAttempt; 0 while there is none
	Down          DownStats
	// CertExpires is when the client certificate in use expires; zero without
	// one.
	CertExpires time.Time
	// FilesError is why the files with the credentials, as they are on disk
	// now, cannot take the place of those in use; empty while they can.
	FilesError string
	// PreferredError is why the link stays with a broker that is not the
	// first; empty on the first, and before the others were tried.
	PreferredError string
}

// NewLink makes a link; it does no I/O.
func NewLink(q *Queue, opt LinkOptions) *Link {
	if opt.Window == 0 {
		opt.Window = DefaultWindow
	}
	if opt.AckTimeout == 0 {
		opt.AckTimeout = DefaultAckTimeout
	}
	if opt.Pauser == nil {
		opt.Pauser = &Pauser{}
	}
	if opt.CanaryEvery == 0 {
		opt.CanaryEvery, opt.CanaryTimeout = DefaultCanaryEvery, DefaultCanaryTimeout
	}
	if opt.MaxPacketBytes == 0 {
		opt.MaxPacketBytes = DefaultMaxPacketBytes
	}
	if opt.ProbeGap == 0 {
		opt.ProbeGap = DefaultProbeGap
	}
	opt.Centre, opt.Backoff, opt.Logger = linkDefaults(opt.Centre, opt.Backoff, opt.Logger)
	l := &Link{
		opt: opt, queue: q, canary: canary{topic: opt.Canary, every: opt.CanaryEvery, timeout: opt.CanaryTimeout},
		stats: LinkStats{State: LinkConnecting, Since: time.Now(), Window: opt.Window},
	}
	l.down = newDownlink(opt.Down, opt.Deliver, l.canary.received)
	return l
}

func linkDefaults(c Centre, b Backoff, log *slog.Logger) (Centre, Backoff, *slog.Logger) {
	if c.KeepAlive == 0 {
		c.KeepAlive = DefaultKeepAlive
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = DefaultConnectTimeout
	}
	if c.CheckFiles == 0 {
		c.CheckFiles = DefaultCheckFiles
	}
	if b == (Backoff{}) {
		b = DefaultBackoff
	}
	if log == nil {
		log = slog.Default()
	}
	return c, b, log
}

// Serve keeps the link up until ctx ends.
func (l *Link) Serve(ctx context.Context) {
	var delivering sync.WaitGroup
	defer delivering.Wait()
	delivering.Go(func() { l.down.serve(ctx) })
	l.opt.Backoff.retry(ctx, l.attempt, func(wait time.Duration, err error) {
		if errors.Is(err, errRenew) {
			l.changesOver(wait, err)
			return
		}
		level := slog.LevelDebug // a long outage is one line, not one for each attempt
		if l.Stats().Reason != err.Error() {
			level = slog.LevelWarn
		}
		l.opt.Logger.Log(ctx, level, "link to the centre is down", "error", err, "retry_in_ms", wait.Milliseconds())
		l.set(func(s *LinkStats) {
			s.State, s.Reason, s.InFlight, s.NextAttempt = LinkDown, err.Error(), 0, time.Now().Add(wait)
			s.Backoff = wait
		})
	})
	l.set(func(s *LinkStats) { s.State, s.Reason = LinkDown, "stopped" })
}

// Stats returns a snapshot.
func (l *Link) Stats() LinkStats {
	l.mu.Lock()
	s := l.stats
	l.mu.Unlock()
	if l.opt.Pauser.Paused() && s.State != LinkConnected { // at once, not when the next attempt is due
		s.State, s.Reason, s.NextAttempt = LinkPaused, "paused by hand", time.Time{}
	}
	s.PubackTimes = l.acks.Histogram()
	s.Delivered = s.PubackTimes.Count
	s.PubackP50, s.PubackP99 = l.acks.Recent()
	if s.NextAttempt.IsZero() {
		s.Backoff = 0
	}
	s.DeliveredPerS = l.rate.perSecond(time.Now())
	s.Proven, s.CanaryAt, s.CanaryTrip = l.canary.state()
	s.Down = l.down.snapshot()
	return s
}

// set changes the stats; Since follows a change of the state.
func (l *Link) set(change func(*LinkStats)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.stats.State
	change(&l.stats)
	if l.stats.State != was {
		l.stats.Since = time.Now()
	}
}

// attempt waits until the link is not paused, and makes one connection.
func (l *Link) attempt(ctx context.Context) error {
	if l.opt.Pauser.Paused() {
		l.opt.Logger.Info("link to the centre is paused")
		l.set(func(s *LinkStats) { s.State, s.Reason, s.InFlight = LinkPaused, "paused by hand", 0 })
		if err := l.opt.Pauser.await(ctx); err != nil {
			return err
		}
		l.set(func(s *LinkStats) { s.State, s.Reason = LinkConnecting, "" })
	}
	return l.opt.Pauser.during(ctx, l.generation)
}

// generation is one connection, from its dial to its loss.
func (l *Link) generation(ctx context.Context) error {
	sleep(ctx, l.probeWait())
	l.suspects.last = time.Now()
	take, behind := l.down.open(time.Now())
	s, err := l.opt.Centre.connect(ctx, dial{clientID: l.opt.ClientID, take: take})
	l.set(func(st *LinkStats) { st.CertExpires, st.FilesError, st.PreferredError = s.files.expires, "", "" })
	if err != nil {
		return err
	}
	defer s.client.Disconnect(250)
	l.opt.Logger.Info("link to the centre is up", "broker", s.broker)
	l.set(func(st *LinkStats) {
		st.State, st.Broker, st.Reason, st.NextAttempt = LinkConnected, s.broker, "", time.Time{}
		st.Generation++
	})
	ctx, end := l.beside(ctx, s, behind)
	defer end()
	if err := l.probe(ctx, s); err != nil {
		return ended(ctx, err)
	}
	return ended(ctx, l.carry(ctx, s))
}

// carry moves records over one connection until it ends.
func (l *Link) carry(ctx context.Context, s session) error {
	l.queue.SetOnline(true)
	defer l.queue.SetOnline(false)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var singing sync.WaitGroup
	singing.Go(func() {
		if err := l.canary.run(ctx, s); err != nil {
			cancel(err)
		}
	})
	f := newFlights(l, s)
	err := f.run(ctx, s.lost)
	cancel(nil)
	singing.Wait()
	if !errors.Is(err, context.Canceled) {
		l.suspects.died(f.inFlight)
	}
	return ended(ctx, err)
}

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

	boundary uint64        // what was queued before the connection is history
	history  atomic.Int64  // publishes of history in flight
	freed    chan struct{} // one of them was acknowledged
	backfill backfiller

	mu         sync.Mutex
	moved      *sync.Cond // publishing or ended changed
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
		unsent: l.unacked, freed: make(chan struct{}, 1), boundary: l.queue.LastSequence(), backfill: backfiller{limit: l.opt.Backfill},
	}
	f.moved = sync.NewCond(&f.mu)
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
		f.moved.Wait()
	}
	f.closed = true
}

// send publishes what a former generation left, then what the queue hands
// out, while the window has room.
func (f *flights) send(ctx context.Context) {
	defer func() {
		f.mu.Lock()
		f.ended = true
		f.moved.Broadcast()
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
	history := f.backfill.room(time.Now(), cap(f.slots), int(f.history.Load()))
	wait := ctx
	if f.backfill.held(time.Now()) { // look again soon
		var cancel context.CancelFunc
		wait, cancel = context.WithTimeout(ctx, backfillPause)
		defer cancel()
	}
	entries, err := f.link.queue.Next(wait, Want{Max: room, MaxBytes: fetchBytes, Boundary: f.boundary, History: history, Wake: f.freed})
	if err != nil && wait.Err() == nil {
		f.link.opt.Logger.Error("queue cannot be read", "error", err)
		sleep(ctx, time.Second)
	}
	for _, e := range entries {
		if e.history {
			f.backfill.sent(time.Now(), e.bytes())
		}
	}
	f.unsent = f.link.sift(entries)
}

// publish sends the next entry; false means that the generation has ended.
func (f *flights) publish() bool {
	f.mu.Lock()
	e := f.unsent[0]
	f.unsent, f.publishing = f.unsent[1:], &e
	f.moved.Broadcast()
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
	timer := time.NewTimer(f.link.opt.AckTimeout)
	defer timer.Stop()
	for {
		if f.head == nil {
			select {
			case next := <-f.sent:
				f.head = &next
			case err := <-lost:
				return fmt.Errorf("connection lost: %w", err)
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		timer.Reset(time.Until(f.head.sent.Add(f.link.opt.AckTimeout)))
		select {
		case <-f.head.token.Done():
			if err := f.settleHead(); err != nil {
				return err
			}
		case err := <-lost:
			return fmt.Errorf("connection lost: %w", err)
		case <-timer.C:
			if f.session.conn.busy() { // it may not have left yet; the connection minds a stall
				f.head.sent = time.Now()
				continue
			}
			return fmt.Errorf("no PUBACK within %v for seq %d", f.link.opt.AckTimeout, f.head.entry.Seq)
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
	now := time.Now()
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

func (l *Link) inFlight(n int) {
	l.mu.Lock()
	l.stats.InFlight = n
	l.mu.Unlock()
}
