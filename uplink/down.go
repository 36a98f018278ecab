package uplink

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// Bounds of what came down and waits for the local broker. MQTT 3.1.1 lets
// the centre send without waiting, though most keep 20 to 32 in flight.
const (
	maxDownRecords = 1024
	maxDownBytes   = 4 << 20 // beside one message
)

const (
	// redeliverEvery is how often a message that the local broker refused is
	// offered again.
	redeliverEvery = time.Second
	// resubscribeEvery is how often a subscription that the centre refused is
	// asked for again.
	resubscribeEvery = 10 * time.Minute
)

// Deliver hands a message that came down to the local broker. nil means that
// the broker has it. It may be called again with the same message. The link
// goes on while it blocks, but what comes down waits.
type Deliver func(topic string, payload []byte, qos byte, retain bool) error

// DownStats counts what came down since the start.
type DownStats struct {
	Received  uint64 // from the centre
	Delivered uint64 // the local broker has them
	Refused   uint64 // times that the local broker did not take one
	Echoes    uint64 // of what this appliance had sent; dropped
	// Dropped have no route or no possible local topic, or are QoS 0 and
	// found no room.
	Dropped   uint64
	LastDrop  string // why
	LeftThere uint64 // at QoS 1 without room; the centre sends them again on the next connection
	Waiting   int    // for the local broker, now
	Forgotten uint64 // echoes that were no longer waited for, for want of room
	// Error is why the local broker does not take what waits; empty while it
	// does.
	Error string
	// Denied says, by filter, why the centre does not let us subscribe.
	Denied map[string]string
}

// downlink brings messages from the centre to the local broker, one at a
// time and in order, and acknowledges each when the broker has it.
type downlink struct {
	router  atomic.Pointer[DownRouter]
	deliver Deliver
	own     func(topic string, payload []byte) bool // takes what is the link's own
	echoes  echoes

	mu         sync.Mutex
	waiting    []arrival
	bytes      int64
	generation uint64        // of the connection
	full       bool          // something was left at the centre
	behind     chan struct{} // closed when only that is left; nil then, replaced by open
	wake       chan struct{}
	stats      DownStats

	fatal map[string]int // by filter, connections in a row that died on it; one listen at a time owns it
}

// arrival is a message that came down.
type arrival struct {
	mqtt.Message
	generation uint64
}

func (a arrival) bytes() int64 { return int64(len(a.Topic()) + len(a.Payload())) }

func newDownlink(router *DownRouter, deliver Deliver, own func(string, []byte) bool) *downlink {
	d := &downlink{
		deliver: deliver, own: own, echoes: echoes{seed: maphash.MakeSeed()},
		wake:  make(chan struct{}, 1),
		stats: DownStats{Denied: map[string]string{}}, fatal: map[string]int{},
	}
	d.use(router)
	return d
}

// use changes what comes down. The subscriptions follow on the next
// connection.
func (d *downlink) use(router *DownRouter) {
	if router == nil || d.deliver == nil {
		router = &DownRouter{} // brings nothing
	}
	d.router.Store(router)
}

// open begins a connection. What an earlier one brought and is unacknowledged
// comes again, in order. take gets what comes down; behind is closed when the
// connection has to be made anew to get what was left at the centre.
func (d *downlink) open(now time.Time) (take func(mqtt.Message), behind <-chan struct{}) {
	d.echoes.renew(now)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.generation++
	d.full, d.behind = false, make(chan struct{})
	d.waiting = slices.DeleteFunc(d.waiting, func(a arrival) bool { return a.Qos() > 0 })
	d.bytes = 0
	for _, a := range d.waiting {
		d.bytes += a.bytes()
	}
	generation := d.generation
	return func(m mqtt.Message) { d.take(arrival{m, generation}) }, d.behind
}

// take puts a message in the line. It does not block: it is called by what
// also reads the PUBACKs.
func (d *downlink) take(a arrival) {
	if d.own(a.Topic(), a.Payload()) {
		a.Ack()
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if a.generation != d.generation {
		return // not acknowledged: it comes again
	}
	d.stats.Received++
	room := len(d.waiting) == 0 || (len(d.waiting) < maxDownRecords && d.bytes+a.bytes() <= maxDownBytes)
	switch {
	case a.Qos() == 0 && !room:
		d.stats.Dropped++
		d.stats.LastDrop = "no room for a message of QoS 0"
		return
	case a.Qos() > 0 && (!room || d.full): // what is behind it must not overtake it
		d.full = true
		d.stats.LeftThere++
		return
	}
	d.waiting = append(d.waiting, a)
	d.bytes += a.bytes()
	signal(d.wake)
}

// serve delivers until ctx ends.
func (d *downlink) serve(ctx context.Context) {
	for ctx.Err() == nil {
		a, ok := d.head()
		if !ok {
			select {
			case <-d.wake:
			case <-ctx.Done():
			}
			continue
		}
		done, err := d.handle(a)
		d.handled(a, done, err)
		if !done {
			sleep(ctx, redeliverEvery)
		}
	}
}

func (d *downlink) head() (arrival, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.waiting) == 0 {
		return arrival{}, false
	}
	return d.waiting[0], true
}

// handle decides about one message. done means that the centre can forget
// it. err is why it could not be delivered, now or ever.
func (d *downlink) handle(a arrival) (done bool, err error) {
	_, to, ok := d.router.Load().Route(a.Topic())
	if !ok {
		return true, errNoRoute
	}
	if err := checkTopic(to); err != nil {
		return true, err
	}
	if d.echoes.take(time.Now(), a.Topic(), a.Payload(), a.Retained()) {
		return true, errEcho
	}
	if err := d.deliver(to, a.Payload(), a.Qos(), a.Retained()); err != nil {
		return false, err
	}
	return true, nil
}

// What becomes of a message that is not for the local broker.
var (
	errEcho    = errors.New("an echo")
	errNoRoute = errors.New("no down route matches")
)

// handled accounts for one message and acknowledges it if it is done.
func (d *downlink) handled(a arrival, done bool, err error) {
	if done {
		a.Ack() // after the connection is gone this does nothing, and the message comes again
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stats.Error = ""
	switch {
	case err == nil:
		d.stats.Delivered++
	case errors.Is(err, errEcho):
		d.stats.Echoes++
	case done:
		d.stats.Dropped++
		d.stats.LastDrop = fmt.Sprintf("%s: %v", a.Topic(), err)
	default:
		d.stats.Refused++
		d.stats.Error = err.Error()
		return
	}
	if len(d.waiting) > 0 && d.waiting[0] == a { // else a new connection began
		d.waiting[0] = arrival{} // let go of its payload
		d.waiting, d.bytes = d.waiting[1:], d.bytes-a.bytes()
	}
	if d.full && len(d.waiting) == 0 && d.behind != nil {
		close(d.behind)
		d.behind = nil
	}
}

// sending remembers a publish that the centre may send back.
func (d *downlink) sending(m Message) {
	if d.router.Load().brings(m.Topic) {
		d.echoes.sent(time.Now(), m.Topic, m.Payload, m.Retain)
	}
}

func (d *downlink) snapshot() DownStats {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.stats
	s.Waiting, s.Forgotten, s.Denied = len(d.waiting), d.echoes.lost(), map[string]string{}
	for filter, why := range d.stats.Denied {
		s.Denied[filter] = why
	}
	return s
}

// listen subscribes on one connection, and asks again for what the centre
// refused, until ctx ends. A subscription that the centre answers by closing
// the connection is left alone for a while.
func (d *downlink) listen(ctx context.Context, s session, timeout time.Duration) {
	open := d.router.Load().Filters()
	for {
		open = slices.DeleteFunc(open, func(filter string) bool {
			if ctx.Err() != nil || d.fatal[filter] >= deadAfter {
				return false
			}
			err := s.subscribe(ctx, filter, 1, timeout)
			return d.subscribed(ctx, filter, err)
		})
		if ctx.Err() != nil || len(open) == 0 {
			return
		}
		sleep(ctx, resubscribeEvery)
		if ctx.Err() == nil {
			clear(d.fatal)
		}
	}
}

// subscribed takes the answer to one subscription.
func (d *downlink) subscribed(ctx context.Context, filter string, err error) (ok bool) {
	if ctx.Err() != nil && !errors.Is(err, errLost) {
		return false // the connection was ended from here
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err == nil:
		delete(d.stats.Denied, filter)
	case errors.Is(err, errRefused):
		d.stats.Denied[filter] = err.Error()
	default:
		d.fatal[filter]++
		if d.fatal[filter] >= deadAfter {
			err = fmt.Errorf("%d connections died on it: %w", deadAfter, err)
		}
		d.stats.Denied[filter] = err.Error()
		return false
	}
	d.fatal[filter] = 0
	return err == nil
}
