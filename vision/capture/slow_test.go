//go:build !novision

package capture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gocv.io/x/gocv"

	"outstation/vision"
	"outstation/vision/capture/rtsptest"
)

// TestMain prepares the process as the appliance does.
func TestMain(m *testing.M) {
	if err := OpenSooner(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// eventually polls until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(40 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 40 s", what)
		}
	}
}

// afterAKeyframe waits until one has just been sent, so that the next is far.
func afterAKeyframe(t *testing.T, s *rtsptest.Server) {
	t.Helper()
	eventually(t, "a keyframe", func() bool { at := s.Sent(0); return !at.IsZero() && time.Since(at) < 200*time.Millisecond })
}

// TestASlowCameraComesUp with its first connection, although its keyframe comes
// later than stall_after.
func TestASlowCameraComesUp(t *testing.T) {
	for _, c := range []struct {
		codec   string
		decoder Decoder
	}{{rtsptest.H264, DecoderFFmpeg}, {rtsptest.H264, DecoderGStreamer}, {rtsptest.H265, DecoderFFmpeg}, {rtsptest.MJPEG, DecoderAuto}} {
		t.Run(c.codec+" "+string(c.decoder), func(t *testing.T) {
			s := camera(t, rtsptest.Options{Clip: coded(t, c.codec, 328, 248), FPS: 2})
			afterAKeyframe(t, s)
			factory, err := Factory(Options{URL: s.URL(), Decoder: c.decoder})
			if err != nil {
				t.Fatal(err)
			}
			var h history
			began := time.Now()
			p := serve(t, h.add, vision.CameraOptions{ID: "a", NewSource: factory, Model: "looker", StallAfter: 1500 * time.Millisecond})
			h.next(t, 0, "online ")
			t.Logf("online after %v", time.Since(began))
			if c := p.Stats().Cameras[0]; c.Abandoned != 0 || c.Reconnects != 0 || s.Played() != 1 {
				t.Errorf("%d connections, %+v", s.Played(), c)
			}
		})
	}
}

// TestFFmpegOpensAfterFewPictures: after ten, and no more come.
func TestFFmpegOpensAfterFewPictures(t *testing.T) {
	if got := os.Getenv(ffmpegVariable); got != ffmpegOptions {
		t.Skipf("%s is set from outside: %q", ffmpegVariable, got)
	}
	for _, codec := range []string{rtsptest.H264, rtsptest.H265} {
		t.Run(codec, func(t *testing.T) {
			s := camera(t, rtsptest.Options{Clip: coded(t, codec, 328, 250)})
			o, err := parse(Options{URL: s.URL()})
			if err != nil {
				t.Fatal(err)
			}
			live, err := describe(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			defer live.close()
			units := make(chan unit, 100)
			if err := live.play(t.Context(), o, func(u unit) { units <- u }); err != nil {
				t.Fatal(err)
			}
			out, in, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			write, err := newPack(DecoderFFmpeg, codec, in)
			if err != nil {
				t.Fatal(err)
			}
			for n := 0; n < 10; {
				u := <-units
				if n == 0 && !live.keyframe(u.nals) {
					continue
				}
				if n == 0 {
					u.nals = append(live.parameters(), u.nals...)
				}
				if err := write(u.nals, time.Duration(n)*time.Second/2); err != nil {
					t.Fatal(err)
				}
				n++
			}
			live.close()
			late := time.AfterFunc(20*time.Second, func() { in.Close() }) // ends the call
			video, err := opened(gocv.VideoCaptureFileWithAPI(fmt.Sprintf("pipe:%d", out.Fd()), gocv.VideoCaptureFFmpeg))
			if !late.Stop() {
				t.Error("it waited for more than ten pictures")
			}
			if in.Close(); err != nil {
				t.Fatal(err)
			}
			if err := video.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestNoKeyframeIsTheCamerasError, which says what to do, and not that it was
// silent.
func TestNoKeyframeIsTheCamerasError(t *testing.T) {
	s := camera(t, rtsptest.Options{FPS: 2})
	afterAKeyframe(t, s)
	factory, err := Factory(Options{URL: s.URL(), KeyframeWait: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	src := factory()
	err = src.Open(t.Context())
	var fault *FaultError
	if !errors.Is(err, ErrOpen) || !errors.As(err, &fault) || fault.Fault != FaultKeyframe || !strings.Contains(err.Error(), "no keyframe in 1s: set the camera's keyframe") {
		t.Errorf("got %v", err)
	}
	if err := src.Close(); err != nil {
		t.Error(err)
	}
	var h history
	p := serve(t, h.add, vision.CameraOptions{ID: "a", NewSource: factory, StallAfter: 500 * time.Millisecond})
	eventually(t, "the detail", func() bool { return strings.Contains(p.Stats().Cameras[0].Detail, "no keyframe in 1s") })
	if c := p.Stats().Cameras[0]; c.Abandoned != 0 {
		t.Errorf("%+v", c)
	}
}

// TestASilentReadEndsWithItsContext, long before its own time-out, and so does
// the wait for a keyframe.
func TestASilentReadEndsWithItsContext(t *testing.T) {
	for _, decoder := range both {
		for _, reading := range []bool{true, false} {
			t.Run(fmt.Sprint(decoder, " reading ", reading), func(t *testing.T) {
				s := camera(t, rtsptest.Options{FPS: map[bool]int{true: 25, false: 1}[reading]})
				factory, err := Factory(Options{URL: s.URL(), Decoder: decoder, ReadTimeout: time.Hour})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				src, ended := factory(), make(chan error, 1)
				if reading {
					if err := src.Open(ctx); err != nil {
						t.Fatal(err)
					}
					s.Die(true)
					var last atomic.Int64
					go func() {
						for {
							last.Store(time.Now().UnixNano())
							f, err := src.Read()
							if err != nil {
								ended <- err
								return
							}
							f.Image.Close()
						}
					}()
					eventually(t, "a read waits", func() bool { n := last.Load(); return n > 0 && time.Since(time.Unix(0, n)) > time.Second })
				} else {
					afterAKeyframe(t, s)
					go func() { ended <- src.Open(ctx) }()
					eventually(t, "it plays", func() bool { return s.Played() == 1 })
				}
				cancel()
				select {
				case err := <-ended:
					if err = errors.Join(err, src.Close()); !errors.Is(err, context.Canceled) {
						t.Errorf("got %v, want context.Canceled", err)
					}
				case <-time.After(30 * time.Second):
					t.Fatal("it did not end with its context")
				}
			})
		}
	}
}

// TestEightCamerasBehindADeadSwitch are no stuck calls: nothing restarts for them.
func TestEightCamerasBehindADeadSwitch(t *testing.T) {
	s := camera(t, rtsptest.Options{FPS: 10})
	var all []vision.CameraOptions
	for i := range vision.DefaultMaxStuck {
		factory, err := Factory(Options{URL: s.URL(), Decoder: both[i%2], ReadTimeout: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, vision.CameraOptions{ID: fmt.Sprint(i), NewSource: factory, StallAfter: 4 * time.Second})
	}
	p := serve(t, func(vision.CameraState) {}, all...)
	every := func(is func(vision.CameraStats) bool) func() bool {
		return func() bool {
			if err := p.Stats().Stuck(); err != nil {
				t.Fatal(err)
			}
			for _, c := range p.Stats().Cameras {
				if !is(c) {
					return false
				}
			}
			return true
		}
	}
	eventually(t, "online", every(func(c vision.CameraStats) bool { return c.State == vision.Online }))
	s.Die(true)
	eventually(t, "given up", every(func(c vision.CameraStats) bool {
		return c.Abandoned > 0 && c.StuckReaders == 0 && c.State == vision.Blind
	}))
}

// TestACancelledProbeReturns although its driver does not: a pipe that nobody
// writes to.
func TestACancelledProbeReturns(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "camera.avi")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := Probe(ctx, Options{URL: pipe}, time.Minute)
		ended <- err
	}()
	var hold *os.File
	eventually(t, "the driver opens it", func() bool {
		var err error
		hold, err = os.OpenFile(pipe, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		return err == nil
	})
	defer hold.Close() // and the driver returns
	cancel()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the probe did not end with its context")
	}
}

// TestRecordingsKeepTheirRate although less of them is looked at, also where only
// the times of pictures say it.
func TestRecordingsKeepTheirRate(t *testing.T) {
	if got := os.Getenv(ffmpegVariable); got != ffmpegOptions {
		t.Skipf("%s is set from outside: %q", ffmpegVariable, got)
	}
	for _, name := range []string{"a.avi", "a.mp4", "a.ts"} {
		path := filepath.Join(t.TempDir(), name)
		w, err := gocv.VideoWriterFileWithAPI(path, gocv.VideoCaptureFFmpeg, "avc1", 12.5, 64, 48, true)
		if err != nil {
			t.Fatal(err)
		}
		m := gocv.NewMatWithSize(48, 64, gocv.MatTypeCV8UC3)
		for range 30 {
			if err := w.Write(m); err != nil {
				t.Error(err)
			}
		}
		m.Close()
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		src := open(t, Options{URL: path, Paced: true})
		var d decoded
		if d.inside(src); d.stated != 12.5 {
			t.Errorf("%s: %v frames a second, want 12.5", name, d.stated)
		}
	}
}
