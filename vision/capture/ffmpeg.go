//go:build !novision

package capture

import (
	"fmt"
	"os"
)

// The variable that OpenCV reads FFmpeg's options from whenever it opens
// something, and what is put there: TCP, which is what it does where the
// variable is not set, and that a stream's rate is guessed from three pictures
// and not from 20. One is too few: with 0 in place of 2, a recording in MPEG-TS has
// a rate of 90,000 a second.
const (
	ffmpegVariable = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
	ffmpegOptions  = "rtsp_transport;tcp|fpsprobesize;2"
)

// OpenSooner has FFmpeg in OpenCV open a live camera after three pictures
// instead of 20, which of a camera of two a second are ten seconds. It sets an
// environment variable, so it is for the whole process, and to be called once,
// before the first source is opened and other threads run C code. What was set
// from outside stays.
func OpenSooner() error {
	if _, set := os.LookupEnv(ffmpegVariable); set {
		return nil
	}
	if err := os.Setenv(ffmpegVariable, ffmpegOptions); err != nil {
		return fmt.Errorf("capture: %s: %w: cameras of few pictures a second will be slow to open", ffmpegVariable, err)
	}
	return nil
}
