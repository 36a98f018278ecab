package broker

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// Client is a device that is connected.
type Client struct {
	ID            string
	User          string    // empty: anonymous
	Remote        string    // address
	Listener      string    // type and address of the one that it came in by
	Since         time.Time // of the connection
	Version       byte      // of MQTT: 3, 4 (3.1.1) or 5
	KeepAlive     time.Duration
	Subscriptions int
	Muted         int // of them, those that bring nothing under the rules of now
	Owed          int // messages that wait for the device or for its acknowledgement
	Traffic       Traffic
}

// Traffic counts what a device has sent and was sent on this connection. The
// rates are those of the last seconds, an older second counting for less.
type Traffic struct {
	MessagesIn, MessagesOut, BytesIn, BytesOut                 int64
	MessagesInPerS, MessagesOutPerS, BytesInPerS, BytesOutPerS float64
}

const (
	// sampleEvery is how often the rates are taken.
	sampleEvery = time.Second
	// rateMemory is the time after which a second counts for a third.
	rateMemory = 5 * time.Second
)

// ErrNoClient says that no device of that name is connected.
var ErrNoClient = errors.New("no such client is connected")

// present is a device that is connected.
type present struct {
	client *mqtt.Client
	peer   *peer
	about  Client // what does not change

	sampled time.Time // what is below is of this moment; guarded by presence.mu
	last    [4]int64
	rates   [4]float64
}

// presence is who is connected.
type presence struct {
	mu   sync.Mutex
	byID map[string]*present
}

func newPresence() *presence { return &presence{byID: map[string]*present{}} }

// enter notes that a device is connected, unless it has another connection,
// which is returned, or as many others are there already.
func (p *presence) enter(cl *mqtt.Client, from *peer, user string, most int) (former *present, ok bool) {
	in := &present{client: cl, peer: from, sampled: time.Now(), about: Client{
		ID: cl.ID, User: user, Remote: cl.Net.Remote, Listener: from.listener, Since: from.since,
		Version: cl.Properties.ProtocolVersion, KeepAlive: time.Duration(cl.State.Keepalive) * time.Second,
	}}
	in.last = from.traffic.values()
	p.mu.Lock()
	defer p.mu.Unlock()
	if former = p.byID[cl.ID]; former != nil || len(p.byID) >= most {
		return former, false
	}
	p.byID[cl.ID] = in
	return nil, true
}

// leave forgets a connection that has its place.
func (p *presence) leave(cl *mqtt.Client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if in, ok := p.byID[cl.ID]; ok && in.client == cl {
		delete(p.byID, cl.ID)
	}
}

// find returns the connection of a client, or nil.
func (p *presence) find(id string) *present {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.byID[id]
}

// all lists who is connected, by name.
func (p *presence) all() []Client {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]Client, 0, len(p.byID))
	for _, in := range slices.SortedFunc(maps.Values(p.byID), func(a, b *present) int { return cmp.Compare(a.about.ID, b.about.ID) }) {
		c, v, r := in.about, in.peer.traffic.values(), in.rates
		c.Subscriptions = in.client.State.Subscriptions.Len()
		c.Traffic = Traffic{v[0], v[1], v[2], v[3], r[0], r[1], r[2], r[3]}
		out = append(out, c)
	}
	return out
}

// sample brings the rates up to date.
func (p *presence) sample(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, in := range p.byID {
		seconds := now.Sub(in.sampled).Seconds()
		if seconds <= 0 {
			continue
		}
		keep := math.Exp(-seconds / rateMemory.Seconds())
		values := in.peer.traffic.values()
		for i, v := range values {
			in.rates[i] = keep*in.rates[i] + (1-keep)*float64(v-in.last[i])/seconds
		}
		in.sampled, in.last = now, values
	}
}

// watch samples until stop is closed.
func (p *presence) watch(stop <-chan struct{}) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			p.sample(now)
		case <-stop:
			return
		}
	}
}

func (t *traffic) values() [4]int64 {
	return [4]int64{t.messagesIn.Load(), t.messagesOut.Load(), t.bytesIn.Load(), t.bytesOut.Load()}
}

// Clients lists the devices that are connected, by name.
func (b *Broker) Clients() []Client {
	out := b.hook.presence.all()
	for i := range out {
		if s := b.hook.sessions.get(out[i].ID); s != nil {
			out[i].Owed, _ = s.owed()
			out[i].Muted = s.mutedCount()
		}
	}
	return out
}

// Disconnect ends a device's connection. Its session stays, its will is
// published, and it may come back. The error is ErrNoClient.
func (b *Broker) Disconnect(id string) error {
	in := b.hook.presence.find(id)
	if in == nil {
		return fmt.Errorf("%w: %q", ErrNoClient, id)
	}
	_ = b.server.DisconnectClient(in.client, packets.ErrAdministrativeAction) // it returns the reason that it was given
	return nil
}

// Away is the session of a device that is not connected.
type Away struct {
	ID            string
	User          string    // whose it is; empty: of whoever comes next
	Since         time.Time // the end of the connection, or the start of this process
	Until         time.Time // it ends then; zero means never
	Subscriptions int
	Muted         int // of them, those that bring nothing under the rules of now
	Owed          int // messages
	OwedBytes     int64
}

// ErrNoSession says that there is no session of a client.
var ErrNoSession = errors.New("no session of such a client")

// Away lists the sessions of devices that are not connected, by name.
func (b *Broker) Away() []Away {
	var out []Away
	for _, s := range b.hook.sessions.all() {
		if a, ok := s.asAway(); ok {
			a.Muted = s.mutedCount()
			a.Subscriptions = b.hook.sessions.index.count(s)
			out = append(out, a)
		}
	}
	slices.SortFunc(out, func(x, y Away) int { return cmp.Compare(x.ID, y.ID) })
	return out
}

func (s *session) mutedCount() int {
	if m := s.muted.Load(); m != nil {
		return m.count
	}
	return 0
}

// asAway describes a session that waits for its device.
func (s *session) asAway() (a Away, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.present() || !s.keep {
		return a, false
	}
	a = Away{ID: s.id, User: s.who.user, Since: s.away, OwedBytes: s.bytes, Owed: len(s.waiting)}
	if s.stored != nil {
		a.Owed = s.stored.count
	}
	if s.expiry != never {
		a.Until = s.away.Add(time.Duration(s.expiry) * time.Second)
	}
	return a, true
}

// forgetWait is how long a connection may take to end.
const forgetWait = 5 * time.Second

// Forget ends a session with all that it is owed. A device that is connected
// is disconnected before. The error is ErrNoSession, or says that the device
// came back meanwhile.
func (b *Broker) Forget(id string) error {
	h := b.hook
	s := h.sessions.get(id)
	if s == nil {
		return fmt.Errorf("%w: %q", ErrNoSession, id)
	}
	if in := h.presence.find(id); in != nil {
		_ = b.server.DisconnectClient(in.client, packets.ErrAdministrativeAction) // it returns the reason that it was given
		select {
		case <-in.peer.over:
		case <-time.After(forgetWait):
		}
	}
	if h.sessions.discard(s, (*session).isAway) || h.sessions.get(id) != s {
		return nil
	}
	return fmt.Errorf("the client came back at once: %q; ban it first", id)
}
