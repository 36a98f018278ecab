package vision

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"
)

// Classifier says what one picture shows. One goroutine uses it at a time.
type Classifier interface {
	// Classify returns the most likely label and its probability, in [0, 1]. It
	// does not close the image. An error concerns this picture only.
	Classify(Image) (label string, confidence float64, err error)

	// Close frees the model. It is never called during Classify.
	Close() error
}

// ClassifierOptions is one second-stage model.
type ClassifierOptions struct {
	Name string
	// Open loads the model. It may take long, and is called again, with
	// back-off, after an error.
	Open func(ctx context.Context) (Classifier, error)
}

// DefaultClassifyMax is how many detections of a frame are classified.
const DefaultClassifyMax = 8

// ClassifyOptions sends crops of a camera's detections to a second model, as
// far as they will be in an event. Its answers are the Label of those
// detections. Frames have to be Croppers.
type ClassifyOptions struct {
	Model   string   // a name in Options.Classifiers; "" for none
	Classes []string // whose detections; empty: all
	Max     int      // of a frame, the most confident first, 1 to 100; 0 means DefaultClassifyMax
	Margin  float64  // around the box, in parts of its longer side, in [0, 2]
}

func (o ClassifyOptions) validate(classifiers map[string]bool) error {
	switch {
	case o.Model != "" && !classifiers[o.Model]:
		return fmt.Errorf("classifier %q is not configured", o.Model)
	case o.Max < 0 || o.Max > 100 || !(o.Margin >= 0 && o.Margin <= 2):
		return fmt.Errorf("classify at most %d with a margin of %v: want 0 to 100, and 0 to 2", o.Max, o.Margin)
	}
	return nil
}

// ClassifierStats is one second-stage model.
type ClassifierStats struct {
	Name    string
	Ready   bool
	Error   string // of the last attempt to load it, or of the last picture that failed
	Labels  uint64 // detections that it named
	Failed  uint64 // that it could not
	Skipped uint64 // for which there was no time: beyond Max, or while it was being loaded
	Run     Quantiles

	RunningSince time.Time // of the call into the model that is under way; zero when none is
	Hung         bool      // that call is longer than Options.HungAfter allows
}

// second is a second-stage model: the goroutine that loads it, and its account.
// Detectors of several models share it, and wait for each other.
type second struct {
	opts    ClassifierOptions
	backoff func(int) time.Duration
	log     *slog.Logger
	exited  chan struct{} // closed when run returns

	mu    sync.Mutex // held while it classifies
	model Classifier // nil until it is loaded, and after the end

	calls   calls
	statsMu sync.Mutex
	stats   ClassifierStats
	times   samples
}

func newSecond(o ClassifierOptions, p *Pipeline) *second {
	return &second{
		opts: o, backoff: p.opts.Backoff, log: p.opts.Logger.With("classifier", o.Name), exited: make(chan struct{}),
		calls: calls{after: p.opts.HungAfter}, stats: ClassifierStats{Name: o.Name},
	}
}

// run loads the model and closes it when ctx ends.
func (s *second) run(ctx context.Context) {
	defer close(s.exited)
	var told news
	for attempt := 0; ; attempt++ {
		model, err := s.opts.Open(ctx)
		if err == nil {
			s.install(model)
			s.note(func(st *ClassifierStats) { st.Ready, st.Error = true, "" })
			break
		}
		s.note(func(st *ClassifierStats) { st.Error = err.Error() })
		s.log.Log(ctx, told.level(err, slog.LevelError), "the classifier cannot be loaded", "error", err, "attempt", attempt)
		if sleep(ctx, s.backoff(attempt)) != nil {
			return
		}
	}
	<-ctx.Done()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.model.Close(); err != nil {
		s.log.Warn("closing the classifier", "error", err)
	}
	s.model = nil
}

func (s *second) install(model Classifier) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.model = model
}

func (s *second) note(change func(*ClassifierStats)) {
	s.statsMu.Lock()
	defer s.statsMu.Unlock()
	change(&s.stats)
}

func (s *second) snapshot() ClassifierStats {
	s.statsMu.Lock()
	defer s.statsMu.Unlock()
	st := s.stats
	st.Run = s.times.quantiles()
	st.RunningSince, st.Hung = s.calls.look()
	return st
}

// label names one part of a frame. ok is false when it could not.
func (s *second) label(m Image) (label string, confidence float64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.model == nil {
		s.note(func(st *ClassifierStats) { st.Skipped++ })
		return "", 0, false
	}
	began := time.Now()
	s.calls.begin()
	label, confidence, err := s.model.Classify(m)
	s.calls.end()
	took := time.Since(began)
	s.note(func(st *ClassifierStats) {
		if err != nil {
			st.Failed++
			st.Error = err.Error()
			return
		}
		st.Labels++
		st.Error = ""
		s.times.add(took)
	})
	return label, confidence, err == nil
}

// stage is the second stage of one camera. The detector's goroutine is its
// only user.
type stage struct {
	opts  ClassifyOptions
	model *second // nil without
	order []int
}

// classify names those of a frame's detections whose places are given, the
// most confident first.
func (g *stage) classify(f Frame, found []Detection, places []int) {
	if g.model == nil {
		return
	}
	g.order = g.order[:0]
	for _, i := range places {
		if len(g.opts.Classes) == 0 || slices.Contains(g.opts.Classes, found[i].Class) {
			g.order = append(g.order, i)
		}
	}
	slices.SortFunc(g.order, func(a, b int) int { return cmp.Compare(found[b].Confidence, found[a].Confidence) })
	most := cmp.Or(g.opts.Max, DefaultClassifyMax)
	for n, i := range g.order {
		if n >= most {
			g.model.note(func(st *ClassifierStats) { st.Skipped += uint64(len(g.order) - most) })
			break
		}
		g.name(f, &found[i])
	}
}

// name classifies one detection.
func (g *stage) name(f Frame, d *Detection) {
	m, err := g.crop(f, d.Box)
	if err != nil {
		g.model.note(func(st *ClassifierStats) { st.Failed++; st.Error = err.Error() })
		return
	}
	if label, confidence, ok := g.model.label(m); ok {
		d.Label, d.LabelConfidence = label, confidence
	}
}

// crop is the square around a box, as far as it lies in the frame: a model
// whose input is a square then sees the object undistorted.
func (g *stage) crop(f Frame, b Box) (Image, error) {
	whole, ok := f.Image.(Cropper)
	if !ok {
		return nil, fmt.Errorf("vision: %w: images of type %T have no parts; leave classify out for this source", ErrCrop, f.Image)
	}
	half := max(b.W, b.H) * (1 + 2*g.opts.Margin) / 2
	cx, cy := b.X+b.W/2, b.Y+b.H/2
	x0, x1 := edges(cx-half, cx+half, f.Width)
	y0, y1 := edges(cy-half, cy+half, f.Height)
	return whole.Crop(x0, y0, x1-x0, y1-y0)
}

// edges are whole pixels within a side, at least one apart.
func edges(from, to float64, side int) (int, int) {
	a := min(max(int(math.Floor(from)), 0), side-1)
	return a, min(max(int(math.Ceil(to)), a+1), side)
}

// checkClassifiers returns the names, and every impossible option.
func checkClassifiers(list []ClassifierOptions) (map[string]bool, error) {
	var errs []error
	names := map[string]bool{}
	for i, c := range list {
		if c.Name == "" || c.Open == nil || names[c.Name] {
			errs = append(errs, fmt.Errorf("classifier %d (%q): a name of its own and Open are required", i, c.Name))
		}
		names[c.Name] = true
	}
	return names, errors.Join(errs...)
}
