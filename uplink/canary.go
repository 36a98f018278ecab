package uplink

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// Defaults of the canary.
const (
	DefaultCanaryEvery   = 15 * time.Second
	DefaultCanaryTimeout = 45 * time.Second
)

// errStalled ends a connection whose canaries stopped coming back.
var errStalled = errors.New("the centre acknowledges, but canaries do not come back")

// canary publishes on the appliance's own topic at the centre and waits for
// the message to come back: the proof that the path works in both directions.
// Where none ever came back, the centre may not permit it; then the path is
// unproven and the connection is left alone.
type canary struct {
	topic   string
	every   time.Duration
	timeout time.Duration

	fatal int // connections in a row that ended with a canary unacknowledged; owned by run

	mu     sync.Mutex
	proven bool // one came back, in the life of the process
	back   time.Time
	trip   time.Duration
	sent   string    // the newest canary's payload
	sentAt time.Time // which the wall clock's steps do not change
}

func canaryPayload(t time.Time) []byte { return strconv.AppendInt(nil, t.UnixNano(), 10) }

// received takes what came down on the canaries' topic; false means that it
// is not for the canary.
func (c *canary) received(topic string, payload []byte) bool {
	if c.topic == "" || topic != c.topic {
		return false
	}
	if _, err := strconv.ParseInt(string(payload), 10, 64); err != nil {
		return true // somebody else's message on our topic proves nothing
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.proven, c.back = true, time.Now()
	if string(payload) == c.sent {
		c.trip = time.Since(c.sentAt)
	}
	return true
}

// next is a new canary's payload.
func (c *canary) next() []byte {
	now := time.Now()
	payload := canaryPayload(now)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent, c.sentAt = string(payload), now
	return payload
}

// state is whether the path is proven, when the last canary came back and how
// long it took.
func (c *canary) state() (proven bool, back time.Time, trip time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.proven, c.back, c.trip
}

// run sends canaries on one connection, and returns errStalled when they stop
// coming back, or nil when ctx ends. A centre that closes the connection on a
// canary gets no more of them. One that acknowledges late gets extra time.
func (c *canary) run(ctx context.Context, s session, extra time.Duration) error {
	if proven, _, _ := c.state(); c.topic == "" || (!proven && c.fatal >= deadAfter) {
		<-ctx.Done()
		return nil
	}
	var sent mqtt.Token
	tried := false
	defer func() {
		if c.fatal++; !tried || (sent != nil && sent.WaitTimeout(0) && sent.Error() == nil) {
			c.fatal = 0
		}
	}()
	subscribed := make(chan struct{})
	var subscribing sync.WaitGroup
	defer subscribing.Wait() // it ends with ctx or the connection
	subscribing.Go(func() {
		err := s.subscribe(ctx, c.topic, 0, c.timeout)
		if ctx.Err() == nil || errors.Is(err, errLost) {
			close(subscribed) // refused or not, whether canaries come back is what counts
		}
	})
	tick := time.NewTicker(c.every)
	defer tick.Stop()
	began := time.Now()
	for {
		select {
		case <-subscribed:
			var err error
			tried = true
			if sent, err = s.publish(ctx, Message{Topic: c.topic, QoS: 1, Payload: c.next()}); err != nil {
				return nil // the connection is over, and the collector says so
			}
		case <-ctx.Done():
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		proven, back, _ := c.state()
		if back.Before(began) {
			back = began
		}
		if proven && time.Since(back) > c.timeout+extra {
			return fmt.Errorf("%w for %v", errStalled, c.timeout+extra)
		}
	}
}
