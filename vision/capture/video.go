//go:build !novision

package capture

import (
	"errors"
	"fmt"

	"gocv.io/x/gocv"
)

// ErrWrite is wrapped by every error of a video that cannot be written.
var ErrWrite = errors.New("cannot write the video")

// Video is a recording that is being written: Motion JPEG, each frame a
// picture of its own, in a container that OpenCV chooses by the file's name.
// One goroutine uses it.
type Video struct {
	path   string
	writer *gocv.VideoWriter
	frame  gocv.Mat
	pixels []byte // of frame
}

// CreateVideo begins a recording of frames of width×height pixels, fps of them
// a second. A file that is there is overwritten. Only FFmpeg is asked: OpenCV
// would have GStreamer write a file whose name says no container.
func CreateVideo(path string, fps float64, width, height int) (*Video, error) {
	writer, err := gocv.VideoWriterFileWithAPI(path, gocv.VideoCaptureFFmpeg, "MJPG", fps, width, height, true)
	if err == nil && !writer.IsOpened() {
		err = errors.Join(errBackend, writer.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("capture: %s: %w: %w", path, ErrWrite, err)
	}
	v := &Video{path: path, writer: writer, frame: gocv.NewMatWithSize(height, width, gocv.MatTypeCV8UC3)}
	if v.pixels, err = v.frame.DataPtrUint8(); err != nil {
		return nil, errors.Join(fmt.Errorf("capture: %s: %w: %w", path, ErrWrite, err), v.Close())
	}
	return v, nil
}

// Write adds a frame: interleaved 8-bit rows in blue, green, red. OpenCV does
// not say whether the disk took it; whoever needs to know looks at the file.
func (v *Video) Write(bgr []byte) error {
	if len(bgr) != len(v.pixels) {
		return fmt.Errorf("capture: %s: %w: got a frame of %d bytes, want %d", v.path, ErrWrite, len(bgr), len(v.pixels))
	}
	copy(v.pixels, bgr)
	if err := v.writer.Write(v.frame); err != nil {
		return fmt.Errorf("capture: %s: %w: %w", v.path, ErrWrite, err)
	}
	return nil
}

// Close ends the recording: only then can it be played.
func (v *Video) Close() error {
	return errors.Join(v.writer.Close(), v.frame.Close())
}
