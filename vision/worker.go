package vision

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// worker is one model: its detector's goroutine and its account.
type worker struct {
	opts    ModelOptions
	backoff func(int) time.Duration
	log     *slog.Logger
	cameras []*camera
	wake    chan struct{}  // a frame may be waiting
	exited  chan struct{}  // closed when run returns
	swaps   chan Detector  // a detector that takes over; see Swap
	aside   sync.WaitGroup // upgrades, and detectors being closed; run waits for them

	// Only run uses these.
	detector Detector // replaced between batches
	sha256   string   // of its model
	upgrade  upgrade
	turn     int // the camera to look at first
	batch    batch
	failures failures
	calls    calls // safe for concurrent use

	mu        sync.Mutex
	stats     ModelStats
	framesRun uint64
	pre       samples
	infer     samples
	post      samples
	wait      samples
}

func newWorker(o ModelOptions, p *Pipeline) *worker {
	if o.MaxWait == 0 {
		o.MaxWait = DefaultMaxWait
	}
	return &worker{
		opts:    o,
		backoff: p.opts.Backoff,
		calls:   calls{after: p.opts.HungAfter},
		log:     p.opts.Logger.With("model", o.Name),
		wake:    make(chan struct{}, 1),
		exited:  make(chan struct{}),
		swaps:   make(chan Detector),
		stats:   ModelStats{Name: o.Name},
	}
}

// signal says that a frame is waiting. It never blocks.
func (w *worker) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run loads the model and inspects frames until ctx ends.
func (w *worker) run(ctx context.Context) {
	defer close(w.exited)
	defer w.aside.Wait()
	w.batch.init(len(w.cameras))
	defer w.batch.timer.Stop()
	first := w.open(ctx)
	if first == nil {
		return
	}
	w.install(ctx, first)
	defer func() { w.upgrade.cancel(); w.shut(w.detector) }()
	for ctx.Err() == nil && w.detector != nil {
		select {
		case d := <-w.upgrade.done: // also when a frame is always waiting
			w.replace(ctx, d)
		case d := <-w.swaps:
			w.swapped(ctx, d)
		default:
		}
		if w.gather(ctx) {
			w.inspect()
			if w.failures.enough() {
				w.reopen(ctx)
			}
			continue
		}
		select {
		case <-w.wake:
		case d := <-w.upgrade.done:
			w.replace(ctx, d)
		case d := <-w.swaps:
			w.swapped(ctx, d)
		case <-ctx.Done():
		}
	}
}

// open loads the model, again and again with back-off, unless a swap brings
// one. It returns nil when ctx ended first.
func (w *worker) open(ctx context.Context) Detector {
	var told news
	for attempt := 0; ctx.Err() == nil; attempt++ {
		w.loading()
		detector, err := w.opts.Open(ctx)
		if err != nil {
			err = fmt.Errorf("model %q: %w", w.opts.Name, err)
		}
		if err == nil {
			return detector
		}
		w.loaded(nil, err)
		w.log.Log(ctx, told.level(err, slog.LevelError), "the model cannot be loaded", "error", err, "attempt", attempt)
		if d := w.await(ctx, w.backoff(attempt)); d != nil {
			return d
		}
	}
	return nil
}

// await waits for wait, and returns a detector if one is swapped in meanwhile.
func (w *worker) await(ctx context.Context, wait time.Duration) Detector {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case d := <-w.swaps:
		w.fresh()
		return d
	case <-t.C:
	case <-ctx.Done():
	}
	return nil
}

// loading notes the start of one attempt to load the model.
func (w *worker) loading() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stats.LoadingSince = time.Now()
}

// loaded notes the result of one attempt to load the model.
func (w *worker) loaded(d Detector, err error) {
	w.mu.Lock()
	w.stats.LoadingSince, w.stats.NoProvider = time.Time{}, errors.Is(err, ErrNoProvider)
	if err != nil {
		w.stats.Error = err.Error()
	} else {
		info := d.Info()
		w.stats.Ready, w.stats.Error = true, ""
		w.stats.ModelSHA256, w.stats.Runtime = info.ModelSHA256, info.Runtime
		w.sha256 = info.ModelSHA256
		w.stats.Provider, w.stats.Refused = info.Provider, slices.Clone(info.Refused)
		w.stats.Nodes, w.stats.Unproven = slices.Clone(info.Nodes), info.Unproven
		w.stats.InputWidth, w.stats.InputHeight = info.InputWidth, info.InputHeight
		w.stats.Batch.Max, w.stats.Batch.Rates = batchOf(d), slices.Clone(info.Rates)
		w.stats.Batch.Stopped = ""
		w.log.Info("model loaded", "provider", info.Provider, "refused", info.Refused, "nodes", info.Nodes,
			"max_batch", w.stats.Batch.Max, "rates", info.Rates, "head", info.Head, "settings", info.Settings)
	}
	w.mu.Unlock()
	for _, c := range w.cameras {
		c.modelState(err)
		if err == nil {
			info := d.Info()
			c.judge.follow(info)
			c.knows(info.Classes)
		}
	}
}

// count adds the times of a run.
func (w *worker) count(t Timing) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pre.add(t.Preprocess)
	w.infer.add(t.Run)
	w.post.add(t.Postprocess)
}

// inspected counts a frame.
func (w *worker) inspected() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stats.Inferences++
	w.stats.Failing, w.stats.Failure = 0, ""
	w.stats.LastInspected = time.Now()
	w.failures = failures{}
}

// failed counts an inference that returned an error.
func (w *worker) failed(err error) {
	w.failures.failed(err)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stats.Errors++
	w.stats.Failing++
	w.stats.Failure = err.Error()
}

// fresh forgets the failures of the detector that another one was swapped in
// for.
func (w *worker) fresh() {
	w.failures = failures{}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stats.Failing, w.stats.Failure = 0, ""
}

func (w *worker) snapshot() ModelStats {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.stats
	s.RunningSince, s.Hung = w.calls.look()
	s.Refused, s.Nodes, s.Batch.Rates = slices.Clone(s.Refused), slices.Clone(s.Nodes), slices.Clone(s.Batch.Rates)
	s.Batch.Wait = w.wait.quantiles()
	s.Preprocess, s.Run, s.Postprocess = w.pre.quantiles(), w.infer.quantiles(), w.post.quantiles()
	return s
}
