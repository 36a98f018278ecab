package main

import (
	"log/slog"
	"math"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"

	"outstation/broker"
	"outstation/uplink"
	"outstation/uplink/wire"
	"outstation/vision"
)

// message is a publish on a local topic, as the route that matched sends it
// to the centre. What was acknowledged here is sent at QoS 1 whatever the
// route says: nothing else would tell that it arrived.
func message(route uplink.Route, to string, qos byte, payload []byte, retain bool) uplink.Message {
	return uplink.Message{
		Route: route.Name, Lane: route.Priority, QoS: max(route.QoS, min(qos, 1)), Topic: to, Payload: payload,
		Retain: retain && !route.StripRetained,
	}
}

// deviceSink stores what devices publish on replicated topics, as the router
// says at that moment.
func deviceSink(router *atomic.Pointer[uplink.Router], q *uplink.Queue) broker.Sink {
	return func(m broker.Message) broker.Store {
		route, to, ok := router.Load().Route(m.Topic)
		if !ok || (m.QoS == 0 && route.DropQoS0) {
			return nil
		}
		msg := message(route, to, m.QoS, m.Payload, m.Retain)
		msg.Expiry, msg.Properties = m.Expiry, m.Properties
		return func(done func(error)) error { return q.Enqueue(msg, done) }
	}
}

// publisher sends the appliance's own messages two ways, neither of which
// waits for the other: to local subscribers at once, and to the centre
// through the queue.
type publisher struct {
	broker *broker.Broker
	router *atomic.Pointer[uplink.Router]
	queue  *uplink.Queue
	log    *slog.Logger

	refused atomic.Uint64 // that the queue did not take
}

// publish returns at once. What the queue refuses is counted, not retried.
func (p *publisher) publish(topic string, payload []byte, retain bool, note uplink.Note) {
	p.publishThen(topic, payload, retain, note, p.stored)
}

// publishThen is publish; done is called, from any goroutine, once it is known
// whether the message is durable.
func (p *publisher) publishThen(topic string, payload []byte, retain bool, note uplink.Note, done func(error)) {
	p.enqueue(topic, payload, retain, note, done)
	p.local(topic, payload, retain)
}

func (p *publisher) local(topic string, payload []byte, retain bool) {
	if err := p.broker.Publish(topic, payload, 1, retain); err != nil {
		p.log.Error("local publish failed", "topic", topic, "error", err)
	}
}

func (p *publisher) enqueue(topic string, payload []byte, retain bool, note uplink.Note, done func(error)) {
	if err := p.offer(topic, payload, retain, note, done); err != nil {
		done(err)
	}
}

// offer is enqueue, but that it returns why the queue did not take a message;
// done is not called then.
func (p *publisher) offer(topic string, payload []byte, retain bool, note uplink.Note, done func(error)) error {
	route, to, ok := p.router.Load().Route(topic)
	if !ok {
		done(nil) // it is for this place alone
		return nil
	}
	m := message(route, to, 1, payload, retain)
	m.Note = note
	return p.queue.Enqueue(m, done)
}

// stored counts a message that did not become durable.
func (p *publisher) stored(err error) {
	if err != nil {
		p.refused.Add(1)
	}
}

// recorder turns what the vision pipeline saw into detection.v1 events, for the
// pipeline's emitter and for the trackLog.
type recorder struct {
	origin wire.Origin
	out    *publisher
	keeper *keeper
	bootID string

	mu  sync.Mutex        // held until an event has its place among those of its camera
	seq map[string]uint64 // last of each camera
}

// seqKey is where the queue keeps a camera's last sequence number, stored
// together with the event that carries it.
func seqKey(camera string) string { return uplink.CounterPrefix + camera }

func newRecorder(cfg Config, out *publisher, k *keeper) *recorder {
	r := &recorder{origin: cfg.origin(), out: out, keeper: k, bootID: bootID(), seq: map[string]uint64{}}
	for _, cam := range cfg.Vision.Cameras {
		r.seq[cam.ID] = out.queue.Note(seqKey(cam.ID))
	}
	return r
}

// record publishes one event. It waits for the disk only where the camera is
// lossless, and never for the centre. It is safe for concurrent use.
func (r *recorder) record(e vision.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.seq[e.Camera]; !known { // it was configured when its track began
		r.seq[e.Camera] = r.out.queue.Note(seqKey(e.Camera))
	}
	seq := r.seq[e.Camera] + 1
	t := keeping{camera: e.Camera, picture: r.keeper.admit(e), before: e.Before, topic: r.origin.Detection(e.Camera), note: uplink.Note{Key: seqKey(e.Camera), Value: seq}}
	d := r.detection(e, seq)
	var err error
	if t.without, err = d.Encode(); err == nil && t.picture != nil {
		d.SnapshotSHA256 = t.picture.SHA256
		t.with, err = d.Encode()
	}
	if err != nil {
		r.out.log.Error("an event cannot be written", "camera", e.Camera, "error", err)
		r.out.stored(err)
		r.keeper.refuse(e.Camera)
		if e.Stored != nil {
			e.Stored(nil) // another attempt would do no better
		}
		return
	}
	r.seq[e.Camera] = seq
	t.done = func(err error) {
		r.out.stored(err)
		switch {
		case e.Stored != nil: // who may try again
			e.Stored(err)
		case err != nil:
			r.keeper.refuse(e.Camera)
		}
	}
	r.keeper.publish(t)
}

func (r *recorder) detection(e vision.Event, seq uint64) wire.Detection {
	d := wire.Detection{
		EventID: eventID(e), DeviceID: r.origin.DeviceID, CameraID: e.Camera,
		CapturedAt: wire.At(e.CapturedAt), InferredAt: wire.At(e.InferredAt), ModelName: e.Model,
		Detections:  make([]wire.Object, len(e.Detections)),
		FrameWidth:  e.FrameWidth,
		FrameHeight: e.FrameHeight,
		Seq:         seq, ModelSHA256: e.ModelSHA256,
		Clock: e.Clock, TrackEvent: string(e.TrackEvent),
	}
	if !e.Recovered { // its times are of another boot
		d.BootID, d.MonoNS = r.bootID, monotonicAt(e.CapturedAt)
	}
	for i, o := range e.Detections {
		d.Detections[i] = wire.Object{
			Class: o.Class, Confidence: round(o.Confidence, 4), TrackID: e.TrackID(o), Zones: e.ZoneNames(o),
			Label: o.Label, LabelConfidence: round(o.LabelConfidence, 4),
			Box: wire.Box{X: round(o.Box.X, 1), Y: round(o.Box.Y, 1), W: round(o.Box.W, 1), H: round(o.Box.H, 1)},
		}
	}
	return d
}

// eventID is the one that the event was given, or a new one.
func eventID(e vision.Event) string {
	if e.ID != "" {
		return e.ID
	}
	return uuid.NewString()
}

// round keeps the given number of decimals: more would be noise on the wire.
func round(v float64, decimals int) float64 {
	p := math.Pow10(decimals)
	return math.Round(v*p) / p
}
