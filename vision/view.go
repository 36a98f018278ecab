package vision

import (
	"cmp"
	"errors"
	"fmt"
	"image"
	"math"
	"slices"
)

// Cropper is implemented by images of which a part can be looked at alone.
type Cropper interface {
	Image
	// Crop returns the w×h pixels from (x, y) on, which have to lie within the
	// image, as an image that shares them: it must not be used after the next
	// Crop, nor once the image it was taken from is closed, and needs no Close
	// of its own.
	Crop(x, y, w, h int) (Image, error)
}

// ErrCrop is wrapped by the error of a frame that a camera's view cannot be
// taken from.
var ErrCrop = errors.New("cannot look at a part of the frame")

// MaxTiles bounds a camera's tiles: each is an inference of its own.
const MaxTiles = 32

// Tiles divides the view of a camera so that small things are seen larger
// (Akyon et al. 2022, "Slicing Aided Hyper Inference and Fine-tuning for Small
// Object Detection", arXiv:2202.06934, section 3). The zero value is one tile.
type Tiles struct {
	Columns, Rows int     // 0 means 1
	Overlap       float64 // of neighbours, as a part of a tile's side, in [0, 0.9]
	Whole         bool    // the undivided view is inspected as well, for what is larger than a tile
}

func (t Tiles) withDefaults() Tiles {
	t.Columns, t.Rows = max(t.Columns, 1), max(t.Rows, 1)
	return t
}

// Check reports every impossible option at once.
func (t Tiles) Check() error {
	var errs []error
	if t.Columns < 0 || t.Rows < 0 || max(t.Columns, 1)*max(t.Rows, 1) > MaxTiles {
		errs = append(errs, fmt.Errorf("%d columns and %d rows: want at most %d tiles", t.Columns, t.Rows, MaxTiles))
	}
	if !(t.Overlap >= 0 && t.Overlap <= 0.9) {
		errs = append(errs, fmt.Errorf("overlap %v: want 0 to 0.9", t.Overlap))
	}
	return errors.Join(errs...)
}

// sameThing is how much of the smaller of two boxes has to lie within the
// other for them to be one thing that two tiles saw.
const sameThing = 0.5

// maxSeen bounds the boxes of all tiles that are compared with each other, which
// is quadratic: the most confident are kept.
const maxSeen = 1000

// view is what the detector sees of one camera: a region of the frame, divided
// into tiles. The detector's goroutine is its only user.
type view struct {
	region Region
	tiles  Tiles
	rects  []image.Rectangle // of the last frame
	found  []seen
	merged []Detection
}

// seen is a detection and the tile that it is from.
type seen struct {
	Detection
	tile int
	same bool // as one that is more confident
}

// plain reports whether the detector sees the whole frame at once.
func (v *view) plain() bool { return v.region == (Region{}) && v.tiles == (Tiles{}) }

// detect is d.Detect of what the view shows of a frame. The boxes are in
// pixels of the frame. The detections are the view's own memory, or the
// detector's, valid until the next call.
func (v *view) detect(d Detector, f Frame) ([]Detection, Timing, error) {
	if v.plain() {
		return d.Detect(f)
	}
	whole, ok := f.Image.(Cropper)
	if !ok {
		return nil, Timing{}, fmt.Errorf("vision: %w: images of type %T have no parts; leave roi and tiles out for this source", ErrCrop, f.Image)
	}
	v.divide(f.Width, f.Height)
	v.found = v.found[:0]
	var sum Timing
	for i, r := range v.rects {
		part := f
		var err error
		if part.Image, err = whole.Crop(r.Min.X, r.Min.Y, r.Dx(), r.Dy()); err != nil {
			return nil, sum, fmt.Errorf("vision: %w: %w", ErrCrop, err)
		}
		part.Width, part.Height = r.Dx(), r.Dy()
		found, t, err := d.Detect(part)
		if err != nil {
			return nil, sum, err
		}
		sum.Preprocess, sum.Run, sum.Postprocess = sum.Preprocess+t.Preprocess, sum.Run+t.Run, sum.Postprocess+t.Postprocess
		for _, o := range found {
			o.Box.X, o.Box.Y = o.Box.X+float64(r.Min.X), o.Box.Y+float64(r.Min.Y)
			v.found = append(v.found, seen{Detection: o, tile: i})
		}
	}
	return v.merge(), sum, nil
}

// divide lists the tiles of a w×h frame.
func (v *view) divide(w, h int) {
	x, y, width, height := v.region.pixels(w, h)
	t := v.tiles.withDefaults()
	v.rects = v.rects[:0]
	for row := range t.Rows {
		top, bottom := tile(row, t.Rows, height, t.Overlap)
		for column := range t.Columns {
			left, right := tile(column, t.Columns, width, t.Overlap)
			v.rects = append(v.rects, image.Rect(x+left, y+top, x+right, y+bottom))
		}
	}
	if t.Whole && len(v.rects) > 1 {
		v.rects = append(v.rects, image.Rect(x, y, x+width, y+height))
	}
}

// tile is where the ith of n tiles begins and ends along a side.
func tile(i, n, side int, overlap float64) (from, to int) {
	length := float64(side) / (float64(n) - float64(n-1)*overlap)
	from = min(int(math.Round(float64(i)*length*(1-overlap))), side-1)
	to = int(math.Round(float64(i)*length*(1-overlap) + length))
	return from, min(max(to, from+1), side)
}

// merge makes one detection of what several tiles saw of one thing: of the
// boxes of a class that lie mostly within each other, the most confident takes
// in those of other tiles and grows to hold them, since each tile may have
// seen only a part (the paper's greedy non-maximum merging). What one tile
// told apart stays apart.
func (v *view) merge() []Detection {
	slices.SortFunc(v.found, func(a, b seen) int {
		return cmp.Or(cmp.Compare(b.Confidence, a.Confidence), cmp.Compare(a.tile, b.tile), cmp.Compare(a.Box.X, b.Box.X))
	})
	v.found = v.found[:min(len(v.found), maxSeen)]
	v.merged = v.merged[:0]
	for i := range v.found {
		o := &v.found[i]
		if o.same {
			continue
		}
		box := o.Box
		for j := i + 1; j < len(v.found); j++ {
			p := &v.found[j]
			if !p.same && p.tile != o.tile && p.Class == o.Class && within(o.Box, p.Box) > sameThing {
				p.same = true
				box = union(box, p.Box)
			}
		}
		o.Box = box
		v.merged = append(v.merged, o.Detection)
	}
	return v.merged
}

// within is how much of the smaller of two boxes lies in the other, in [0, 1].
func within(a, b Box) float64 {
	w := min(a.X+a.W, b.X+b.W) - max(a.X, b.X)
	h := min(a.Y+a.H, b.Y+b.H) - max(a.Y, b.Y)
	if w <= 0 || h <= 0 {
		return 0
	}
	return w * h / min(a.W*a.H, b.W*b.H)
}

// union is the smallest box that holds both.
func union(a, b Box) Box {
	x, y := min(a.X, b.X), min(a.Y, b.Y)
	return Box{x, y, max(a.X+a.W, b.X+b.W) - x, max(a.Y+a.H, b.Y+b.H) - y}
}
