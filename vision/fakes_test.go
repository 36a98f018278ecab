package vision

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fakeSource is a Source of func fields; nil fields succeed.
type fakeSource struct {
	open  func(context.Context) error
	read  func() (Frame, error)
	close func() error
}

var _ Source = (*fakeSource)(nil)

func (s *fakeSource) Open(ctx context.Context) error {
	if s.open == nil {
		return nil
	}
	return s.open(ctx)
}
func (s *fakeSource) Read() (Frame, error) { return s.read() }
func (s *fakeSource) Close() error {
	if s.close == nil {
		return nil
	}
	return s.close()
}

// fakeGrabber is a Grabber of func fields.
type fakeGrabber struct {
	fakeSource
	grab     func() (time.Time, error)
	retrieve func() (Frame, error)
}

var _ Grabber = (*fakeGrabber)(nil)

func (g *fakeGrabber) Grab() (time.Time, error) { return g.grab() }
func (g *fakeGrabber) Retrieve() (Frame, error) { return g.retrieve() }

// fakeDetector is a Detector of func fields; nil fields succeed.
type fakeDetector struct {
	detect func(Frame) ([]Detection, Timing, error)
	close  func() error
}

var _ Detector = (*fakeDetector)(nil)

func (d *fakeDetector) Detect(f Frame) ([]Detection, Timing, error) { return d.detect(f) }
func (d *fakeDetector) Info() DetectorInfo {
	return DetectorInfo{Model: "m", Provider: "cpu", Refused: []Refusal{{Provider: "cuda", Reason: "no driver"}}, InputWidth: 416, InputHeight: 416}
}
func (d *fakeDetector) Close() error {
	if d.close == nil {
		return nil
	}
	return d.close()
}

// images counts the images that are open.
type images struct{ open atomic.Int64 }

type fakeImage struct {
	of     *images
	closed bool
}

func (m *fakeImage) Letterbox([]byte, int, int, byte) (float64, error) { return 1, nil }
func (m *fakeImage) Close() {
	if !m.closed {
		m.closed = true
		m.of.open.Add(-1)
	}
}

// frame is a 640×480 frame that arrives now.
func (i *images) frame() Frame {
	i.open.Add(1)
	return Frame{Arrived: time.Now(), Width: 640, Height: 480, Image: &fakeImage{of: i}}
}

// every is a source that has a frame at each interval, until ctx ends.
func (i *images) every(interval time.Duration) func() Source {
	return func() Source {
		var ctx context.Context
		return &fakeSource{
			open: func(c context.Context) error { ctx = c; return nil },
			read: func() (Frame, error) {
				if err := sleep(ctx, interval); err != nil {
					return Frame{}, err
				}
				return i.frame(), nil
			},
		}
	}
}

// errTest is what fakes fail with.
var errTest = errors.New("injected")

// person finds one person in every frame and takes cost for it.
func person(cost time.Duration) *fakeDetector {
	found := []Detection{{Class: "person", Confidence: 0.9, Box: Box{1, 2, 3, 4}}}
	return &fakeDetector{detect: func(Frame) ([]Detection, Timing, error) {
		if cost > 0 {
			time.Sleep(cost) // the work of the model, not synchronisation
		}
		return found, Timing{Preprocess: time.Millisecond, Run: cost, Postprocess: time.Microsecond}, nil
	}}
}

// model is a configured model that opens d.
func model(d Detector) []ModelOptions {
	return []ModelOptions{{Name: "m", Open: func(context.Context) (Detector, error) { return d, nil }}}
}

// collector is a Sink and an OnState that remember.
type collector struct {
	mu     sync.Mutex
	events []Event
	states []CameraState
	blind  []Interval
}

func (c *collector) onBlind(i Interval) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blind = append(c.blind, i)
}

func (c *collector) sink(e Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, e)
}

func (c *collector) onState(s CameraState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.states = append(c.states, s)
}

// seen returns "state/reason" of every change of one camera.
func (c *collector) seen(camera string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var s []string
	for _, x := range c.states {
		if x.Camera == camera {
			s = append(s, string(x.State)+"/"+x.Reason)
		}
	}
	return s
}

// served is a pipeline that is being served. In a synctest bubble its end must
// be awaited with stop.
type served struct {
	*Pipeline
	t      *testing.T
	cancel context.CancelFunc
	err    chan error
}

func serve(t *testing.T, o Options) *served {
	t.Helper()
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := &served{p, t, cancel, make(chan error, 1)}
	go func() { s.err <- p.Serve(ctx) }()
	return s
}

// stop ends the pipeline and returns what Serve returned.
func (s *served) stop() error {
	s.t.Helper()
	s.cancel()
	return <-s.err
}

// camera returns the statistics of one camera.
func (s *served) camera(id string) CameraStats {
	s.t.Helper()
	for _, c := range s.Stats().Cameras {
		if c.ID == id {
			return c
		}
	}
	s.t.Fatalf("no camera %q", id)
	return CameraStats{}
}

// balanced checks that every frame of a stopped camera with a model is
// accounted for.
func balanced(t *testing.T, c CameraStats) {
	t.Helper()
	if got := c.Inspected + c.Dropped + c.Throttled + c.Masked + c.DetectorErrors; got != c.Frames {
		t.Errorf("camera %s: %d inspected + %d dropped + %d throttled + %d masked + %d errors = %d of %d frames",
			c.ID, c.Inspected, c.Dropped, c.Throttled, c.Masked, c.DetectorErrors, got, c.Frames)
	}
}
