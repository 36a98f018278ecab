//go:build !novision

package rtsptest

import (
	"fmt"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bluenviron/gortsplib/v5"
	"github.com/bluenviron/gortsplib/v5/pkg/base"
	"github.com/bluenviron/gortsplib/v5/pkg/description"
	"github.com/bluenviron/gortsplib/v5/pkg/format"
	"github.com/bluenviron/gortsplib/v5/pkg/liberrors"
	"github.com/pion/rtp"
)

// Options says what a Server plays. Zero values mean 25 pictures a second, a
// free port and no password.
type Options struct {
	Clip     Clip
	FPS      int
	Address  string // loopback host:port
	User     string
	Password string
	TLS      bool // rtsps://, with a certificate that nobody signed
	NoSPS    bool // parameter sets come in the stream alone, not in the description
}

// Server plays a clip over and over to everyone who asks for /stream over TCP.
// It is safe for concurrent use.
type Server struct {
	opts    Options
	address string
	server  *gortsplib.Server
	stream  *gortsplib.ServerStream
	ready   chan struct{} // closed when there is a stream; requests may come sooner
	once    sync.Once
	stop    chan struct{}
	stopped chan struct{}

	silent  atomic.Bool // writes no RTP
	dead    atomic.Bool // says and hears nothing, and closes nothing
	readers atomic.Int64
	played  atomic.Int64 // readers that ever began

	mu   sync.Mutex
	clip Clip
	sent [KeyframeInterval]time.Time // when picture i was last written
}

// Start serves until Close.
func Start(o Options) (*Server, error) {
	if o.FPS == 0 {
		o.FPS = 25
	}
	if o.Address == "" {
		o.Address = "127.0.0.1:0"
	}
	s := &Server{opts: o, clip: o.Clip, ready: make(chan struct{}), stop: make(chan struct{}), stopped: make(chan struct{})}
	s.server = &gortsplib.Server{
		Handler: s, RTSPAddress: o.Address, Listen: s.listen, DisableRTCPSenderReports: true,
	}
	if o.TLS {
		var err error
		if s.server.TLSConfig, err = selfSigned(); err != nil {
			return nil, err
		}
	}
	if err := s.server.Start(); err != nil {
		return nil, fmt.Errorf("rtsptest: %s: %w", o.Address, err)
	}
	s.stream = &gortsplib.ServerStream{Server: s.server, Desc: s.describe()}
	err := s.stream.Initialize()
	close(s.ready)
	if err != nil {
		s.server.Close()
		return nil, fmt.Errorf("rtsptest: %w", err)
	}
	go s.play()
	return s, nil
}

// listen remembers the port and wraps connections so that they can die.
func (s *Server) listen(network, address string) (net.Listener, error) {
	l, err := net.Listen(network, address)
	if err != nil {
		return nil, err
	}
	s.address = l.Addr().String()
	return mortalListener{l, &s.dead}, nil
}

// describe is the stream as SDP will say it.
func (s *Server) describe() *description.Session {
	var f format.Format
	first := s.clip.units[0]
	switch s.clip.Codec {
	case MJPEG:
		f = &format.MJPEG{}
	case H265:
		h := &format.H265{PayloadTyp: 96}
		if !s.opts.NoSPS {
			h.VPS, h.SPS, h.PPS = first[0], first[1], first[2]
		}
		f = h
	default:
		h := &format.H264{PayloadTyp: 96, PacketizationMode: 1}
		if !s.opts.NoSPS {
			h.SPS, h.PPS = first[0], first[1]
		}
		f = h
	}
	return &description.Session{Medias: []*description.Media{{Type: description.MediaTypeVideo, Formats: []format.Format{f}}}}
}

// Address is where it listens.
func (s *Server) Address() string { return s.address }

// URL is what a camera's configuration would say, with the password.
func (s *Server) URL() string {
	u := url.URL{Scheme: "rtsp", Host: s.address, Path: "/stream"}
	if s.opts.TLS {
		u.Scheme = "rtsps"
	}
	if s.opts.User != "" {
		u.User = url.UserPassword(s.opts.User, s.opts.Password)
	}
	return u.String()
}

// Stall stops the pictures, or lets them go on; connections stay open and
// requests are answered.
func (s *Server) Stall(on bool) { s.silent.Store(on) }

// Die makes the server fall silent altogether, as a camera that lost its power
// or its cable: nothing is closed, nothing answered. Die(false) brings it
// back for new connections.
func (s *Server) Die(on bool) { s.dead.Store(on) }

// Play changes the clip from its next keyframe on, within the connections that
// there are. The codec stays.
func (s *Server) Play(c Clip) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clip = c
}

// Sent is when picture i was last written.
func (s *Server) Sent(i int) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent[i%KeyframeInterval]
}

// Readers is how many connections are being played to.
func (s *Server) Readers() int { return int(s.readers.Load()) }

// Played is how many connections were ever played to.
func (s *Server) Played() int { return int(s.played.Load()) }

// Close closes every connection and frees the port. A second one does nothing.
func (s *Server) Close() {
	s.once.Do(func() {
		close(s.stop)
		<-s.stopped
		s.stream.Close()
		s.server.Close()
	})
}

// packetise makes RTP packets of one picture.
type packetise func(unit [][]byte) ([]*rtp.Packet, error)

func (s *Server) encoder() (packetise, error) {
	switch f := s.stream.Desc.Medias[0].Formats[0].(type) {
	case *format.MJPEG:
		e, err := f.CreateEncoder()
		return func(u [][]byte) ([]*rtp.Packet, error) { return e.Encode(u[0]) }, err
	case *format.H265:
		e, err := f.CreateEncoder()
		return func(u [][]byte) ([]*rtp.Packet, error) { return e.Encode(u) }, err
	case *format.H264:
		e, err := f.CreateEncoder()
		return func(u [][]byte) ([]*rtp.Packet, error) { return e.Encode(u) }, err
	}
	return nil, fmt.Errorf("rtsptest: no encoder for %s", s.opts.Clip.Codec)
}

// play writes the clip until Close.
func (s *Server) play() {
	defer close(s.stopped)
	encode, err := s.encoder()
	if err != nil {
		return
	}
	tick := time.NewTicker(time.Second / time.Duration(s.opts.FPS))
	defer tick.Stop()
	var clip Clip
	for n := 0; ; n++ {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		if n%KeyframeInterval == 0 {
			s.mu.Lock()
			clip = s.clip
			s.mu.Unlock()
		}
		s.mu.Lock()
		s.sent[n%KeyframeInterval] = time.Now()
		s.mu.Unlock()
		packets, err := encode(clip.units[n%KeyframeInterval])
		if err != nil {
			return
		}
		for _, p := range packets {
			p.Timestamp = uint32(n) * uint32(90000/s.opts.FPS)
			if !s.silent.Load() {
				s.stream.WritePacketRTP(s.stream.Desc.Medias[0], p) //nolint:errcheck // a reader that left is no error here
			}
		}
	}
}

// allowed answers a request whose path or password is wrong.
func (s *Server) allowed(conn *gortsplib.ServerConn, req *base.Request, path string) (*base.Response, error) {
	<-s.ready
	switch {
	case s.opts.User != "" && !conn.VerifyCredentials(req, s.opts.User, s.opts.Password):
		return &base.Response{StatusCode: base.StatusUnauthorized}, liberrors.ErrServerAuth{}
	case path != "/stream":
		return &base.Response{StatusCode: base.StatusNotFound}, nil
	}
	return &base.Response{StatusCode: base.StatusOK}, nil
}

// OnDescribe is called by gortsplib.
func (s *Server) OnDescribe(ctx *gortsplib.ServerHandlerOnDescribeCtx) (*base.Response, *gortsplib.ServerStream, error) {
	res, err := s.allowed(ctx.Conn, ctx.Request, ctx.Path)
	if res.StatusCode != base.StatusOK {
		return res, nil, err
	}
	return res, s.stream, nil
}

// OnSetup is called by gortsplib.
func (s *Server) OnSetup(ctx *gortsplib.ServerHandlerOnSetupCtx) (*base.Response, *gortsplib.ServerStream, error) {
	res, err := s.allowed(ctx.Conn, ctx.Request, ctx.Path)
	if res.StatusCode != base.StatusOK {
		return res, nil, err
	}
	return res, s.stream, nil
}

// OnPlay is called by gortsplib.
func (s *Server) OnPlay(*gortsplib.ServerHandlerOnPlayCtx) (*base.Response, error) {
	s.readers.Add(1)
	s.played.Add(1)
	return &base.Response{StatusCode: base.StatusOK}, nil
}

// OnSessionClose is called by gortsplib.
func (s *Server) OnSessionClose(ctx *gortsplib.ServerHandlerOnSessionCloseCtx) {
	if ctx.Session.State() == gortsplib.ServerSessionStatePlay {
		s.readers.Add(-1)
	}
}
