//go:build !novision

package capture

import (
	"context"
	"errors"
	"fmt"

	"gocv.io/x/gocv"
)

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
	return s.openFFmpeg()
}

// openFeed decodes what a session plays.
func (s *source) openFeed(ctx context.Context, session *session) (*gocv.VideoCapture, error) {
	var err error
	if s.feed, err = openFeed(ctx, s.target, session, s.decoder); err != nil {
		return nil, err
	}
	var video *gocv.VideoCapture
	fd := s.feed.out.Fd()
	if s.decoder == DecoderFFmpeg {
		video, err = opened(gocv.VideoCaptureFileWithAPI(fmt.Sprintf("pipe:%d", fd), gocv.VideoCaptureFFmpeg))
	} else {
		video, err = opened(gocv.VideoCaptureFileWithAPI(decodePipeline(s.decoder, session.codec, fd), gocv.VideoCaptureGstreamer))
	}
	if reason := s.feed.reason(); err != nil && reason != nil {
		err = fmt.Errorf("%w: %w", reason, err)
	}
	return video, err
}

// openFFmpeg opens OpenCV's own RTSP. It asks for TCP first: that is what
// OpenCV does unless OPENCV_FFMPEG_CAPTURE_OPTIONS says otherwise.
func (s *source) openFFmpeg() (*gocv.VideoCapture, error) {
	t := &s.target
	return opened(gocv.VideoCaptureFileWithAPIParams(t.uri, gocv.VideoCaptureFFmpeg, []gocv.VideoCaptureProperties{
		propOpenTimeout, gocv.VideoCaptureProperties(t.OpenTimeout.Milliseconds()),
		propReadTimeout, gocv.VideoCaptureProperties(t.ReadTimeout.Milliseconds()),
	}))
}
