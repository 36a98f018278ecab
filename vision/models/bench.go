package models

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"outstation/vision"
)

// Figures are how fast a detector is on this device, one frame at a time, and
// what it measured of batches when it was loaded.
type Figures struct {
	Provider  string        `json:"provider"`
	Runtime   string        `json:"runtime"`
	Frame     string        `json:"frame"` // what it inspected, again and again
	Frames    int           `json:"frames"`
	PerSecond float64       `json:"frames_per_second"`
	Median    time.Duration `json:"median_ns"` // of one frame, with preparation but for its scaling, and decoding
	P99       time.Duration `json:"p99_ns"`
	Run       time.Duration `json:"run_median_ns"` // of the model alone

	Rates []vision.BatchRate `json:"rates,omitempty"` // of the model alone; only where the detector chose between batches
}

// warmUp is how many frames are not counted.
const warmUp = 5

// Bench lets a detector inspect the first golden frame in dir, or a grey
// picture if there is none, over and over for as long as span.
func Bench(ctx context.Context, dir fs.FS, d vision.Detector, span time.Duration) (Figures, error) {
	info := d.Info()
	out := Figures{Provider: info.Provider, Runtime: info.Runtime, Frame: "grey, 1280×720", Rates: slices.Clone(info.Rates)}
	p := grey(1280, 720)
	if g, err := ReadGolden(dir); err == nil {
		out.Frame = g.Frames[0].File
		if p, err = readPicture(dir, out.Frame); err != nil {
			return out, err
		}
	}
	frame := vision.Frame{Width: p.width, Height: p.height, Image: &scaledOnce{picture: p}}
	var all, runs []time.Duration
	began := time.Now()
	for i := 0; i < warmUp+1 || time.Since(began) < span; i++ {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		if i == warmUp {
			began = time.Now()
		}
		_, t, err := d.Detect(frame)
		if err != nil {
			return out, err
		}
		if i >= warmUp {
			all, runs = append(all, t.Preprocess+t.Run+t.Postprocess), append(runs, t.Run)
		}
	}
	out.Frames = len(all)
	out.PerSecond = float64(len(all)) / time.Since(began).Seconds()
	slices.Sort(all)
	slices.Sort(runs)
	out.Median, out.P99, out.Run = all[(len(all)-1)/2], all[(len(all)-1)*99/100], runs[(len(runs)-1)/2]
	return out, nil
}

// scaledOnce is a picture that keeps what it was scaled to. Cameras' frames are
// scaled by OpenCV, many times faster than a picture is.
type scaledOnce struct {
	*picture
	as     scaling
	pixels []byte
	scale  float64
}

// scaling is what a picture is scaled to.
type scaling struct {
	width, height int
	pad           byte
	stretched     bool
}

var _ vision.Stretcher = (*scaledOnce)(nil)

// Letterbox scales the first time, and copies from then on.
func (s *scaledOnce) Letterbox(dst []byte, width, height int, pad byte) (scale float64, err error) {
	err = s.once(dst, scaling{width, height, pad, false}, func(pixels []byte) (err error) {
		s.scale, err = s.picture.Letterbox(pixels, width, height, pad)
		return err
	})
	return s.scale, err
}

// Stretch does the same without keeping the aspect ratio.
func (s *scaledOnce) Stretch(dst []byte, width, height int) error {
	return s.once(dst, scaling{width, height, 0, true}, func(pixels []byte) error {
		return s.picture.Stretch(pixels, width, height)
	})
}

// once copies the pixels of a scaling, and has them made when they are not
// those of the last one.
func (s *scaledOnce) once(dst []byte, as scaling, scale func([]byte) error) error {
	n := 3 * max(as.width, 0) * max(as.height, 0)
	if len(dst) < n || s.pixels == nil || s.as != as {
		s.pixels = nil
		pixels := make([]byte, min(n, len(dst))) // too few of them are refused
		if err := scale(pixels); err != nil {
			return err
		}
		s.pixels, s.as = pixels, as
	}
	copy(dst, s.pixels)
	return nil
}

// grey is a picture in which there is nothing.
func grey(width, height int) *picture {
	p := &picture{make([]byte, 4*width*height), width, height}
	for i := range p.pixels {
		p.pixels[i] = 128
	}
	return p
}

// Expect makes golden frames of the pictures in dir: what the detector finds
// in them is what is expected from then on, so somebody has to look at it.
// Boxes below floor are left out, and those just above it may be missing.
func Expect(ctx context.Context, dir fs.FS, d vision.Detector, floor float64) (Golden, error) {
	g := Golden{Floor: floor, Tolerance: Tolerance{IoU: DefaultGateIoU, Confidence: DefaultGateConfidence}}
	entries, err := fs.ReadDir(dir, ".")
	if err != nil {
		return g, err
	}
	for _, e := range entries {
		if !slices.Contains([]string{".png", ".jpg", ".jpeg"}, strings.ToLower(path.Ext(e.Name()))) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return g, err
		}
		p, err := readPicture(dir, e.Name())
		if err != nil {
			return g, err
		}
		found, _, err := d.Detect(p.frame())
		if err != nil {
			return g, err
		}
		f := GoldenFrame{File: e.Name(), Boxes: []ExpectedBox{}}
		for _, x := range found {
			if x.Confidence >= floor {
				f.Boxes = append(f.Boxes, ExpectedBox{Class: x.Class, Confidence: round(x.Confidence, 1000), Box: ExpectedPos{
					round(x.Box.X, 100), round(x.Box.Y, 100), max(round(x.Box.W, 100), 0.01), max(round(x.Box.H, 100), 0.01)}}) // without a size it would be refused
			}
		}
		g.Frames = append(g.Frames, f)
	}
	if len(g.Frames) == 0 {
		return g, errors.New("expected PNG or JPEG pictures in the directory, got none")
	}
	return g, g.check()
}

func round(v, steps float64) float64 { return float64(int64(v*steps+0.5)) / steps }
