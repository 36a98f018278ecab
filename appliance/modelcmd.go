package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"

	"outstation/vision/models"
)

type modelCommand struct {
	Add      modelAddCommand      `cmd:"" help:"Bring a model into the store: one that is known by name, a file, or an https address. It is not active yet."`
	Ls       modelLsCommand       `cmd:"" help:"List the models of the store, and those that are known by name."`
	Inspect  modelInspectCommand  `cmd:"" help:"Say what a model is: its inputs and outputs, how they are read, and what is missing."`
	Verify   modelVerifyCommand   `cmd:"" help:"Compare every file of the store with its hash."`
	Bench    modelBenchCommand    `cmd:"" help:"Measure how fast a model is on this device."`
	Expect   modelExpectCommand   `cmd:"" help:"Make golden frames of pictures: what a model finds in them now is what a version has to find. Look at it before you use it."`
	Activate modelActivateCommand `cmd:"" help:"Try a version on its golden frames on this device and, if they pass, put it in the place of the one that runs."`
	Rollback modelRollbackCommand `cmd:"" help:"Put the version before the active one back into its place."`
	Rm       modelRmCommand       `cmd:"" help:"Remove a version that is not active, for good."`
}

// storeArgs say where the store is.
type storeArgs struct {
	Dir    string `type:"path" placeholder:"DIR" help:"Data directory of the appliance; by default the one in --config, or /var/lib/outstation."`
	Config string `type:"path" placeholder:"FILE" help:"Configuration of the appliance: its data_dir, disk floor, providers and ONNX Runtime."`
}

// open returns the configuration that holds and its store.
func (a storeArgs) open() (cfg Config, s *models.Store, err error) {
	cfg = defaultConfig()
	if a.Config != "" {
		if cfg, err = loadConfig(a.Config, os.Environ()); err != nil {
			return cfg, nil, err
		}
	}
	if a.Dir != "" {
		cfg.DataDir = a.Dir
	}
	return cfg, cfg.modelStore(), nil
}

// forChange is open for a command that writes. What root writes into another
// user's directory, that user's appliance could not change. A directory that a
// configuration names is made as the appliance makes it, since config check
// says to add a model before the first start.
func (a storeArgs) forChange(e *env) (Config, *models.Store, error) {
	cfg, s, err := a.open()
	if err != nil {
		return cfg, s, err
	}
	if a.Config != "" && a.Dir == "" && !exists(cfg.DataDir) {
		if err := os.MkdirAll(cfg.DataDir, 0o750); err != nil {
			return cfg, s, usageError{fmt.Errorf("the data directory: %w", err)}
		}
		fmt.Fprintf(e.errOut, "made the data directory %s; run the appliance as the same user\n", cfg.DataDir)
	}
	info, err := os.Stat(cfg.DataDir)
	if err != nil {
		return cfg, s, usageError{fmt.Errorf("the data directory, which --config or --dir says: %w; the appliance makes it when it starts, or: mkdir -p %s", err, cfg.DataDir)}
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 && st.Uid != 0 {
		return cfg, s, usageError{fmt.Errorf("%s belongs to user %d; run this as that user: sudo -u '#%d' outstation model …", cfg.DataDir, st.Uid, st.Uid)}
	}
	return cfg, s, nil
}

// versionArg is NAME or NAME@SHA-PREFIX.
type versionArg string

func (v versionArg) split() (name, prefix string, err error) {
	name, prefix, at := strings.Cut(string(v), "@")
	if err := models.CheckName(name); err != nil {
		return "", "", usageError{err}
	}
	if at && prefix == "" {
		return "", "", usageError{fmt.Errorf("expected the beginning of a SHA-256 behind the @, got %q", v)}
	}
	return name, prefix, nil
}

// find is the version that an argument names; without a prefix the active
// one, or the newest where none is.
func (v versionArg) find(s *models.Store) (models.Manifest, error) {
	name, prefix, err := v.split()
	if err != nil {
		return models.Manifest{}, err
	}
	if prefix == "" {
		if st, err := s.State(name); err == nil {
			prefix = st.Current
		}
	}
	return s.Version(name, prefix)
}

type modelLsCommand struct {
	JSON bool `name:"json" help:"Write JSON."`
	storeArgs
}

// Run lists the store.
func (c *modelLsCommand) Run(e *env) error {
	_, s, err := c.open()
	if err != nil {
		return err
	}
	list, err := s.List()
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(e, jsonModels(list))
	}
	known := map[string]bool{}
	t := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', 0)
	if len(list) > 0 {
		fmt.Fprintln(t, "model\tversion\tstate\tgolden frames\tsize\tadded\tfrom")
	}
	for _, m := range list {
		for _, v := range m.Versions {
			known[m.Name] = true
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", m.Name, models.Short(v.SHA256), stateWord(m.State, v.SHA256), goldenWord(v),
				humanize.IBytes(uint64(v.Bytes)), v.AddedAt.Local().Format(time.DateTime), v.Source)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, m := range list {
		printModelNotes(e, m)
	}
	for _, k := range models.Catalogue() {
		if !known[k.Name] {
			fmt.Fprintf(e.out, "known by name, not in the store: %s (%s; %s; %s)\n", k.Name, k.What, humanize.IBytes(uint64(k.Size())), k.Licence)
		}
	}
	return nil
}

func printModelNotes(e *env, m models.Model) {
	if t := m.State.Trial; t != nil {
		fmt.Fprintf(e.out, "%s: %s is on trial since %s, starts that did not end in order, with the one that runs if one does: %d of %d\n", m.Name, models.Short(m.State.Current), t.Since.Local().Format(time.DateTime), t.Starts, models.TrialStarts)
	}
	if b := m.State.RolledBack; b != nil {
		fmt.Fprintf(e.out, "%s: rolled back from %s to %s at %s: %s\n", m.Name, models.Short(b.From), models.Short(b.To), b.At.Local().Format(time.DateTime), b.Reason)
	}
	if m.State.Damaged != "" {
		m.Problems = append(m.Problems, "read from the copy: "+m.State.Damaged)
	}
	for _, p := range m.Problems {
		fmt.Fprintf(e.out, "%s: %s\n", m.Name, p)
	}
}

// stateWord is what a version is to its model.
func stateWord(st models.State, sha string) string {
	switch {
	case sha == st.Current && st.Trial != nil:
		return "active, on trial"
	case sha == st.Current:
		return "active"
	case st.RolledBack != nil && sha == st.RolledBack.From:
		return "rolled back"
	case sha == st.Previous:
		return "previous"
	}
	return "-"
}

// goldenWord is what golden frames said of a version.
func goldenWord(v models.Manifest) string {
	if !v.Golden() {
		return orElse(map[string]string{"skipped": "none, skipped"}[v.Gate.String()], "none")
	}
	return v.Gate.String()
}

// jsonModel is a model as machines read it.
type jsonModel struct {
	Name     string            `json:"name"`
	State    models.State      `json:"state"`
	Versions []models.Manifest `json:"versions"`
	Problems []string          `json:"problems"`
}

func jsonModels(list []models.Model) []jsonModel {
	out := []jsonModel{}
	for _, m := range list {
		j := jsonModel{m.Name, m.State, append([]models.Manifest{}, m.Versions...), append([]string{}, m.Problems...)}
		out = append(out, j)
	}
	return out
}

func printJSON(e *env, v any) error {
	enc := json.NewEncoder(e.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

type modelVerifyCommand struct {
	Name string `arg:"" optional:"" help:"Model; all of them where it is left out."`
	storeArgs
}

// errStoreUnsound says that a check found something.
var errStoreUnsound = errors.New("the model store has problems")

// Run compares everything with its hash.
func (c *modelVerifyCommand) Run(e *env) error {
	_, s, err := c.open()
	if err != nil {
		return err
	}
	list, err := s.List()
	if err != nil {
		return err
	}
	if c.Name != "" {
		m, err := s.Model(c.Name)
		if err != nil {
			return err
		}
		list = []models.Model{m}
	}
	sound, bad := 0, 0
	for _, m := range list {
		for _, p := range m.Problems {
			fmt.Fprintf(e.out, "%s: %s\n", m.Name, p)
			bad++
		}
		for _, v := range m.Versions {
			if _, err := s.Check(m.Name, v.SHA256); err != nil {
				fmt.Fprintln(e.out, err)
				bad++
				continue
			}
			sound++
		}
	}
	fmt.Fprintf(e.out, "versions that are as their manifests say: %d\n", sound)
	if bad > 0 {
		return fmt.Errorf("%w: %d", errStoreUnsound, bad)
	}
	return nil
}

type modelRmCommand struct {
	Version versionArg `arg:"" help:"NAME@SHA, of which the beginning is enough."`
	storeArgs
}

// Run removes a version.
func (c *modelRmCommand) Run(e *env) error {
	name, prefix, err := c.Version.split()
	if err != nil {
		return err
	}
	if prefix == "" {
		return usageError{fmt.Errorf("expected NAME@SHA, got %q: say which version", c.Version)}
	}
	_, s, err := c.forChange(e)
	if err != nil {
		return err
	}
	v, err := s.Version(name, prefix)
	if err != nil {
		return err
	}
	if err := s.Remove(name, v.SHA256); err != nil {
		return err
	}
	fmt.Fprintf(e.out, "removed: %s@%s\n", name, models.Short(v.SHA256))
	return nil
}
