package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"outstation/appliance/internal/strictyaml"
	"outstation/broker"
	"outstation/uplink"
	"outstation/uplink/wire"
	"outstation/vision"
)

// envPrefix begins the environment variables that set keys.
const envPrefix = "OUTSTATION_"

// Config is the configuration file. outstation.yaml documents every key.
type Config struct {
	DeviceID string       `yaml:"device_id"`
	Region   string       `yaml:"region"`
	Site     string       `yaml:"site"`
	DataDir  string       `yaml:"data_dir"`
	Log      LogConfig    `yaml:"log"`
	Broker   BrokerConfig `yaml:"broker"`
	Vision   VisionConfig `yaml:"vision"`
	Uplink   UplinkConfig `yaml:"uplink"`
	Web      WebConfig    `yaml:"web"`

	Forward []ForwardConfig `yaml:"forward"`

	Demo DemoConfig `yaml:"demo"`
}

// LogConfig says what is logged and where.
type LogConfig struct {
	Level    string `yaml:"level"`
	File     string `yaml:"file"` // empty means standard error
	MaxBytes Bytes  `yaml:"max_bytes"`
	Keep     int    `yaml:"keep"`
}

// BrokerConfig is the local MQTT broker.
type BrokerConfig struct {
	Listeners      []ListenerConfig `yaml:"listeners"`
	UsersFile      string           `yaml:"users_file"`
	ACLFile        string           `yaml:"acl_file"`
	AllowAnonymous bool             `yaml:"allow_anonymous"` // on this machine, although there are users
	MaxKeepAlive   time.Duration    `yaml:"max_keep_alive"`  // 0: as the device wants it
	Limits         LimitsConfig     `yaml:"limits"`
	Sessions       SessionsConfig   `yaml:"sessions"`
}

// SessionsConfig bounds the sessions of devices that come back.
type SessionsConfig struct {
	MaxMessages   int           `yaml:"max_messages"`
	MaxBytes      Bytes         `yaml:"max_bytes"`
	MaxTotalBytes Bytes         `yaml:"max_total_bytes"`
	MaxExpiry     time.Duration `yaml:"max_expiry"`
}

func (c SessionsConfig) sessions() broker.Sessions {
	s := broker.Sessions{
		MaxMessages: c.MaxMessages, MaxBytes: int64(c.MaxBytes), MaxTotalBytes: int64(c.MaxTotalBytes), MaxExpiry: c.MaxExpiry,
	}
	if s.MaxExpiry == 0 {
		s.MaxExpiry = -1 // never
	}
	return s
}

// ListenerConfig is one address of the local broker.
type ListenerConfig struct {
	Type              string   `yaml:"type"`
	Address           string   `yaml:"address"`
	CertFile          string   `yaml:"cert_file"`
	KeyFile           string   `yaml:"key_file"`
	ClientCAFile      string   `yaml:"client_ca_file"`
	RequireClientCert bool     `yaml:"require_client_cert"`
	Origins           []string `yaml:"origins"`
}

// VisionConfig is the cameras and what looks at them.
type VisionConfig struct {
	ONNXRuntime string         `yaml:"onnxruntime"`
	Providers   []string       `yaml:"providers"`
	Threads     int            `yaml:"threads"`
	Models      []ModelConfig  `yaml:"models"`
	Cameras     []CameraConfig `yaml:"cameras"`
	Socket      SocketConfig   `yaml:"socket"`

	Classifiers []ClassifierConfig `yaml:"classifiers"`

	EngineDir string `yaml:"-"` // where TensorRT engines are kept, below DataDir
	Scratch   string `yaml:"-"` // see onnx.Options, below DataDir

	asked bool // Providers are somebody's choice and not the default

	Snapshots SnapshotStoreConfig `yaml:"snapshots"`
	Throttle  ThrottleConfig      `yaml:"throttle"`
}

// ModelConfig is one detector.
type ModelConfig struct {
	Name       string   `yaml:"name"`
	Path       string   `yaml:"path"` // or storePrefix and a name, or builtinLine
	Classes    []string `yaml:"classes"`
	Confidence float64  `yaml:"confidence"`

	BatchConfig `yaml:",inline"`

	floor float64 // see VisionConfig.lowered
}

// builtinLine is the path of the model that is part of the program.
const builtinLine = "builtin:line"

// CameraConfig is one camera.
type CameraConfig struct {
	ID         string        `yaml:"id"`
	Source     string        `yaml:"source"`
	Model      string        `yaml:"model"`
	FPS        float64       `yaml:"fps"`
	Loop       bool          `yaml:"loop"`
	Lossless   bool          `yaml:"lossless"`
	StallAfter time.Duration `yaml:"stall_after"`
	BlindAfter time.Duration `yaml:"blind_after"` // 0: vision.DefaultBlindAfter, or longer for a low FPS
	Heartbeat  bool          `yaml:"heartbeat"`
	Decoder    string        `yaml:"decoder"` // of RTSP; empty means auto

	Snapshot *SnapshotConfig `yaml:"snapshot"`
	Priority int             `yaml:"priority"` // 0: the default

	ViewConfig  `yaml:",inline"`
	JudgeConfig `yaml:",inline"`
}

// UplinkConfig is the way to the centre.
type UplinkConfig struct {
	Brokers        []string       `yaml:"brokers"`
	Username       string         `yaml:"username"`
	PasswordFile   string         `yaml:"password_file"`
	CAFile         string         `yaml:"ca_file"`
	CertFile       string         `yaml:"cert_file"`
	KeyFile        string         `yaml:"key_file"`
	KeepAlive      time.Duration  `yaml:"keep_alive"`
	ConnectTimeout time.Duration  `yaml:"connect_timeout"`
	AckTimeout     time.Duration  `yaml:"ack_timeout"`
	Window         int            `yaml:"window"`
	MaxPacketBytes Bytes          `yaml:"max_packet_bytes"`
	Backoff        BackoffConfig  `yaml:"backoff"`
	Queue          QueueConfig    `yaml:"queue"`
	Routes         []RouteConfig  `yaml:"routes"`
	Backfill       BackfillConfig `yaml:"backfill"`
	DeadLetters    RetryConfig    `yaml:"dead_letters"`
	Down           []DownConfig   `yaml:"down"`
	FailBack       time.Duration  `yaml:"fail_back"`
}

// RetryConfig says when dead letters are retried.
type RetryConfig struct {
	Retry    string `yaml:"retry"`
	Attempts int    `yaml:"attempts"`
}

// RouteConfig is one route to the centre.
type RouteConfig struct {
	Name          string          `yaml:"name"`
	Match         string          `yaml:"match"`
	To            string          `yaml:"to"`
	QoS           byte            `yaml:"qos"`
	Priority      int             `yaml:"priority"`
	MaxAge        time.Duration   `yaml:"max_age"`
	MaxBytes      Bytes           `yaml:"max_bytes"`
	MaxRecords    int64           `yaml:"max_records"`
	Overflow      uplink.Overflow `yaml:"overflow"`
	Order         uplink.Order    `yaml:"order"`
	Keep          string          `yaml:"keep"`
	StripRetained bool            `yaml:"strip_retained"`
	QoS0          string          `yaml:"qos0"`
}

// SetDefaults is called before a route of the file is read.
func (r *RouteConfig) SetDefaults() { r.QoS = 1 }

// Values of Keep and QoS0 beside their defaults.
const (
	keepLast = "last"
	qos0Drop = "drop"
)

func (r RouteConfig) route() uplink.Route {
	return uplink.Route{
		Name: r.Name, Match: r.Match, To: r.To, QoS: r.QoS, Priority: r.Priority,
		Policy: uplink.Policy{
			MaxAge: r.MaxAge, MaxBytes: int64(r.MaxBytes), MaxRecords: r.MaxRecords,
			Overflow: r.Overflow, Order: r.Order, KeepLast: r.Keep == keepLast,
		},
		StripRetained: r.StripRetained, DropQoS0: r.QoS0 == qos0Drop,
	}
}

func (c UplinkConfig) routes() []uplink.Route {
	out := make([]uplink.Route, len(c.Routes))
	for i, r := range c.Routes {
		out[i] = r.route()
	}
	return out
}

// BackfillConfig limits what an outage left.
type BackfillConfig struct {
	Share float64 `yaml:"share"`
	Rate  Bytes   `yaml:"rate"` // a second
	Quiet string  `yaml:"quiet"`
}

func (c BackfillConfig) backfill() (uplink.Backfill, error) {
	quiet, err := uplink.ParseHours(c.Quiet)
	return uplink.Backfill{Share: c.Share, Rate: int64(c.Rate), Quiet: quiet}, err
}

// BackoffConfig is the wait between attempts to reach the centre.
type BackoffConfig struct {
	Floor   time.Duration `yaml:"floor"`
	Ceiling time.Duration `yaml:"ceiling"`
	Stable  time.Duration `yaml:"stable"`
	Spread  time.Duration `yaml:"spread"`
}

// QueueConfig bounds the store.
type QueueConfig struct {
	MaxBytes     Bytes `yaml:"max_bytes"`
	MaxRecords   int64 `yaml:"max_records"`
	MaxDeadBytes Bytes `yaml:"max_dead_bytes"`
	MinFreeBytes Bytes `yaml:"min_free_bytes"`
}

// WebConfig is the status page.
type WebConfig struct {
	Listen string   `yaml:"listen"`
	Hosts  []string `yaml:"hosts"` // further names that the page is called by

	TokensFile string `yaml:"tokens_file"` // empty means tokens in DataDir
}

// DemoConfig is for trying the appliance without a centre.
type DemoConfig struct {
	Centre string `yaml:"centre"` // address of a stand-in centre in this process; empty means none
}

// Bytes is a size such as 512MiB or 8GB.
type Bytes uint64

// UnmarshalText reads a number with an optional unit.
func (b *Bytes) UnmarshalText(text []byte) error {
	n, err := humanize.ParseBytes(string(text))
	if err != nil || n > maxBytes {
		return errors.New("expected a size such as 512MiB, of at most 1EiB")
	}
	*b = Bytes(n)
	return nil
}

// maxBytes keeps sizes and their sums within 63 bits.
const maxBytes = 1 << 60

// MarshalText writes the size with its unit.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(humanize.IBytes(uint64(b))), nil }

// Values that the other packages do not own.
const (
	defaultLogBytes = 10 << 20
	defaultLogKeep  = 5
)

// defaultConfig is what holds where a file says nothing.
func defaultConfig() Config {
	return Config{
		DataDir: "/var/lib/outstation",
		Log:     LogConfig{Level: "info", MaxBytes: defaultLogBytes, Keep: defaultLogKeep},
		Broker: BrokerConfig{
			Listeners: []ListenerConfig{{Type: broker.TypeTCP, Address: "127.0.0.1:1883"}},
			Limits:    defaultLimits(),
			Sessions: SessionsConfig{
				MaxMessages: broker.DefaultSessionMessages, MaxBytes: broker.DefaultSessionBytes,
				MaxTotalBytes: broker.DefaultTotalBytes, MaxExpiry: broker.DefaultSessionExpiry,
			},
		},
		Vision: VisionConfig{
			ONNXRuntime: "/usr/lib/outstation/libonnxruntime.so.1",
			Providers:   []string{"tensorrt", "cuda", "cpu"},
			Socket:      defaultSocket(),
			Snapshots:   defaultSnapshotStore(),
			Throttle:    ThrottleConfig{Hot: defaultHot, Cool: defaultCool},
		},
		Uplink: UplinkConfig{
			KeepAlive:      uplink.DefaultKeepAlive,
			ConnectTimeout: uplink.DefaultConnectTimeout,
			AckTimeout:     uplink.DefaultAckTimeout,
			Window:         uplink.DefaultWindow,
			MaxPacketBytes: uplink.DefaultMaxPacketBytes,
			Backoff: BackoffConfig{
				Floor: uplink.DefaultBackoff.Floor, Ceiling: uplink.DefaultBackoff.Ceiling, Stable: uplink.DefaultBackoff.Stable,
				Spread: uplink.DefaultBackoff.Spread,
			},
			Queue: QueueConfig{
				MaxBytes: uplink.DefaultMaxBytes, MaxDeadBytes: uplink.DefaultMaxDeadBytes, MinFreeBytes: uplink.DefaultMinFreeBytes,
			},
			Routes:   defaultRoutes(),
			Backfill: BackfillConfig{Share: uplink.DefaultBackfillShare},
			FailBack: uplink.DefaultFailBack,

			DeadLetters: RetryConfig{Retry: uplink.DefaultRetrySchedule, Attempts: uplink.DefaultRetryAttempts},
		},
		Web: WebConfig{Listen: "127.0.0.1:8080"},
	}
}

// defaultRoutes are those of the package.
func defaultRoutes() []RouteConfig {
	var out []RouteConfig
	for _, r := range uplink.DefaultRoutes() {
		out = append(out, RouteConfig{Match: r.Match, To: r.To, QoS: r.QoS, Priority: r.Priority})
	}
	return out
}

// loadConfig reads a file and the environment. The error holds everything
// that is wrong, one problem a line.
func loadConfig(file string, environ []string) (Config, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return Config{}, usageError{fmt.Errorf("configuration: %w", err)}
	}
	return parseConfig(file, data, environ)
}

func parseConfig(file string, data []byte, environ []string) (Config, error) {
	cfg := defaultConfig()
	src, err := strictyaml.Decode(file, data, environ, envPrefix, &cfg)
	var wrong *strictyaml.Error
	if err != nil && !errors.As(err, &wrong) {
		return cfg, err
	}
	if wrong == nil {
		wrong = &strictyaml.Error{}
	}
	cfg.Vision.asked = src.Written("vision.providers")
	check := checker{src: src}
	if !slices.ContainsFunc(wrong.Problems, func(p strictyaml.Problem) bool { return p.Key == "" && p.Line > 0 }) {
		check.config(cfg) // a file that is not YAML says nothing about its keys
	}
	for _, p := range check.problems {
		reported := slices.ContainsFunc(wrong.Problems, func(w strictyaml.Problem) bool { return w.Key == p.Key })
		if !reported { // a value that could not be read is not also an impossible one
			wrong.Problems = append(wrong.Problems, p)
		}
	}
	slices.SortStableFunc(wrong.Problems, func(a, b strictyaml.Problem) int {
		return cmp.Compare(uint(a.Line-1), uint(b.Line-1)) // those without a line come last
	})
	if len(wrong.Problems) > 0 {
		return cfg, usageError{fmt.Errorf("the configuration cannot be used:\n%w", wrong)}
	}
	return cfg, nil
}

// namedFile is a file that a key names.
type namedFile struct{ key, path string }

// files are those that a configuration names and that may come to the machine
// later than it does.
func (c Config) files() []namedFile {
	list := []namedFile{
		{"uplink.password_file", c.Uplink.PasswordFile}, {"uplink.ca_file", c.Uplink.CAFile},
		{"uplink.cert_file", c.Uplink.CertFile}, {"uplink.key_file", c.Uplink.KeyFile},
	}
	if len(c.Vision.Models) > 0 {
		list = append(list, namedFile{"vision.onnxruntime", c.Vision.ONNXRuntime})
	}
	for i, cam := range c.Vision.Cameras {
		if vision.Kind(cam.Source) == vision.KindFile {
			list = append(list, namedFile{fmt.Sprintf("vision.cameras[%d].source", i), strings.TrimPrefix(cam.Source, "file://")})
		}
	}
	for i, m := range c.Vision.Classifiers {
		list = append(list, namedFile{fmt.Sprintf("vision.classifiers[%d].path", i), m.Path})
	}
	for i, m := range c.Vision.Models {
		if _, ok := storeName(m.Path); ok {
			continue
		}
		list = append(list, namedFile{fmt.Sprintf("vision.models[%d].path", i), m.Path})
	}
	return list
}

// origin is the appliance's name on the wire.
func (c Config) origin() wire.Origin {
	return wire.Origin{Region: c.Region, Site: c.Site, DeviceID: c.DeviceID}
}

// centre is how the uplink reaches the centre.
func (c UplinkConfig) centre() uplink.Centre {
	return uplink.Centre{
		Brokers: c.Brokers, Username: c.Username, PasswordFile: c.PasswordFile,
		CAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile,
		KeepAlive: c.KeepAlive, ConnectTimeout: c.ConnectTimeout, FailBack: c.FailBack,
	}
}

func (c BackoffConfig) backoff() uplink.Backoff {
	return uplink.Backoff{Floor: c.Floor, Ceiling: c.Ceiling, Stable: c.Stable, Spread: c.Spread}
}

func (c BrokerConfig) listeners() []broker.Listener {
	out := make([]broker.Listener, len(c.Listeners))
	for i, l := range c.Listeners {
		out[i] = broker.Listener(l)
	}
	return out
}

// SetDefaults is called before a camera of the file is read.
func (c *CameraConfig) SetDefaults() { c.StallAfter = vision.DefaultStallAfter }
