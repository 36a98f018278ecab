package models

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"
	"time"

	"outstation/vision"
)

// ErrGate is wrapped by the error of golden frames that did not pass.
var ErrGate = errors.New("the golden frames do not pass")

// ErrNoGolden is wrapped by the error of a version without golden frames.
var ErrNoGolden = errors.New("the version has no golden frames")

// Gate is what golden frames said of a version on this device.
type Gate struct {
	At       time.Time `json:"at"`
	Passed   bool      `json:"passed"`
	Skipped  bool      `json:"skipped,omitempty"` // it was activated without
	Provider string    `json:"provider,omitempty"`
	Runtime  string    `json:"runtime,omitempty"` // library and version
	Input    string    `json:"input,omitempty"`   // width×height in pixels
	Frames   int       `json:"frames,omitempty"`
	Boxes    int       `json:"boxes,omitempty"`     // that were expected and found
	LeastIoU float64   `json:"least_iou,omitempty"` // of these
	MostOff  float64   `json:"most_off,omitempty"`  // largest difference of a confidence
	Reason   string    `json:"reason,omitempty"`    // why it did not pass
}

// String says in a few words what the gate said.
func (g *Gate) String() string {
	switch {
	case g == nil:
		return "not tried"
	case g.Skipped:
		return "skipped"
	case g.Passed:
		return "passed"
	}
	return "failed"
}

// maxTold bounds how many differences an error names.
const maxTold = 5

// RunGate lets a detector inspect the golden frames in dir and compares what
// it finds with what is expected: each box that is not optional has to be found
// with its class, and nothing else may be that counts. The detector has to
// return all that it finds down to GoldenFloor, whatever is configured to count:
// what it leaves out is missing. Its error wraps ErrGate and names frame, box,
// got and expected.
func RunGate(ctx context.Context, dir fs.FS, d vision.Detector, now time.Time) (Gate, error) {
	info := d.Info()
	out := Gate{At: now.UTC().Truncate(time.Second), Provider: info.Provider, Runtime: info.Runtime,
		Input: fmt.Sprintf("%d×%d", info.InputWidth, info.InputHeight), LeastIoU: 1}
	g, err := ReadGolden(dir)
	if err != nil {
		return out, fmt.Errorf("golden frames: %w", err)
	}
	var wrong []string
	for _, f := range g.Frames {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		p, err := readPicture(dir, f.File)
		if err != nil {
			return out, fmt.Errorf("golden frames: %w", err)
		}
		found, _, err := d.Detect(p.frame())
		if err != nil {
			wrong = append(wrong, fmt.Sprintf("%s: %v", f.File, err))
			continue
		}
		for _, w := range out.compare(f, slices.Clone(found), g, info) {
			wrong = append(wrong, f.File+": "+w)
		}
		out.Frames++
	}
	if len(wrong) == 0 {
		out.Passed = true
		return out, nil
	}
	more := ""
	if n := len(wrong) - maxTold; n > 0 {
		wrong, more = wrong[:maxTold], fmt.Sprintf("; and %d more", n)
	}
	out.Reason = strings.Join(wrong, "; ") + more
	return out, fmt.Errorf("%w: %s", ErrGate, out.Reason)
}

// compare matches what was found in one frame with what is expected, the
// surest first, and says what differs. What is left over is wrong only where it
// would count for a camera.
func (g *Gate) compare(f GoldenFrame, found []vision.Detection, want Golden, info vision.DetectorInfo) (wrong []string) {
	t := want.Tolerance
	expected := slices.Clone(f.Boxes)
	slices.SortStableFunc(expected, func(a, b ExpectedBox) int { return cmp.Compare(b.Confidence, a.Confidence) })
	for _, e := range expected {
		i, iou := closest(e, found)
		if i < 0 || iou < t.IoU {
			if want.requires(e) {
				wrong = append(wrong, fmt.Sprintf("expected %s, got %s", e, nearest(i, iou, found, t)))
			}
			continue
		}
		off := math.Abs(found[i].Confidence - e.Confidence)
		if off > t.Confidence && !e.Optional {
			wrong = append(wrong, fmt.Sprintf("expected %s, got it with confidence %.2f; at most %.2f apart is allowed", e, found[i].Confidence, t.Confidence))
		}
		found = slices.Delete(found, i, i+1)
		if !e.Optional {
			g.Boxes++
			g.LeastIoU, g.MostOff = min(g.LeastIoU, iou), max(g.MostOff, off)
		}
	}
	for _, d := range found {
		if d.Confidence >= max(want.Floor, counts(info, d.Class))+t.Confidence {
			wrong = append(wrong, fmt.Sprintf("got %s, which nobody expects", describe(d)))
		}
	}
	return wrong
}

// counts is from where on a detection of a class counts, 0 where the detector
// returns no others.
func counts(info vision.DetectorInfo, class string) float64 {
	if own, differs := info.ClassConfidence[class]; differs {
		return own
	}
	return info.Confidence
}

// closest is the detection of the same class that overlaps the most, or -1.
func closest(e ExpectedBox, found []vision.Detection) (at int, best float64) {
	at = -1
	for i, d := range found {
		if d.Class != e.Class {
			continue
		}
		if iou := overlap(e.box(), d.Box); at < 0 || iou > best {
			at, best = i, iou
		}
	}
	return at, best
}

// nearest describes what came closest to a box that was not found.
func nearest(i int, iou float64, found []vision.Detection, t Tolerance) string {
	if i < 0 {
		return fmt.Sprintf("no detection of that class among %d", len(found))
	}
	return fmt.Sprintf("%s as the closest, with an IoU of %.2f; at least %.2f is wanted", describe(found[i]), iou, t.IoU)
}

func describe(d vision.Detection) string {
	return fmt.Sprintf("%s %.2f at x %.1f y %.1f, %.1f×%.1f", d.Class, d.Confidence, d.Box.X, d.Box.Y, d.Box.W, d.Box.H)
}

// String is the box as errors write it.
func (e ExpectedBox) String() string {
	return describe(vision.Detection{Class: e.Class, Confidence: e.Confidence, Box: e.box()})
}

// overlap is the intersection of two boxes over their union.
func overlap(a, b vision.Box) float64 {
	w := min(a.X+a.W, b.X+b.W) - max(a.X, b.X)
	h := min(a.Y+a.H, b.Y+b.H) - max(a.Y, b.Y)
	if w <= 0 || h <= 0 {
		return 0
	}
	return w * h / (a.W*a.H + b.W*b.H - w*h)
}
