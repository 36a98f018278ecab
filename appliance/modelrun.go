package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"outstation/vision"
	"outstation/vision/models"
)

// storedModel is a version of the store that a command opens by itself.
type storedModel struct {
	Version versionArg `arg:"" help:"NAME or NAME@SHA; without a SHA the active version, or else the newest."`
	ONNX    string     `name:"onnxruntime" placeholder:"FILE" help:"ONNX Runtime library; by default the one in --config, or that of this machine, or of the checkout."`
	storeArgs
}

// openDetector checks the version and opens it as the configuration says, with
// so many threads on the CPU where that is not 0, and returning what it finds
// down to a confidence.
func (c storedModel) openDetector(e *env, threads int, floor float64) (d vision.Detector, v models.Manifest, dir string, err error) {
	cfg, s, err := c.open()
	if err != nil {
		return nil, v, "", err
	}
	if v, err = c.Version.find(s); err != nil {
		return nil, v, "", err
	}
	cfg.Vision.Threads = cmp.Or(threads, cfg.Vision.Threads)
	cfg.Vision.ONNXRuntime = c.library(c.ONNX, cfg)
	k := newModelKeeper(cfg, nil)
	m := ModelConfig{Name: v.Name, Path: storePrefix + v.Name}
	if users := k.users(v.Name); len(users) > 0 {
		m = users[0]
	}
	d, err = k.openVersion(e.ctx, m.down(floor), v.SHA256)
	return d, v, s.Dir(v.Name, v.SHA256), err
}

type modelBenchCommand struct {
	storedModel
	For     time.Duration `default:"5s" help:"How long to measure."`
	Threads int           `help:"Threads of one inference on the CPU; 0: as --config says, or one for each core."`
	JSON    bool          `name:"json" help:"Write JSON."`
}

// Run measures a model.
func (c *modelBenchCommand) Run(e *env) error {
	d, v, dir, err := c.openDetector(e, c.Threads, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	f, err := models.Bench(e.ctx, os.DirFS(filepath.Join(dir, models.GoldenDir)), d, c.For)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(e, f)
	}
	fmt.Fprintf(e.out, "%s@%s on %s, %s\n", v.Name, models.Short(v.SHA256), f.Provider, f.Runtime)
	for _, r := range d.Info().Refused {
		fmt.Fprintf(e.out, "  not on %s: %s\n", r.Provider, r.Reason)
	}
	fmt.Fprintf(e.out, "  batch 1: %.1f frames/s, median %.2f ms, p99 %.2f ms, of which the model's run %.2f ms; scaling is not in it (%d frames, %s)\n",
		f.PerSecond, ms(f.Median), ms(f.P99), ms(f.Run), f.Frames, f.Frame)
	for _, r := range f.Rates {
		fmt.Fprintf(e.out, "  batch %d: %.1f pictures/s in the model's run, measured when it was loaded\n", r.Batch, r.PerSecond)
	}
	return nil
}

// checkoutRuntime is where make puts ONNX Runtime.
const checkoutRuntime = ".deps/onnxruntime/libonnxruntime.so.1"

// library is the ONNX Runtime that a flag names, or --config, or without both
// one that is there.
func (a storeArgs) library(flag string, cfg Config) string {
	installed := defaultConfig().Vision.ONNXRuntime
	switch {
	case flag != "":
		return flag
	case a.Config != "":
		return cfg.Vision.ONNXRuntime
	case !exists(installed) && exists(checkoutRuntime):
		return checkoutRuntime
	}
	return installed
}

type modelExpectCommand struct {
	storedModel
	Golden string  `arg:"" type:"existingdir" help:"Directory with PNG or JPEG pictures, in which golden.json is written."`
	Floor  float64 `default:"0.3" help:"Least confidence of the boxes that are written."`
}

// Run writes golden.json, which must not exist.
func (c *modelExpectCommand) Run(e *env) error {
	d, _, _, err := c.openDetector(e, 0, c.Floor)
	if err != nil {
		return err
	}
	defer d.Close()
	g, err := models.Expect(e.ctx, os.DirFS(c.Golden), d, c.Floor)
	if err != nil {
		return err
	}
	path := filepath.Join(c.Golden, "golden.json")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	enc := json.NewEncoder(f)
	enc.SetIndent("", "  ")
	if err := enc.Encode(g); err != nil {
		return err
	}
	boxes := 0
	for _, frame := range g.Frames {
		boxes += len(frame.Boxes)
	}
	fmt.Fprintf(e.out, "%s: %d frames, %d boxes; look at them: from now on a version has to find these and no others\n", path, len(g.Frames), boxes)
	return f.Close()
}

type modelActivateCommand struct {
	Version versionArg `arg:"" help:"NAME or NAME@SHA; without a SHA the newest version."`
	NoGate  bool       `help:"Activate it although it has no golden frames, or fails them. The manifest and the page show it."`
	JSON    bool       `name:"json" help:"Write JSON."`
	remote
}

// Run asks the running appliance, which answers when the version serves.
func (c *modelActivateCommand) Run(e *env) error {
	name, prefix, err := c.Version.split()
	if err != nil {
		return err
	}
	form := url.Values{"version": {prefix}}
	if c.NoGate {
		form.Set("gate", "skip")
	}
	var done activation
	path := "api/v1/models/" + url.PathEscape(name) + "/activate"
	told, stop := context.WithCancel(e.ctx)
	var telling sync.WaitGroup
	telling.Go(func() { tellActivation(told, c, e.errOut, name, tellAfter, tellAgain) })
	err = c.do(e.ctx, request{method: http.MethodPost, path: path, form: form}, func(body io.Reader) error {
		return json.NewDecoder(body).Decode(&done)
	})
	stop()
	telling.Wait()
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(e, done)
	}
	if !done.Changed {
		fmt.Fprintf(e.out, "%s@%s is active already\n", name, models.Short(done.SHA256))
		return nil
	}
	printActivation(e, done)
	return nil
}

func printActivation(e *env, done activation) {
	fmt.Fprintf(e.out, "active: %s@%s\n", done.Name, models.Short(done.SHA256))
	g := done.Gate
	if g.Skipped {
		fmt.Fprintln(e.out, "  golden frames: skipped")
	} else {
		fmt.Fprintf(e.out, "  golden frames: %d passed on %s, boxes found: %d, least IoU %.2f, confidence at most %.2f off\n", g.Frames, g.Provider, g.Boxes, g.LeastIoU, g.MostOff)
	}
	if len(done.Users) == 0 {
		fmt.Fprintf(e.out, "  no model of the running configuration has path: %s%s\n", storePrefix, done.Name)
	}
	if done.State.Trial != nil {
		fmt.Fprintf(e.out, "  on trial for %v: it goes back to %s if it fails\n", models.TrialTime, models.Short(done.State.Previous))
	}
}

type modelRollbackCommand struct {
	Name string `arg:"" help:"Model."`
	remote
}

// Run asks the running appliance.
func (c *modelRollbackCommand) Run(e *env) error {
	if err := models.CheckName(c.Name); err != nil {
		return usageError{err}
	}
	var st models.State
	path := "api/v1/models/" + url.PathEscape(c.Name) + "/rollback"
	err := c.do(e.ctx, request{method: http.MethodPost, path: path}, func(body io.Reader) error {
		return json.NewDecoder(body).Decode(&st)
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(e.out, "active: %s@%s, as before %s\n", c.Name, models.Short(st.Current), models.Short(st.Previous))
	return nil
}
