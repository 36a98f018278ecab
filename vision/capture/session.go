//go:build !novision

package capture

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/bluenviron/gortsplib/v5"
	"github.com/bluenviron/gortsplib/v5/pkg/base"
	"github.com/bluenviron/gortsplib/v5/pkg/description"
	"github.com/bluenviron/gortsplib/v5/pkg/format"
	"github.com/pion/rtp"
)

// The codecs that are known by name; others are named as SDP names them.
const (
	codecH264  = "H264"
	codecH265  = "H265"
	codecMJPEG = "MJPEG"
)

// session is a connection to a camera in Go, beside OpenCV's: it says why a
// camera cannot be read, which OpenCV does not, and what it sends.
type session struct {
	client *gortsplib.Client
	desc   *description.Session
	media  *description.Media
	format format.Format
	codec  string
}

// describe asks for the camera's stream within the open time-out. The error
// is a FaultError, or wraps errNotUnderstood.
func describe(ctx context.Context, t target) (*session, error) {
	u, err := base.ParseURL(t.uri)
	if err != nil {
		return nil, fmt.Errorf("%w: the address", errNotUnderstood) // the error repeats the password
	}
	ctx, cancel := context.WithTimeout(ctx, t.OpenTimeout)
	defer cancel()
	s := &session{client: newClient(u, t)}
	if err := s.client.Start(); err != nil {
		return nil, fmt.Errorf("%w: %w", errNotUnderstood, err)
	}
	unwatch := context.AfterFunc(ctx, s.client.Close)
	defer unwatch()
	if s.desc, _, err = s.client.Describe(u); err != nil {
		s.client.Close()
		return nil, rtspFault(ctx, err)
	}
	if !s.findVideo() {
		s.client.Close()
		return nil, &FaultError{FaultVideo, errors.New("the camera's stream has no video")}
	}
	return s, nil
}

// newClient reads over TCP. Like FFmpeg it takes whatever certificate the
// camera has, which no authority ever signed.
func newClient(u *base.URL, t target) *gortsplib.Client {
	tcp := gortsplib.ProtocolTCP
	return &gortsplib.Client{
		Scheme: u.Scheme, Host: u.Host, Protocol: &tcp, UserAgent: "outstation",
		ReadTimeout: t.ReadTimeout + time.Second, WriteTimeout: t.OpenTimeout, // beyond the callers' own time-outs
		TLSConfig:     &tls.Config{InsecureSkipVerify: true},
		OnPacketsLost: func(uint64) {}, OnDecodeError: func(error) {}, OnTransportSwitch: func(error) {},
	}
}

// findVideo looks for the first video of the stream.
func (s *session) findVideo() bool {
	for _, m := range s.desc.Medias {
		if m.Type != description.MediaTypeVideo || m.IsBackChannel || len(m.Formats) == 0 {
			continue
		}
		s.media, s.format = m, m.Formats[0]
		switch s.format.(type) {
		case *format.H264:
			s.codec = codecH264
		case *format.H265:
			s.codec = codecH265
		case *format.MJPEG:
			s.codec = codecMJPEG
		default:
			s.codec = s.format.RTPMap()
		}
		return true
	}
	return false
}

// unit is one picture as the camera coded it.
type unit struct {
	at   time.Time // when its last packet arrived
	nals [][]byte  // NAL units; of MJPEG the picture
}

// play calls on with every picture, from a goroutine of its own, until close.
func (s *session) play(ctx context.Context, t target, on func(unit)) error {
	decode, err := s.decoder()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, t.OpenTimeout)
	defer cancel()
	unwatch := context.AfterFunc(ctx, s.client.Close)
	defer unwatch()
	if _, err := s.client.Setup(s.desc.BaseURL, s.media, 0, 0); err != nil {
		return rtspFault(ctx, err)
	}
	s.client.OnPacketRTP(s.media, s.format, func(p *rtp.Packet) {
		if nals, err := decode(p); err == nil { // an error asks for the rest of a picture, or gives up a broken one
			on(unit{at: time.Now(), nals: nals})
		}
	})
	if _, err := s.client.Play(nil); err != nil {
		return rtspFault(ctx, err)
	}
	return nil
}

// decoder puts pictures together from RTP packets.
func (s *session) decoder() (func(*rtp.Packet) ([][]byte, error), error) {
	switch f := s.format.(type) {
	case *format.H264:
		d, err := f.CreateDecoder()
		if err != nil {
			return nil, err
		}
		return d.Decode, nil
	case *format.H265:
		d, err := f.CreateDecoder()
		if err != nil {
			return nil, err
		}
		return d.Decode, nil
	case *format.MJPEG:
		d, err := f.CreateDecoder()
		if err != nil {
			return nil, err
		}
		return func(p *rtp.Packet) ([][]byte, error) { picture, err := d.Decode(p); return [][]byte{picture}, err }, nil
	}
	return nil, &FaultError{FaultVideo, fmt.Errorf("the video is %s", s.codec)}
}

// parameters are the parameter sets that the description holds, perhaps none.
func (s *session) parameters() (sets [][]byte) {
	switch f := s.format.(type) {
	case *format.H264:
		sets = [][]byte{f.SPS, f.PPS}
	case *format.H265:
		sets = [][]byte{f.VPS, f.SPS, f.PPS}
	}
	for _, set := range sets {
		if set == nil {
			return nil
		}
	}
	return sets
}

// close ends the connection. It is safe to call more than once.
func (s *session) close() { s.client.Close() }
