package vision

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// ErrAbandoned is wrapped by Serve's error when goroutines were still blocked
// in a source, a model or Sink at the end of the shutdown timeout. They are
// left alone: closing a source under its read would be a use after free.
var ErrAbandoned = errors.New("goroutines abandoned in a blocked call")

// ErrServed is returned by Serve when it was called before, or after Close.
var ErrServed = errors.New("pipeline was already served or closed")

// Pipeline carries frames from cameras through detectors to a Sink.
type Pipeline struct {
	opts    Options
	cameras []*camera
	workers []*worker
	seconds []*second
	emitter emitter
	run     string        // begins the ids of tracks
	changed chan struct{} // a camera's state may have changed

	tracks             atomic.Uint64 // ids that were given
	abandonedReaders   atomic.Int64
	abandonedDetectors atomic.Int64
	stuck              atomic.Int64         // calls into sources that are silent beyond StallAfter
	hottest            atomic.Pointer[Heat] // nil before the first look

	mu     sync.Mutex
	served bool
	stop   context.CancelFunc // set by Serve
	done   chan struct{}      // closed when Serve returns
}

// New checks the options and builds a Pipeline. It opens nothing.
func New(opts Options) (*Pipeline, error) {
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("vision: %w", err)
	}
	opts = opts.withDefaults()
	p := &Pipeline{
		opts:    opts,
		run:     fmt.Sprintf("%08x", rand.Uint32()),
		changed: make(chan struct{}, 1),
		done:    make(chan struct{}),
	}
	p.emitter.init(opts)
	models := map[string]*worker{}
	for _, m := range opts.Models {
		w := newWorker(m, p)
		models[m.Name] = w
		p.workers = append(p.workers, w)
	}
	seconds := map[string]*second{}
	for _, o := range opts.Classifiers {
		seconds[o.Name] = newSecond(o, p)
		p.seconds = append(p.seconds, seconds[o.Name])
	}
	for _, o := range opts.Cameras {
		c := newCamera(o, p)
		c.judge.stage = stage{opts: o.Classify, model: seconds[o.Classify.Model]}
		if w := models[o.Model]; w != nil {
			c.worker = w
			w.cameras = append(w.cameras, c)
		}
		p.cameras = append(p.cameras, c)
	}
	return p, nil
}

// Serve runs the pipeline until ctx ends or Close is called, then stops the
// readers, the detectors and the emitter in that order. It may be called once.
// Its error wraps ErrAbandoned when something did not stop in time.
func (p *Pipeline) Serve(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	p.mu.Lock()
	if p.served {
		p.mu.Unlock()
		return fmt.Errorf("vision: %w", ErrServed)
	}
	p.served, p.stop = true, stop
	p.mu.Unlock()
	defer close(p.done)

	stages := p.start(ctx)
	<-ctx.Done()
	return p.shutdown(stages)
}

// stages are the ends of what start started.
type stages struct {
	watched       chan struct{} // closed when the watchdog has returned
	shed          chan struct{} // closed when the shedder has returned
	stopDetectors context.CancelFunc
	stopEmitter   chan struct{}
	emitted       chan struct{} // closed when the emitter has returned
	stopNotifier  chan struct{}
	notified      chan struct{} // closed when the notifier has returned
}

// start starts every goroutine. The readers stop with ctx, the others in shutdown.
func (p *Pipeline) start(ctx context.Context) stages {
	detecting, stopDetectors := context.WithCancel(context.WithoutCancel(ctx))
	s := stages{
		watched:       make(chan struct{}),
		shed:          make(chan struct{}),
		stopDetectors: stopDetectors,
		stopEmitter:   make(chan struct{}),
		emitted:       make(chan struct{}),
		stopNotifier:  make(chan struct{}),
		notified:      make(chan struct{}),
	}
	go func() { defer close(s.emitted); p.emitter.run(s.stopEmitter) }()
	go func() { defer close(s.notified); p.notify(s.stopNotifier) }()
	for _, w := range p.workers {
		go w.run(detecting)
	}
	for _, s := range p.seconds {
		go s.run(detecting)
	}
	now := time.Now()
	for _, c := range p.cameras {
		c.begin(now)
		go c.run(ctx)
	}
	go func() { defer close(s.watched); p.watch(ctx) }()
	go func() { defer close(s.shed); newShedder(p).run(ctx) }()
	return s
}

// shutdown joins every stage, sources first, all within the shutdown timeout.
func (p *Pipeline) shutdown(s stages) error {
	late, cancel := context.WithTimeout(context.Background(), p.opts.ShutdownTimeout)
	defer cancel()
	var errs []error
	abandoned := func(what string) {
		errs = append(errs, fmt.Errorf("vision: %s still blocked %v after stopping: %w", what, p.opts.ShutdownTimeout, ErrAbandoned))
	}
	for _, c := range p.cameras {
		if !joined(late, c.exited) {
			p.abandonedReaders.Add(1)
			abandoned(fmt.Sprintf("reader of camera %q", c.opts.ID))
		}
		if n := c.leftBehind(); n > 0 { // each has had StallAfter already
			p.abandonedReaders.Add(int64(n))
			errs = append(errs, fmt.Errorf("vision: %d earlier readers of camera %q never returned: %w", n, c.opts.ID, ErrAbandoned))
		}
	}
	<-s.watched // it blocks on nothing but ctx
	if !joined(late, s.shed) {
		abandoned("Shed.Temperature")
	}
	s.stopDetectors()
	for _, w := range p.workers {
		if !joined(late, w.exited) {
			p.abandonedDetectors.Add(1)
			abandoned(fmt.Sprintf("model %q", w.opts.Name))
		}
	}
	for _, s := range p.seconds {
		if !joined(late, s.exited) {
			p.abandonedDetectors.Add(1)
			abandoned(fmt.Sprintf("classifier %q", s.opts.Name))
		}
	}
	for _, c := range p.cameras {
		c.finish(late)
	}
	close(s.stopEmitter)
	if !joined(late, s.emitted) {
		abandoned("Sink, or the encoder of pictures,")
		p.emitter.discard()
	}
	close(s.stopNotifier)
	if !joined(late, s.notified) {
		abandoned("OnState or OnBlind")
	}
	return errors.Join(errs...)
}

// joined waits for done until late ends.
func joined(late context.Context, done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
	}
	select {
	case <-done:
		return true
	case <-late.Done():
		return false
	}
}

// notify calls OnState and OnBlind for every change until stop is closed.
func (p *Pipeline) notify(stop <-chan struct{}) {
	for stopping := false; ; {
		for _, c := range p.cameras {
			if s, fresh := c.untold(); fresh {
				p.opts.Logger.Info("camera state", "camera", s.Camera, "state", string(s.State), "reason", s.Reason, "detail", s.Detail)
				p.opts.OnState(s)
			}
			for i, more := c.untoldInterval(); more; i, more = c.untoldInterval() {
				p.opts.OnBlind(i)
				c.toldInterval()
			}
		}
		if stopping {
			return
		}
		select {
		case <-p.changed:
		case <-stop:
			stopping = true
		}
	}
}

// watch derives states from the passing of time alone, outside of every read.
func (p *Pipeline) watch(ctx context.Context) {
	interval := time.Second
	for _, c := range p.cameras {
		interval = min(interval, c.limits.tick())
		if c.account.after > 0 {
			interval = min(interval, max(c.account.after/4, time.Millisecond))
		}
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, c := range p.cameras {
				c.update(func() {})
				c.expire(time.Now())
			}
		}
	}
}

// OpenTracks returns, for every track that PolicyTrack told to have begun and
// not yet to have ended, the end as it would be now. It is safe for concurrent
// use.
func (p *Pipeline) OpenTracks() []Event {
	var ends []Event
	for _, c := range p.cameras {
		ends = append(ends, c.judge.open()...)
	}
	return ends
}

// Close stops Serve and waits for it to return. It is safe to call more than
// once and before Serve, which then refuses to start.
func (p *Pipeline) Close() error {
	p.mu.Lock()
	stop := p.stop
	if !p.served {
		p.served = true
		close(p.done)
	}
	p.mu.Unlock()
	if stop != nil {
		stop()
	}
	<-p.done
	return nil
}
