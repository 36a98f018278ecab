package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"outstation/broker/access"
)

const (
	// DefaultRefusalWait is how long a 3.1.1 device's publish that cannot be
	// stored waits for space before the connection is closed.
	DefaultRefusalWait = 10 * time.Second
	// refusalWait5 is the same for MQTT 5, whose devices are told.
	refusalWait5 = time.Second
	retryEvery   = 10 * time.Millisecond

	// MaxPacketBytes is the largest packet that a device may ever send: the
	// queue takes what fits into it.
	MaxPacketBytes = 1 << 20
)

// Message is a device's publish.
type Message struct {
	ClientID string
	Topic    string
	Payload  []byte // must not be changed
	QoS      byte
	Retain   bool
	Expiry   time.Time // of an MQTT 5 message; zero means never
	// Properties are the other MQTT 5 properties of the message, encoded as in
	// a PUBLISH without the length before them, or nil. They can be as large
	// as a packet.
	Properties []byte
}

// Store takes one message. A nil result means that done will be called
// exactly once, from any goroutine, with nil after the message is durable or
// with the error that prevented it; done does not block. Any other result is
// a refusal, and done is not called; Store may be called again. Store must
// not block.
type Store func(done func(error)) error

// Sink decides about a device's publish: nil means that it stays local.
type Sink func(Message) Store

// Options of a Broker. Zero values mean the defaults.
type Options struct {
	Listeners []Listener
	// Users are asked for their passwords. Without them nobody is asked who
	// they are, and only programs on this machine can connect, or devices with
	// certificates.
	Users *access.Users
	// AllowAnonymous lets programs on this machine in without a name although
	// there are users.
	AllowAnonymous bool
	ACL            *access.ACL // nil allows everything but what is reserved
	Reserved       []string    // topic prefixes that devices may publish below only if the ACL names them
	// Validate judges what a device says, will or publish, where it may: an
	// error refuses it. It is called from any goroutine and must not block.
	Validate func(topic string, payload []byte) error
	// NeverRetained tells topics whose messages are taken as if they were not
	// retained; nil knows none. It is called from any goroutine.
	NeverRetained func(topic string) bool
	Sink          Sink // nil keeps everything local
	RefusalWait   time.Duration
	// MaxKeepAlive is the longest keep-alive that an MQTT 5 device is given;
	// 0 leaves it to the device.
	MaxKeepAlive time.Duration
	// Acknowledged is told, for each publish of QoS 1 or 2 that was stored, how long it took from the publish to the PUBACK or PUBREC that
	// left for the device. It is called from any goroutine and must not block.
	Acknowledged func(time.Duration)
	Logger       *slog.Logger
	Limits       Limits
	Bans         []Ban // from the start

	// Dir is where sessions, what they are owed and retained messages are
	// kept; empty keeps them in memory. It is the broker's alone.
	Dir          string
	MinFreeBytes uint64 // of Dir's file system; below it nothing is stored
	Sessions     Sessions

	// Unsynced leaves out the sync of each commit. For tests only.
	Unsynced bool

	fault     func() error  // for tests: called before each commit of the store
	willGrace time.Duration // for tests: in the place of DefaultWillGrace
}

// Broker is the embedded MQTT server. Its methods may be called from any
// goroutine.
type Broker struct {
	opt    Options
	server *mqtt.Server
	hook   *hook
	closed atomic.Bool
	loops  sync.WaitGroup
	cancel context.CancelFunc

	listening []*listening // in the order of Options; fixed after Listen

	background sync.WaitGroup
}

// New makes a broker; it does no I/O.
func New(opt Options) *Broker {
	if opt.RefusalWait == 0 {
		opt.RefusalWait = DefaultRefusalWait
	}
	if opt.Logger == nil {
		opt.Logger = slog.Default()
	}
	opt.Limits = opt.Limits.withDefaults()
	caps := mqtt.NewDefaultServerCapabilities()
	caps.MaximumMessageExpiryInterval = 0 // else the server adds an expiry of its own to every message
	caps.MaximumPacketSize = uint32(opt.Limits.MaxPacketBytes)
	caps.ReceiveMaximum = math.MaxUint16                   // beyond it the server refuses QoS 0 too; see OnPublish
	caps.TopicAliasMaximum = maxAliases                    // a device that knew more could make us remember gigabytes
	caps.MaximumClientWritesPending = 64                   // only what the server says of itself, below $SYS
	caps.Compatibilities.NoInheritedPropertiesOnAck = true // else an acknowledgement repeats the user properties of its publish; see README
	b := &Broker{opt: opt, server: mqtt.New(&mqtt.Options{
		Capabilities:            caps,
		Logger:                  slog.New(quiet{opt.Logger.Handler()}),
		SysTopicResendInterval:  10,
		ClientNetReadBufferSize: 4 << 10,
	})}
	opt.Sessions.setDefaults()
	opt.MinFreeBytes = cmp.Or(opt.MinFreeBytes, DefaultMinFreeBytes)
	b.opt = opt
	stats := &counters{acknowledged: opt.Acknowledged}
	b.hook = &hook{
		opt: opt, server: b.server, stats: stats, stop: make(chan struct{}),
		logins:   logins{newPasswords(), newAttempts()},
		sessions: newSessions(b.server, stats, sessionLimit{opt.Sessions.MaxMessages, opt.Sessions.MaxBytes, opt.Limits.MaxInflight}, opt.Sessions.MaxExpiry),
		presence: newPresence(), bans: newBans(opt.Bans), connects: newConnectRates(opt.Limits.ConnectsPerS),
	}
	b.hook.policy.Store(&policy{users: opt.Users, acl: opt.ACL})
	return b
}

// Listen reads what a former process stored, opens every listener and starts
// to serve devices.
func (b *Broker) Listen() error {
	if err := b.server.AddHook(b.hook, nil); err != nil {
		return fmt.Errorf("broker hook: %w", err)
	}
	if err := b.restore(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel = cancel
	b.loops.Go(func() { b.hook.sessions.keep(ctx) })
	for i, l := range b.opt.Listeners {
		if err := b.listen(fmt.Sprintf("%s-%d", l.Type, i), l); err != nil {
			return errors.Join(err, b.Close())
		}
	}
	b.background.Go(func() { b.hook.presence.watch(b.hook.stop) })
	if err := b.server.Serve(); err != nil {
		return errors.Join(fmt.Errorf("broker: %w", err), b.Close())
	}
	return nil
}

// restore opens the store, if there is to be one.
func (b *Broker) restore() error {
	if b.opt.Dir == "" {
		return nil
	}
	var left restored
	st, err := openStore(b.opt, left.read)
	if err != nil {
		return err
	}
	b.hook.sessions.adopt(st, &left)
	for _, s := range b.hook.sessions.all() { // users and rules may be others
		if s.owner().kind == anonymous && b.opt.Users != nil && !b.opt.AllowAnonymous {
			s.disown() // its device has a name now
		}
		b.hook.judgeAgain(s, b.hook.policy.Load())
	}
	b.hook.warnMuted()
	b.hook.executeWills(st, &left, cmp.Or(b.opt.willGrace, DefaultWillGrace))
	return nil
}

func (b *Broker) listen(id string, l Listener) error {
	if err := CheckListener(l, b.opt.Users != nil); err != nil {
		return err
	}
	ln, err := listen(l, b.opt.Logger)
	if err != nil {
		return err
	}
	b.listening = append(b.listening, ln)
	var in net.Listener = ln
	if l.webSocket() {
		in = newWebSocket(ln, b.opt.Logger)
	}
	return b.server.AddListener(contained{listeners.NewNet(id, in), b.hook})
}

// Addresses are where the broker listens, in the order of the configuration.
func (b *Broker) Addresses() []string {
	var out []string
	for _, l := range b.listening {
		out = append(out, l.Addr().String())
	}
	return out
}

// Publish hands a message of the appliance's own to local subscribers, past
// the Sink. It waits for none of them.
func (b *Broker) Publish(topic string, payload []byte, qos byte, retain bool) error {
	if b.closed.Load() {
		return fmt.Errorf("publish on %s: %w", topic, net.ErrClosed)
	}
	b.hook.storeUnasked(b.hook.spread(packets.Packet{
		ProtocolVersion: 5, FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: qos, Retain: retain}, TopicName: topic, Payload: payload,
	}, ""))
	return nil
}

// Close disconnects the devices and stops. It is safe to call twice.
func (b *Broker) Close() error {
	if b.closed.Swap(true) {
		return nil
	}
	close(b.hook.stop)
	b.hook.shutDoors()
	b.background.Wait()
	b.hook.sessions.hurry()
	err := b.server.Close()
	if b.cancel != nil {
		b.cancel()
		b.loops.Wait()
	}
	if st := b.hook.sessions.store; st != nil {
		err = errors.Join(err, st.Close())
	}
	if err != nil {
		return fmt.Errorf("close broker: %w", err)
	}
	return nil
}

// Stats is a snapshot of the broker's counters since its start.
type Stats struct {
	Addresses        []string
	Clients          int64 // connected now
	MessagesReceived int64
	MessagesSent     int64
	BytesReceived    int64
	BytesSent        int64
	Subscriptions    int64
	Retained         int64
	HeldAcks         int64 // acknowledgements that wait for the disk now
	Refused          int64 // QoS 1 and 2 publishes that were not stored, and so never acknowledged
	LostQoS0         int64 // QoS 0 publishes that were not stored
	Denied           int64 // publishes below a reserved prefix
	Dropped          int64 // messages that a subscriber missed by not reading
	Expired          int64 // messages that waited for a subscriber for too long
	Panics           int64 // connections that ended in a panic of the server
	Sessions         SessionsStats
	// Limited counts how often devices went beyond a limit, by its name.
	Limited map[string]int64

	Listeners    []ListenerStats
	LoginsFailed int64
	LoginsSlowed int64 // not tried, after failures of the same address
	LoginsBusy   int64 // not tried, as too many waited
	Invalid      int64 // publishes and wills that Validate refused
	Revoked      int64 // connections and sessions that a reload ended
	Withheld     int64 // messages that waited for a subscriber who may not read them any more
}

// Stats returns a snapshot.
func (b *Broker) Stats() Stats {
	info, c := b.server.Info.Clone(), b.hook.stats
	sessions := b.hook.sessions.snapshot()
	s := Stats{
		Addresses:        b.Addresses(),
		Clients:          info.ClientsConnected,
		MessagesReceived: info.MessagesReceived,
		MessagesSent:     c.sent.Load(),
		BytesReceived:    info.BytesReceived,
		BytesSent:        c.written.Load(),
		Subscriptions:    info.Subscriptions,
		Retained:         sessions.retained,
		HeldAcks:         c.held.Load(),
		Refused:          c.refused.Load(),
		LostQoS0:         c.lost.Load(),
		Denied:           c.denied.Load(),
		Dropped:          c.dropped.Load() + c.trimmed.Load() + info.InflightDropped,
		Expired:          c.expired.Load(),
		Panics:           c.panics.Load(),
		Sessions:         sessions.SessionsStats,
		LoginsFailed:     c.loginsFailed.Load(),
		LoginsSlowed:     c.loginsSlowed.Load(),
		LoginsBusy:       c.loginsBusy.Load(),
		Invalid:          c.invalid.Load(),
		Revoked:          c.revoked.Load(),
		Withheld:         c.withheld.Load(),
		Limited:          c.limits.counts(),
	}
	for _, l := range b.listening {
		s.Listeners = append(s.Listeners, l.stats())
	}
	return s
}
