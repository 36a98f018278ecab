package vision

import (
	"errors"
	"image"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// cut is an image that knows which part of a frame it is.
type cut struct{ at image.Rectangle }

func (c *cut) Letterbox([]byte, int, int, byte) (float64, error) { return 1, nil }
func (c *cut) Close()                                            {}

func (c *cut) Crop(x, y, w, h int) (Image, error) {
	if w < 1 || h < 1 || x < 0 || y < 0 || x+w > c.at.Dx() || y+h > c.at.Dy() {
		return nil, errTest
	}
	return &cut{at: image.Rect(x, y, x+w, y+h).Add(c.at.Min)}, nil
}

// eye finds what a part shows of some things in the frame, cut off at the
// part's edge, if at least a third of it is there.
type eye struct {
	fakeDetector
	things []Detection
	parts  []image.Rectangle
}

func (d *eye) Detect(f Frame) (found []Detection, t Timing, err error) {
	at := f.Image.(*cut).at
	d.parts = append(d.parts, at)
	if at.Dx() != f.Width || at.Dy() != f.Height {
		return nil, t, errTest
	}
	for _, o := range d.things {
		b := o.Box
		x, y := float64(at.Min.X), float64(at.Min.Y)
		c := Box{X: max(b.X-x, 0), Y: max(b.Y-y, 0)}
		c.W, c.H = min(b.X+b.W-x, float64(f.Width))-c.X, min(b.Y+b.H-y, float64(f.Height))-c.Y
		if c.W > 0 && c.H > 0 && c.W*c.H > b.W*b.H/3 {
			found = append(found, Detection{Class: o.Class, Confidence: o.Confidence * c.W * c.H / (b.W * b.H), Box: c})
		}
	}
	return found, Timing{Run: 1}, nil
}

func frameOf(w, h int) Frame {
	return Frame{Width: w, Height: h, Image: &cut{at: image.Rect(0, 0, w, h)}}
}

func TestARegionIsAllThatIsSeen(t *testing.T) {
	d := &eye{things: []Detection{thing("a", 0.8, 500, 300), thing("b", 0.9, 10, 10)}}
	v := view{region: Region{X: 0.25, Y: 0.25, W: 0.5, H: 0.5}}
	found, _, err := v.detect(d, frameOf(1280, 720))
	if err != nil || len(found) != 1 || found[0] != d.things[0] || d.parts[0] != image.Rect(320, 180, 960, 540) {
		t.Errorf("found %v in %v (%v)", found, d.parts, err)
	}
}

// TestThingsAcrossTilesAreFoundOnce, with the box that they have, wherever
// they lie and however confident each tile is.
func TestThingsAcrossTilesAreFoundOnce(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		v := view{tiles: Tiles{Columns: 1 + r.IntN(4), Rows: 1 + r.IntN(3), Overlap: 0.3, Whole: r.IntN(2) == 0}}
		if r.IntN(2) == 0 {
			v.region = Region{X: 0.1, Y: 0.1, W: 0.8, H: 0.85}
		}
		want := thing("a", 0.9, 150+900*r.Float64(), 100+500*r.Float64())
		d := &eye{things: []Detection{want}}
		found, timing, err := v.detect(d, frameOf(1280, 720))
		if err != nil || len(found) != 1 || overlap(found[0].Box, want.Box) < 0.999 || int(timing.Run) != len(d.parts) {
			t.Fatalf("%+v: found %+v, want %+v (%v)", v.tiles, found, want, err)
		}
	}
}

// TestWhatNoTileHoldsIsPutTogether: two tiles see three quarters each of what
// is wider than what they share.
func TestWhatNoTileHoldsIsPutTogether(t *testing.T) {
	want := Detection{Class: "a", Confidence: 0.9, Box: Box{440, 300, 400, 100}}
	v := view{tiles: Tiles{Columns: 2, Overlap: 0.3}}
	found, _, err := v.detect(&eye{things: []Detection{want}}, frameOf(1280, 720))
	if err != nil || len(found) != 1 || overlap(found[0].Box, want.Box) < 0.999 {
		t.Errorf("found %+v, want %+v (%v)", found, want.Box, err)
	}
}

// TestPartsAreNoFramesOfABatch: a camera of which the detector sees parts is
// inspected by itself; the others still share a run.
func TestPartsAreNoFramesOfABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		img, d := &images{}, batcher(4, time.Millisecond)
		part := CameraOptions{ID: "part", Model: "m", Region: Region{W: 0.5, H: 0.5}, NewSource: func() Source {
			return &fakeSource{read: func() (Frame, error) {
				time.Sleep(100 * time.Millisecond)
				f := frameOf(1280, 720)
				f.Arrived = time.Now()
				return f, nil
			}}
		}}
		cameras := line(img, func(int) time.Duration { return 100 * time.Millisecond }, 2)
		s := serve(t, Options{Models: model(d), Cameras: append(cameras, part)})
		time.Sleep(10*time.Second + 50*time.Millisecond)
		s.stop()
		for _, cameras := range d.runs {
			if slices.Contains(cameras, "part") && len(cameras) != 1 {
				t.Fatalf("a run of %v", cameras)
			}
		}
		c, b := s.camera("part"), s.Stats().Models[0].Batch
		if balanced(t, c); c.Inspected < 95 || c.DetectorErrors > 0 || b.Sizes[1] < 95 {
			t.Errorf("%+v, batches %+v", c, b)
		}
	})
}

// TestTilesCoverTheRegion and overlap as asked.
func TestTilesCoverTheRegion(t *testing.T) {
	for _, size := range []int{7, 100, 1279} {
		for n := 1; n <= 8; n++ {
			for _, o := range []float64{0, 0.2, 0.9} {
				end := 0
				for i := range n {
					from, to := tile(i, n, size, o)
					if from > end || to <= from || to > size || (i == 0 && from != 0) || (i == n-1 && to != size) {
						t.Fatalf("tile %d of %d, overlap %v, side %d: %d to %d after %d", i, n, o, size, from, to, end)
					}
					if shared := float64(end - from); size > 1000 && i > 0 && o > 0 && (shared < o*float64(to-from)-2 || shared > o*float64(to-from)+2) {
						t.Errorf("tile %d of %d, overlap %v: %v of %d are shared", i, n, o, shared, to-from)
					}
					end = to
				}
			}
		}
	}
}

// TestWhatATileToldApartStaysApart, and classes are not mixed.
func TestWhatATileToldApartStaysApart(t *testing.T) {
	inner, outer := thing("a", 0.8, 100, 100), Detection{Class: "a", Confidence: 0.9, Box: Box{90, 90, 100, 120}}
	d := &eye{things: []Detection{inner, outer, thing("b", 0.7, 100, 100)}}
	v := view{tiles: Tiles{Columns: 2}}
	if found, _, err := v.detect(d, frameOf(1280, 720)); err != nil || len(found) != 3 {
		t.Errorf("found %v (%v), want 3", found, err)
	}
}

func TestAViewNeedsParts(t *testing.T) {
	v := view{region: Region{W: 0.5, H: 0.5}}
	_, _, err := v.detect(&eye{}, Frame{Width: 64, Height: 64, Image: &fakeImage{of: &images{}}})
	if !errors.Is(err, ErrCrop) {
		t.Errorf("got %v", err)
	}
	for want, bad := range map[string]CameraOptions{
		"region: ":              {Region: Region{X: 0.6, W: 0.5, H: 0.5}},
		"tiles: 7 columns":      {Tiles: Tiles{Columns: 7, Rows: 5}},
		"tiles: overlap 1":      {Tiles: Tiles{Columns: 2, Overlap: 1}},
		"motion: area 2":        {Motion: MotionOptions{Area: 2}},
		"motion: threshold 300": {Motion: MotionOptions{Threshold: 300}},
		"lossless and motion":   {Lossless: true, Motion: MotionOptions{On: true}},
	} {
		bad.ID, bad.NewSource = "a", func() Source { return nil }
		if err := bad.validate(nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestTinyFramesHaveARegion(t *testing.T) {
	for _, r := range []Region{{X: 0.999, Y: 0.999, W: 0.001, H: 0.001}, {X: 0, Y: 0, W: 1e-9, H: 1}} {
		for _, size := range []int{1, 2, 3, 640} {
			x, y, w, h := r.pixels(size, size)
			if x < 0 || y < 0 || w < 1 || h < 1 || x+w > size || y+h > size {
				t.Errorf("%v of %d: %d %d %d %d", r, size, x, y, w, h)
			}
		}
	}
}
