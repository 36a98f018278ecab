package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"outstation/vision"
	"outstation/vision/capture"
	"outstation/vision/sim"
)

type cameraCommand struct {
	Probe cameraProbeCommand `cmd:"" help:"Look at a camera: what it sends, what comes of it, and what to configure."`
}

type cameraProbeCommand struct {
	Source  string        `arg:"" optional:"" help:"What a camera's source would be, such as rtsp://user:password@10.0.0.7/stream1, csi://0 or v4l2:///dev/video0."`
	Config  string        `type:"path" placeholder:"FILE" help:"Take the camera from this configuration file; its password need not be typed then."`
	Camera  string        `placeholder:"ID" help:"Which camera of the configuration file."`
	Decoder string        `default:"" placeholder:"NAME" help:"auto, ffmpeg, gstreamer or nvidia."`
	For     time.Duration `default:"5s" help:"How long to measure. A keyframe interval longer than this is not seen."`
	JSON    bool          `name:"json" help:"Print one JSON object."`
}

// errProbe is the error of a camera that gave no picture.
var errProbe = errors.New("the camera cannot be used as it is")

// Run probes and prints. Its error wraps errProbe for a camera that gave no picture.
func (c *cameraProbeCommand) Run(e *env) error {
	has, err := c.camera()
	if err != nil {
		return err
	}
	if c.For <= 0 || c.For > time.Minute {
		return usageError{fmt.Errorf("camera probe: --for: expected more than 0s and up to 1m, got %v", c.For)}
	}
	cam := has
	if c.Decoder != "" {
		cam.Decoder = c.Decoder
	}
	r, err := probe(e.ctx, cam, c.For)
	if err != nil {
		return err
	}
	if c.JSON {
		if err := json.NewEncoder(e.out).Encode(r); err != nil {
			return err
		}
	} else {
		printProbe(e.out, r)
		c.printAdvice(e.out, has, cam, r)
	}
	if !r.OK {
		return fmt.Errorf("camera probe: %s: %w", r.Source, errProbe)
	}
	return nil
}

// camera is what to probe: an address, or a camera of a configuration file as
// it is there.
func (c *cameraProbeCommand) camera() (CameraConfig, error) {
	cam := CameraConfig{Source: c.Source}
	if (c.Source == "") == (c.Config == "") {
		return cam, usageError{errors.New("camera probe: expected either an address, or --config with --camera")}
	}
	if c.Config == "" {
		return cam, nil
	}
	cfg, err := loadConfig(c.Config, os.Environ())
	if err != nil {
		return cam, err
	}
	cam, err = cfg.Vision.camera(c.Camera)
	if err != nil {
		return cam, usageError{fmt.Errorf("camera probe: %s: %w", c.Config, err)}
	}
	return cam, nil
}

// probe looks at any source. What the configuration would refuse is a usage error.
func probe(ctx context.Context, cam CameraConfig, length time.Duration) (capture.Report, error) {
	if key, err := checkSource(cam); err != nil {
		return capture.Report{}, usageError{fmt.Errorf("camera probe: %s: %w", key, err)}
	}
	if vision.Kind(cam.Source) == vision.KindSim {
		return simulated(cam), nil
	}
	r, err := probeCamera(ctx, cam, length)
	if err == nil && !r.OK && r.Advice == "" && noFile(cam.Source) {
		r.Advice = "a source is " + sourceForms
	}
	return r, err
}

// simulated is the report on a source that this program draws.
func simulated(cam CameraConfig) capture.Report {
	r := capture.Report{
		Source: cam.Source, Kind: vision.KindSim, OK: true, Tried: []capture.Step{},
		Notes: []string{"it is drawn by this program: there is no camera to look at, and nothing was measured"},
	}
	if line, _, err := sim.ParseLine(cam.Source); err == nil { // sim://pattern has no model that knows it
		r.Width, r.Height, r.StatedFPS = line.Width, line.Height, line.FPS
	}
	return r
}

// noFile reports whether a source is a plain path on which nothing lies: it may
// have been meant as something else.
func noFile(source string) bool {
	if strings.Contains(source, "://") || vision.Kind(source) != vision.KindFile {
		return false
	}
	_, err := os.Stat(source)
	return errors.Is(err, fs.ErrNotExist)
}

// camera finds a camera by its id.
func (c VisionConfig) camera(id string) (CameraConfig, error) {
	var ids []string
	for _, cam := range c.Cameras {
		if cam.ID == id {
			return cam, nil
		}
		ids = append(ids, cam.ID)
	}
	return CameraConfig{}, fmt.Errorf("no camera is called %q; there are: %s", id, strings.Join(ids, ", "))
}

// printProbe writes a report for people.
func printProbe(out io.Writer, r capture.Report) {
	fmt.Fprintln(out, r.Source)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(out, "  %-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	for _, s := range r.Tried {
		if s.Error == "" {
			line("tried", "%s: ok, %.0f ms", s.What, s.MS)
		} else {
			line("tried", "%s: %s", s.What, s.Error)
		}
	}
	if r.Codec != "" {
		line("codec", "%s", r.Codec)
	}
	if r.Width > 0 {
		line("size", "%d×%d", r.Width, r.Height)
	}
	if r.StatedFPS > 0 || r.MeasuredFPS > 0 {
		line("rate", "%s stated, %s measured", rateOr(r.StatedFPS), rateOr(r.MeasuredFPS))
	}
	if r.KeyframeInterval > 0 {
		line("keyframes", "every %d frames, %.1f s", r.KeyframeInterval, r.KeyframeSeconds)
	}
	if r.Decoder != "" {
		line("decoder", "%s", r.Decoder)
	}
	if r.Transport != "" {
		line("transport", "%s", r.Transport)
	}
	if r.FirstFrameMS > 0 {
		line("first frame", "after %.0f ms", r.FirstFrameMS)
	}
	for _, n := range r.Notes {
		line("note", "%s", n)
	}
	if r.Advice != "" {
		line("what to do", "%s", r.Advice)
	}
}

// printAdvice writes what to configure: a whole camera for an address, and for a
// camera of the configuration only what should change, since it has keys that a
// probe knows nothing of.
func (c *cameraProbeCommand) printAdvice(out io.Writer, has, cam CameraConfig, r capture.Report) {
	if !r.OK {
		return
	}
	keys := changes(has, cam.Decoder, r)
	switch {
	case c.Config == "":
		fmt.Fprintf(out, "\nIn the configuration, below vision.cameras:\n%s", snippet(cam, r))
	case keys == "":
		fmt.Fprintf(out, "\nThe camera %s in %s can stay as it is.\n", has.ID, c.Config)
	default:
		fmt.Fprintf(out, "\nIn %s, of the camera %s set these and leave its other keys:\n%s", c.Config, has.ID, keys)
	}
}

func rateOr(fps float64) string {
	if fps == 0 {
		return "none"
	}
	return fmt.Sprintf("%.1f", fps)
}
