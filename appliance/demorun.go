package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"outstation/uplink"
	"outstation/vision"
)

type demoRunCommand struct {
	Dir   string `default:".run" help:"Where the demo's configuration and queue are kept."`
	Video string `placeholder:"SOURCE" help:"A recording or camera of your own, beside the simulated ones."`
	Model string `placeholder:"FILE" help:"A model in ONNX form for it, such as YOLOX-nano; without one its frames are only counted."`
	ONNX  string `name:"onnxruntime" default:".deps/onnxruntime/libonnxruntime.so.1" help:"ONNX Runtime library."`
	MQTT  string `name:"mqtt" default:"127.0.0.1:1883" help:"Where devices connect."`
	Web   string `default:"127.0.0.1:8080" help:"Where the page is."`
}

// Run writes a configuration that works with what is at hand, and runs it.
func (c *demoRunCommand) Run(e *env) error {
	if err := c.check(); err != nil {
		return usageError{fmt.Errorf("demo: %w", err)}
	}
	if err := uplink.CheckUnused(filepath.Join(c.Dir, "data", "queue")); err != nil {
		return fmt.Errorf("demo: is one running already, with its page at http://%s/? %w", c.Web, err)
	}
	text, err := sparseYAML(c.config(e.out))
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	if err := os.MkdirAll(c.Dir, 0o750); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	file := filepath.Join(c.Dir, "outstation.yaml")
	head := "# Written anew by every `outstation demo run`; copy it to keep a change. What is not here is\n# as appliance/outstation.yaml says.\n"
	if err := os.WriteFile(file, append([]byte(head), text...), 0o640); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	fmt.Fprintf(e.out, "demo: the configuration is %s\n", file)
	cfg, err := loadConfig(file, os.Environ())
	if err != nil {
		return err
	}
	device := demoDevice{cfg.Broker.Listeners[0].Address, slog.Default()}
	ctx, cancel := context.WithCancel(e.ctx)
	var done sync.WaitGroup
	done.Go(func() { device.run(ctx) })
	defer done.Wait()
	defer cancel()
	return serve(cfg, file, e)
}

// check refuses files that are not there: whoever types a path is there to
// correct it, while a service tries again until the file comes.
func (c *demoRunCommand) check() error {
	var errs []error
	if c.Video != "" && vision.Kind(c.Video) == vision.KindFile {
		errs = append(errs, readable("--video", strings.TrimPrefix(c.Video, "file://")))
	}
	if c.Model != "" && c.Model != builtinLine {
		if _, stored := storeName(c.Model); !stored {
			errs = append(errs, readable("--model", c.Model))
		}
	}
	if c.Model != "" && c.Video == "" {
		errs = append(errs, errors.New("--model is for the frames of --video, which is not given"))
	}
	return errors.Join(errs...)
}

// readable says why a file that a flag names cannot be read.
func readable(flag, path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w; correct the path", flag, err)
	case info.IsDir():
		return fmt.Errorf("%s: %s is a directory, expected a file", flag, path)
	}
	return nil
}

// config is the demo's configuration; what is missing is said on out.
func (c *demoRunCommand) config(out io.Writer) Config {
	cfg := defaultConfig()
	cfg.DeviceID, cfg.Region, cfg.Site = "demo-1", "demo", "bench"
	cfg.DataDir = filepath.Join(c.Dir, "data")
	cfg.Log.Level = "warn"
	cfg.Broker.Listeners[0].Address = freeAddress(c.MQTT, "--mqtt", out)
	cfg.Web.Listen = freeAddress(c.Web, "--web", out)
	cfg.Demo.Centre = "127.0.0.1:0"
	cfg.Uplink.Backoff.Ceiling = 2 * cfg.Uplink.Backoff.Floor // nobody wants to wait in a demo
	cfg.Vision.Providers = []string{"cpu"}
	cfg.Vision.ONNXRuntime = c.ONNX
	cfg.Vision.Socket.Path = c.socketPath(out)

	line := ""
	if exists(c.ONNX) {
		line = "line"
		cfg.Vision.Models = []ModelConfig{{Name: line, Path: builtinLine}}
	} else {
		fmt.Fprintf(out, "demo: no ONNX Runtime at %s: nothing is detected\n", c.ONNX)
	}
	for i := range demoCameras {
		cfg.addCamera(CameraConfig{ID: fmt.Sprintf("line-%d", i+1), Source: fmt.Sprintf("sim://line?seed=%d", i+1), Model: line, FPS: 10})
	}
	if c.Video != "" {
		camera := CameraConfig{ID: "cam-video", Source: c.Video, FPS: 10, Loop: vision.Kind(c.Video) == vision.KindFile}
		if c.Model != "" {
			camera.Model = "yolox"
			cfg.Vision.Models = append(cfg.Vision.Models, ModelConfig{Name: camera.Model, Path: c.Model})
		}
		cfg.addCamera(camera)
	}
	return cfg
}

// socketPath is where the demo takes detections of other programs, or "" where
// its directory has too long a name for a socket.
func (c *demoRunCommand) socketPath(out io.Writer) string {
	path, err := filepath.Abs(filepath.Join(c.Dir, "vision.sock"))
	if err == nil {
		err = checkSocketPath(path)
	}
	if err != nil {
		fmt.Fprintf(out, "demo: no local socket: %v\n", err)
		return ""
	}
	return path
}

// demoCameras is how many simulated lines the demo looks at.
const demoCameras = 2

func (c *Config) addCamera(camera CameraConfig) {
	camera.StallAfter = vision.DefaultStallAfter
	c.Vision.Cameras = append(c.Vision.Cameras, camera)
}

// freeAddress is address, or one with a free port if that is taken.
func freeAddress(address, flag string, out io.Writer) string {
	ln, err := net.Listen("tcp", address)
	if err == nil {
		_ = ln.Close() // it was only a question
		return address
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return address // listening on it will say why not
	}
	defer free.Close()
	fmt.Fprintf(out, "demo: %s is taken; using %s instead (%s chooses another)\n", address, free.Addr(), flag)
	return free.Addr().String()
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
