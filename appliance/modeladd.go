package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"outstation/vision/modelfile"
	"outstation/vision/models"
)

type modelAddCommand struct {
	Model  string `arg:"" help:"A name that outstation model ls knows, a file, or an https address, which may be presigned."`
	Name   string `help:"What the store calls it; the file's name where it is left out."`
	SHA256 string `name:"sha256" placeholder:"HEX" help:"The hash that it must have. Only with it is what has come of an interrupted download kept."`
	Golden string `type:"existingdir" placeholder:"DIR" help:"Golden frames: golden.json and the pictures that it names. Without them a version is activated with --no-gate only."`
	YAML   string `name:"yaml" type:"existingfile" placeholder:"FILE" help:"The model.yaml that says how to read it, whose file of classes, if it names one, is taken along; by default the one beside the file. Nothing beside an address is fetched."`
	ONNX   string `name:"onnxruntime" placeholder:"FILE" help:"ONNX Runtime library that looks into the model; by default the one in --config, or that of this machine, or of the checkout."`
	CAFile string `name:"ca-file" type:"existingfile" placeholder:"FILE" help:"Further certificate authorities of the address, PEM."`
	storeArgs

	seen seenModel
}

// Run adds a model.
func (c *modelAddCommand) Run(e *env) error {
	cfg, s, err := c.forChange(e)
	if err != nil {
		return err
	}
	a, err := c.addition(e, s)
	if err != nil {
		return err
	}
	if a.Name == "" {
		a.Name = c.Name
	}
	if err := models.CheckName(a.Name); err != nil {
		return usageError{fmt.Errorf("--name: %w", err)}
	}
	if _, known := models.Known(c.Model); !known {
		a.Look = func(path string) error { return c.look(cfg, a, path) }
	}
	done, err := s.Add(e.ctx, a)
	if done.Swept > 0 {
		fmt.Fprintf(e.errOut, "removed what unfinished additions had left: %d\n", done.Swept)
	}
	if err != nil {
		return err
	}
	c.report(e, cfg, done)
	c.warn(e, s, done)
	return nil
}

func (c *modelAddCommand) report(e *env, cfg Config, done models.Added) {
	verb := "added"
	if done.Existed {
		verb = "already in the store"
	}
	fmt.Fprintf(e.out, "%s: %s@%s, %s\n  sha256 %s\n", verb, done.Name, models.Short(done.SHA256), humanize.IBytes(uint64(done.Bytes)), done.SHA256)
	if c.SHA256 == "" && models.IsAddress(c.Model) {
		fmt.Fprintln(e.out, "  nobody said which hash it must have: compare this one with what its author says")
	}
	if !done.Golden() {
		fmt.Fprintln(e.out, "  it has no golden frames; outstation model expect makes some, and model add --golden takes them")
	}
	for _, m := range cfg.Vision.Models {
		if name, ok := storeName(m.Path); ok && name == done.Name {
			fmt.Fprintf(e.out, "to use it: outstation model activate %s\n", done.Name)
			return
		}
	}
	fmt.Fprintf(e.out, "to use it: path: %s%s in vision.models, then outstation model activate %s\n", storePrefix, done.Name, done.Name)
}

// addition says what the argument means: a known name, an address or a file.
func (c *modelAddCommand) addition(e *env, s *models.Store) (a models.Addition, err error) {
	if c.SHA256 = strings.ToLower(c.SHA256); c.SHA256 != "" {
		if err := models.CheckSHA256(c.SHA256); err != nil {
			return a, usageError{fmt.Errorf("--sha256: %w", err)}
		}
	}
	d := models.Download{SHA256: c.SHA256, CAFile: c.CAFile, Progress: progressOf(e), Retry: func(_ int, err error, wait time.Duration) {
		fmt.Fprintf(e.errOut, "%v; trying again in %v\n", err, wait)
	}}
	entry, known := models.Known(c.Model)
	switch {
	case known: // a file of that name is ./NAME
		if c.SHA256 != "" || c.Golden != "" || c.YAML != "" {
			return a, usageError{fmt.Errorf("%s is known with its hash and golden frames; leave --sha256, --golden and --yaml out", c.Model)}
		}
		if a, err = entry.Addition(s, d); err != nil {
			return a, err
		}
	case models.IsAddress(c.Model):
		u, err := models.ParseAddress(c.Model)
		if err != nil {
			return a, usageError{err}
		}
		d.Address = u
		a = models.Addition{Name: models.NameOf(u.Path), Source: models.Redact(u), SHA256: c.SHA256, Fetch: s.FromHTTPS(d)}
	default:
		if a, err = c.fromFile(s); err != nil {
			return a, err
		}
	}
	if c.Name != "" {
		a.Name = c.Name
	}
	return a, c.beside(&a)
}

func (c *modelAddCommand) fromFile(s *models.Store) (a models.Addition, err error) {
	path, err := filepath.Abs(c.Model)
	if err != nil {
		return a, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return a, usageError{fmt.Errorf("expected a name that is known (%s), an https address or a file: %w", strings.Join(knownNames(), ", "), err)}
	}
	if !info.Mode().IsRegular() {
		return a, usageError{fmt.Errorf("%s: expected a file, got %v", path, info.Mode().Type())}
	}
	a = models.Addition{Name: models.NameOf(path), Source: path, SHA256: c.SHA256, Bytes: info.Size(), Fetch: s.FromFile(path)}
	f, err := modelfile.Find(path)
	if err != nil {
		return a, err
	}
	if err := takeAlong(&a, f); err != nil {
		return a, err
	}
	sum, _, err := models.SumFile(path)
	if entry, known := models.KnownSum(sum); known { // it came here by other means
		a.Golden, a.Head, a.Classes, a.Confidence = entry.Golden(), entry.Head, entry.Classes, entry.Confidence
	}
	return a, err
}

// knownNames are those of the catalogue.
func knownNames() (names []string) {
	for _, entry := range models.Catalogue() {
		names = append(names, entry.Name)
	}
	return names
}

// beside reads what is added beside the model.
func (c *modelAddCommand) beside(a *models.Addition) (err error) {
	if c.Golden != "" {
		a.Golden = os.DirFS(c.Golden)
		if _, err := fs.Stat(a.Golden, "golden.json"); err != nil {
			return usageError{fmt.Errorf("--golden: %w", err)}
		}
	}
	if c.YAML == "" {
		return nil
	}
	f, err := modelfile.Read(c.YAML)
	if err != nil {
		return err
	}
	return takeAlong(a, f)
}

// takeAlong adds a model file, which may be nil, and the labels that it names.
func takeAlong(a *models.Addition, f *modelfile.File) (err error) {
	if f == nil {
		return nil
	}
	if a.Sidecar, err = os.ReadFile(f.Path); err == nil && f.Labels != "" {
		a.LabelsFile = f.Labels
		a.Labels, err = os.ReadFile(filepath.Join(filepath.Dir(f.Path), f.Labels))
	}
	return err
}

// progressOf writes how far a download is, every tenth of it.
func progressOf(e *env) func(done, total int64) {
	told := int64(-1)
	return func(done, total int64) {
		if total <= 0 {
			return
		}
		if tenth := done * 10 / total; tenth > told {
			told = tenth
			fmt.Fprintf(e.errOut, "%d %% of %s\n", tenth*10, humanize.IBytes(uint64(total)))
		}
	}
}
