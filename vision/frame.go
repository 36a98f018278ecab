package vision

import (
	"context"
	"strings"
	"time"
)

// Image is the pixels of one frame, wherever they are kept.
//
// An Image has one owner at a time and is not safe for concurrent use. It may
// be used from another goroutine than the one that read it, and after its
// source has been closed.
type Image interface {
	// Letterbox scales the image to fit width×height without changing its
	// aspect ratio, places it top-left in dst as interleaved BGR rows
	// (len(dst) ≥ width*height*3) and fills the rest with pad. It returns the
	// scale from the original to dst, in (0, ∞). Fit gives the geometry that
	// every implementation uses.
	Letterbox(dst []byte, width, height int, pad byte) (scale float64, err error)

	// Close gives the pixels back to their pool. The image must not be used
	// afterwards; a second Close does nothing.
	Close()
}

// Frame is one picture of one camera.
type Frame struct {
	Camera  string    // set by the Pipeline
	Seq     uint64    // from 1, per camera, gapless over reconnects and abandoned connections; set by the Pipeline
	Arrived time.Time // when the read returned, not when it began
	Clock   string    // what the wall clock was worth then; see Options.ClockState
	Width   int       // pixels
	Height  int       // pixels
	Image   Image
}

// Source is one connection to a camera or recording. It is made unopened,
// opened once, read by the goroutine that opened it, and closed by that same
// goroutine; after an error it is closed and a new one is made.
type Source interface {
	// Open connects. It may block for the source's own time-outs; ctx also
	// governs later waits inside Read (pacing), so it outlives Open.
	Open(ctx context.Context) error

	// Read blocks until the next frame and stamps its Arrived, Width and
	// Height. io.EOF means that the source ended for good and is not to be
	// opened again; any other error asks for a reconnect.
	Read() (Frame, error)

	// Close frees the connection. It is never called during Open or Read: when
	// one of them does not return, ctx ends. If it still does not, another Source
	// is opened, and this one is closed by its own goroutine whenever it returns.
	Close() error
}

// Grabber is implemented by sources that can take a frame off the camera
// without paying for its pixels. The Pipeline then calls Grab for each frame
// and Retrieve only for those that it keeps.
type Grabber interface {
	Source
	// Grab is Read without the picture; it returns when the frame arrived.
	Grab() (arrived time.Time, err error)
	// Retrieve returns the frame of the last Grab.
	Retrieve() (Frame, error)
}

// Waiter is implemented by sources that wait for their next frame themselves
// and end with the context of Open: a directory that pictures come to, a
// simulation. Their silence makes a camera blind as any other does, but it is no
// stuck call: they are not opened again for it, which might repeat frames.
type Waiter interface {
	Source
	// Waits does nothing.
	Waits()
}

// Starter is implemented by sources that may rightly need longer than StallAfter
// to begin: pictures of a camera cannot be decoded before its next keyframe.
type Starter interface {
	Source
	// StartLimit is how long Open may take, and then the first frame, before the
	// connection is given up. Less than StallAfter means StallAfter.
	StartLimit() time.Duration
}

// The kinds of source address that Kind tells apart.
const (
	KindRTSP = "rtsp"
	KindV4L2 = "v4l2"
	KindCSI  = "csi"
	KindDir  = "dir"
	KindGst  = "gst"
	KindSim  = "sim"
	KindFile = "file"
)

// Kind names the kind of a source address: rtsp:// and rtsps:// are KindRTSP,
// v4l2:// KindV4L2, csi:// KindCSI, dir:// KindDir, gst: KindGst, sim:// KindSim,
// and a path with or without file:// KindFile. It returns "" for an empty
// address and for any other scheme.
func Kind(address string) string {
	scheme, _, found := strings.Cut(address, "://")
	switch {
	case address == "":
		return ""
	case strings.HasPrefix(address, "gst:"):
		return KindGst
	case !found || scheme == "file":
		return KindFile
	case scheme == "rtsp" || scheme == "rtsps":
		return KindRTSP
	case scheme == KindV4L2, scheme == KindCSI, scheme == KindDir, scheme == KindSim:
		return scheme
	}
	return ""
}

// Fit returns the size of a srcW×srcH image scaled to fit dstW×dstH with its
// aspect ratio kept, and the scale, as YOLOX's preprocessing computes them:
// the smaller of the two ratios, sides rounded down, never below one pixel.
func Fit(srcW, srcH, dstW, dstH int) (w, h int, scale float64) {
	scale = min(float64(dstW)/float64(srcW), float64(dstH)/float64(srcH))
	w = min(max(int(float64(srcW)*scale), 1), dstW)
	h = min(max(int(float64(srcH)*scale), 1), dstH)
	return w, h, scale
}

// HWCToCHW converts interleaved 8-bit pixels (three channels) to planar
// float32 without normalisation and without changing the order of channels.
// len(dst) must be at least len(src) and len(src) a multiple of three; it
// panics otherwise, as a slice expression does.
func HWCToCHW(dst []float32, src []byte) {
	n := len(src) / 3
	a, b, c := dst[:n], dst[n:2*n], dst[2*n:3*n]
	b, c = b[:len(a)], c[:len(a)]
	for i := range a {
		p := src[3*i : 3*i+3 : 3*i+3]
		a[i], b[i], c[i] = float32(p[0]), float32(p[1]), float32(p[2])
	}
}
