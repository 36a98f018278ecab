package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"go.yaml.in/yaml/v3"

	"outstation/appliance/internal/acceptance"
	"outstation/uplink/wire"
)

// acceptanceSuffix ends the device id of an appliance that is tried beside the
// one that its configuration is for.
const acceptanceSuffix = "-acceptance"

// What an acceptance run looks at.
const (
	acceptanceCameras  = 2
	acceptanceQueue    = 256 << 20 // bytes, at most
	acceptanceLog      = 1 << 20   // bytes
	acceptanceShortest = 15 * time.Second
	acceptanceLongest  = 4 * time.Hour // it keeps each event's id in memory
)

type acceptanceCommand struct {
	Minutes float64 `default:"5" help:"How long the cameras run."`
	Outages int     `default:"3" help:"How often the link to the centre is cut."`
	Kill    int     `default:"3" help:"How often the process is killed."`
	Report  string  `placeholder:"DIR" help:"Where to write report.json and report.html."`
	Config  string  `type:"path" placeholder:"FILE" help:"Configuration whose centre is used; without it a stand-in is."`
	Dir     string  `placeholder:"DIR" help:"Where the run keeps its queue; by default data_dir of --config, or the temporary directory."`
	Keep    bool    `help:"Keep what the run wrote there."`
	Seed    uint64  `default:"1" help:"Of the parts on the line and of the plan of outages and kills."`
	ONNX    string  `name:"onnxruntime" default:".deps/onnxruntime/libonnxruntime.so.1" help:"ONNX Runtime library, where there is no --config."`
}

// Run proves that this machine with its centre loses nothing.
func (c *acceptanceCommand) Run(e *env) error {
	length := time.Duration(c.Minutes * float64(time.Minute))
	if !(c.Minutes*60 >= acceptanceShortest.Seconds() && c.Minutes*60 <= acceptanceLongest.Seconds()) {
		return usageError{fmt.Errorf("--minutes: expected %v to %v, got %v", acceptanceShortest.Minutes(), acceptanceLongest.Minutes(), c.Minutes)}
	}
	if err := acceptance.Check(length, c.Outages, c.Kill); err != nil {
		return usageError{err}
	}
	cfg, err := c.base()
	if err != nil {
		return err
	}
	if err := tryModel(e.ctx, cfg.Vision); err != nil {
		return fmt.Errorf("acceptance: %w", err)
	}
	dir, err := c.makeDir(cfg.DataDir)
	if err != nil {
		return err
	}
	defer c.clean(dir, e.out)
	log := slog.New(slog.DiscardHandler)
	standIn := len(cfg.Uplink.Brokers) == 0
	if standIn {
		centre, err := openDemo("127.0.0.1:0", log)
		if err != nil {
			return err
		}
		defer centre.Close()
		cfg.Uplink.Brokers = []string{"tcp://" + centre.address}
	}
	opt := acceptance.Options{
		Device: cfg.DeviceID, Region: cfg.Region, Site: cfg.Site, Since: time.Now(),
		Centre: cfg.Uplink.centre(), Backoff: cfg.Uplink.Backoff.backoff(), StandIn: standIn,
		Length: length, Outages: c.Outages, Kills: c.Kill, Seed: c.Seed, Version: version, Logger: log,
		Say: func(format string, args ...any) { fmt.Fprintf(e.out, format+"\n", args...) },
	}
	if err := writeAcceptance(cfg, dir, c.Seed, &opt); err != nil {
		return err
	}
	report, err := acceptance.Run(e.ctx, opt)
	if err != nil {
		return fmt.Errorf("acceptance: %w", err)
	}
	return c.finish(report, e.out)
}

// base is the configuration of the appliance that is run, but for what is its
// own: its directory, its addresses and its cameras.
func (c *acceptanceCommand) base() (Config, error) {
	cfg := defaultConfig()
	cfg.DeviceID, cfg.Region, cfg.Site, cfg.DataDir = "demo-1", "demo", "bench", os.TempDir()
	cfg.Uplink.Backoff.Ceiling = 2 * cfg.Uplink.Backoff.Floor // as in the demo
	cfg.Vision.Providers = []string{"cpu"}
	if exists(c.ONNX) {
		cfg.Vision.ONNXRuntime = c.ONNX
	}
	if c.Config != "" {
		site, err := loadConfig(c.Config, os.Environ())
		if err != nil {
			return cfg, err
		}
		cfg = defaultConfig()
		cfg.DeviceID, cfg.Region, cfg.Site, cfg.DataDir = site.DeviceID, site.Region, site.Site, site.DataDir
		cfg.Uplink = site.Uplink
		cfg.Uplink.Down = nil          // commands and shared subscriptions are for the appliance itself
		cfg.Uplink.Backfill.Quiet = "" // nobody waits for the night
		cfg.Vision = site.Vision
	}
	cfg.DeviceID += acceptanceSuffix
	if err := wire.CheckLevel(acceptanceCamera(cfg, acceptanceCameras)); err != nil {
		return cfg, usageError{fmt.Errorf("device_id is too long for a run beside it: %w", err)}
	}
	cfg.Uplink.Queue.MaxBytes = min(cfg.Uplink.Queue.MaxBytes, acceptanceQueue)
	cfg.Broker.Listeners[0].Address, cfg.Web.Listen = "127.0.0.1:0", "127.0.0.1:0"
	cfg.Vision.Models = []ModelConfig{{Name: "line", Path: builtinLine}}
	cfg.Vision.Cameras = nil
	cfg.Vision.Socket.Path = "" // it belongs to the appliance that is installed
	return cfg, nil
}

// acceptanceCamera is the id of the nth camera: topics of detections have no
// device id, and nobody else may have this one.
func acceptanceCamera(cfg Config, n int) string { return fmt.Sprintf("%s-%d", cfg.DeviceID, n) }

// tryModel loads the model once, so that what is missing is said at once.
func tryModel(ctx context.Context, cfg VisionConfig) error {
	d, err := newDetector(cfg, cfg.Models[0])(ctx)
	if err != nil {
		return fmt.Errorf("the model of the simulated line: %w", err)
	}
	return d.Close()
}

// makeDir makes a directory of its own, on the disk that is to be proved.
func (c *acceptanceCommand) makeDir(dataDir string) (string, error) {
	if c.Dir != "" {
		dataDir = c.Dir
	}
	dir, err := filepath.Abs(dataDir)
	if err == nil {
		if err = os.MkdirAll(dir, 0o750); err == nil {
			dir, err = os.MkdirTemp(dir, "acceptance-")
		}
	}
	if err != nil {
		return "", fmt.Errorf("acceptance: %w; --dir names another directory", err)
	}
	return dir, nil
}

func (c *acceptanceCommand) clean(dir string, out io.Writer) {
	if c.Keep {
		fmt.Fprintf(out, "kept: %s\n", dir)
		return
	}
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintf(out, "not all of %s could be removed: %v\n", dir, err)
	}
}

// writeAcceptance writes the two configurations of a run.
func writeAcceptance(cfg Config, dir string, seed uint64, opt *acceptance.Options) error {
	cfg.DataDir = filepath.Join(dir, "data")
	cfg.Log = LogConfig{Level: "info", File: filepath.Join(dir, "outstation.log"), MaxBytes: acceptanceLog, Keep: 1}
	epoch := time.Now().Unix()
	for i := range acceptanceCameras {
		camera := CameraConfig{
			ID: acceptanceCamera(cfg, i+1), Model: cfg.Vision.Models[0].Name,
			Source: fmt.Sprintf("sim://line?seed=%d&epoch=%d", seed+uint64(i), epoch),
		}
		camera.SetDefaults()
		cfg.Vision.Cameras = append(cfg.Vision.Cameras, camera)
		opt.Cameras = append(opt.Cameras, acceptance.Camera{ID: camera.ID, Source: camera.Source})
	}
	blind := cfg
	blind.Vision.Models, blind.Vision.Cameras = nil, nil
	opt.Config, opt.Drain = filepath.Join(dir, "outstation.yaml"), filepath.Join(dir, "drain.yaml")
	for file, cfg := range map[string]Config{opt.Config: cfg, opt.Drain: blind} {
		text, err := yaml.Marshal(cfg)
		if err == nil {
			err = os.WriteFile(file, text, 0o600)
		}
		if err != nil {
			return fmt.Errorf("acceptance: %w", err)
		}
	}
	var err error
	if opt.Executable, err = os.Executable(); err != nil {
		return fmt.Errorf("acceptance: %w", err)
	}
	return nil
}

// finish prints and writes the report. The error is the verdict, unless that
// is good.
func (c *acceptanceCommand) finish(r *acceptance.Report, out io.Writer) error {
	err := r.Table(out)
	if c.Report != "" {
		err = errors.Join(err, writeReport(c.Report, r))
	}
	if err != nil {
		return fmt.Errorf("acceptance: %w", err)
	}
	if r.Verdict != acceptance.Passed {
		return fmt.Errorf("acceptance: %s", r.Verdict)
	}
	return nil
}

func writeReport(dir string, r *acceptance.Report) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, write := range map[string]func(io.Writer) error{"report.json": r.JSON, "report.html": r.HTML} {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if err := errors.Join(write(f), f.Close()); err != nil {
			return err
		}
	}
	return nil
}
