package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"outstation/broker"
)

type runCommand struct {
	Config string `required:"" type:"path" placeholder:"FILE" help:"Configuration file."`
}

// Run serves until a signal comes.
func (c *runCommand) Run(e *env) error {
	cfg, err := loadConfig(c.Config, os.Environ())
	if err != nil {
		return err
	}
	return serve(cfg, c.Config, e)
}

// serve runs the appliance, whose configuration is in file, until e.ctx ends.
// A SIGHUP reloads it.
func serve(cfg Config, file string, e *env) error {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	opt := e.apps
	opt.file, opt.level = file, new(slog.LevelVar)
	setLevel(opt.level, cfg.Log)
	log, logFile := openLog(cfg.Log, opt.level)
	defer logFile.Close()
	a, err := openApp(cfg, log, opt)
	if err != nil {
		return fmt.Errorf("the appliance does not start: %w", err)
	}
	fmt.Fprintf(e.out, "outstation %s: %s at %s, %s\n", version, cfg.DeviceID, cfg.Site, cfg.Region)
	fmt.Fprintf(e.out, "  page     http://%s/\n", a.web.Addr())
	fmt.Fprintf(e.out, "  devices  %s\n", strings.Join(deviceURLs(a.broker.Stats().Listeners), " "))
	fmt.Fprintf(e.out, "  centre   %s\n", strings.Join(a.cfg.Uplink.Brokers, " "))
	var restart error
	for e.ctx.Err() == nil && restart == nil {
		select {
		case <-hangups:
			_, _ = a.reload() // the log and health say what is wrong
		case restart = <-a.restart:
			log.Error("restarting", "error", restart)
			defer endWithin(shutdownTimeout, restartCode, e.errOut)()
		case <-e.ctx.Done():
		}
	}
	log.Info("stopping")
	if err := a.Close(); err != nil {
		return errors.Join(restart, fmt.Errorf("stopped with errors: %w", err))
	}
	log.Info("stopped")
	return restart
}

// deviceURLs are where devices connect, as their manuals write it.
func deviceURLs(all []broker.ListenerStats) []string {
	var out []string
	for _, l := range all {
		switch l.Type {
		case broker.TypeTCP:
			out = append(out, "mqtt://"+l.Address)
		case broker.TypeTLS:
			out = append(out, "mqtts://"+l.Address)
		case broker.TypeUnix:
			out = append(out, "unix:"+l.Address)
		default:
			out = append(out, l.Type+"://"+l.Address+broker.WebSocketPath)
		}
	}
	return out
}

type configCommand struct {
	Check configCheckCommand `cmd:"" help:"Say everything that is wrong with a configuration file."`
}

type configCheckCommand struct {
	File string `arg:"" type:"path" help:"Configuration file."`
}

// Run reports every problem of a file.
func (c *configCheckCommand) Run(e *env) error {
	cfg, err := loadConfig(c.File, os.Environ())
	if err == nil {
		fmt.Fprintf(e.out, "%s: ok: %s at %s, %s, %s\n", c.File, cfg.DeviceID, cfg.Site, cfg.Region, cfg.Vision.camerasText())
	}
	for _, note := range cfg.notes() { // also of what has errors: nobody wants to come back for them
		fmt.Fprintf(e.out, "  %s\n", note)
	}
	return err
}

type versionCommand struct{}

// Run prints the version and the toolchain.
func (versionCommand) Run(e *env) error {
	fmt.Fprintf(e.out, "outstation %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return nil
}

type demoCommand struct {
	Run    demoRunCommand    `cmd:"" help:"Run the appliance with a stand-in centre in the same process."`
	Outage demoOutageCommand `cmd:"" help:"Cut the stand-in centre for a while."`
}

type demoOutageCommand struct {
	Duration time.Duration `arg:"" help:"How long, such as 30s."`
	remote
}

// Run asks the running appliance for an outage.
func (c *demoOutageCommand) Run(e *env) error {
	form := url.Values{"duration": {c.Duration.String()}}
	if err := call(e.ctx, c, http.MethodPost, "api/v1/demo/outage", form, nil); err != nil {
		return err
	}
	page, err := c.page()
	fmt.Fprintf(e.out, "the stand-in centre is cut for %v; watch the queue on %s\n", c.Duration, page)
	return err
}
