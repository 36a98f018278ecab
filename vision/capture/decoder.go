//go:build !novision

package capture

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gocv.io/x/gocv"
)

// ErrDecoder is wrapped by the error of a decoder that this machine lacks or
// that cannot decode what the camera sends.
var ErrDecoder = errors.New("the decoder cannot be used")

// GStreamer's plugins, by the names of their files without lib and .so.
var (
	pluginsCSI    = []string{"nvarguscamerasrc", "nvvidconv", "app"}
	pluginsNvidia = []string{"coreelements", "videoparsersbad", "nvvideo4linux2", "nvvidconv", "app"}
	pluginsCPU    = []string{"coreelements", "videoparsersbad", "libav", "app"}

	// One of these has videoconvert: the second since GStreamer 1.22.
	pluginsConvert = []string{"gstvideoconvert", "gstvideoconvertscale"}
)

// machine is what can decode here.
type machine struct {
	backend bool                   // OpenCV was built with GStreamer
	plugin  func(name string) bool // a plugin of GStreamer is installed
}

// thisMachine looks at this one.
func thisMachine() machine {
	dirs := pluginDirs(os.Getenv)
	return machine{
		backend: gocv.VideoRegistry.HasBackend(gocv.VideoCaptureGstreamer),
		plugin: func(name string) bool {
			return slices.ContainsFunc(dirs, func(dir string) bool {
				found, _ := filepath.Glob(filepath.Join(dir, "lib"+name+".so")) // the pattern is ours
				return len(found) > 0
			})
		},
	}
}

// pluginDirs are the patterns of the directories where GStreamer looks, of
// those that the environment names and Debian's, Ubuntu's and Fedora's own.
func pluginDirs(getenv func(string) string) []string {
	var dirs []string
	for _, name := range []string{"GST_PLUGIN_PATH_1_0", "GST_PLUGIN_PATH", "GST_PLUGIN_SYSTEM_PATH_1_0", "GST_PLUGIN_SYSTEM_PATH"} {
		dirs = append(dirs, filepath.SplitList(getenv(name))...)
	}
	return append(dirs, "/usr/lib/*-linux-gnu/gstreamer-1.0", "/usr/lib/gstreamer-1.0", "/usr/lib64/gstreamer-1.0", "/usr/local/lib/*/gstreamer-1.0")
}

// has returns nil, or an error that says what of a pipeline is missing.
func (m machine) has(plugins []string) error {
	if !m.backend {
		return fmt.Errorf("%w: OpenCV was built without GStreamer", ErrDecoder)
	}
	var missing []string
	for _, p := range plugins {
		if !m.plugin("gst" + p) {
			missing = append(missing, "libgst"+p+".so")
		}
	}
	if !slices.ContainsFunc(pluginsConvert, m.plugin) {
		missing = append(missing, "libgstvideoconvert.so")
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: GStreamer here has no %s", ErrDecoder, strings.Join(missing, ", "))
	}
	return nil
}

// choose returns the decoder for a codec, which is not Auto, or an error that
// says why the one that was asked for cannot be had.
func (m machine) choose(want Decoder, codec string) (Decoder, error) {
	known := codec == codecH264 || codec == codecH265
	switch want {
	case DecoderFFmpeg:
		return want, nil
	case DecoderGStreamer, DecoderNvidia:
		if !known {
			return "", fmt.Errorf("%w: decoder %s takes H.264 and H.265, and the camera sends %s: set decoder to auto or ffmpeg", ErrDecoder, want, codec)
		}
		if err := m.has(pluginsOf(want)); err != nil {
			return "", fmt.Errorf("decoder %s: %w: install it, or set decoder to auto or ffmpeg", want, err)
		}
		return want, nil
	}
	if known && m.has(pluginsNvidia) == nil {
		return DecoderNvidia, nil
	}
	return DecoderFFmpeg, nil
}

func pluginsOf(d Decoder) []string {
	if d == DecoderNvidia {
		return pluginsNvidia
	}
	return pluginsCPU
}
