//go:build !novision

package capture

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// TestPipelines are golden: the parts for NVIDIA ran nowhere yet.
func TestPipelines(t *testing.T) {
	const end = "videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"
	for got, want := range map[string]string{
		decodePipeline(DecoderNvidia, codecH264, 7):    "fdsrc fd=7 do-timestamp=true ! h264parse ! nvv4l2decoder ! nvvidconv ! video/x-raw,format=BGRx ! " + end,
		decodePipeline(DecoderNvidia, codecH265, 9):    "fdsrc fd=9 do-timestamp=true ! h265parse ! nvv4l2decoder ! nvvidconv ! video/x-raw,format=BGRx ! " + end,
		decodePipeline(DecoderGStreamer, codecH264, 7): "fdsrc fd=7 do-timestamp=true ! h264parse ! avdec_h264 ! " + end,
		decodePipeline(DecoderGStreamer, codecH265, 7): "fdsrc fd=7 do-timestamp=true ! h265parse ! avdec_h265 ! " + end,
		csi{}.pipeline():                  "nvarguscamerasrc sensor-id=0 ! video/x-raw(memory:NVMM),format=NV12 ! nvvidconv ! video/x-raw,format=BGRx ! " + end,
		csi{1, 1920, 1080, 30}.pipeline(): "nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),format=NV12,width=1920,height=1080,framerate=30/1 ! nvvidconv ! video/x-raw,format=BGRx ! " + end,
	} {
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestAddressesOfCSI(t *testing.T) {
	for address, want := range map[string]csi{"csi://0": {}, "csi://1?width=1280&height=720&fps=60": {1, 1280, 720, 60}} {
		if got, err := parseCSI(address); err != nil || got != want {
			t.Errorf("%s: %+v, %v", address, got, err)
		}
	}
	for _, address := range []string{"csi://", "csi://-1", "csi://0?width=1280", "csi://0?fps=0", "csi://0?fps=x", "csi://0?flip=1", "csi://0 ! filesink"} {
		if _, err := parseCSI(address); err == nil {
			t.Errorf("%s was accepted", address)
		}
	}
}

// TestADecoderIsChosen by what a machine has, which no test machine has all of.
func TestADecoderIsChosen(t *testing.T) {
	none := func(string) bool { return false }
	jetson := func(name string) bool {
		return slices.Contains([]string{"gstcoreelements", "gstvideoparsersbad", "gstnvvideo4linux2", "gstnvvidconv", "gstapp", "gstvideoconvert"}, name)
	}
	for _, c := range []struct {
		machine machine
		want    Decoder
		codec   string
		got     Decoder
		says    string
	}{
		{machine{true, jetson}, DecoderAuto, codecH264, DecoderNvidia, ""},
		{machine{true, jetson}, DecoderAuto, codecH265, DecoderNvidia, ""},
		{machine{true, jetson}, DecoderAuto, codecMJPEG, DecoderFFmpeg, ""},
		{machine{true, jetson}, DecoderFFmpeg, codecH264, DecoderFFmpeg, ""},
		{machine{true, jetson}, DecoderGStreamer, codecH264, "", "libgstlibav.so"},
		{machine{false, jetson}, DecoderAuto, codecH264, DecoderFFmpeg, ""},
		{machine{false, jetson}, DecoderNvidia, codecH264, "", "without GStreamer"},
		{machine{true, none}, DecoderAuto, codecH264, DecoderFFmpeg, ""},
		{machine{true, none}, DecoderNvidia, codecH264, "", "libgstnvvideo4linux2.so"},
	} {
		got, err := c.machine.choose(c.want, c.codec)
		if got != c.got || (err != nil) != (c.says != "") || err != nil && (!errors.Is(err, ErrDecoder) || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s of %s: got %q, %v, want %q, %q", c.want, c.codec, got, err, c.got, c.says)
		}
	}
}

func TestPluginsAreLookedForWhereTheEnvironmentSays(t *testing.T) {
	dirs := pluginDirs(func(name string) string {
		if name == "GST_PLUGIN_PATH" {
			return "/opt/a:/opt/b"
		}
		return ""
	})
	if dirs[0] != "/opt/a" || dirs[1] != "/opt/b" || !slices.Contains(dirs, "/usr/lib/*-linux-gnu/gstreamer-1.0") {
		t.Errorf("got %v", dirs)
	}
	if err := thisMachine().has(pluginsCPU); err != nil {
		t.Errorf("this machine, which decodes in GStreamer in other tests: %v", err)
	}
}

// TestOptionsOfOneKindAreRefusedForOthers at once, in configuration.
func TestOptionsOfOneKindAreRefusedForOthers(t *testing.T) {
	for _, o := range []Options{
		{URL: "a.avi", Decoder: DecoderNvidia}, {URL: "rtsp://h/s", Decoder: "cuda"}, {URL: "csi://x"},
		{URL: "dir://relative"}, {URL: "dir:///a?fps=0"}, {URL: "dir:///a?watch=yes"}, {URL: "dir:///a?speed=1"}, {URL: "dir:///a?watch=1", Loop: true},
	} {
		if _, err := Factory(o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
	for _, o := range []Options{{URL: "rtsp://h/s", Decoder: DecoderNvidia}, {URL: "csi://0?fps=30"}, {URL: "dir:///a?fps=0.1&watch=1"}} {
		if _, err := Factory(o); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
