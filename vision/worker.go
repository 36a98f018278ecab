package vision

import (
	"context"
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
	wake    chan struct{} // a frame may be waiting
	exited  chan struct{} // closed when run returns
	turn    int           // the camera to look at first; only run uses it

	mu    sync.Mutex
	stats ModelStats
	pre   samples
	infer samples
	post  samples
}

func newWorker(o ModelOptions, p *Pipeline) *worker {
	return &worker{
		opts:    o,
		backoff: p.opts.Backoff,
		log:     p.opts.Logger.With("model", o.Name),
		wake:    make(chan struct{}, 1),
		exited:  make(chan struct{}),
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
	detector := w.open(ctx)
	if detector == nil {
		return
	}
	defer func() {
		if err := detector.Close(); err != nil {
			w.log.Warn("closing the detector", "error", err)
		}
	}()
	for ctx.Err() == nil {
		c, f, ok := w.next()
		if ok {
			w.inspect(detector, c, f)
			continue
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
		}
	}
}

// open loads the model, again and again with back-off. It returns nil when ctx
// ended first.
func (w *worker) open(ctx context.Context) Detector {
	for attempt := 0; ctx.Err() == nil; attempt++ {
		detector, err := w.opts.Open(ctx)
		if err != nil {
			err = fmt.Errorf("model %q: %w", w.opts.Name, err)
		}
		w.loaded(detector, err)
		if err == nil {
			return detector
		}
		w.log.Error("the model cannot be loaded", "error", err, "attempt", attempt)
		if sleep(ctx, w.backoff(attempt)) != nil {
			return nil
		}
	}
	return nil
}

// loaded notes the result of one attempt to load the model.
func (w *worker) loaded(d Detector, err error) {
	w.mu.Lock()
	if err != nil {
		w.stats.Error = err.Error()
	} else {
		info := d.Info()
		w.stats.Ready, w.stats.Error = true, ""
		w.stats.Provider, w.stats.Refused = info.Provider, slices.Clone(info.Refused)
		w.stats.InputWidth, w.stats.InputHeight = info.InputWidth, info.InputHeight
		w.log.Info("model loaded", "provider", info.Provider, "refused", info.Refused, "head", info.Head, "settings", info.Settings)
	}
	w.mu.Unlock()
	for _, c := range w.cameras {
		c.modelState(err)
	}
}

// next takes a frame from the first camera that has one, beginning after the
// camera that was served last.
func (w *worker) next() (*camera, Frame, bool) {
	for i := range w.cameras {
		at := (w.turn + i) % len(w.cameras)
		if f, ok := w.cameras[at].slot.take(); ok {
			w.turn = at + 1
			return w.cameras[at], f, true
		}
	}
	return nil, Frame{}, false
}

// inspect runs the detector on one frame and hands over the result.
func (w *worker) inspect(d Detector, c *camera, f Frame) {
	found, t, err := d.Detect(f)
	ended := time.Now()
	f.Image.Close()
	e := Event{
		Camera:      f.Camera,
		CapturedAt:  f.Arrived,
		InferredAt:  ended.Add(-t.Postprocess),
		Model:       w.opts.Name,
		FrameWidth:  f.Width,
		FrameHeight: f.Height,
	}
	if err != nil {
		w.log.Debug("detection failed", "camera", f.Camera, "seq", f.Seq, "error", err)
	} else {
		e.Detections = slices.Clone(found)
		w.count(t)
	}
	c.inspected(e, err)
}

func (w *worker) count(t Timing) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stats.Inferences++
	w.pre.add(t.Preprocess)
	w.infer.add(t.Run)
	w.post.add(t.Postprocess)
}

func (w *worker) snapshot() ModelStats {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.stats
	s.Refused = slices.Clone(s.Refused)
	s.Preprocess, s.Run, s.Postprocess = w.pre.quantiles(), w.infer.quantiles(), w.post.quantiles()
	return s
}
