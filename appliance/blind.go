package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"outstation/uplink/wire"
	"outstation/vision"
)

const (
	// coverageEvery is how often the accounts are made durable while nothing
	// happens. After a crash, blind time may begin that much too early.
	coverageEvery = 30 * time.Second
	// blindRetry is how often what could not be stored is offered again.
	blindRetry = time.Second
	// blindCloseWait bounds how long a clean stop waits for the queue.
	blindCloseWait = 2 * time.Second
	// maxBlindKept bounds the intervals that wait for the disk or the queue.
	// Beyond it the newest of a camera is made longer instead of adding one.
	maxBlindKept = 1024
)

// blindKeeper makes a blind.v1 event of every interval in which a camera was
// not inspected, and keeps each camera's account over restarts.
//
// An interval is first written to a file with its event_id, then offered to the
// queue, and forgotten once the queue has it on disk. So a crash at any point
// repeats an event under the same event_id, and loses none. The file also says
// until when each camera was inspected: what the process did not live to say,
// the next one finds there.
type blindKeeper struct {
	device  string
	path    string
	topic   func(camera string) string
	clock   func() string
	now     func() time.Time
	enqueue func(topic string, payload []byte, done func(error)) error
	publish func(topic string, payload []byte) // to local subscribers; at once
	log     *slog.Logger
	wake    chan struct{}
	stop    func() // ends serve and waits for it; nil before start
	written bool   // there is a file, which has to say what holds now

	mu       sync.Mutex
	accounts func() map[string]vision.Account // nil before start
	resumed  map[string]vision.Account        // what start found, until then
	all      []*blindInterval                 // in the order in which they opened
	gen      uint64                           // of the last change of all
	saved    uint64                           // the gen that the file holds
	off      map[string]time.Duration         // by camera: blind time that this start found
	merged   uint64                           // intervals that made another longer
	unsaved  bool                             // the queue has more than the file knows
	saveErr  error
	queueErr error
	aside    string // where a file that could not be read was moved, and why
}

// How much of an interval the queue has.
const (
	toldNothing = iota
	toldOpening
	toldClosing
)

// blindInterval is an interval until the queue has all of it.
type blindInterval struct {
	EventID string             `json:"event_id"`
	Camera  string             `json:"camera_id"`
	From    time.Time          `json:"from"`
	To      time.Time          `json:"to,omitzero"` // zero while it is open
	Reason  vision.BlindReason `json:"reason"`
	Clock   string             `json:"clock,omitempty"`
	Told    int                `json:"told"`

	gen     uint64 // of its last change; only what is saved is offered
	offered int    // that the queue has or was asked to take
}

// account is what to continue a camera's account with.
func (k *blindKeeper) account(camera string) vision.Account { return k.resumed[camera] }

// start keeps the accounts until Close.
func (k *blindKeeper) start(accounts func() map[string]vision.Account) {
	k.mu.Lock()
	k.accounts = accounts
	k.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { k.serve(ctx) })
	k.stop = func() { cancel(); done.Wait() }
}

func (k *blindKeeper) serve(ctx context.Context) {
	retry := time.NewTicker(blindRetry)
	defer retry.Stop()
	saved := k.now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
			k.flush(false)
		case <-retry.C:
			due := k.now().Sub(saved) >= coverageEvery
			if due {
				saved = k.now()
			}
			k.flush(due)
		}
	}
}

// told is the pipeline's OnBlind: it returns at once.
func (k *blindKeeper) told(i vision.Interval) {
	k.mu.Lock()
	if i.To.IsZero() {
		k.opens(i)
	} else if open := k.open(i.Camera); open != nil {
		k.closes(open, i.To)
	}
	k.mu.Unlock()
	k.signal()
}

// signal wakes serve.
func (k *blindKeeper) signal() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// open is the open interval of a camera, or nil; mu is held.
func (k *blindKeeper) open(camera string) *blindInterval {
	for _, b := range k.all {
		if b.Camera == camera && b.To.IsZero() {
			return b
		}
	}
	return nil
}

// opens adds an interval; mu is held.
func (k *blindKeeper) opens(i vision.Interval) {
	k.gen++
	if len(k.all) >= maxBlindKept {
		for _, b := range slices.Backward(k.all) {
			if b.Camera == i.Camera && b.offered < toldClosing {
				b.To, b.gen = time.Time{}, k.gen
				k.merged++
				return
			}
		}
	}
	b := &blindInterval{EventID: uuid.NewString(), Camera: i.Camera, From: i.From, Reason: i.Reason, Clock: k.unsure(), gen: k.gen}
	k.all = append(k.all, b)
	k.publishLocal(b)
}

// closes ends an interval, never before it began; mu is held.
func (k *blindKeeper) closes(b *blindInterval, to time.Time) {
	if to.Round(0).Before(b.From.Round(0)) {
		to = b.From
	}
	if clock := k.unsure(); clock != "" {
		b.Clock = clock
	}
	k.gen++
	b.To, b.gen = to, k.gen
	k.publishLocal(b)
}

// unsure is ClockFreeRunning while the clock is that, and otherwise nothing: an
// interval of a synchronised clock has the fields of the contract alone.
func (k *blindKeeper) unsure() string {
	if clock := k.clock(); clock == wire.ClockFreeRunning {
		return clock
	}
	return ""
}

// event is an interval on the wire, as it was when it opened or as it is.
func (k *blindKeeper) event(b *blindInterval, opening bool) ([]byte, error) {
	e := wire.Blind{EventID: b.EventID, DeviceID: k.device, CameraID: b.Camera, From: wire.At(b.From), Reason: string(b.Reason), Clock: b.Clock}
	if !opening && !b.To.IsZero() {
		to := wire.At(b.To)
		e.To = &to
	}
	return e.Encode()
}

func (k *blindKeeper) publishLocal(b *blindInterval) {
	payload, err := k.event(b, false)
	if err != nil {
		k.log.Error("a blind interval cannot be written", "camera", b.Camera, "error", err)
		return
	}
	k.publish(k.topic(b.Camera), payload)
}

// flush makes what changed durable, first in the file and then in the queue.
// What the queue refused is offered again without another write.
func (k *blindKeeper) flush(due bool) {
	k.mu.Lock()
	due = due || k.unsaved || k.gen > k.saved
	k.mu.Unlock()
	if due && k.save() != nil {
		return // health says so
	}
	for _, o := range k.offers() {
		k.offer(o)
	}
}

// wants is how much of an interval the queue should have.
func (b *blindInterval) wants() int {
	if b.To.IsZero() {
		return toldOpening
	}
	return toldClosing
}

// blindOffer is one event for the queue.
type blindOffer struct {
	interval *blindInterval
	told     int
	payload  []byte
}

// offers are the events that are in the file and not in the queue.
func (k *blindKeeper) offers() (all []blindOffer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, b := range k.all {
		if b.gen > k.saved {
			continue
		}
		for told := b.offered + 1; told <= b.wants(); told++ {
			payload, err := k.event(b, told == toldOpening)
			if err != nil {
				k.queueErr = err
				break
			}
			all = append(all, blindOffer{b, told, payload})
			b.offered = told
		}
	}
	return all
}

// offer gives an event to the queue; one that is refused is offered again.
func (k *blindKeeper) offer(o blindOffer) {
	done := func(err error) { k.stored(o, err) }
	if err := k.enqueue(k.topic(o.interval.Camera), o.payload, done); err != nil {
		done(err)
	}
}

// stored notes whether the queue has an event on disk. It does not block.
func (k *blindKeeper) stored(o blindOffer, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	b := o.interval
	k.queueErr = err
	if err != nil {
		b.offered = min(b.offered, o.told-1)
		return
	}
	b.Told, k.unsaved = max(b.Told, o.told), true
	k.signal()
	if b.Told == toldClosing {
		k.all = slices.DeleteFunc(k.all, func(x *blindInterval) bool { return x == b })
	}
}

// Close makes durable what the pipeline said last. It is called when the
// pipeline has stopped and before the queue does.
func (k *blindKeeper) Close() error {
	if k.stop != nil {
		k.stop()
	}
	for deadline := k.now().Add(blindCloseWait); ; time.Sleep(10 * time.Millisecond) {
		k.flush(false)
		if k.waiting() == 0 || k.now().After(deadline) {
			break // what is left is in the file, for the next start
		}
	}
	return k.save()
}

// waiting counts the events that the queue does not have.
func (k *blindKeeper) waiting() (n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, b := range k.all {
		n += b.wants() - b.Told
	}
	return n
}

// blindStats is what health and the page say of blind time.
type blindStats struct {
	Off     map[string]time.Duration // by camera: blind time that this start found
	Waiting int                      // events that the queue does not have
	Merged  uint64                   // intervals that made another longer, as too many waited
	Aside   string                   // where a file that could not be read was moved, and why
	Err     error                    // why something is not stored now
}

func (k *blindKeeper) stats() blindStats {
	waiting := k.waiting()
	k.mu.Lock()
	defer k.mu.Unlock()
	s := blindStats{Off: k.off, Waiting: waiting, Merged: k.merged, Aside: k.aside, Err: k.saveErr}
	if s.Err == nil && waiting > 0 && k.queueErr != nil {
		s.Err = fmt.Errorf("the queue does not take it: %w", k.queueErr)
	}
	return s
}
