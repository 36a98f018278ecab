package main

import (
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"outstation/appliance/internal/strictyaml"
	"outstation/broker"
	"outstation/uplink"
	"outstation/uplink/wire"
)

// checker collects what is wrong with the meaning of a configuration.
type checker struct {
	src      *strictyaml.Source
	problems []strictyaml.Problem
}

func (c *checker) add(key, format string, args ...any) {
	c.problems = append(c.problems, c.src.Problem(key, fmt.Sprintf(format, args...)))
}

// err reports err, if there is one, at key.
func (c *checker) err(key string, err error) {
	if err != nil {
		c.add(key, "%v", err)
	}
}

func (c *checker) config(cfg Config) {
	c.level("device_id", cfg.DeviceID)
	c.level("region", cfg.Region)
	c.level("site", cfg.Site)
	if cfg.DataDir == "" {
		c.add("data_dir", "expected a directory for the queue and the state, got nothing")
	}
	c.log(cfg.Log)
	c.broker(cfg.Broker)
	c.vision(cfg.Vision)
	c.uplink(cfg)
	c.forward(cfg.forwardRules())
	c.address("web.listen", cfg.Web.Listen)
}

// level checks a name that becomes a level of topics.
func (c *checker) level(key, value string) {
	if value == "" {
		c.add(key, "missing; expected a name of 1 to 64 of a-z 0-9 . _ -")
		return
	}
	c.err(key, wire.CheckLevel(value))
}

func (c *checker) log(cfg LogConfig) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Level)); err != nil {
		c.add("log.level", "expected debug, info, warn or error, got %q", cfg.Level)
	}
	if cfg.MaxBytes < 1<<20 {
		c.add("log.max_bytes", "expected at least 1MiB, got %d bytes", cfg.MaxBytes)
	}
	if cfg.Keep < 0 {
		c.add("log.keep", "expected 0 or more rotated files, got %d", cfg.Keep)
	}
}

func (c *checker) broker(cfg BrokerConfig) {
	c.limits(cfg)
	if len(cfg.Listeners) == 0 {
		c.add("broker.listeners", "expected at least one, got none")
	}
	for i, l := range cfg.listeners() {
		c.err(fmt.Sprintf("broker.listeners[%d]", i), broker.CheckListener(l, cfg.UsersFile != ""))
	}
	_, err := BrokerConfig{UsersFile: cfg.UsersFile}.access()
	c.err("broker.users_file", err)
	_, err = BrokerConfig{ACLFile: cfg.ACLFile}.access()
	c.err("broker.acl_file", err)
	if cfg.AllowAnonymous && cfg.UsersFile == "" {
		c.add("broker.allow_anonymous", "without users_file nobody on this machine is asked for a name, and nobody else can be let in without one; leave it out")
	}
	c.sessions(cfg.Sessions)
}

func (c *checker) sessions(cfg SessionsConfig) {
	if cfg.MaxMessages < 1 {
		c.add("broker.sessions.max_messages", "expected at least 1, got %d", cfg.MaxMessages)
	}
	if cfg.MaxBytes < 64<<10 {
		c.add("broker.sessions.max_bytes", "expected at least 64KiB, got %d bytes", cfg.MaxBytes)
	}
	if cfg.MaxTotalBytes < cfg.MaxBytes {
		c.add("broker.sessions.max_total_bytes", "expected at least the max_bytes of one session, %d, got %d bytes", cfg.MaxBytes, cfg.MaxTotalBytes)
	}
	if cfg.MaxExpiry < 0 || (cfg.MaxExpiry > 0 && cfg.MaxExpiry < time.Second) {
		c.add("broker.sessions.max_expiry", "expected 0s (never) or at least 1s, got %v", cfg.MaxExpiry)
	}
}

func (c *checker) vision(cfg VisionConfig) {
	models := map[string]bool{}
	for i, m := range cfg.Models {
		key := fmt.Sprintf("vision.models[%d]", i)
		c.model(key, m)
		if models[m.Name] {
			c.add(key+".name", "two models are called %q", m.Name)
		}
		models[m.Name] = true
	}
	for i, p := range cfg.Providers {
		if !slices.Contains([]string{"tensorrt", "cuda", "cpu"}, p) {
			c.add(fmt.Sprintf("vision.providers[%d]", i), "expected tensorrt, cuda or cpu, got %q", p)
		}
	}
	if len(cfg.Providers) == 0 {
		c.add("vision.providers", "expected at least one of tensorrt, cuda and cpu, got none")
	}
	if cfg.Threads < 0 {
		c.add("vision.threads", "expected 0 (as many as there are cores) or more, got %d", cfg.Threads)
	}
	c.socket(cfg.Socket)
	c.classifiers(cfg)
	ids := map[string]bool{}
	for i, cam := range cfg.Cameras {
		key := fmt.Sprintf("vision.cameras[%d]", i)
		c.camera(key, cam, models)
		c.heartbeat(key, cam)
		c.view(key, cam)
		c.judge(key, cam, cfg.Models)
		if ids[cam.ID] {
			c.add(key+".id", "two cameras are called %q", cam.ID)
		}
		ids[cam.ID] = true
	}
	c.snapshots(cfg)
	c.shedding(cfg)
}

func (c *checker) model(key string, m ModelConfig) {
	if m.Name == "" {
		c.add(key+".name", "expected a name for the events, got nothing")
	}
	if m.Path == "" {
		c.add(key+".path", "expected the path of an ONNX file, %sNAME or %s, got nothing", storePrefix, builtinLine)
	}
	c.storedModel(key, m)
	if strings.HasPrefix(m.Path, "builtin:") && m.Path != builtinLine {
		c.add(key+".path", "expected %s, the only model that is built in, got %q", builtinLine, m.Path)
	}
	if m.Path == builtinLine && len(m.Classes) > 0 {
		c.add(key+".classes", "the model that is built in has classes of its own; leave them out")
	}
	c.batch(key, m.BatchConfig)
	if m.Confidence < 0 || m.Confidence >= 1 {
		c.add(key+".confidence", "expected 0 (the default) or a number below 1, got %v", m.Confidence)
	}
}

func (c *checker) camera(key string, cam CameraConfig, models map[string]bool) {
	c.level(key+".id", cam.ID)
	c.source(key, cam)
	if cam.Model != "" && !models[cam.Model] {
		c.add(key+".model", "no model is called %q; add it to vision.models", cam.Model)
	}
	if !(cam.FPS >= 0 && cam.FPS <= 1000) {
		c.add(key+".fps", "expected 0 (every frame) to 1000 frames a second, got %v", cam.FPS)
	}
	if cam.Lossless && cam.FPS != 0 {
		c.add(key+".lossless", "a lossless camera inspects every frame; leave fps out")
	}
	c.positive(key+".stall_after", cam.StallAfter)
	c.blindAfter(key+".blind_after", cam)
}

func (c *checker) uplink(cfg Config) {
	up := cfg.Uplink
	for i, b := range up.Brokers {
		c.err(fmt.Sprintf("uplink.brokers[%d]", i), uplink.CheckBroker(b))
	}
	switch {
	case len(up.Brokers) == 0 && cfg.Demo.Centre == "":
		c.add("uplink.brokers", `expected the centre's address, such as "tls://emqx.example.com:8883"; to try the appliance without one, run: outstation demo run`)
	case len(up.Brokers) > 0 && cfg.Demo.Centre != "":
		c.add("demo.centre", "a stand-in centre makes no sense beside uplink.brokers; leave one of them out")
	case cfg.Demo.Centre != "":
		c.err("demo.centre", broker.CheckListener(broker.Listener{Type: broker.TypeTCP, Address: cfg.Demo.Centre}, false))
	}
	if (up.CertFile == "") != (up.KeyFile == "") {
		c.add("uplink.cert_file", "a client certificate needs both cert_file and key_file")
	}
	if up.Window < 1 || up.Window > 65535 {
		c.add("uplink.window", "expected 1 to 65535 publishes in flight, got %d", up.Window)
	}
	if up.KeepAlive < time.Second || up.KeepAlive > 65535*time.Second {
		c.add("uplink.keep_alive", "expected 1s to 65535s, got %v", up.KeepAlive)
	}
	c.positive("uplink.connect_timeout", up.ConnectTimeout)
	c.positive("uplink.ack_timeout", up.AckTimeout)
	if up.FailBack < 0 {
		c.add("uplink.fail_back", "expected 0s (never) or more, got %v", up.FailBack)
	}
	c.backoff(up.Backoff)
	if up.Queue.MaxBytes < 1<<20 {
		c.add("uplink.queue.max_bytes", "expected at least 1MiB, got %d bytes", up.Queue.MaxBytes)
	}
	if up.Queue.MaxRecords < 0 {
		c.add("uplink.queue.max_records", "expected 0 (no bound) or more, got %d", up.Queue.MaxRecords)
	}
	if up.Backfill.Share <= 0 || up.Backfill.Share > 1 {
		c.add("uplink.backfill.share", "expected a part of the window above 0 and up to 1, got %v", up.Backfill.Share)
	}
	_, err := up.Backfill.backfill()
	c.err("uplink.backfill.quiet", err)
	_, err = uplink.ParseSchedule(up.DeadLetters.Retry)
	c.err("uplink.dead_letters.retry", err)
	if up.DeadLetters.Attempts < 1 || up.DeadLetters.Attempts > 100 {
		c.add("uplink.dead_letters.attempts", "expected 1 to 100 in each run, got %d", up.DeadLetters.Attempts)
	}
	c.routes(cfg)
	c.down(up)
}

func (c *checker) backoff(b BackoffConfig) {
	c.positive("uplink.backoff.floor", b.Floor)
	if b.Ceiling < b.Floor {
		c.add("uplink.backoff.ceiling", "expected at least the floor of %v, got %v", b.Floor, b.Ceiling)
	}
	c.positive("uplink.backoff.stable", b.Stable)
	if b.Spread < 0 {
		c.add("uplink.backoff.spread", "expected 0s (none) or more, got %v", b.Spread)
	}
}

// routes checks each route by itself, so that each problem has its line.
func (c *checker) routes(cfg Config) {
	good := wire.Origin{Region: "r", Site: "s", DeviceID: "d"} // a bad name has been reported
	bad := false
	for i, route := range cfg.Uplink.Routes {
		key := fmt.Sprintf("uplink.routes[%d]", i)
		_, err := uplink.NewRouter(good, []uplink.Route{route.route()})
		c.err(key, err)
		bad = bad || err != nil
		c.oneOf(key+".keep", route.Keep, keepLast, "all")
		c.oneOf(key+".qos0", route.QoS0, qos0Drop, "queue")
	}
	if bad {
		return
	}
	_, err := uplink.NewRouter(good, cfg.Uplink.routes())
	c.err("uplink.routes", err)
}

// oneOf checks a word that may be left out.
func (c *checker) oneOf(key, got string, words ...string) {
	if got != "" && !slices.Contains(words, got) {
		c.add(key, "expected %s, got %q", strings.Join(words, " or "), got)
	}
}

func (c *checker) address(key, address string) {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		c.add(key, "expected host:port, got %q", address)
	}
}

func (c *checker) positive(key string, d time.Duration) {
	if d <= 0 {
		c.add(key, "expected a duration above 0s, such as 30s or 5m, got %v", d)
	}
}
