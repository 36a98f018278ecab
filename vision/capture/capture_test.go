//go:build !novision

package capture

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"io"
	"net"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gocv.io/x/gocv"

	"outstation/vision"
	"outstation/vision/testfiles"
)

func open(t *testing.T, o Options) vision.Source {
	t.Helper()
	factory, err := Factory(o)
	if err != nil {
		t.Fatal(err)
	}
	src := factory()
	t.Cleanup(func() { src.Close() })
	if err := src.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return src
}

// clip writes a recording of n frames at 100 frames a second, frame i a grey
// of 20*i, and returns its path.
func clip(t *testing.T, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "clip.avi")
	w, err := gocv.VideoWriterFileWithAPI(path, gocv.VideoCaptureOpencvMjpeg, "MJPG", 100, 64, 48, true)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		grey := float64(20 * i)
		m := gocv.NewMatWithSizeFromScalar(gocv.NewScalar(grey, grey, grey, 0), 48, 64, gocv.MatTypeCV8UC3)
		if err := w.Write(m); err != nil {
			t.Fatal(err)
		}
		m.Close()
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// grey is the value of the frame's first pixel.
func grey(t *testing.T, f vision.Frame) int {
	t.Helper()
	pixels := make([]byte, 3)
	if _, err := f.Image.Letterbox(pixels, 1, 1, 0); err != nil {
		t.Fatal(err)
	}
	return int(pixels[0])
}

// TestARecordingIsReadInOrderToItsEnd through both Read and Grab, because a
// failed grab is what gocv hides.
func TestARecordingIsReadInOrderToItsEnd(t *testing.T) {
	path := clip(t, 6)
	for name, read := range map[string]func(vision.Source) (vision.Frame, error){
		"read": func(s vision.Source) (vision.Frame, error) { return s.Read() },
		"grab": func(s vision.Source) (vision.Frame, error) {
			if _, err := s.(vision.Grabber).Grab(); err != nil {
				return vision.Frame{}, err
			}
			return s.(vision.Grabber).Retrieve()
		},
	} {
		t.Run(name, func(t *testing.T) {
			src := open(t, Options{URL: "file://" + path})
			for i := range 6 {
				before := time.Now()
				f, err := read(src)
				if err != nil {
					t.Fatalf("frame %d: %v", i, err)
				}
				if g := grey(t, f); g < 20*i-6 || g > 20*i+6 || f.Width != 64 || f.Height != 48 || f.Arrived.Before(before) {
					t.Errorf("frame %d is grey %d, %+v", i, g, f)
				}
				f.Image.Close()
			}
			for range 2 {
				if _, err := read(src); !errors.Is(err, io.EOF) {
					t.Errorf("after the end: %v, want io.EOF", err)
				}
			}
		})
	}
}

// TestAnEmptyRecordingIsAnError and not a recording that has ended: a camera
// that never showed anything must not look finished.
func TestAnEmptyRecordingIsAnError(t *testing.T) {
	full, err := os.ReadFile(clip(t, 3))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "header.avi")
	movie := bytes.Index(full, []byte("movi"))
	if movie < 0 {
		t.Fatal("the clip has no list of frames")
	}
	if err := os.WriteFile(path, full[:movie+4], 0o600); err != nil {
		t.Fatal(err)
	}
	factory, err := Factory(Options{URL: path})
	if err != nil {
		t.Fatal(err)
	}
	src := factory()
	defer src.Close()
	err = src.Open(t.Context())
	if err == nil {
		_, err = src.Read()
	}
	if err == nil || errors.Is(err, io.EOF) || (!errors.Is(err, ErrRead) && !errors.Is(err, ErrOpen)) {
		t.Errorf("got %v, want ErrRead or ErrOpen and not io.EOF", err)
	}
}

func TestALoopStartsAgain(t *testing.T) {
	src := open(t, Options{URL: clip(t, 3), Loop: true})
	for i := range 10 {
		f, err := src.Read()
		if err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
		if g, want := grey(t, f), 20*(i%3); g < want-6 || g > want+6 {
			t.Errorf("frame %d is grey %d, want %d", i, g, want)
		}
		f.Image.Close()
	}
}

func TestAPacedRecordingKeepsItsRate(t *testing.T) {
	src := open(t, Options{URL: clip(t, 12), Paced: true})
	began := time.Now()
	for range 12 {
		f, err := src.Read()
		if err != nil {
			t.Fatal(err)
		}
		f.Image.Close()
	}
	if took := time.Since(began); took < 110*time.Millisecond {
		t.Errorf("12 frames at 100 a second took %v, want at least 110 ms", took)
	}
}

func TestPacingEndsWithItsContext(t *testing.T) {
	factory, err := Factory(Options{URL: clip(t, 2), Paced: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	src := factory()
	defer src.Close()
	if err := src.Open(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := src.Read(); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

// TestLetterboxMatchesOpenCV compares with the same steps written out with
// OpenCV's own border function, for wide, high and square frames.
func TestLetterboxMatchesOpenCV(t *testing.T) {
	src := open(t, Options{URL: testfiles.Video().Need(t)})
	f, err := src.Read()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Image.Close()
	for _, size := range []image.Point{{416, 416}, {416, 320}, {320, 416}, {640, 64}, {768, 576}} {
		got := make([]byte, 3*size.X*size.Y)
		scale, err := f.Image.Letterbox(got, size.X, size.Y, 114)
		if err != nil {
			t.Fatal(err)
		}
		small, boxed := gocv.NewMat(), gocv.NewMatWithSizeFromScalar(gocv.NewScalar(114, 114, 114, 0), size.Y, size.X, gocv.MatTypeCV8UC3)
		w, h, want := vision.Fit(768, 576, size.X, size.Y)
		if err := gocv.Resize(f.Image.(*Image).Mat(), &small, image.Pt(w, h), 0, 0, gocv.InterpolationLinear); err != nil {
			t.Fatal(err)
		}
		region := boxed.Region(image.Rect(0, 0, w, h))
		if err := small.CopyTo(&region); err != nil {
			t.Fatal(err)
		}
		if scale != want || !bytes.Equal(got, boxed.ToBytes()) {
			t.Errorf("letterbox to %v differs (scale %v, want %v)", size, scale, want)
		}
		region.Close()
		small.Close()
		boxed.Close()
	}
	if _, err := f.Image.Letterbox(make([]byte, 10), 416, 416, 0); err == nil {
		t.Error("no error for a buffer that is too small")
	}
}

// TestImagesArePooledAndOutliveTheirSource: the pool never makes more than are
// in use, and a frame still out is usable after its source was closed.
func TestImagesArePooledAndOutliveTheirSource(t *testing.T) {
	src := open(t, Options{URL: clip(t, 8)})
	seen := map[vision.Image]bool{}
	var held vision.Frame
	for i := range 8 {
		f, err := src.Read()
		if err != nil {
			t.Fatal(err)
		}
		seen[f.Image] = true
		if i == 7 {
			held = f
			break
		}
		f.Image.Close()
		f.Image.Close()
	}
	if len(seen) != 1 {
		t.Errorf("%d images for one in use at a time", len(seen))
	}
	if err := src.Close(); err != nil {
		t.Fatal(err)
	}
	if g := grey(t, held); g < 130 || g > 150 {
		t.Errorf("the held frame is grey %d, want 140", g)
	}
	held.Image.Close()
}

func TestOpenErrorsSayWhatToDo(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text.avi")
	if err := os.WriteFile(text, []byte("not a video"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused := "rtsp://user:secret@" + closedPort(t) + "/stream1"
	for url, want := range map[string]string{
		"/nonexistent/a.avi":        "check the path",
		text:                        "a video that FFmpeg reads",
		refused:                     "connection refused: check that RTSP is switched on",
		"v4l2:///dev/video63":       "group video",
		"gst:nosuchthing ! appsink": "gst-launch-1.0",
	} {
		factory, err := Factory(Options{URL: url, OpenTimeout: 2 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		src := factory()
		err = src.Open(t.Context())
		if !errors.Is(err, ErrOpen) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v, want ErrOpen that says %q and no password", Redact(url), err, want)
		}
		if err := src.Close(); err != nil {
			t.Error(err)
		}
	}
}

// closedPort is a loopback address where nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestASilentRTSPServerTimesOut: a server that accepts and never answers.
func TestASilentRTSPServerTimesOut(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if conn, err := l.Accept(); err == nil {
			defer conn.Close()
			io.Copy(io.Discard, conn)
		}
	}()
	factory, err := Factory(Options{URL: "rtsp://" + l.Addr().String() + "/stream1?channel=2", OpenTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	src := factory()
	defer src.Close()
	began := time.Now()
	if err := src.Open(t.Context()); !errors.Is(err, ErrOpen) {
		t.Errorf("got %v, want ErrOpen", err)
	}
	if took := time.Since(began); took < 900*time.Millisecond || took > 10*time.Second {
		t.Errorf("gave up after %v, want about the open time-out of 1 s", took)
	}
}

// TestRTSPAsksForTCP answers as a camera does as far as SETUP, whose transport
// is what is looked at.
func TestRTSPAsksForTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	transport := make(chan string, 1)
	go func() {
		for { // the first connection only asks what there is
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if asked := setupTransport(conn); asked != "" {
				transport <- asked
			}
			conn.Close()
		}
	}()
	factory, err := Factory(Options{URL: "rtsp://" + l.Addr().String() + "/stream1", OpenTimeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	src := factory()
	defer src.Close()
	if err := src.Open(t.Context()); !errors.Is(err, ErrOpen) {
		t.Errorf("got %v, want ErrOpen", err)
	}
	select {
	case got := <-transport:
		if !strings.HasPrefix(got, "RTP/AVP/TCP") {
			t.Errorf("asked for transport %q, want RTP/AVP/TCP", got)
		}
	case <-time.After(5 * time.Second):
		t.Error("no SETUP was asked for")
	}
}

// setupTransport answers requests until SETUP and returns its Transport, or
// nothing when there is none.
func setupTransport(conn net.Conn) string {
	const sdp = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:track1\r\n"
	for r := textproto.NewReader(bufio.NewReader(conn)); ; {
		line, err := r.ReadLine()
		if err != nil {
			return ""
		}
		header, err := r.ReadMIMEHeader()
		if err != nil {
			return ""
		}
		body := ""
		switch method, _, _ := strings.Cut(line, " "); method {
		case "SETUP":
			return header.Get("Transport")
		case "DESCRIBE":
			body = sdp
		}
		fmt.Fprintf(conn, "RTSP/1.0 200 OK\r\nCSeq: %s\r\nContent-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%s", header.Get("CSeq"), len(body), body)
	}
}

func TestRedact(t *testing.T) {
	for address, want := range map[string]string{
		"rtsp://u:secret@h/s":                         "rtsp://u:xxxxx@h/s",
		"rtsp://u:se@cr:et@h:port/s":                  "rtsp://u:xxxxx@h:port/s",
		"rtsp://h:554/s?mail=a@b":                     "rtsp://h:554/s?mail=a@b",
		"gst:rtspsrc location=rtsp://u:p@h ! appsink": "gst:rtspsrc location=rtsp://u:xxxxx@h ! appsink",
		"media/vtest.avi":                             "media/vtest.avi",
	} {
		if got := Redact(address); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}

func TestFactoryRefuses(t *testing.T) {
	for _, url := range []string{"", "http://camera/", "rtsp://", "rtsp://u:secret@h:port/", "v4l2:///dev/sda", "v4l2://0", "gst:videotestsrc ! fakesink", "sim://pattern"} {
		if _, err := Factory(Options{URL: url}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", url, err)
		}
	}
	if _, err := Factory(Options{URL: "a.avi", OpenTimeout: -1}); err == nil {
		t.Error("a negative time-out was accepted")
	}
}

func TestGStreamerPipeline(t *testing.T) {
	factory, err := Factory(Options{URL: "gst:videotestsrc num-buffers=5 ! video/x-raw,format=BGR,width=320,height=240 ! appsink"})
	if err != nil {
		t.Fatal(err)
	}
	src := factory()
	defer src.Close()
	if err := src.Open(t.Context()); err != nil {
		t.Skipf("skipping: GStreamer with the plugin videotestsrc (gstreamer1.0-plugins-base) is needed: %v", err)
	}
	for i := range 5 {
		f, err := src.Read()
		if err != nil || f.Width != 320 || f.Height != 240 {
			t.Fatalf("frame %d: %+v, %v", i, f, err)
		}
		f.Image.Close()
	}
	if _, err := src.Read(); !errors.Is(err, ErrRead) || errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v, want ErrRead, which asks for a reconnect", err)
	}
}

func BenchmarkReadAndLetterbox(b *testing.B) {
	factory, err := Factory(Options{URL: testfiles.Video().Need(b), Loop: true})
	if err != nil {
		b.Fatal(err)
	}
	src := factory()
	defer src.Close()
	if err := src.Open(b.Context()); err != nil {
		b.Fatal(err)
	}
	dst := make([]byte, 3*416*416)
	b.ReportAllocs()
	for b.Loop() {
		f, err := src.Read()
		if err != nil {
			b.Fatal(err)
		}
		if _, err := f.Image.Letterbox(dst, 416, 416, 114); err != nil {
			b.Fatal(err)
		}
		f.Image.Close()
	}
}
