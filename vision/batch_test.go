package vision

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeBatcher is a BatchDetector of func fields. Without batch it inspects
// each frame with detect.
type fakeBatcher struct {
	fakeDetector
	max   int
	batch func([]Frame) ([]Result, Timing, error)

	mu   sync.Mutex
	runs [][]string // the cameras of each batch
}

var _ BatchDetector = (*fakeBatcher)(nil)

func (d *fakeBatcher) Info() DetectorInfo {
	info := d.fakeDetector.Info()
	info.MaxBatch = d.max
	return info
}

func (d *fakeBatcher) Detect(f Frame) ([]Detection, Timing, error) {
	d.note([]Frame{f})
	return d.detect(f)
}

func (d *fakeBatcher) DetectBatch(frames []Frame) ([]Result, Timing, error) {
	d.note(frames)
	if d.batch != nil {
		return d.batch(frames)
	}
	results := make([]Result, len(frames))
	var t Timing
	for i, f := range frames {
		results[i].Detections, t, results[i].Err = d.detect(f)
	}
	return results, t, nil
}

func (d *fakeBatcher) note(frames []Frame) {
	var cameras []string
	for _, f := range frames {
		cameras = append(cameras, f.Camera)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.runs = append(d.runs, cameras)
}

// batcher finds one person in every frame, up to size at once, and takes cost
// for each frame.
func batcher(size int, cost time.Duration) *fakeBatcher {
	return &fakeBatcher{fakeDetector: *person(cost), max: size}
}

// line is n cameras, with the interval of each.
func line(img *images, interval func(int) time.Duration, n int) (out []CameraOptions) {
	for i := range n {
		out = append(out, CameraOptions{ID: fmt.Sprint("c", i), NewSource: img.every(interval(i)), Model: "m"})
	}
	return out
}

// TestABusyCameraStarvesNobody: one camera of 100 frames a second beside seven
// of 5, on a model that manages 50 frames a second in batches of four.
func TestABusyCameraStarvesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, img := batcher(4, 20*time.Millisecond), &images{}
		p := serve(t, Options{Models: model(d), Cameras: line(img, func(i int) time.Duration {
			if i == 0 {
				return 10 * time.Millisecond
			}
			return 200 * time.Millisecond
		}, 8)})
		time.Sleep(20 * time.Second) // of the bubble
		if err := p.stop(); err != nil {
			t.Error(err)
		}
		for i := range 8 {
			c := p.camera(fmt.Sprint("c", i))
			balanced(t, c)
			if i > 0 && (c.Inspected < 98 || c.Dropped > 1) {
				t.Errorf("%s: %d of %d frames inspected, %d dropped; want all", c.ID, c.Inspected, c.Frames, c.Dropped)
			}
			// What the others leave: 50 − 35 frames a second.
			if i == 0 && c.Inspected < 200 {
				t.Errorf("%s: %d frames inspected, want the rest of the model's time", c.ID, c.Inspected)
			}
		}
		for _, run := range d.runs {
			if sorted := slices.Sorted(slices.Values(run)); len(slices.Compact(sorted)) != len(run) || len(run) > 4 {
				t.Fatalf("a batch of %v, want at most four, each of another camera", run)
			}
		}
		if img.open.Load() != 0 {
			t.Errorf("%d frames were not closed", img.open.Load())
		}
	})
}

// TestABatchWaitsNoLongerThanMaxWait: the second camera has a frame lately, so
// it is waited for, but not for longer than MaxWait.
func TestABatchWaitsNoLongerThanMaxWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, img := batcher(8, 0), &images{}
		var mu sync.Mutex
		var late time.Duration
		find := d.detect
		d.detect = func(f Frame) ([]Detection, Timing, error) {
			mu.Lock()
			late = max(late, time.Since(f.Arrived))
			mu.Unlock()
			return find(f)
		}
		models := model(d)
		models[0].MaxWait = 30 * time.Millisecond
		p := serve(t, Options{Models: models, Cameras: line(img, func(i int) time.Duration {
			return time.Duration(90+400*i) * time.Millisecond
		}, 2)})
		time.Sleep(5 * time.Second)
		if err := p.stop(); err != nil {
			t.Error(err)
		}
		if late != models[0].MaxWait {
			t.Errorf("a frame waited %v, want %v at most, and that it does wait", late, models[0].MaxWait)
		}
		if s := p.Stats().Models[0].Batch; s.Wait.P99 != models[0].MaxWait || s.Max != 8 {
			t.Errorf("stats %+v, want a longest wait of %v", s, models[0].MaxWait)
		}
	})
}

// TestOneCameraNeverWaits: there is nobody to wait for.
func TestOneCameraNeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, img := batcher(8, time.Millisecond), &images{}
		models := model(d)
		models[0].MaxWait = time.Second
		p := serve(t, Options{Models: models, Cameras: append(
			line(img, func(int) time.Duration { return 10 * time.Millisecond }, 1),
			CameraOptions{ID: "silent", Model: "m", NewSource: img.every(time.Hour)})})
		time.Sleep(5 * time.Second)
		if err := p.stop(); err != nil {
			t.Error(err)
		}
		if c := p.camera("c0"); c.Inspected < 495 {
			t.Errorf("%d frames inspected of %d: they waited for a silent camera", c.Inspected, c.Frames)
		}
	})
}

// TestFramesThatComeTogetherAreInspectedTogether, as soon as all are there.
func TestFramesThatComeTogetherAreInspectedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, img := batcher(8, time.Millisecond), &images{}
		models := model(d)
		models[0].MaxWait = 50 * time.Millisecond
		p := serve(t, Options{Models: models, Cameras: line(img, func(int) time.Duration { return 100 * time.Millisecond }, 4)})
		time.Sleep(10*time.Second + 50*time.Millisecond)
		if err := p.stop(); err != nil {
			t.Error(err)
		}
		s := p.Stats().Models[0]
		if s.Batch.Runs > 100+3 || s.Batch.Sizes[2] < 99 || s.Inferences != 400 || s.Batch.Mean < 3.8 {
			t.Errorf("%d frames in %+v, want batches of four", s.Inferences, s.Batch)
		}
		if s.Batch.Wait.P99 > time.Millisecond {
			t.Errorf("a full batch waited %v", s.Batch.Wait.P99)
		}
	})
}

// TestABadFrameTakesNoOthersWithIt: a batch fails as a whole because of one
// camera's frames; those of the others are inspected all the same.
func TestABadFrameTakesNoOthersWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, img := batcher(4, time.Millisecond), &images{}
		bad := func(f Frame) bool { return f.Camera == "c1" && f.Seq == 10 }
		find := d.detect
		d.detect = func(f Frame) ([]Detection, Timing, error) {
			if bad(f) {
				return nil, Timing{}, errTest
			}
			return find(f)
		}
		d.batch = func(frames []Frame) ([]Result, Timing, error) {
			results := make([]Result, len(frames))
			for i, f := range frames {
				if bad(f) {
					return nil, Timing{}, errTest
				}
				results[i].Detections, _, _ = find(f)
			}
			return results, Timing{}, nil
		}
		p := serve(t, Options{Models: model(d), Cameras: line(img, func(int) time.Duration { return 100 * time.Millisecond }, 4)})
		time.Sleep(10*time.Second + 50*time.Millisecond)
		if err := p.stop(); err != nil {
			t.Error(err)
		}
		for i := range 4 {
			c := p.camera(fmt.Sprint("c", i))
			balanced(t, c)
			if want := uint64(i%2) * uint64(1-i/2); c.DetectorErrors != want || c.Events != c.Inspected {
				t.Errorf("%s: %d errors, %d events of %d inspected; want %d errors", c.ID, c.DetectorErrors, c.Events, c.Inspected, want)
			}
		}
		if s := p.Stats().Models[0].Batch; s.Failed != 1 || s.Stopped != "" {
			t.Errorf("%+v, want one failed batch", s)
		}
	})
}

// TestBatchesThatAlwaysFailEnd: a model that cannot take batches costs three
// of them, and says so.
func TestBatchesThatAlwaysFailEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, img := batcher(4, time.Millisecond), &images{}
		d.batch = func([]Frame) ([]Result, Timing, error) { return nil, Timing{}, errTest }
		p := serve(t, Options{Models: model(d), Cameras: line(img, func(int) time.Duration { return 100 * time.Millisecond }, 4)})
		time.Sleep(5*time.Second + 50*time.Millisecond)
		s := p.Stats().Models[0].Batch
		if err := p.stop(); err != nil {
			t.Error(err)
		}
		if s.Failed != failedBatches || s.Max != 1 || s.Stopped == "" {
			t.Errorf("%+v, want %d failed batches and none after them", s, failedBatches)
		}
		if c := p.camera("c3"); c.Inspected != c.Frames || c.Frames < 49 {
			t.Errorf("%d of %d frames inspected, want all", c.Inspected, c.Frames)
		}
	})
}

// TestABatchAllocatesNothing: four frames without detections.
func TestABatchAllocatesNothing(t *testing.T) {
	results := make([]Result, 4)
	d := &quietBatcher{fakeBatcher{max: 4, batch: func([]Frame) ([]Result, Timing, error) { return results, Timing{}, nil }}}
	img := &images{}
	p, err := New(Options{Models: model(nil), Cameras: line(img, func(int) time.Duration { return time.Hour }, 4)})
	if err != nil {
		t.Fatal(err)
	}
	w := p.workers[0]
	w.batch.init(4)
	w.install(t.Context(), d)
	kept := &fakeImage{of: img}
	n := testing.AllocsPerRun(100, func() {
		for _, c := range p.cameras {
			kept.closed = false
			c.slot.put(Frame{Camera: c.opts.ID, Image: kept})
		}
		w.gather(t.Context())
		w.inspect()
	})
	if n != 0 || w.stats.Inferences != 4*w.stats.Batch.Runs {
		t.Errorf("%v allocations a batch, stats %+v; want 0, and four frames a batch", n, w.stats)
	}
}

// quietBatcher is a fakeBatcher that remembers nothing.
type quietBatcher struct{ fakeBatcher }

func (d *quietBatcher) DetectBatch(f []Frame) ([]Result, Timing, error) { return d.batch(f) }

func TestSizeClass(t *testing.T) {
	for n, want := range map[int]int{1: 0, 2: 1, 3: 2, 4: 2, 5: 3, 8: 3, 9: 4, 16: 4, 17: 5, 64: 5} {
		if got := sizeClass(n); got != want {
			t.Errorf("%d frames are in class %s, want %s", n, BatchSizes()[got], BatchSizes()[want])
		}
	}
}

// TestWrongNumberOfResults: a detector's mistake costs no camera its frames.
func TestWrongNumberOfResults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, img := batcher(4, 0), &images{}
		d.batch = func([]Frame) ([]Result, Timing, error) { return []Result{{Err: errors.New("x")}}, Timing{}, nil }
		p := serve(t, Options{Models: model(d), Cameras: line(img, func(int) time.Duration { return 100 * time.Millisecond }, 2)})
		time.Sleep(time.Second)
		if err := p.stop(); err != nil {
			t.Error(err)
		}
		if c := p.camera("c0"); c.DetectorErrors != 0 || c.Inspected == 0 {
			t.Errorf("%+v, want every frame inspected by itself", c)
		}
	})
}
