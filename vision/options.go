package vision

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Defaults of Options and CameraOptions.
const (
	DefaultEventBuffer     = 256
	DefaultShutdownTimeout = 3 * time.Second
	DefaultStallAfter      = 10 * time.Second

	DefaultMaxStuckPerCamera = 3
	DefaultMaxStuck          = 8
)

// Options configures a Pipeline.
type Options struct {
	Cameras []CameraOptions
	Models  []ModelOptions

	// Classifiers are second-stage models; see CameraOptions.Classify.
	Classifiers []ClassifierOptions

	// Sink receives the events. Nil discards them (they are still counted).
	Sink Sink

	// OnState is called after a camera's state changed, one call at a time,
	// outside every lock. A slow OnState sees the latest state and may miss
	// ones in between; it never sees them out of order. Nil is allowed.
	OnState func(CameraState)

	// OnBlind is called when an interval opens, To being zero, and when it
	// closes, one call at a time, each camera's in order and none left out. It
	// should not block: OnState waits for it. Nil is allowed.
	OnBlind func(Interval)

	// ClockState says what the wall clock is worth now; it becomes Frame.Clock.
	// It is called for every frame that is kept, from any goroutine. Nil means "".
	ClockState func() string

	// MaxStuckPerCamera and MaxStuck are how many calls into the sources of one
	// camera, and of all, may be stuck before no other connection is opened
	// instead: each holds a thread, and perhaps a session of the camera. At
	// MaxStuck, Stats.Stuck says so: only a new process helps. 0 means the
	// defaults.
	MaxStuckPerCamera, MaxStuck int

	// Shed says when cameras are inspected less often to spare the device.
	Shed ShedOptions

	// EventBuffer is how many events may wait for Sink; the next is dropped
	// and counted. 0 means DefaultEventBuffer.
	EventBuffer int

	// Backoff is how long to wait before attempt n (from 0) to reopen a source
	// or a model. Nil means Backoff.
	Backoff func(attempt int) time.Duration

	// ShutdownTimeout bounds how long Serve waits for goroutines that are
	// blocked in a source, a model or Sink. 0 means DefaultShutdownTimeout.
	ShutdownTimeout time.Duration

	// HungAfter is how long a call into a detector or a classifier may take
	// before Stats.Hung names it; five times the slowest call before it where that
	// is longer, and five times HungAfter at most, which is also what its first
	// call may take. 0 means DefaultHungAfter.
	HungAfter time.Duration

	// Logger is where changes of state are written. Nil discards them.
	Logger *slog.Logger
}

// CameraOptions configures one camera.
type CameraOptions struct {
	ID        string
	Kind      string        // of the source, for Stats; see Kind
	NewSource func() Source // called for each connection; does no I/O
	Model     string        // a name in Options.Models; "" counts frames and inspects none

	// FPS is the most frames inspected a second; frames that arrive sooner are
	// counted as throttled. 0 inspects every frame that the detector can take.
	FPS float64

	// Region is the part of the frame that the model sees, and Tiles how that is
	// divided. Boxes are in pixels of the whole frame in any case. The images of
	// the source have to be Croppers for other values than zero.
	Region Region
	Tiles  Tiles

	// Motion lets only frames be inspected in which something moves.
	Motion MotionOptions

	// Classify names detections by a second model.
	Classify ClassifyOptions

	// Judge says which detections count and what becomes an event.
	Judge JudgeOptions

	// Lossless makes the reader wait until the detector is done with a frame
	// and its event has a place in the buffer, so that nothing is dropped. It
	// is for recordings; a live camera would fall behind. It excludes FPS.
	Lossless bool

	// StallAfter is how long a camera may be silent, or its frames uninspected,
	// before its state is Blind. A silent connection is then given up and
	// another is opened, so it must be longer than the time between two frames.
	// A source that is a Starter may take longer to its first frame. 0 means
	// DefaultStallAfter.
	StallAfter time.Duration

	// BlindAfter is the longest time between two inspected frames that is not
	// an Interval; at least three intervals of FPS and, with Motion, twice its
	// Every. 0 means DefaultBlindAfter, or that least where it is longer.
	BlindAfter time.Duration

	// Snapshot says which events have a picture.
	Snapshot SnapshotOptions

	// Priority is MinPriority to MaxPriority; 0 means DefaultPriority. When
	// inspection has to be shed, cameras of a lower priority give way first.
	Priority int

	// Account is what Accounts returned in the process before.
	Account Account
}

// BlindLimit is BlindAfter or its default.
func (c CameraOptions) BlindLimit() time.Duration {
	if c.BlindAfter > 0 {
		return c.BlindAfter
	}
	return max(DefaultBlindAfter, c.LeastBlindAfter())
}

// LeastBlindAfter is what BlindAfter has to be at least, so that no interval
// opens between two frames that are inspected as configured, nor while the
// camera is shed: with Motion they are Every apart and, as shedding keeps to a
// third of BlindAfter, no more than that later.
func (c CameraOptions) LeastBlindAfter() time.Duration {
	least := 3 * newThrottle(c.FPS).interval
	if c.Motion.On {
		least = max(least, 2*c.Motion.withDefaults().Every)
	}
	return least
}

// ModelOptions configures one model.
type ModelOptions struct {
	Name string
	Open OpenDetector

	// MaxWait is how long a frame waits for those of the model's other cameras
	// when its detector takes several at once. 0 means DefaultMaxWait.
	MaxWait time.Duration
}

// Backoff is the default wait before attempt n, counted from 0, to reopen a
// camera: 1 s five times, 5 s five times, 10 s ten times, then 60 s.
func Backoff(attempt int) time.Duration {
	switch {
	case attempt < 5:
		return time.Second
	case attempt < 10:
		return 5 * time.Second
	case attempt < 20:
		return 10 * time.Second
	}
	return time.Minute
}

// withDefaults fills in what was left zero.
func (o Options) withDefaults() Options {
	if o.Sink == nil {
		o.Sink = func(Event) {}
	}
	if o.OnState == nil {
		o.OnState = func(CameraState) {}
	}
	if o.OnBlind == nil {
		o.OnBlind = func(Interval) {}
	}
	if o.ClockState == nil {
		o.ClockState = func() string { return "" }
	}
	if o.MaxStuckPerCamera == 0 {
		o.MaxStuckPerCamera = DefaultMaxStuckPerCamera
	}
	if o.MaxStuck == 0 {
		o.MaxStuck = DefaultMaxStuck
	}
	if o.EventBuffer == 0 {
		o.EventBuffer = DefaultEventBuffer
	}
	if o.Backoff == nil {
		o.Backoff = Backoff
	}
	if o.HungAfter == 0 {
		o.HungAfter = DefaultHungAfter
	}
	if o.ShutdownTimeout == 0 {
		o.ShutdownTimeout = DefaultShutdownTimeout
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// validate reports every impossible option at once.
func (o Options) validate() error {
	var errs []error
	models := map[string]bool{}
	for i, m := range o.Models {
		switch {
		case m.Name == "" || m.Open == nil:
			errs = append(errs, fmt.Errorf("model %d (%q): a name and Open are required", i, m.Name))
		case m.MaxWait < 0:
			errs = append(errs, fmt.Errorf("model %q: max wait %v: want 0 or more", m.Name, m.MaxWait))
		case models[m.Name]:
			errs = append(errs, fmt.Errorf("model %q is configured twice", m.Name))
		}
		models[m.Name] = true
	}
	classifiers, err := checkClassifiers(o.Classifiers)
	errs = append(errs, err)
	ids := map[string]bool{}
	for i, c := range o.Cameras {
		if ids[c.ID] {
			errs = append(errs, fmt.Errorf("camera %q is configured twice", c.ID))
		}
		ids[c.ID] = true
		if err := errors.Join(c.validate(models), c.Classify.validate(classifiers)); err != nil {
			errs = append(errs, fmt.Errorf("camera %d (%q): %w", i, c.ID, err))
		}
	}
	if h := o.Shed; !(h.Cool >= 0 && h.Cool <= h.Hot) || (h.Hot > 0 && h.Cool == h.Hot) {
		errs = append(errs, fmt.Errorf("hot at %v °C and cool at %v °C: want cool below hot, or 0 and 0", h.Hot, h.Cool))
	}
	if o.EventBuffer < 0 || o.ShutdownTimeout < 0 || o.HungAfter < 0 {
		errs = append(errs, fmt.Errorf("event buffer %d, shutdown timeout %v and hung after %v: want 0 or more", o.EventBuffer, o.ShutdownTimeout, o.HungAfter))
	}
	if o.MaxStuckPerCamera < 0 || o.MaxStuck < 0 {
		errs = append(errs, fmt.Errorf("stuck calls %d a camera and %d in all: want 0 or more", o.MaxStuckPerCamera, o.MaxStuck))
	}
	return errors.Join(errs...)
}

func (c CameraOptions) validate(models map[string]bool) error {
	var errs []error
	if c.ID == "" || c.NewSource == nil {
		errs = append(errs, errors.New("an id and NewSource are required"))
	}
	if c.Model != "" && !models[c.Model] {
		errs = append(errs, fmt.Errorf("model %q is not configured", c.Model))
	}
	if !(c.FPS >= 0 && c.FPS <= 1000) {
		errs = append(errs, fmt.Errorf("fps %v: want 0 to 1000", c.FPS))
	}
	if c.Lossless && c.FPS != 0 {
		errs = append(errs, fmt.Errorf("lossless and fps %v exclude each other", c.FPS))
	}
	errs = append(errs, c.Judge.Check(), wrapped("region", c.Region.Check()), wrapped("tiles", c.Tiles.Check()), wrapped("motion", c.Motion.Check()))
	if c.Lossless && c.Motion.On {
		errs = append(errs, errors.New("lossless and motion exclude each other"))
	}
	if c.StallAfter < 0 {
		errs = append(errs, fmt.Errorf("stall_after %v: want 0 or more", c.StallAfter))
	}
	errs = append(errs, c.Snapshot.validate())
	if least := c.LeastBlindAfter(); c.BlindAfter < 0 || (c.BlindAfter > 0 && c.BlindAfter < least) {
		errs = append(errs, fmt.Errorf("blind_after %v: want 0, or at least %v, three intervals of fps and twice the gate's every", c.BlindAfter, least))
	}
	if c.Priority != 0 && (c.Priority < MinPriority || c.Priority > MaxPriority) {
		errs = append(errs, fmt.Errorf("priority %d: want %d to %d", c.Priority, MinPriority, MaxPriority))
	}
	return errors.Join(errs...)
}

// wrapped says what an error is about.
func wrapped(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
