package acceptance

import (
	"fmt"
	"math"
	"time"

	"outstation/uplink/wire"
	"outstation/vision"
	"outstation/vision/sim"
)

// scene is what a camera is shown.
type scene struct {
	line  *sim.Line
	epoch time.Time // of the frame with index 0
	fps   float64
}

// newScene reads a camera's address.
func newScene(source string) (*scene, error) {
	opts, epoch, err := sim.ParseLine(source)
	if err != nil {
		return nil, err
	}
	if epoch.IsZero() {
		return nil, fmt.Errorf("camera %q: expected an epoch: without it the truth of a frame is not known", source)
	}
	l, err := sim.NewLine(opts)
	if err != nil {
		return nil, err
	}
	return &scene{l, epoch, opts.FPS}, nil
}

// index is the frame that was due at a time.
func (s *scene) index(at time.Time) int64 {
	return int64(math.Round(at.Sub(s.epoch).Seconds() * s.fps))
}

// next is the first frame that is due after a time.
func (s *scene) next(at time.Time) int64 {
	return int64(math.Floor(at.Sub(s.epoch).Seconds()*s.fps)) + 1
}

// flaw is a defect by its place on its part, which does not change from frame
// to frame.
type flaw struct {
	part  int64
	class string
	x, y  int
}

// seen are parts and flaws.
type seen struct {
	parts map[int64]bool
	flaws map[flaw]bool
}

func newSeen() seen { return seen{map[int64]bool{}, map[flaw]bool{}} }

// show adds the parts that are wholly in view in a frame, and their flaws as
// far as they are not hidden.
func (s *scene) show(index int64, to seen) {
	for _, p := range s.line.Truth(index).Parts {
		if !s.whole(p.Box) {
			continue
		}
		to.parts[p.ID] = true
		for _, d := range p.Defects {
			to.flaws[flawOf(p, d)] = true
		}
	}
}

func (s *scene) whole(b vision.Box) bool {
	return b.X > 0 && b.X+b.W < float64(s.line.Options().Width)
}

func flawOf(p sim.Part, d sim.Defect) flaw {
	return flaw{p.ID, d.Class, int(math.Round(d.Box.X - p.Box.X)), int(math.Round(d.Box.Y - p.Box.Y))}
}

// judge compares what was detected in a frame with what is there. It adds what
// was found and returns how many detections have nothing behind them.
func (s *scene) judge(e wire.Detection, found seen) (wrong int) {
	truth := s.line.Truth(s.index(e.CapturedAt.Time))
	for _, o := range e.Detections {
		if !s.find(truth, o, found) {
			wrong++
		}
	}
	return wrong
}

// find looks for what a detection has found.
func (s *scene) find(truth sim.Truth, o wire.Object, found seen) (ok bool) {
	for _, p := range truth.Parts {
		if o.Class == sim.ClassPart && sim.Overlap(p.Box, vision.Box(o.Box)) >= sim.MatchIoU {
			found.parts[p.ID], ok = true, true
		}
		for _, d := range p.Defects {
			if o.Class != d.Class || sim.Overlap(d.Box, vision.Box(o.Box)) < sim.MatchIoU {
				continue
			}
			ok = true
			if s.whole(p.Box) { // else its place on the part is not known
				found.flaws[flawOf(p, d)] = true
			}
		}
	}
	return ok
}
