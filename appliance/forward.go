package main

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"outstation/appliance/internal/forward"
	"outstation/broker"
)

// ForwardConfig is a rule that makes events of devices' messages.
type ForwardConfig struct {
	Source    string `yaml:"source"`
	Match     string `yaml:"match"`
	Subject   string `yaml:"subject"`
	EventType string `yaml:"event_type"`
	Timestamp string `yaml:"timestamp"`
}

func (c Config) forwardRules() []forward.Rule {
	out := make([]forward.Rule, len(c.Forward))
	for i, r := range c.Forward {
		out[i] = forward.Rule(r)
	}
	return out
}

// forwardEngine compiles the rules. An event fits into what the centre takes,
// beside its topic.
func (c Config) forwardEngine() (*forward.Engine, error) {
	largest := min(int(c.Uplink.MaxPacketBytes)-1<<10, forward.DefaultMaxEventBytes)
	return forward.New(c.origin(), c.forwardRules(), max(largest, forward.MinEventBytes))
}

// forward checks each rule by itself, so that each problem has its line.
func (c *checker) forward(rules []forward.Rule) {
	for i, r := range rules {
		for _, wrong := range forward.Check(r) {
			c.add(fmt.Sprintf("forward[%d].%s", i, wrong.Field), "%v", wrong.Err)
		}
	}
}

// forwarder makes events, hands them to local subscribers, and counts them.
type forwarder struct {
	engine atomic.Pointer[forward.Engine] // a reload changes it
	out    *publisher
	stats  forward.Counters
}

func newForwarder(engine *forward.Engine, out *publisher) *forwarder {
	f := &forwarder{out: out}
	f.engine.Store(engine)
	return f
}

// sink adds to a sink what the rules make of the same messages. A message that
// is replicated itself and an event too is acknowledged when both are durable.
func (f *forwarder) sink(next broker.Sink) broker.Sink {
	return func(m broker.Message) broker.Store {
		ev, ok := f.engine.Load().Message(m.Topic, m.Payload, time.Now())
		if !ok {
			return next(m)
		}
		stores := []broker.Store{f.offer(ev)}
		if raw := next(m); raw != nil {
			stores = append(stores, raw)
		}
		return all(stores)
	}
}

// offer hands an event to local subscribers at once, and returns what stores
// it. The event's ids are those that it has now, however often it is offered.
func (f *forwarder) offer(ev forward.Event) broker.Store {
	if ev.Unparsed != "" {
		f.stats.Unparsed(ev.Source, ev.Unparsed)
	}
	if err := f.out.broker.Publish(ev.Topic, ev.Bytes, 1, false); err != nil && !errors.Is(err, net.ErrClosed) {
		f.out.log.Error("local publish failed", "topic", ev.Topic, "error", err)
	}
	refused := false
	return func(done func(error)) error {
		err := f.enqueue(ev, done)
		if err != nil && !refused {
			refused = true
			f.stats.Refused(ev.Source)
		}
		return err
	}
}

func (f *forwarder) enqueue(ev forward.Event, done func(error)) error {
	route, to, ok := f.out.router.Load().Route(ev.Topic)
	if !ok {
		return fmt.Errorf("no route for %s", ev.Topic)
	}
	return f.out.queue.Enqueue(message(route, to, 1, ev.Bytes, false), func(err error) {
		if err == nil {
			f.stats.Stored(ev.Source, ev.EventType, time.Now())
		}
		done(err)
	})
}

// several stores one publish in several places.
type several struct {
	stores []broker.Store
	next   int // the first that has not accepted; only Store's caller touches it

	mu   sync.Mutex
	open int         // that have accepted and not settled
	errs error       // of those that have settled
	done func(error) // set when all have accepted
}

// all returns a Store that is done when all the given ones are. When it is
// called again after a refusal, it goes on with the one that refused: what has
// accepted is not stored twice.
func all(stores []broker.Store) broker.Store {
	if len(stores) == 1 {
		return stores[0]
	}
	return (&several{stores: stores}).store
}

func (s *several) store(done func(error)) error {
	for ; s.next < len(s.stores); s.next++ {
		s.begin()
		if err := s.stores[s.next](s.settled); err != nil {
			s.withdraw()
			return err
		}
	}
	s.finish(done)
	return nil
}

func (s *several) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open++
}

func (s *several) withdraw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
}

// finish says whom to tell, and tells it if nothing is open any more.
func (s *several) finish(done func(error)) {
	s.mu.Lock()
	s.done = done
	ready, err := s.open == 0, s.errs
	s.mu.Unlock()
	if ready {
		done(err)
	}
}

func (s *several) settled(err error) {
	s.mu.Lock()
	s.open--
	s.errs = errors.Join(s.errs, err)
	ready, done, err := s.open == 0 && s.done != nil, s.done, s.errs
	s.mu.Unlock()
	if ready {
		done(err)
	}
}
