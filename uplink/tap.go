package uplink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// ErrTapRefused says that the centre does not allow a subscription of a Tap.
var ErrTapRefused = errors.New("the centre refuses the subscription")

// tapTimeout bounds each step of making a session at the centre, and of
// removing one.
const tapTimeout = 15 * time.Second

// Tapped is a message that arrived at the centre, as its subscribers get it.
type Tapped struct {
	Topic   string
	Payload []byte
	Again   bool // the centre delivered it to this subscriber before
}

// Tap reads topics at the centre, as a consumer there does, with the
// credentials of the uplink. Its session at the centre outlives its
// connections, so that what is published while it connects again is not missed.
type Tap struct {
	Centre   Centre
	ClientID string // not that of a Link or a Presence
	Topics   []string
	// Take gets every message, one at a time for each connection. The centre is
	// told that it arrived when Take returns.
	Take    func(Tapped)
	Backoff Backoff
	Logger  *slog.Logger

	first session // made by Open
}

// Open makes a new session at the centre and subscribes at QoS 1. The error is
// ErrTapRefused where the centre does not allow that.
func (t *Tap) Open(ctx context.Context) error {
	t.Centre, t.Backoff, t.Logger = linkDefaults(t.Centre, t.Backoff, t.Logger)
	if err := t.Centre.forget(ctx, t.ClientID); err != nil {
		return err
	}
	s, err := t.connect(ctx)
	if err != nil {
		return err
	}
	for _, topic := range t.Topics {
		err := s.subscribe(ctx, topic, 1, tapTimeout)
		if err == nil {
			continue
		}
		s.client.Disconnect(0)
		if errors.Is(err, errRefused) {
			return fmt.Errorf("%w: %s: %w", ErrTapRefused, topic, err)
		}
		return fmt.Errorf("%w %s: subscribe to %s: %w", ErrCentre, s.broker, topic, err)
	}
	t.first = s
	return nil
}

// Serve reads until ctx ends, over as many connections as it takes. It is
// called once, after Open.
func (t *Tap) Serve(ctx context.Context) {
	current := func() (Backoff, <-chan struct{}) { return t.Backoff, nil }
	attempt := func(ctx context.Context) (err error) {
		s := t.first
		t.first = session{}
		if s.client == nil {
			if s, err = t.connect(ctx); err != nil {
				return err
			}
		}
		defer s.client.Disconnect(250)
		select {
		case err := <-s.lost:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	retry(ctx, current, attempt, func(wait time.Duration, err error) {
		t.Logger.Warn("reading at the centre is interrupted", "error", err, "retry_in_ms", wait.Milliseconds())
	})
}

func (t *Tap) connect(ctx context.Context) (session, error) {
	return t.Centre.connect(ctx, dial{clientID: t.ClientID, take: func(m mqtt.Message) {
		t.Take(Tapped{Topic: m.Topic(), Payload: m.Payload(), Again: m.Duplicate()})
		m.Ack() // after the connection is gone this does nothing, and the message comes again
	}})
}

// Sweep removes from the centre what an appliance that will not come back has
// left there: the sessions of the given client ids and the retained messages
// of the given topics. It attempts every one.
func (c Centre) Sweep(ctx context.Context, clientIDs, retained []string) error {
	c, _, _ = linkDefaults(c, Backoff{}, nil)
	var errs []error
	for _, id := range clientIDs {
		errs = append(errs, c.forget(ctx, id))
	}
	if len(retained) > 0 && len(clientIDs) > 0 {
		errs = append(errs, c.unretain(ctx, clientIDs[0], retained))
	}
	return errors.Join(errs...)
}

// forget ends the session of a client id at the centre, which also ends a
// connection that still has it.
func (c Centre) forget(ctx context.Context, clientID string) error {
	s, err := c.connect(ctx, dial{clientID: clientID, clean: true})
	if err != nil {
		return err
	}
	s.client.Disconnect(250)
	return nil
}

func (c Centre) unretain(ctx context.Context, clientID string, topics []string) error {
	s, err := c.connect(ctx, dial{clientID: clientID, clean: true})
	if err != nil {
		return err
	}
	defer s.client.Disconnect(250)
	for _, topic := range topics {
		if err := s.deliver(ctx, Message{Topic: topic, Retain: true}, tapTimeout); err != nil {
			return fmt.Errorf("%w %s: clear %s: %w", ErrCentre, s.broker, topic, err)
		}
	}
	return nil
}
