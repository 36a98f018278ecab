//go:build !novision

package capture

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// sink ends a pipeline: the newest picture in BGR, whatever its clock says.
const sink = "videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"

// fromNvidia takes pictures out of the Jetson's own memory. Its converter
// makes no BGR, so videoconvert drops the fourth channel.
const fromNvidia = "nvvidconv ! video/x-raw,format=BGRx ! " + sink

// decodePipeline decodes the byte stream of H.264 or H.265 (Annex B) that
// comes through the file descriptor fd.
func decodePipeline(d Decoder, codec string, fd uintptr) string {
	n := "264"
	if codec == codecH265 {
		n = "265"
	}
	head := fmt.Sprintf("fdsrc fd=%d do-timestamp=true ! h%sparse ! ", fd, n)
	if d == DecoderNvidia {
		return head + "nvv4l2decoder ! " + fromNvidia
	}
	return head + "avdec_h" + n + " ! " + sink
}

// csi is an address of a Jetson's camera connector:
// csi://SENSOR?width=1920&height=1080&fps=30, where the three name a mode of
// the sensor and may be left out.
type csi struct {
	sensor, width, height, fps int
}

func parseCSI(address string) (c csi, err error) {
	number, query, _ := strings.Cut(strings.TrimPrefix(address, "csi://"), "?")
	if c.sensor, err = strconv.Atoi(number); err != nil || c.sensor < 0 {
		return c, errors.New("want csi://N, N being the number of the sensor")
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return c, errors.New("not a valid address")
	}
	fields := map[string]*int{"width": &c.width, "height": &c.height, "fps": &c.fps}
	for key := range values {
		field := fields[key]
		if field == nil {
			return c, fmt.Errorf("%s: want width, height or fps", key)
		}
		if *field, err = strconv.Atoi(values.Get(key)); err != nil || *field < 1 || *field > 1<<16 {
			return c, fmt.Errorf("%s: got %q, want a whole number from 1", key, values.Get(key))
		}
	}
	if (c.width == 0) != (c.height == 0) {
		return c, errors.New("width and height go together")
	}
	return c, nil
}

// pipeline reads the sensor through NVIDIA's camera stack.
func (c csi) pipeline() string {
	mode := "video/x-raw(memory:NVMM),format=NV12"
	if c.width > 0 {
		mode += fmt.Sprintf(",width=%d,height=%d", c.width, c.height)
	}
	if c.fps > 0 {
		mode += fmt.Sprintf(",framerate=%d/1", c.fps)
	}
	return fmt.Sprintf("nvarguscamerasrc sensor-id=%d ! %s ! %s", c.sensor, mode, fromNvidia)
}
