//go:build !novision

package capture

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"outstation/vision"
)

// Defaults of Options.
const (
	DefaultOpenTimeout  = 5 * time.Second
	DefaultReadTimeout  = 10 * time.Second
	DefaultKeyframeWait = 30 * time.Second
)

// Options says what to read.
type Options struct {
	// URL is a path or file:// address of a recording, rtsp:// or rtsps://,
	// v4l2:///dev/videoN, csi://N?width=W&height=H&fps=F for a Jetson's camera
	// connector, gst: followed by a GStreamer pipeline that ends in an appsink,
	// or dir:///PATH?fps=F&watch=1 for a directory of pictures.
	URL string

	// Decoder decodes RTSP. Empty means DecoderAuto; for other kinds it must
	// be empty or that.
	Decoder Decoder

	// Loop starts a recording or a directory again at its end.
	Loop bool

	// Paced delivers a recording at its own rate, and a directory at that of
	// its address, instead of as fast as they are read. Live sources pace
	// themselves.
	Paced bool

	// OpenTimeout and ReadTimeout bound RTSP's blocking calls. Zero means the
	// default. Other kinds have no time-outs: the Pipeline's stall_after is
	// what notices them.
	OpenTimeout time.Duration
	ReadTimeout time.Duration

	// KeyframeWait is how long an RTSP camera may send pictures before the first
	// that can be decoded without an earlier one. Zero means the default.
	KeyframeWait time.Duration

	// Skipped is called for every file of a directory that is not a picture,
	// from the goroutine that reads. Nil is allowed.
	Skipped func(file string, err error)
}

// Factory checks the options and returns a function that makes sources. It
// does no I/O: a camera that is absent is an error of Source.Open.
func Factory(o Options) (func() vision.Source, error) {
	t, err := parse(o)
	if err != nil {
		return nil, fmt.Errorf("capture: source %q: %w", Redact(o.URL), err)
	}
	return func() vision.Source { return newSource(t) }, nil
}

// target is a checked address.
type target struct {
	Options
	kind   string
	name   string // the address without its password, for errors
	uri    string // what OpenCV is given, or the path of a directory
	device int    // N of /dev/videoN
	folder folder // of a directory
}

func parse(o Options) (target, error) {
	t := target{Options: o, kind: vision.Kind(o.URL), name: Redact(o.URL), uri: o.URL}
	if o.OpenTimeout < 0 || o.ReadTimeout < 0 || o.KeyframeWait < 0 {
		return t, fmt.Errorf("time-outs %v, %v and %v: want 0 or more", o.OpenTimeout, o.ReadTimeout, o.KeyframeWait)
	}
	t.OpenTimeout = cmp.Or(t.OpenTimeout, DefaultOpenTimeout)
	t.ReadTimeout = cmp.Or(t.ReadTimeout, DefaultReadTimeout)
	t.KeyframeWait = cmp.Or(t.KeyframeWait, DefaultKeyframeWait)
	if (o.Loop || o.Paced) && t.kind != vision.KindFile && t.kind != vision.KindDir {
		t.Loop, t.Paced = false, false
	}
	if err := t.checkDecoder(); err != nil {
		return t, err
	}
	var err error
	switch t.kind {
	case vision.KindFile:
		t.uri = strings.TrimPrefix(o.URL, "file://")
	case vision.KindRTSP:
		err = checkHost(o.URL)
	case vision.KindV4L2:
		t.device, err = deviceNumber(o.URL)
	case vision.KindGst:
		t.uri = strings.TrimSpace(strings.TrimPrefix(o.URL, "gst:"))
		if !strings.Contains(t.uri, "appsink") {
			err = errors.New("the pipeline must end in an appsink")
		}
	case vision.KindCSI:
		var c csi
		c, err = parseCSI(o.URL)
		t.uri = c.pipeline()
	case vision.KindDir:
		t.folder, err = parseFolder(o)
	default:
		err = errors.New("want a file, rtsp://, v4l2:///dev/videoN, csi://N, dir:///PATH or gst:PIPELINE")
	}
	return t, err
}

func (t *target) checkDecoder() error {
	if t.Decoder == "" {
		t.Decoder = DecoderAuto
	}
	if !slices.Contains(Decoders, t.Decoder) {
		return fmt.Errorf("decoder %q: want one of %v", t.Decoder, Decoders)
	}
	if t.Decoder != DecoderAuto && t.kind != vision.KindRTSP {
		return fmt.Errorf("decoder %s: only rtsp:// has a choice; leave it out", t.Decoder)
	}
	return nil
}

// checkHost makes sure that an RTSP address names a host.
func checkHost(address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return errors.New("not a valid address") // url.Error repeats the password
	}
	if u.Host == "" {
		return errors.New("no host")
	}
	return nil
}

// deviceNumber returns N of v4l2:///dev/videoN.
func deviceNumber(address string) (int, error) {
	digits, found := strings.CutPrefix(address, "v4l2:///dev/video")
	n, err := strconv.Atoi(digits)
	if !found || err != nil || n < 0 {
		return 0, errors.New("want v4l2:///dev/videoN")
	}
	return n, nil
}

// password matches user, password and the @ after them in any address, also in
// one that is invalid or within a GStreamer pipeline.
var password = regexp.MustCompile(`://([^:/@\s]*):[^/\s]*@`)

// Redact replaces the passwords in an address by xxxxx.
func Redact(address string) string {
	return password.ReplaceAllString(address, "://$1:xxxxx@")
}
