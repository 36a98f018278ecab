//go:build !novision

package capture

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"outstation/vision"
	"outstation/vision/capture/rtsptest"
)

// clips are encoded once for all tests.
var clips = struct {
	sync.Mutex
	made map[string]rtsptest.Clip
}{made: map[string]rtsptest.Clip{}}

// coded is a clip. Its sides are no multiples of 16, so that what a decoder
// adds to them would be seen.
func coded(t testing.TB, codec string, width, height int) rtsptest.Clip {
	t.Helper()
	clips.Lock()
	defer clips.Unlock()
	key := fmt.Sprint(codec, width, height)
	if c, found := clips.made[key]; found {
		return c
	}
	c, err := rtsptest.Encode(codec, width, height)
	if err != nil {
		t.Fatal(err)
	}
	clips.made[key] = c
	return c
}

func camera(t testing.TB, o rtsptest.Options) *rtsptest.Server {
	t.Helper()
	if o.Clip.Codec == "" {
		o.Clip = coded(t, rtsptest.H264, 328, 250)
	}
	s, err := rtsptest.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// shown checks the picture of a test camera and returns the grey of its left half.
func shown(t testing.TB, f vision.Frame) int {
	t.Helper()
	defer f.Image.Close()
	pixels := make([]byte, 3*f.Width*f.Height)
	if _, err := f.Image.Letterbox(pixels, f.Width, f.Height, 0); err != nil {
		t.Fatal(err)
	}
	at := func(x, y int) int { return int(pixels[3*(y*f.Width+x)]) }
	left, right := at(2, 2), at(f.Width-3, f.Height-3)
	if other := at(2, f.Height-3); left+right < 245 || left+right > 265 || other < left-8 || other > left+8 {
		t.Errorf("the picture of %d×%d has corners %d, %d and %d, which no picture of the camera has", f.Width, f.Height, left, other, right)
	}
	return left
}

// both are the ways to decode that this machine has.
var both = []Decoder{DecoderFFmpeg, DecoderGStreamer}

func TestRTSPShowsWhatTheCameraSends(t *testing.T) {
	for _, c := range []struct {
		codec   string
		height  int
		decoder Decoder
		noSPS   bool
		tls     bool
	}{
		{codec: rtsptest.H264, height: 250, decoder: DecoderAuto},
		{codec: rtsptest.H264, height: 250, decoder: DecoderFFmpeg, noSPS: true},
		{codec: rtsptest.H264, height: 250, decoder: DecoderFFmpeg, tls: true},
		{codec: rtsptest.H264, height: 250, decoder: DecoderGStreamer},
		{codec: rtsptest.H264, height: 250, decoder: DecoderGStreamer, noSPS: true},
		{codec: rtsptest.H265, height: 250, decoder: DecoderFFmpeg},
		{codec: rtsptest.H265, height: 250, decoder: DecoderGStreamer},
		{codec: rtsptest.MJPEG, height: 248, decoder: DecoderAuto},
		{codec: rtsptest.MJPEG, height: 248, decoder: DecoderAuto, tls: true},
	} {
		t.Run(fmt.Sprint(c.codec, c.decoder, c.noSPS, c.tls), func(t *testing.T) {
			s := camera(t, rtsptest.Options{Clip: coded(t, c.codec, 328, c.height), NoSPS: c.noSPS, TLS: c.tls})
			src := open(t, Options{URL: s.URL(), Decoder: c.decoder})
			seen := map[int]bool{}
			for range 3 * rtsptest.KeyframeInterval {
				f, err := src.Read()
				if err != nil {
					t.Fatal(err)
				}
				if f.Width != 328 || f.Height != c.height {
					t.Fatalf("%d×%d", f.Width, f.Height)
				}
				seen[(shown(t, f)-rtsptest.Grey(0)+7)/15] = true
			}
			if len(seen) < rtsptest.KeyframeInterval {
				t.Errorf("%d different pictures, want %d", len(seen), rtsptest.KeyframeInterval)
			}
		})
	}
}

// failure reads until it fails.
func failure(src vision.Source) error {
	for {
		f, err := src.Read()
		if err != nil {
			return err
		}
		f.Image.Close()
	}
}

// TestASilentCameraIsNoticed, whether it still answers, is dead without a
// word, or closes; and a second source of the factory reads it when it is back.
func TestASilentCameraIsNoticed(t *testing.T) {
	for _, decoder := range both {
		for name, fail := range map[string]func(*rtsptest.Server, bool){
			"stalls": (*rtsptest.Server).Stall, "dies": (*rtsptest.Server).Die,
		} {
			t.Run(fmt.Sprint(decoder, " ", name), func(t *testing.T) {
				s := camera(t, rtsptest.Options{})
				factory, err := Factory(Options{URL: s.URL(), Decoder: decoder, ReadTimeout: time.Second})
				if err != nil {
					t.Fatal(err)
				}
				first := factory()
				if err := first.Open(t.Context()); err != nil {
					t.Fatal(err)
				}
				f, err := first.Read()
				if err != nil {
					t.Fatal(err)
				}
				fail(s, true)
				if err := failure(first); !errors.Is(err, ErrRead) || errors.Is(err, io.EOF) {
					t.Errorf("got %v, want ErrRead", err)
				}
				fail(s, false)
				second := factory()
				if err := second.Open(t.Context()); err != nil {
					t.Fatal(err)
				}
				g, err := second.Read()
				if err != nil {
					t.Fatal(err)
				}
				// The first is still there, with a frame out: they share nothing.
				shown(t, f)
				if err := first.Close(); err != nil {
					t.Error(err)
				}
				shown(t, g)
				if err := second.Close(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestAFeedSaysWhyItEnded: what OpenCV does not know of a pipeline, its feed does.
func TestAFeedSaysWhyItEnded(t *testing.T) {
	s, err := rtsptest.Start(rtsptest.Options{Clip: coded(t, rtsptest.H264, 328, 250)})
	if err != nil {
		t.Fatal(err)
	}
	stalled := open(t, Options{URL: s.URL(), Decoder: DecoderGStreamer, ReadTimeout: time.Second})
	s.Stall(true)
	if err := failure(stalled); !strings.Contains(err.Error(), "sent no picture for 1s") {
		t.Errorf("stalled: %v", err)
	}
	s.Stall(false)
	closed := open(t, Options{URL: s.URL(), Decoder: DecoderGStreamer})
	s.Close()
	if err := failure(closed); !strings.Contains(err.Error(), "the connection ended") || errors.Is(err, io.EOF) {
		t.Errorf("closed: %v, want an error that is not io.EOF", err)
	}
}

// TestACameraThatHangsUpHasNotEnded: io.EOF would be its end for good.
func TestACameraThatHangsUpHasNotEnded(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			bufio.NewReader(c).ReadString('\n') // so that it is a close and no reset
			c.Close()
		}
	}()
	factory, err := Factory(Options{URL: "rtsp://" + l.Addr().String() + "/s"})
	if err != nil {
		t.Fatal(err)
	}
	src := factory()
	defer src.Close()
	if err := src.Open(t.Context()); !errors.Is(err, ErrOpen) || errors.Is(err, io.EOF) {
		t.Errorf("got %v, want ErrOpen that is not io.EOF", err)
	}
}

// TestTheResolutionChanges within a connection, to more and to less: the
// connection ends after the last picture of the old size, and the next one has
// the new.
func TestTheResolutionChanges(t *testing.T) {
	small, large := coded(t, rtsptest.H264, 328, 250), coded(t, rtsptest.H264, 500, 346)
	for _, decoder := range both {
		t.Run(string(decoder), func(t *testing.T) {
			s := camera(t, rtsptest.Options{Clip: small})
			now, next := small, large
			for range 3 {
				src := open(t, Options{URL: s.URL(), Decoder: decoder})
				for n := 0; ; n++ {
					f, err := src.Read()
					if err != nil {
						if !errors.Is(err, ErrRead) || !strings.Contains(err.Error(), fmt.Sprintf("to %d×%d", next.Width, next.Height)) {
							t.Errorf("got %v, want ErrRead that says the new size", err)
						}
						break
					}
					if f.Width != now.Width || f.Height != now.Height {
						t.Errorf("%d×%d, want %d×%d", f.Width, f.Height, now.Width, now.Height)
					}
					shown(t, f)
					if n == 5 {
						s.Play(next)
					}
				}
				now, next = next, now
			}
		})
	}
}

// TestTheStreamIsBelievedMoreThanItsDescription, which may name an old
// resolution, also when pictures come before the first keyframe.
func TestTheStreamIsBelievedMoreThanItsDescription(t *testing.T) {
	s := camera(t, rtsptest.Options{FPS: 10})
	s.Play(coded(t, rtsptest.H264, 500, 346))
	for range 3 {
		src := open(t, Options{URL: s.URL(), ReadTimeout: time.Second})
		if f, err := src.Read(); err != nil || f.Width != 500 {
			t.Errorf("got %+v, %v, want a width of 500", f, err)
		} else {
			shown(t, f)
		}
		if err := src.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestEveryFaultIsToldApart by Open, without the password.
func TestEveryFaultIsToldApart(t *testing.T) {
	s := camera(t, rtsptest.Options{User: "u", Password: "secret"})
	dead := camera(t, rtsptest.Options{})
	dead.Die(true)
	page := httptest.NewServer(http.NotFoundHandler())
	defer page.Close()
	for url, want := range map[string]Fault{
		"rtsp://" + s.Address() + "/stream":            FaultUnauthorised,
		"rtsp://u:secret2@" + s.Address() + "/stream":  FaultUnauthorised,
		"rtsp://u:secret@" + s.Address() + "/stream2":  FaultPath,
		"rtsp://u:secret@" + closedPort(t) + "/stream": FaultRefused,
		dead.URL(): FaultTimeout,
		"rtsp://u:secret@no-such-camera.invalid/stream":            FaultHost,
		"rtsp://" + strings.TrimPrefix(page.URL, "http://") + "/s": FaultAnswer,
	} {
		t.Run(string(want), func(t *testing.T) {
			factory, err := Factory(Options{URL: url, OpenTimeout: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			src := factory()
			defer src.Close()
			err = src.Open(t.Context())
			var fault *FaultError
			if !errors.Is(err, ErrOpen) || !errors.As(err, &fault) || fault.Fault != want || strings.Contains(err.Error(), "secret") {
				t.Errorf("got %v, want ErrOpen for %s and no password", err, want)
			}
		})
	}
	src := open(t, Options{URL: s.URL()}) // and the right one is let in
	if f, err := src.Read(); err != nil {
		t.Error(err)
	} else {
		shown(t, f)
	}
}

// TestADecoderThatIsForcedAndAbsent is an error that says so.
func TestADecoderThatIsForcedAndAbsent(t *testing.T) {
	mjpeg := camera(t, rtsptest.Options{Clip: coded(t, rtsptest.MJPEG, 328, 250)})
	h264 := camera(t, rtsptest.Options{})
	for _, c := range []struct {
		url     string
		decoder Decoder
		want    string
	}{
		{h264.URL(), DecoderNvidia, "libgstnvvideo4linux2.so"}, {mjpeg.URL(), DecoderGStreamer, "the camera sends MJPEG"},
	} {
		factory, err := Factory(Options{URL: c.url, Decoder: c.decoder})
		if err != nil {
			t.Fatal(err)
		}
		src := factory()
		if err := src.Open(t.Context()); !errors.Is(err, ErrDecoder) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want ErrDecoder that says %q", c.decoder, err, c.want)
		}
		src.Close()
	}
}

func TestEightCamerasAtOnce(t *testing.T) {
	var readers sync.WaitGroup
	for i := range 8 {
		width := 320 + 8*i
		s := camera(t, rtsptest.Options{Clip: coded(t, rtsptest.H264, width, 240)})
		src := open(t, Options{URL: s.URL()})
		readers.Go(func() {
			for range 2 * rtsptest.KeyframeInterval {
				f, err := src.Read()
				if err != nil || f.Width != width {
					t.Errorf("camera %d: width %d, %v", i, f.Width, err)
					return
				}
				shown(t, f)
			}
		})
	}
	readers.Wait()
}

// TestACancelledOpenReturns although the camera never answers.
func TestACancelledOpenReturns(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	factory, err := Factory(Options{URL: "rtsp://" + l.Addr().String() + "/s", OpenTimeout: time.Minute, ReadTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	src := factory()
	defer src.Close()
	opened := make(chan error, 1)
	go func() { opened <- src.Open(ctx) }()
	if c, err := l.Accept(); err == nil {
		defer c.Close()
	}
	cancel()
	select {
	case err := <-opened:
		if !errors.Is(err, ErrOpen) {
			t.Errorf("got %v, want ErrOpen", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Open did not end with its context")
	}
}
