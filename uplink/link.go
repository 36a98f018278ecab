package uplink

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// Defaults of LinkOptions.
const (
	DefaultWindow     = 256
	DefaultAckTimeout = 30 * time.Second
	// DefaultMaxPacketBytes is EMQX's and Mosquitto's.
	DefaultMaxPacketBytes = 1 << 20
	// fetchBytes bounds what is taken from the queue at once.
	fetchBytes = 1 << 20
	// lowestBytes bounds what of the lowest lane may wait for its PUBACK, passed
	// by no more than one record: on a slow line nothing else can go before it.
	lowestBytes = 64 << 10
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
	opt   LinkOptions // Centre and Window are those of the generation; see tuning
	queue *Queue
	tuned *tuned[Tuning]

	unacked  []Entry // handed out by the queue, not settled; owned by Serve
	suspects suspects
	patience patience
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
	// SoonClosed counts connections in a row that the centre closed soon after
	// they were made; 0 once one has stood for a while. See TakenOver.
	SoonClosed int
}

// NewLink makes a link; it does no I/O.
func NewLink(q *Queue, opt LinkOptions) *Link {
	t := Tuning{opt.Centre, opt.Window, opt.Down, opt.AckTimeout, opt.MaxPacketBytes, opt.Backoff, opt.Backfill}.withDefaults()
	if opt.Pauser == nil {
		opt.Pauser = &Pauser{}
	}
	if opt.CanaryEvery == 0 {
		opt.CanaryEvery, opt.CanaryTimeout = DefaultCanaryEvery, DefaultCanaryTimeout
	}
	if opt.ProbeGap == 0 {
		opt.ProbeGap = DefaultProbeGap
	}
	opt.Centre, opt.Window, opt.AckTimeout, opt.MaxPacketBytes, opt.Backoff = t.Centre, t.Window, t.AckTimeout, t.MaxPacketBytes, t.Backoff
	if opt.Logger == nil {
		opt.Logger = slog.Default()
	}
	l := &Link{
		opt: opt, queue: q, tuned: newTuned(t), canary: canary{topic: opt.Canary, every: opt.CanaryEvery, timeout: opt.CanaryTimeout},
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
	retry(ctx, l.backoff, l.attempt, func(wait time.Duration, err error) {
		if errors.Is(err, errRenew) {
			l.changesOver(wait, err)
			return
		}
		err = l.hinted(err)
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
	if s.State == LinkConnected && time.Since(s.Since) >= takeoverWithin {
		s.SoonClosed = 0
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
	t, changed := l.tuned.get()
	l.opt.Centre, l.opt.Window = t.Centre, t.Window
	l.down.use(t.Down)
	l.set(func(s *LinkStats) {
		if s.Window = t.Window; s.State == LinkConnected {
			s.State, s.Reason, s.InFlight = LinkConnecting, errTuned.Error(), 0
		}
	})
	return l.opt.Pauser.during(ctx, func(ctx context.Context) error { return unlessTuned(ctx, changed, l.generation) })
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
	began := time.Now()
	defer func() { l.ending(s, time.Since(began)) }()
	l.opt.Logger.Info("link to the centre is up", "broker", s.broker)
	l.set(func(st *LinkStats) {
		st.State, st.Broker, st.Reason, st.NextAttempt = LinkConnected, s.broker, "", time.Time{}
		st.Generation++
	})
	l.expireUnacked()
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
		if err := l.canary.run(ctx, s, l.patience.extra(l.tuning().AckTimeout)); err != nil {
			cancel(err)
		}
	})
	f := newFlights(l, s)
	err := f.run(ctx, s.lost)
	cancel(nil)
	singing.Wait()
	err = ended(ctx, err)
	l.judge(f, err)
	return err
}

func (l *Link) inFlight(n int) {
	l.mu.Lock()
	l.stats.InFlight = n
	l.mu.Unlock()
}
