//go:build !novision

package capture

import (
	"context"
	"errors"

	"gocv.io/x/gocv"
)

// openRTSP asks the camera in Go what it has, so that an error has its reason
// and an absent camera blocks no thread, and gives it to the decoder for that.
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
	decoder, err := thisMachine().choose(t.Decoder, codec)
	if session != nil && (err != nil || decoder == DecoderFFmpeg) {
		session.close()
	}
	if err != nil {
		return nil, err
	}
	s.decoder = decoder
	if decoder == DecoderFFmpeg {
		return s.openFFmpeg()
	}
	if s.feed, err = openFeed(ctx, t, session); err != nil {
		return nil, err
	}
	video, err := opened(gocv.VideoCaptureFileWithAPI(decodePipeline(decoder, codec, s.feed.out.Fd()), gocv.VideoCaptureGstreamer))
	if reason := s.feed.reason(); err != nil && reason != nil {
		err = errors.Join(err, reason)
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
