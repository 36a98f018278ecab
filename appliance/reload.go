package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"

	"outstation/appliance/internal/strictyaml"
	"outstation/uplink"
)

// reloadable are the keys that may change while the appliance runs; a change
// of any other needs a restart. Those that end with a dot stand for all below.
var reloadable = []string{
	"log.level", "broker.users_file", "broker.acl_file",
	"uplink.brokers", "uplink.username", "uplink.password_file", "uplink.ca_file", "uplink.cert_file", "uplink.key_file",
	"uplink.keep_alive", "uplink.connect_timeout", "uplink.ack_timeout", "uplink.window", "uplink.max_packet_bytes",
	"uplink.backoff.", "uplink.queue.", "uplink.routes", "uplink.backfill.", "uplink.dead_letters.",
	"uplink.down", "uplink.fail_back", "forward",
}

// errRestart says that a configuration cannot be applied without a restart.
var errRestart = errors.New("nothing was changed: a restart is needed for")

// configuration is the file that the appliance runs with.
type configuration struct {
	file  string
	level *slog.LevelVar // of the log

	mu    sync.Mutex // held by a reload
	inUse Config     // as the file said when it was read last and could be used

	broken struct { // why the file cannot be used as it is now
		sync.Mutex
		err error
	}
}

// problem is why the file cannot be used as it is now, or nil.
func (c *configuration) problem() error {
	c.broken.Lock()
	defer c.broken.Unlock()
	return c.broken.err
}

func (c *configuration) setProblem(err error) {
	c.broken.Lock()
	c.broken.err = err
	c.broken.Unlock()
}

// reloaded is what a reload did.
type reloaded struct {
	Changed     []string `json:"changed"`     // keys
	Reconnected bool     `json:"reconnected"` // the link is made anew
}

// reload reads the configuration again and applies all of it or, with an
// error, nothing. Health shows the error until a reload succeeds.
func (a *app) reload() (reloaded, error) {
	a.config.mu.Lock()
	defer a.config.mu.Unlock()
	r, err := a.applyFile()
	a.config.setProblem(err)
	if err != nil {
		a.log.Error("the configuration was not reloaded", "file", a.config.file, "error", strictyaml.OneLine(err.Error()))
	} else {
		a.log.Info("the configuration was reloaded", "changed", r.Changed, "reconnected", r.Reconnected)
	}
	return r, err
}

func (a *app) applyFile() (reloaded, error) {
	cfg, err := loadConfig(a.config.file, os.Environ())
	if err != nil {
		return reloaded{}, err
	}
	changed, err := changedKeys(a.config.inUse, cfg)
	if err != nil {
		return reloaded{}, err
	}
	if fixed := slices.DeleteFunc(slices.Clone(changed), isReloadable); len(fixed) > 0 {
		return reloaded{}, fmt.Errorf("%w %s", errRestart, strings.Join(fixed, ", "))
	}
	access, err := a.readAccess(cfg)
	if err != nil {
		return reloaded{}, err
	}
	again, err := a.apply(cfg)
	if err != nil {
		return reloaded{}, err
	}
	inFiles, err := a.applyAccess(access)
	if err != nil {
		return reloaded{}, err
	}
	changed = append(changed, inFiles...)
	a.config.inUse = cfg
	return reloaded{changed, again}, nil
}

func isReloadable(key string) bool {
	return slices.ContainsFunc(reloadable, func(k string) bool { return k == key || (strings.HasSuffix(k, ".") && strings.HasPrefix(key, k)) })
}

// apply changes what may change while the appliance runs, and reports whether
// the link is made anew. Everything that can fail comes before the first
// change.
func (a *app) apply(cfg Config) (redial bool, err error) {
	router, err := uplink.NewRouter(cfg.origin(), cfg.Uplink.routes())
	if err != nil {
		return false, err
	}
	up := cfg.Uplink
	up.Brokers = a.brokers(up)
	tuning, err := up.tuning()
	if err != nil {
		return false, err
	}
	schedule, err := uplink.ParseSchedule(up.DeadLetters.Retry)
	if err != nil {
		return false, err
	}
	if tuning.Down, err = uplink.NewDownRouter(cfg.origin(), up.downRoutes()); err != nil {
		return false, err
	}
	engine, err := cfg.forwardEngine()
	if err != nil {
		return false, err
	}
	setLevel(a.config.level, cfg.Log)
	a.queue.SetPolicies(router.Policies()) // before anything comes under them
	a.router.Store(router)
	a.forward.engine.Store(engine)
	a.queue.SetBounds(up.Queue.bounds())
	a.keeper.tune(up)
	for _, p := range a.presences {
		p.Tune(tuning.Centre, tuning.Backoff)
	}
	a.retrier.Tune(schedule, up.DeadLetters.Attempts)
	return a.link.Tune(tuning), nil
}

// brokers are the addresses of the centre, or that of the stand-in.
func (a *app) brokers(up UplinkConfig) []string {
	if a.demo == nil {
		return up.Brokers
	}
	address, _, _ := a.demo.state()
	return []string{"tcp://" + address}
}

func (c UplinkConfig) tuning() (uplink.Tuning, error) {
	backfill, err := c.Backfill.backfill()
	return uplink.Tuning{
		Centre: c.centre(), Window: c.Window, AckTimeout: c.AckTimeout, MaxPacketBytes: int64(c.MaxPacketBytes),
		Backoff: c.Backoff.backoff(), Backfill: backfill,
	}, err
}

func (c QueueConfig) bounds() uplink.Bounds {
	return uplink.Bounds{
		MaxBytes: int64(c.MaxBytes), MaxRecords: c.MaxRecords, MaxDeadBytes: int64(c.MaxDeadBytes), MinFreeBytes: uint64(c.MinFreeBytes),
	}
}

// changedKeys are the keys whose values differ, in their order in the file. A
// list is one key.
func changedKeys(old, now Config) ([]string, error) {
	was, err := keysOf(old)
	if err != nil {
		return nil, err
	}
	is, err := keysOf(now)
	if err != nil {
		return nil, err
	}
	changed := []string{}
	for i, k := range is { // the keys of a Config are always the same, in the same order
		if was[i].value != k.value {
			changed = append(changed, k.key)
		}
	}
	return changed, nil
}

// keyValue is a key of the configuration and its value as it is written.
type keyValue struct{ key, value string }

// keysOf are all keys of a configuration that hold a value or a list.
func keysOf(cfg Config) ([]keyValue, error) {
	var doc yaml.Node
	if err := doc.Encode(cfg); err != nil {
		return nil, fmt.Errorf("compare configurations: %w", err)
	}
	return leaves("", &doc)
}

func leaves(path string, n *yaml.Node) (out []keyValue, err error) {
	if n.Kind != yaml.MappingNode {
		text, err := yaml.Marshal(n)
		if err != nil {
			return nil, fmt.Errorf("compare %s: %w", path, err)
		}
		return []keyValue{{path, string(text)}}, nil
	}
	for i := 0; i < len(n.Content); i += 2 {
		key := strings.TrimPrefix(path+"."+n.Content[i].Value, ".")
		below, err := leaves(key, n.Content[i+1])
		if err != nil {
			return nil, err
		}
		out = append(out, below...)
	}
	return out, nil
}

func (a *app) serveReload(w http.ResponseWriter, _ *http.Request) {
	r, err := a.reload()
	switch {
	case errors.Is(err, errRestart):
		answer(w, http.StatusConflict, apiError{err.Error()})
	case err != nil:
		answer(w, http.StatusUnprocessableEntity, apiError{err.Error()})
	default:
		answer(w, http.StatusOK, r)
	}
}

type reloadCommand struct{ remote }

// Run makes a running appliance read its configuration again.
func (c *reloadCommand) Run(e *env) error {
	var r reloaded
	if err := call(e.ctx, c, http.MethodPost, "api/v1/reload", nil, &r); err != nil {
		return err
	}
	if len(r.Changed) == 0 {
		fmt.Fprintln(e.out, "reloaded: nothing has changed")
		return nil
	}
	fmt.Fprintln(e.out, "reloaded:", strings.Join(r.Changed, ", "))
	if r.Reconnected {
		fmt.Fprintln(e.out, "the link to the centre is made anew; nothing is lost")
	}
	return nil
}

// pageOf is where this machine reaches a page that listens on an address.
func pageOf(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); err == nil && (host == "" || (ip != nil && ip.IsUnspecified())) {
		return net.JoinHostPort("localhost", port)
	}
	return listen
}
