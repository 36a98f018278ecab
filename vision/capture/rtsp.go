//go:build !novision

package capture

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gocv.io/x/gocv"

	"outstation/vision"
)

// decoderWait is how long a decoder may look at pictures before it is open. It
// takes up to 20 of them, at the camera's rate; see OpenSooner.
const decoderWait = 30 * time.Second

// openRTSP asks the camera in Go what it has, so that an error has its reason
// and an absent camera blocks no thread. H.264 and H.265 it also plays in Go,
// into the decoder; what else there is OpenCV reads by itself.
func (s *source) openRTSP(ctx context.Context) (*gocv.VideoCapture, error) {
	t := s.target
	session, err := describe(ctx, t)
	codec := "something that is not understood"
	switch {
	case err == nil:
		codec = session.codec
	case !errors.Is(err, errNotUnderstood):
		return nil, err // OpenCV would fail too, and not say why
	}
	s.decoder, err = thisMachine().choose(t.Decoder, codec)
	if err == nil && (codec == codecH264 || codec == codecH265) {
		return s.openFeed(ctx, session)
	}
	if session != nil {
		session.close()
	}
	if err != nil {
		return nil, err
	}
	return s.openFFmpeg(s.target.uri, s.target.ReadTimeout)
}

// openFeed decodes what a session plays.
func (s *source) openFeed(ctx context.Context, session *session) (*gocv.VideoCapture, error) {
	var err error
	if s.feed, err = openFeed(ctx, s.target, session, s.decoder); err != nil {
		return nil, err
	}
	if err := s.feed.keyframe(s.target.KeyframeWait); err != nil {
		return nil, err
	}
	var video *gocv.VideoCapture
	fd := s.feed.out.Fd()
	if s.decoder == DecoderFFmpeg {
		// Its own limit of a read only has to be longer than the feed's.
		video, err = s.openFFmpeg(fmt.Sprintf("pipe:%d", fd), s.target.ReadTimeout+decoderWait)
	} else {
		video, err = opened(gocv.VideoCaptureFileWithAPI(decodePipeline(s.decoder, session.codec, fd), gocv.VideoCaptureGstreamer))
	}
	if reason := s.feed.reason(); err != nil && reason != nil {
		err = fmt.Errorf("%w: %w", reason, err)
	}
	return video, err
}

// openFFmpeg opens a feed, or a camera by OpenCV's own RTSP. That asks for TCP
// first unless OPENCV_FFMPEG_CAPTURE_OPTIONS says otherwise.
func (s *source) openFFmpeg(uri string, read time.Duration) (*gocv.VideoCapture, error) {
	return opened(gocv.VideoCaptureFileWithAPIParams(uri, gocv.VideoCaptureFFmpeg, []gocv.VideoCaptureProperties{
		propOpenTimeout, gocv.VideoCaptureProperties(decoderWait.Milliseconds()),
		propReadTimeout, gocv.VideoCaptureProperties(read.Milliseconds()),
	}))
}

// StartLimit is how long an RTSP camera may take to its first frame. Other
// sources have no limit of their own.
func (s *source) StartLimit() time.Duration { return s.target.startLimit() }

// startLimit is the time for two answers, a keyframe, and the pictures that the
// decoder looks at.
func (t *target) startLimit() time.Duration {
	if t.kind != vision.KindRTSP {
		return 0
	}
	return 2*t.OpenTimeout + t.KeyframeWait + decoderWait
}
