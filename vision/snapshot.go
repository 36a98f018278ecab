package vision

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"math"
	"sync/atomic"
	"time"
)

// Snapshot is the picture of an event. Its bytes are never changed again.
type Snapshot struct {
	JPEG   []byte
	SHA256 string // of JPEG, in lower-case hex
}

// JPEGer is implemented by images that can be written as a JPEG.
type JPEGer interface {
	Image
	// AppendJPEG appends the part of the image within crop, in pixels, or the
	// whole where crop is empty, as a baseline JPEG. Its sides are scaled down
	// to maxSide pixels at most, with the aspect ratio kept, and never up; 0
	// means no bound. quality is 1 to 100. It may be called more than once.
	AppendJPEG(dst []byte, crop image.Rectangle, maxSide, quality int) ([]byte, error)
}

// What a snapshot shows.
const (
	SnapshotFrame = "frame" // the whole frame
	SnapshotCrop  = "crop"  // the best detection and what is around it
)

// Defaults of SnapshotOptions.
const (
	DefaultSnapshotEvery   = time.Second
	DefaultSnapshotQuality = 85
	DefaultSnapshotSide    = 1280
)

// MinSnapshotSide is the smallest MaxSide, and where making a picture smaller
// to fit MaxBytes ends.
const MinSnapshotSide = 64

// SnapshotOptions says which events of a camera have a picture. The zero value
// says that none has.
type SnapshotOptions struct {
	Of      string        // SnapshotFrame, SnapshotCrop, or "" for none
	Every   time.Duration // the least between two frames with a picture; 0 means no bound
	Quality int           // of the JPEG, 1 to 100
	MaxSide int           // pixels, of the longer side; at least MinSnapshotSide

	// MaxBytes is asked for each picture how large it may be. One that is
	// larger is encoded again, at a lower quality and then smaller. Nil means
	// no bound. It is called on a goroutine of the Pipeline and must be quick.
	MaxBytes func() int
}

// errTooLarge says that a picture does not fit however small it is made.
var errTooLarge = errors.New("picture does not fit")

func (o SnapshotOptions) validate() error {
	switch {
	case o.Of == "":
		return nil
	case o.Of != SnapshotFrame && o.Of != SnapshotCrop:
		return fmt.Errorf("snapshot of %q: want %s or %s", o.Of, SnapshotFrame, SnapshotCrop)
	case o.Every < 0 || o.Quality < 1 || o.Quality > 100 || o.MaxSide < MinSnapshotSide:
		return fmt.Errorf("snapshot every %v, quality %d, at most %d pixels: want 0 or more, 1 to 100, and at least %d",
			o.Every, o.Quality, o.MaxSide, MinSnapshotSide)
	}
	return nil
}

// film is what a camera knows of its pictures.
type film struct {
	opts    SnapshotOptions
	pending atomic.Bool // a picture was taken and is not encoded yet

	// Only the worker uses these.
	image Image     // of the frame that it is done with, until an event takes it
	at    time.Time // arrival of that frame
	last  time.Time // arrival of the last frame with a picture
}

// insert takes the image of a frame whose events are about to be made.
func (f *film) insert(img Image, at time.Time) { f.image, f.at = img, at }

// eject closes the image unless an event has taken it.
func (f *film) eject() {
	if f.image != nil {
		f.image.Close()
	}
	f.image = nil
}

// picture is the image of a frame whose event waits for its JPEG. Whoever has
// it owes a release.
type picture struct {
	image JPEGer
	film  *film
}

func (p *picture) release() {
	p.image.Close()
	p.film.pending.Store(false)
}

// photograph decides whether an event of the frame that was inserted has a
// picture, which then owns its image. It never blocks, and the worker is its
// only caller.
func (c *camera) photograph(e *Event) *picture {
	f := &c.film
	if f.opts.Of == "" || len(e.Detections) == 0 || f.image == nil || !e.CapturedAt.Equal(f.at) {
		return nil
	}
	if !f.last.IsZero() && e.CapturedAt.Sub(f.last) < f.opts.Every {
		return nil
	}
	can, ok := f.image.(JPEGer)
	switch {
	case !ok:
		c.update(func() { c.stats.SnapshotsFailed++ })
		return nil
	case f.pending.Swap(true):
		c.update(func() { c.stats.SnapshotsSkipped++ })
		return nil
	}
	f.image, f.last = nil, f.at
	return &picture{image: can, film: f}
}

// develop encodes the picture of an event and gives its image back.
func (m *emission) develop() {
	c, p := m.camera, m.picture
	m.picture = nil
	b, err := p.encode(&m.event)
	p.release()
	if err != nil {
		c.log.Warn("an event goes without its picture", "error", err)
		c.update(func() { c.stats.SnapshotsFailed++ })
		return
	}
	sum := sha256.Sum256(b)
	m.event.Snapshot = &Snapshot{JPEG: b, SHA256: hex.EncodeToString(sum[:])}
	c.update(func() { c.stats.Snapshots++ })
}

// Bounds of the attempts to make a picture fit.
const (
	fitAttempts = 6
	fitQuality  = 50 // lowest quality that is tried before the picture gets smaller
)

// encode writes the picture of an event, as large as MaxBytes allows.
func (p *picture) encode(e *Event) ([]byte, error) {
	o := p.film.opts
	most := math.MaxInt
	if o.MaxBytes != nil {
		most = o.MaxBytes()
	}
	crop := image.Rectangle{}
	side := max(e.FrameWidth, e.FrameHeight)
	if o.Of == SnapshotCrop {
		crop = around(best(e.Detections).Box, e.FrameWidth, e.FrameHeight)
		side = max(crop.Dx(), crop.Dy())
	}
	side = min(side, o.MaxSide)
	var b []byte
	for range fitAttempts {
		var err error
		if b, err = p.image.AppendJPEG(b[:0], crop, side, o.Quality); err != nil {
			return nil, fmt.Errorf("encoding a picture: %w", err)
		}
		if len(b) <= most {
			return b, nil
		}
		if o.Quality > fitQuality {
			o.Quality = fitQuality
		} else { // bytes go with the area
			side = int(float64(side) * 0.9 * math.Sqrt(float64(most)/float64(len(b))))
		}
		if side < MinSnapshotSide {
			break
		}
	}
	return nil, fmt.Errorf("%w: the last attempt has %d bytes, the most is %d", errTooLarge, len(b), most)
}

// best is the detection with the highest confidence.
func best(all []Detection) Detection {
	top := all[0]
	for _, d := range all[1:] {
		if d.Confidence > top.Confidence {
			top = d
		}
	}
	return top
}

// Padding of a crop: a part of the box's own size, and pixels at the least.
const (
	cropPad    = 0.2
	cropMinPad = 16
)

// around is a box with some of its surroundings, within a w×h frame.
func around(b Box, w, h int) image.Rectangle {
	dx, dy := max(b.W*cropPad, cropMinPad), max(b.H*cropPad, cropMinPad)
	r := image.Rect(int(math.Floor(b.X-dx)), int(math.Floor(b.Y-dy)), int(math.Ceil(b.X+b.W+dx)), int(math.Ceil(b.Y+b.H+dy)))
	return r.Intersect(image.Rect(0, 0, w, h))
}

// ScaledSize is the size of a w×h picture whose longer side is at most maxSide
// pixels, 0 meaning no bound. It never grows and has no side below 1.
func ScaledSize(w, h, maxSide int) (int, int) {
	if maxSide <= 0 || max(w, h) <= maxSide {
		return w, h
	}
	scale := float64(maxSide) / float64(max(w, h))
	return max(1, int(math.Round(float64(w)*scale))), max(1, int(math.Round(float64(h)*scale)))
}
