package uplink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"outstation/uplink/wire"
)

// Presence keeps one retained status topic at the centre true: that of the
// appliance, or of one camera. It has a connection of its own, since a will
// belongs to one connection.
type Presence struct {
	opt   PresenceOptions // Centre is that of the generation
	topic string
	tuned *tuned[reaching]

	mu      sync.Mutex
	state   wire.Presence // without a session
	changed chan struct{}
	up      bool
}

// PresenceOptions of a Presence.
type PresenceOptions struct {
	Centre  Centre
	Origin  wire.Origin
	Camera  string // empty for the appliance itself
	Backoff Backoff
	Pauser  *Pauser // shared with the link; nil means one of its own
	Logger  *slog.Logger
}

// stopTimeout bounds what a clean stop waits for the centre.
const stopTimeout = 2 * time.Second

// NewPresence makes a presence that says online; it does no I/O.
func NewPresence(opt PresenceOptions) *Presence {
	opt.Centre, opt.Backoff, opt.Logger = linkDefaults(opt.Centre, opt.Backoff, opt.Logger)
	if opt.Pauser == nil {
		opt.Pauser = &Pauser{}
	}
	topic := opt.Origin.Status()
	if opt.Camera != "" {
		topic = opt.Origin.CameraStatus(opt.Camera)
	}
	p := &Presence{opt: opt, topic: topic, tuned: newTuned(reaching{opt.Centre, opt.Backoff}), changed: make(chan struct{}, 1)}
	p.Set(wire.Online, "", time.Now())
	return p
}

// Set changes the state (a state of wire.Presence), its reason and the time
// since which it holds. It returns at once; the newest state is sent.
func (p *Presence) Set(state, reason string, since time.Time) {
	at := wire.At(since)
	p.mu.Lock()
	p.state = wire.Presence{DeviceID: p.opt.Origin.DeviceID, CameraID: p.opt.Camera, State: state, Reason: reason, Since: &at}
	p.mu.Unlock()
	signal(p.changed)
}

// Up reports whether the presence's connection stands.
func (p *Presence) Up() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.up
}

// Serve keeps the presence connected until ctx ends, and then says offline
// before it disconnects.
func (p *Presence) Serve(ctx context.Context) {
	attempt := func(ctx context.Context) error {
		if err := p.opt.Pauser.await(ctx); err != nil {
			return err
		}
		r, changed := p.tuned.get()
		p.opt.Centre = r.centre
		return p.opt.Pauser.during(ctx, func(ctx context.Context) error { return unlessTuned(ctx, changed, p.generation) })
	}
	retry(ctx, p.backoff, attempt, func(wait time.Duration, err error) {
		p.opt.Logger.Debug("presence is not connected", "topic", p.topic, "error", err, "retry_in_ms", wait.Milliseconds())
	})
}

func (p *Presence) generation(ctx context.Context) error {
	id := uuid.NewString()
	will, err := wire.Presence{
		DeviceID: p.opt.Origin.DeviceID, CameraID: p.opt.Camera,
		State: wire.Offline, Reason: "connection lost", Session: id,
	}.Encode()
	if err != nil {
		return err
	}
	client := p.opt.Origin.PresenceClient(p.opt.Camera)
	s, err := p.opt.Centre.connect(ctx, dial{clientID: client, clean: true, will: &willMessage{p.topic, will}})
	if err != nil {
		return err
	}
	p.setUp(true)
	defer p.setUp(false)
	ctx, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel(nil)
	watching.Go(func() {
		untold := func(error) {} // the link, which has the same brokers and files, tells it
		r := renewal{centre: p.opt.Centre, session: s, probe: probeClient(client), filesTold: untold, probeTold: untold}
		if err := r.watch(ctx); err != nil {
			cancel(err)
		}
	})
	if err := p.follow(ctx, s, id); err != nil {
		s.abort() // the will speaks for us
		return err
	}
	s.client.Disconnect(250)
	return context.Cause(ctx)
}

// follow sends every change of the state. It returns nil when ctx has ended
// and the centre knows that this is a clean end.
func (p *Presence) follow(ctx context.Context, s session, id string) error {
	for {
		if err := p.publish(ctx, s, id, p.current(), DefaultAckTimeout); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-p.changed:
		case err := <-s.lost:
			return err
		case <-ctx.Done():
			last := p.current()
			at := wire.At(time.Now())
			last.State, last.Reason, last.Since = wire.Offline, "stopped", &at
			switch cause := context.Cause(ctx); {
			case errors.Is(cause, errPaused), errors.Is(cause, errTuned):
				last.Reason = cause.Error()
			case errors.Is(cause, errRenew):
				last.Reason = "reconnecting"
			}
			return p.publish(context.WithoutCancel(ctx), s, id, last, stopTimeout)
		}
	}
}

func (p *Presence) publish(ctx context.Context, s session, id string, m wire.Presence, timeout time.Duration) error {
	m.Session = id
	b, err := m.Encode()
	if err != nil {
		return err
	}
	if err := s.deliver(ctx, Message{Topic: p.topic, Payload: b, Retain: true}, timeout); err != nil {
		return fmt.Errorf("presence on %s: %w", p.topic, err)
	}
	return nil
}

func (p *Presence) current() wire.Presence {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

func (p *Presence) setUp(up bool) {
	p.mu.Lock()
	p.up = up
	p.mu.Unlock()
}
