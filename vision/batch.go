package vision

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Defaults of batching.
const (
	// DefaultMaxWait is how long a frame waits for those of other cameras.
	DefaultMaxWait = 10 * time.Millisecond

	// liveWithin is how long ago a camera's last frame may have been for a
	// batch to wait for its next one.
	liveWithin = time.Second

	// failedBatches in a row end batching: each costs a run that brings nothing.
	failedBatches = 3
)

// Result is what became of one frame of a batch.
type Result struct {
	Detections []Detection
	Err        error // concerns this frame only
}

// BatchDetector is a Detector that inspects several frames in one run.
type BatchDetector interface {
	Detector

	// DetectBatch inspects 1 to Info().MaxBatch frames. It does not close
	// them. Result i belongs to frame i. The results are the detector's own
	// memory and valid until the next Detect or DetectBatch. Timing is of the
	// whole batch. After an error no frame was inspected, and the detector
	// stays usable.
	DetectBatch([]Frame) ([]Result, Timing, error)
}

// BatchRate is how fast a model is with batches of one size.
type BatchRate struct {
	Batch     int     // pictures in a run
	PerSecond float64 // pictures a second
	Error     string  // why such a batch cannot be run; PerSecond is then 0
}

// BatchStats is how a model's frames were put together.
type BatchStats struct {
	Max     int         // frames in one run; 1 is no batching
	Rates   []BatchRate // measured when the model was loaded; empty where Max was configured
	Runs    uint64
	Sizes   [6]uint64 // runs of 1, 2, 3–4, 5–8, 9–16 and more frames
	Mean    float64   // frames a run, since the start
	Wait    Quantiles // of a batch, for further frames
	Failed  uint64    // batches that failed as a whole; their frames were inspected one by one
	Stopped string    // why there are no batches any more; "" while there are
}

// BatchSizes names the counts of BatchStats.Sizes.
func BatchSizes() [6]string { return [6]string{"1", "2", "3-4", "5-8", "9-16", "17+"} }

// batch is what a worker inspects next. Its memory is kept.
type batch struct {
	frames  []Frame
	cameras []int // frames[i] is of worker.cameras[cameras[i]]

	max      int         // that the detector takes in one run
	last     []time.Time // when each camera last had a frame
	timer    *time.Timer
	failures int // in a row
}

// init makes the memory of a worker with this many cameras.
func (b *batch) init(cameras int) {
	b.last = make([]time.Time, cameras)
	b.frames, b.cameras = make([]Frame, 0, cameras), make([]int, 0, cameras)
	b.timer = time.NewTimer(time.Hour)
	b.timer.Stop()
}

// gather takes the frames of the next run: at most one of each camera, the
// cameras in turn, beginning after the one that was served last. With less
// than a full batch it waits up to MaxWait for the cameras that had a frame
// lately. It returns false when there is no frame.
func (w *worker) gather(ctx context.Context) bool {
	b := &w.batch
	b.frames, b.cameras = b.frames[:0], b.cameras[:0]
	began, limit := time.Now(), b.max
	w.fill(limit, began)
	if len(b.frames) == 0 {
		return false
	}
	if limit == 1 || len(b.frames) >= w.wanted(limit, began) {
		w.waited(0)
		return true
	}
	b.timer.Reset(w.opts.MaxWait)
	for waiting := true; waiting && len(b.frames) < w.wanted(limit, began); {
		select {
		case <-w.wake:
			w.fill(limit, began)
		case <-b.timer.C:
			waiting = false
		case <-ctx.Done():
			waiting = false
		}
	}
	b.timer.Stop()
	w.waited(time.Since(began))
	return true
}

// fill takes a frame of each camera that has one and is not in the batch yet.
func (w *worker) fill(limit int, now time.Time) {
	b := &w.batch
	for i, start := 0, w.turn; i < len(w.cameras) && len(b.frames) < limit; i++ {
		at := (start + i) % len(w.cameras)
		if slices.Contains(b.cameras, at) {
			continue
		}
		if f, ok := w.cameras[at].slot.take(); ok {
			b.frames, b.cameras = append(b.frames, f), append(b.cameras, at)
			b.last[at], w.turn = now, at+1
		}
	}
}

// wanted is how many frames are worth waiting for.
func (w *worker) wanted(limit int, now time.Time) int {
	live := 0
	for _, last := range w.batch.last {
		if !last.IsZero() && now.Sub(last) < liveWithin {
			live++
		}
	}
	return min(limit, live)
}

// inspect runs the detector on the frames that were gathered and hands over
// the results.
func (w *worker) inspect() {
	b := &w.batch
	w.apart()
	if len(b.frames) == 0 {
		return
	}
	if len(b.frames) == 1 {
		w.single(0)
		w.ran(1)
		return
	}
	results, t, err := w.detector.(BatchDetector).DetectBatch(b.frames)
	if err == nil && len(results) != len(b.frames) {
		err = fmt.Errorf("%d results for %d frames", len(results), len(b.frames))
	}
	if err != nil {
		w.batchFailed(err)
		for i := range b.frames {
			w.single(i)
			w.ran(1)
		}
		return
	}
	ended := time.Now()
	b.failures = 0
	w.count(t)
	w.ran(len(b.frames))
	for i := range results {
		w.deliver(i, results[i].Detections, t, ended, results[i].Err)
	}
}

// apart inspects the frames of cameras of which the detector sees parts, one by
// one: their parts are of other sizes than the frames of a batch.
func (w *worker) apart() {
	b := &w.batch
	kept := 0
	for i, at := range b.cameras {
		if !w.cameras[at].view.plain() {
			w.single(i)
			w.ran(1)
			continue
		}
		b.frames[kept], b.cameras[kept] = b.frames[i], at
		kept++
	}
	b.frames, b.cameras = b.frames[:kept], b.cameras[:kept]
}

// single inspects one frame of the batch by itself.
func (w *worker) single(i int) {
	v := &w.cameras[w.batch.cameras[i]].view
	found, t, err := v.detect(w.detector, w.batch.frames[i])
	if err == nil {
		w.count(t)
	}
	w.deliver(i, found, t, time.Now(), err)
}

// deliver gives frame i of the batch and the result to its camera.
func (w *worker) deliver(i int, found []Detection, t Timing, ended time.Time, err error) {
	f, c := w.batch.frames[i], w.cameras[w.batch.cameras[i]]
	w.batch.frames[i] = Frame{} // what is handed on is not kept
	e := Event{
		Camera:      f.Camera,
		CapturedAt:  f.Arrived,
		Clock:       f.Clock,
		InferredAt:  ended.Add(-t.Postprocess),
		Model:       w.opts.Name,
		ModelSHA256: w.sha256,
		FrameWidth:  f.Width,
		FrameHeight: f.Height,
	}
	if err != nil {
		w.failed()
		w.log.Debug("detection failed", "camera", f.Camera, "seq", f.Seq, "error", err)
	} else {
		e.Detections = found // valid until the next run, which is after inspected
		w.inspected()
	}
	c.inspected(e, f.Image, err)
}

// batchFailed notes a batch that failed as a whole. After some in a row the
// frames go one by one, until the detector is replaced.
func (w *worker) batchFailed(err error) {
	b := &w.batch
	b.failures++
	w.log.Warn("a batch failed as a whole; its frames go one by one", "frames", len(b.frames), "error", err, "in_a_row", b.failures)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stats.Batch.Failed++
	if b.failures >= failedBatches {
		b.max, w.stats.Batch.Max = 1, 1
		w.stats.Batch.Stopped = fmt.Sprintf("%d batches in a row failed, the last of %d frames: %v", b.failures, len(b.frames), err)
	}
}

// waited counts how long a batch was gathered.
func (w *worker) waited(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wait.add(d)
}

// ran counts a run of n frames.
func (w *worker) ran(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stats.Batch.Runs++
	w.stats.Batch.Sizes[sizeClass(n)]++
	w.framesRun += uint64(n)
	w.stats.Batch.Mean = float64(w.framesRun) / float64(w.stats.Batch.Runs)
}

// batchOf is how many frames a detector takes in one run.
func batchOf(d Detector) int {
	if _, ok := d.(BatchDetector); !ok {
		return 1
	}
	return max(1, d.Info().MaxBatch)
}

// sizeClass is the place of a batch of n frames in BatchStats.Sizes.
func sizeClass(n int) int {
	class := 0
	for size := 1; size < n && class < len(BatchStats{}.Sizes)-1; size *= 2 {
		class++
	}
	return class
}
