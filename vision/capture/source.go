//go:build !novision

package capture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"gocv.io/x/gocv"

	"outstation/vision"
)

// OpenCV's property ids for FFmpeg's time-outs in milliseconds, which gocv has
// no names for (CAP_PROP_OPEN_TIMEOUT_MSEC and CAP_PROP_READ_TIMEOUT_MSEC).
const (
	propOpenTimeout = gocv.VideoCaptureProperties(53)
	propReadTimeout = gocv.VideoCaptureProperties(54)
)

// ErrOpen is wrapped by every error of a source that could not be opened.
var ErrOpen = errors.New("cannot open")

// errBackend is all that OpenCV says about a source that it did not open.
var errBackend = errors.New("OpenCV did not open it")

// adviceFile is for a recording that does not open.
const adviceFile = "check the path and that it is a video that FFmpeg reads"

// ErrRead is wrapped by the error of a source that gave no further frame.
var ErrRead = errors.New("no frame")

// source implements vision.Source. Nothing of it is shared with another
// source: one whose Read never returns can be left where it is.
type source struct {
	target  target
	ctx     context.Context // of Open: ends the waiting for a paced frame
	video   *gocv.VideoCapture
	decoder Decoder // of RTSP, once it is open
	feed    *feed   // of RTSP that GStreamer decodes
	images  *pool
	fps     float64   // of a recording
	start   time.Time // when its first frame was read
	frames  int       // read since start
}

var _ vision.Source = (*source)(nil)

// newSource makes an unopened source, one that grabs where that is possible.
func newSource(t target) vision.Source {
	s := &source{target: t, images: &pool{}}
	switch t.kind {
	case vision.KindDir:
		return newPictures(t)
	case vision.KindFile, vision.KindRTSP:
		return &grabber{source: s}
	}
	return s
}

// Open connects. It blocks at most for StartLimit for RTSP, and ends with ctx,
// unless OpenCV speaks RTSP itself: then it may go on for decoderWait.
func (s *source) Open(ctx context.Context) error {
	s.ctx = ctx
	video, err := s.open(ctx)
	if errors.Is(err, errBackend) {
		err = fmt.Errorf("%w: %s", err, s.advice())
	}
	if err != nil {
		return fmt.Errorf("capture: %s: %w: %w", s.target.name, ErrOpen, err)
	}
	s.video = video
	s.fps = video.Get(gocv.VideoCaptureFPS)
	if s.target.Paced && !(s.fps > 0.1 && s.fps <= 1000) {
		return fmt.Errorf("capture: %s: %w: it states a rate of %v frames a second, so it cannot be paced: set paced to false or re-encode it", s.target.name, ErrOpen, s.fps)
	}
	return nil
}

// open asks OpenCV, after what can be known without it, since it gives no reasons.
func (s *source) open(ctx context.Context) (*gocv.VideoCapture, error) {
	t := &s.target
	switch t.kind {
	case vision.KindRTSP:
		return s.openRTSP(ctx)
	case vision.KindV4L2:
		return opened(gocv.VideoCaptureDeviceWithAPI(t.device, gocv.VideoCaptureV4L2))
	case vision.KindGst:
		return opened(gocv.VideoCaptureFileWithAPI(t.uri, gocv.VideoCaptureGstreamer))
	case vision.KindCSI:
		if err := thisMachine().has(pluginsCSI); err != nil {
			return nil, fmt.Errorf("%w: csi:// is for a Jetson with NVIDIA's GStreamer plugins", err)
		}
		return opened(gocv.VideoCaptureFileWithAPI(t.uri, gocv.VideoCaptureGstreamer))
	}
	if err := lookAt(t.uri); err != nil {
		return nil, err
	}
	return opened(gocv.VideoCaptureFileWithAPI(t.uri, gocv.VideoCaptureFFmpeg))
}

// lookAt says of a path what keeps it from being a recording.
func lookAt(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %s", withoutPath(err), adviceFile)
	case info.IsDir():
		return fmt.Errorf("it is a directory; the source of the pictures in it is dir://%s", absolute(path))
	}
	return nil
}

// withoutPath leaves the reason alone of an error that also says the path, which
// the address before it has.
func withoutPath(err error) error {
	var where *fs.PathError
	if errors.As(err, &where) {
		return where.Err
	}
	return err
}

// absolute is the whole path, where that can be known.
func absolute(path string) string {
	if whole, err := filepath.Abs(path); err == nil {
		return whole
	}
	return path
}

// opened closes a capture that did not open. gocv's error says no more than
// errBackend, but repeats the address with its password.
func opened(video *gocv.VideoCapture, err error) (*gocv.VideoCapture, error) {
	if err != nil {
		return nil, errors.Join(errBackend, video.Close())
	}
	return video, nil
}

// advice is what someone at the machine should do when a source does not open.
func (s *source) advice() string {
	switch s.target.kind {
	case vision.KindV4L2:
		return "check that the device exists, that no other program has it open, and that this user is in the group video"
	case vision.KindGst:
		return "check that OpenCV was built with GStreamer and try the pipeline with gst-launch-1.0"
	case vision.KindCSI:
		return "check that the sensor is connected, that nvargus-daemon runs, and that no other program has it open"
	case vision.KindRTSP:
		return "the camera answers, but gave no picture that can be decoded; outstation camera probe says more"
	}
	return adviceFile
}

// Read blocks until the next frame is there and returns it.
func (s *source) Read() (vision.Frame, error) {
	m := s.images.get()
	at, err := s.next(func() bool { return s.video.Read(&m.mat) })
	if err != nil {
		m.Close()
		return vision.Frame{}, err
	}
	return s.frame(m, at)
}

// next waits until a frame is due, takes it, and returns when it arrived.
func (s *source) next(take func() bool) (time.Time, error) {
	if err := s.pace(); err != nil {
		return time.Time{}, err
	}
	if !take() {
		if err := s.ended(); err != nil {
			return time.Time{}, err
		}
		if !take() {
			return time.Time{}, fmt.Errorf("capture: %s: %w after rewinding it", s.target.name, ErrRead)
		}
	}
	at := time.Now()
	if s.frames == 0 {
		s.start = at
	}
	s.frames++
	return at, nil
}

// frame checks what OpenCV put into m, which it closes when it is unusable.
func (s *source) frame(m *Image, at time.Time) (vision.Frame, error) {
	if m.mat.Empty() || m.mat.Type() != gocv.MatTypeCV8UC3 {
		kind := m.mat.Type()
		m.Close()
		return vision.Frame{}, fmt.Errorf("capture: %s: %w: got pixels of OpenCV type %v, want %v (8-bit BGR)", s.target.name, ErrRead, kind, gocv.MatTypeCV8UC3)
	}
	return vision.Frame{Arrived: at, Width: m.mat.Cols(), Height: m.mat.Rows(), Image: m}, nil
}

// ended decides what the end of the stream means: an error, the end of a
// recording, or (nil) its next round.
func (s *source) ended() error {
	switch {
	case s.feed != nil && s.feed.reason() != nil:
		return fmt.Errorf("capture: %s: %w: %w", s.target.name, ErrRead, s.feed.reason())
	case s.target.kind != vision.KindFile:
		return fmt.Errorf("capture: %s: %w: the stream ended, or stalled for the read time-out", s.target.name, ErrRead)
	case s.frames == 0:
		return fmt.Errorf("capture: %s: %w: the recording has no frame that FFmpeg can decode", s.target.name, ErrRead)
	case !s.target.Loop:
		return io.EOF
	}
	s.video.Set(gocv.VideoCapturePosFrames, 0)
	s.frames = 0
	return nil
}

// pace waits until the next frame of a recording is due.
func (s *source) pace() error {
	if !s.target.Paced || s.frames == 0 {
		return s.ctx.Err()
	}
	due := s.start.Add(time.Duration(float64(s.frames) / s.fps * float64(time.Second)))
	wait := time.Until(due)
	if wait <= 0 {
		return s.ctx.Err()
	}
	return sleep(s.ctx, wait)
}

// Close frees the connection. Frames that are still out stay valid.
func (s *source) Close() error {
	s.images.close()
	var err error
	if s.video != nil {
		err, s.video = s.video.Close(), nil
	}
	if s.feed != nil {
		s.feed.close()
		s.feed = nil
	}
	return err
}
