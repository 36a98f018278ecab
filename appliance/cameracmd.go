package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"outstation/vision"
	"outstation/vision/capture"
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
	cam, err := c.camera()
	if err != nil {
		return err
	}
	if c.For <= 0 || c.For > time.Minute {
		return usageError{fmt.Errorf("camera probe: --for: expected more than 0s and up to 1m, got %v", c.For)}
	}
	r, err := probeCamera(e.ctx, cam, c.For)
	if err != nil {
		return err
	}
	if c.JSON {
		if err := json.NewEncoder(e.out).Encode(r); err != nil {
			return err
		}
	} else {
		printProbe(e.out, cam, r)
	}
	if !r.OK {
		return fmt.Errorf("camera probe: %s: %w", r.Source, errProbe)
	}
	return nil
}

// camera is what to probe: an address, or a camera of a configuration file.
func (c *cameraProbeCommand) camera() (CameraConfig, error) {
	cam := CameraConfig{Source: c.Source, Decoder: c.Decoder}
	if (c.Source == "") == (c.Config == "") {
		return cam, usageError{errors.New("camera probe: expected either an address, or --config with --camera")}
	}
	if c.Config != "" {
		cfg, err := loadConfig(c.Config, os.Environ())
		if err != nil {
			return cam, err
		}
		found, err := cfg.Vision.camera(c.Camera)
		if err != nil {
			return cam, usageError{fmt.Errorf("camera probe: %s: %w", c.Config, err)}
		}
		cam = found
		if c.Decoder != "" {
			cam.Decoder = c.Decoder
		}
	}
	if vision.Kind(cam.Source) == vision.KindSim {
		return cam, usageError{errors.New("camera probe: sim:// is drawn by this program; there is no camera to look at. As a source it needs nothing else; builtin:line is the model that knows sim://line")}
	}
	return cam, nil
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
func printProbe(out io.Writer, cam CameraConfig, r capture.Report) {
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
	if r.OK {
		fmt.Fprintf(out, "\nIn the configuration, below vision.cameras:\n%s", snippet(cam, r))
	}
}

func rateOr(fps float64) string {
	if fps == 0 {
		return "none"
	}
	return fmt.Sprintf("%.1f", fps)
}

// stallAfter is what a camera that was measured needs at least: silence of five
// frames is no stall. Of rtsp:// the time to the first frame does not count.
func stallAfter(r capture.Report) (least time.Duration) {
	if r.MeasuredFPS > 0 {
		least = time.Duration(5 / r.MeasuredFPS * float64(time.Second))
	}
	if r.Kind != vision.KindRTSP {
		least = max(least, 2*time.Duration(r.FirstFrameMS*float64(time.Millisecond)))
	}
	return least
}

// snippet is a camera for the configuration file. The password is left to the
// one who knows it.
func snippet(cam CameraConfig, r capture.Report) string {
	id := cam.ID
	if id == "" {
		id = "camera-1"
	}
	type entry struct {
		ID         string  `yaml:"id"`
		Source     string  `yaml:"source"`
		Model      string  `yaml:"model,omitempty"`
		Decoder    string  `yaml:"decoder,omitempty"`
		FPS        float64 `yaml:"fps,omitempty"`
		StallAfter string  `yaml:"stall_after,omitempty"`
	}
	list := []entry{{ID: id, Source: r.Source, Model: cam.Model, Decoder: cam.Decoder, FPS: cam.FPS}}
	if stall := stallAfter(r); stall > vision.DefaultStallAfter {
		list[0].StallAfter = stall.Round(time.Second).String()
	}
	text, err := yaml.Marshal(list)
	if err != nil {
		return err.Error() + "\n"
	}
	out := "    " + strings.ReplaceAll(strings.TrimSuffix(string(text), "\n"), "\n", "\n    ") + "\n"
	if cam.Model == "" {
		out += "      # model: the name of one in vision.models; without it frames are counted and nothing is inspected\n"
	}
	if r.Source != cam.Source {
		out += "    # Put the password in place of xxxxx. Who may read this file can read it;\n" +
			"    # OUTSTATION_VISION_CAMERAS_0_SOURCE (0 is the camera's place) sets it from outside.\n"
	}
	return out
}
