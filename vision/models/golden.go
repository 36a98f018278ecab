package models

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"outstation/vision"
	"outstation/vision/head"
)

// goldenFile is the description of golden frames, beside their pictures.
const goldenFile = "golden.json"

// Bounds of golden frames.
const (
	maxFrames  = 64
	maxBoxes   = 1000     // of one frame
	maxPicture = 16 << 20 // bytes of one file
	maxSide    = 8192     // pixels of one picture's side
)

// Tolerances where golden.json says nothing. A run of the same model with
// other arithmetic (FP16, TensorRT) moves a box by a fraction of a pixel, which
// in a box 15 pixels wide costs up to 0.1 of IoU, and a confidence by
// hundredths.
const (
	DefaultGateIoU        = 0.85
	DefaultGateConfidence = 0.1
)

// Golden is what a model has to find in stored frames.
type Golden struct {
	// Floor is the least confidence with which the boxes were made; 0 means
	// head.DefaultConfidence. Those within the tolerance of it may be missing.
	Floor     float64       `json:"floor"`
	Tolerance Tolerance     `json:"tolerance"`
	Frames    []GoldenFrame `json:"frames"`
}

// Tolerance is how far a detection may be from what is expected.
type Tolerance struct {
	IoU        float64 `json:"iou"`        // least intersection over union, in (0, 1]; 0 means DefaultGateIoU
	Confidence float64 `json:"confidence"` // most difference, in (0, 1]; 0 means DefaultGateConfidence
}

// GoldenFrame is one picture and the boxes that have to be found in it.
type GoldenFrame struct {
	File  string        `json:"file"` // PNG or JPEG, in the same directory
	Boxes []ExpectedBox `json:"boxes"`
}

// ExpectedBox is one box. An optional one may be found or not.
type ExpectedBox struct {
	Class      string      `json:"class"`
	Confidence float64     `json:"confidence"`
	Box        ExpectedPos `json:"box"`
	Optional   bool        `json:"optional,omitempty"`
}

// ExpectedPos is a vision.Box in JSON: pixels of the picture, from its top
// left corner.
type ExpectedPos struct {
	X float64 `json:"x"`
	Y float64 `json:"y"`
	W float64 `json:"w"`
	H float64 `json:"h"`
}

func (e ExpectedBox) box() vision.Box { return vision.Box(e.Box) }

// requires reports whether a box has to be found.
func (g Golden) requires(b ExpectedBox) bool {
	return !b.Optional && b.Confidence >= g.Floor+g.Tolerance.Confidence
}

// GoldenFloor is the confidence down to which a detector has to return what it
// finds so that RunGate can judge it, whatever is configured to count.
func GoldenFloor(dir fs.FS) (float64, error) {
	g, err := readDescription(dir)
	return g.Floor, err
}

// readDescription reads golden.json alone, with its defaults.
func readDescription(dir fs.FS) (g Golden, err error) {
	b, err := fs.ReadFile(dir, goldenFile)
	if err != nil {
		return g, err
	}
	if err := json.Unmarshal(b, &g); err != nil {
		return g, fmt.Errorf("%s: %w", goldenFile, err)
	}
	g.Floor = cmp.Or(g.Floor, head.DefaultConfidence)
	g.Tolerance.IoU = cmp.Or(g.Tolerance.IoU, DefaultGateIoU)
	g.Tolerance.Confidence = cmp.Or(g.Tolerance.Confidence, DefaultGateConfidence)
	if err := g.check(); err != nil {
		return g, fmt.Errorf("%s: %w", goldenFile, err)
	}
	return g, nil
}

// ReadGolden reads golden.json, and every picture that it names once.
func ReadGolden(dir fs.FS) (Golden, error) {
	g, err := readDescription(dir)
	if err != nil {
		return g, err
	}
	for _, f := range g.Frames {
		p, err := readPicture(dir, f.File)
		if err != nil {
			return g, err
		}
		if err := f.checkBoxes(p); err != nil {
			return g, fmt.Errorf("%s: %s: %w", goldenFile, f.File, err)
		}
	}
	return g, nil
}

// check reports what is wrong with the description alone.
func (g Golden) check() error {
	var errs []error
	within := func(name string, v float64) {
		if !(v > 0 && v <= 1) {
			errs = append(errs, fmt.Errorf("%s: expected above 0 and up to 1, got %v", name, v))
		}
	}
	within("floor", g.Floor)
	within("tolerance.iou", g.Tolerance.IoU)
	within("tolerance.confidence", g.Tolerance.Confidence)
	if len(g.Frames) == 0 || len(g.Frames) > maxFrames {
		errs = append(errs, fmt.Errorf("expected 1 to %d frames, got %d", maxFrames, len(g.Frames)))
	}
	seen, required := map[string]bool{}, 0
	for _, f := range g.Frames {
		if f.File != path.Base(f.File) || !fs.ValidPath(f.File) || f.File == "." || f.File == goldenFile || seen[f.File] {
			errs = append(errs, fmt.Errorf("expected each frame's file once, in the same directory, got %q", f.File))
		}
		seen[f.File] = true
		for _, b := range f.Boxes {
			if g.requires(b) {
				required++
			}
		}
	}
	if required == 0 {
		errs = append(errs, fmt.Errorf("expected at least one box that has to be found, one that is not optional and has a confidence of at least %.2f, "+
			"the floor and the tolerance: frames in which there is nothing prove nothing", g.Floor+g.Tolerance.Confidence))
	}
	return errors.Join(errs...)
}

func (f GoldenFrame) checkBoxes(p *picture) error {
	if len(f.Boxes) > maxBoxes {
		return fmt.Errorf("expected at most %d boxes, got %d", maxBoxes, len(f.Boxes))
	}
	for _, b := range f.Boxes {
		inside := b.Box.X >= 0 && b.Box.Y >= 0 && b.Box.W > 0 && b.Box.H > 0 &&
			b.Box.X+b.Box.W <= float64(p.width)+1 && b.Box.Y+b.Box.H <= float64(p.height)+1
		if b.Class == "" || !(b.Confidence > 0 && b.Confidence <= 1) || !inside {
			return fmt.Errorf("expected a class, a confidence above 0 and up to 1, and a box within %d×%d, got %+v", p.width, p.height, b)
		}
	}
	return nil
}
