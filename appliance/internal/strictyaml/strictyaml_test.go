package strictyaml_test

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"outstation/appliance/internal/strictyaml"
)

// config has a field of every kind that configurations are made of.
type config struct {
	DeviceID string  `yaml:"device_id"`
	Web      web     `yaml:"web"`
	Vision   vision  `yaml:"vision"`
	Uplink   uplink  `yaml:"uplink"`
	Ratio    float64 `yaml:"ratio"`
	Small    int8    `yaml:"small"`
	Count    uint16  `yaml:"count"`
	Debug    bool
	Labels   map[string]string `yaml:"labels"`
	Sites    map[string]web    `yaml:"sites"`
	Address  netip.Addr        `yaml:"address"`
	Level    level             `yaml:"level"`
	Free     any               `yaml:"free"`
	Node     yaml.Node         `yaml:"node"`
	Optional *web              `yaml:"optional"`
	Hidden   string            `yaml:"-"`
	common   `yaml:",inline"`
	Common   common `yaml:",inline"`
}

type common struct {
	Region string `yaml:"region"`
}

type web struct {
	Listen  string        `yaml:"listen"`
	Timeout time.Duration `yaml:"timeout"`
}

type vision struct {
	Cameras []camera `yaml:"cameras"`
}

type camera struct {
	ID     string  `yaml:"id"`
	Source string  `yaml:"source"`
	Model  string  `yaml:"model"`
	FPS    float64 `yaml:"fps"`
	Zones  [][]int `yaml:"zones"`
}

func (c *camera) SetDefaults() { c.FPS = 10 }

type uplink struct {
	Brokers      []string `yaml:"brokers"`
	Password     string   `yaml:"password"`
	PasswordFile string   `yaml:"password_file"`
	Window       int      `yaml:"window"`
}

type level int

func (l *level) UnmarshalYAML(n *yaml.Node) error {
	if n.Value != "high" {
		return fmt.Errorf("expected high, got %q", n.Value)
	}
	*l = 9
	return nil
}

func defaults() config {
	return config{Web: web{Listen: "127.0.0.1:8080", Timeout: 5 * time.Second}, Uplink: uplink{Window: 64}}
}

func decode(text string, environ ...string) (config, *strictyaml.Source, error) {
	c := defaults()
	src, err := strictyaml.Decode("o.yaml", []byte(text), environ, "OUTSTATION_", &c)
	return c, src, err
}

func TestDecodeValues(t *testing.T) {
	got, _, err := decode(`
device_id: 7
region: jawa-barat
web: {timeout: 1m30s}
vision:
  cameras:
    - {id: a, fps: 2.5, zones: [[1, 2], [3, 4]]}
    - id: b
uplink:
  brokers: ["tls://a:8883", "tcp://b:1883"]
  window:
ratio: 1
small: -128
count: 0xffff
debug: true
labels: {line: "3", yes: no}
sites: {north: {listen: x}}
address: 10.0.0.7
level: high
free: [1, {a: b}]
node: raw
optional: {listen: y}
`)
	if err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.DeviceID, want.Common.Region, want.Web.Timeout = "7", "jawa-barat", 90*time.Second
	want.Vision.Cameras = []camera{{ID: "a", FPS: 2.5, Zones: [][]int{{1, 2}, {3, 4}}}, {ID: "b", FPS: 10}}
	want.Uplink.Brokers = []string{"tls://a:8883", "tcp://b:1883"}
	want.Ratio, want.Small, want.Count, want.Debug = 1, -128, 0xffff, true
	want.Labels = map[string]string{"line": "3", "yes": "no"}
	want.Sites = map[string]web{"north": {Listen: "x"}}
	want.Address, want.Level = netip.MustParseAddr("10.0.0.7"), 9
	want.Free = []any{1, map[string]any{"a": "b"}}
	want.Node, want.Optional = got.Node, &web{Listen: "y"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got.Node.Value != "raw" {
		t.Errorf("node: got %q, want raw", got.Node.Value)
	}
}

func TestDecodeEmptyKeepsDefaults(t *testing.T) {
	for _, text := range []string{"", "\n", "# only a comment\n", "---\n", "null\n", "web:\n", "web: {listen: ~}\n"} {
		got, _, err := decode(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if !reflect.DeepEqual(got, defaults()) {
			t.Errorf("%q: got %+v, want the defaults", text, got)
		}
	}
}

func TestDecodeAnchorsAndMerge(t *testing.T) {
	got, _, err := decode(`
vision:
  cameras:
    - &base {id: a, source: s, fps: 5}
    - {<<: *base, id: b}
    - <<: [{model: m}, *base]
      id: c
    - *base
`)
	if err != nil {
		t.Fatal(err)
	}
	want := []camera{{ID: "a", Source: "s", FPS: 5}, {ID: "b", Source: "s", FPS: 5},
		{ID: "c", Source: "s", Model: "m", FPS: 5}, {ID: "a", Source: "s", FPS: 5}}
	if !reflect.DeepEqual(got.Vision.Cameras, want) {
		t.Errorf("got  %+v\nwant %+v", got.Vision.Cameras, want)
	}
}

func TestDecodeDoesNotTouchSharedDefaults(t *testing.T) {
	shared := config{Labels: map[string]string{"a": "1"}, Uplink: uplink{Brokers: []string{"x"}}, Optional: &web{}}
	c := shared
	_, err := strictyaml.Decode("o.yaml", []byte("labels: {b: '2'}\noptional: {listen: z}"),
		[]string{"OUTSTATION_UPLINK_BROKERS_0=y", "OUTSTATION_LABELS_C=3"}, "OUTSTATION_", &c)
	if err != nil {
		t.Fatal(err)
	}
	if len(shared.Labels) != 1 || shared.Uplink.Brokers[0] != "x" || shared.Optional.Listen != "" {
		t.Errorf("the defaults changed: %+v", shared)
	}
	if len(c.Labels) != 3 || c.Uplink.Brokers[0] != "y" || c.Optional.Listen != "z" {
		t.Errorf("the configuration is not complete: %+v", c)
	}
}

func TestDecodeRefusesAWrongTarget(t *testing.T) {
	for _, into := range []any{nil, config{}, new(int), (*config)(nil)} {
		_, err := strictyaml.Decode("o.yaml", nil, nil, "OUTSTATION_", into)
		var problems *strictyaml.Error
		if err == nil || errors.As(err, &problems) {
			t.Errorf("%T: got %v, want an error that is no list of problems", into, err)
		}
	}
}

func TestSourcePlacesProblems(t *testing.T) {
	_, src, err := decode(`web:
  listen: x
vision:
  cameras:
    - id: a
    - id: b
      model: m
`, "OUTSTATION_VISION_CAMERAS_0_MODEL=n", "OUTSTATION_UPLINK_BROKERS=[a, b]")
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"web.listen":              "o.yaml:2: web.listen: bad",
		"web.timeout":             "o.yaml:1: web.timeout: bad",
		"vision.cameras[1].model": "o.yaml:7: vision.cameras[1].model: bad",
		"vision.cameras[1].fps":   "o.yaml:6: vision.cameras[1].fps: bad",
		"vision.cameras[0].model": "environment OUTSTATION_VISION_CAMERAS_0_MODEL: vision.cameras[0].model: bad",
		"vision.cameras[0].id":    "o.yaml:5: vision.cameras[0].id: bad",
		"uplink.brokers[1]":       "environment OUTSTATION_UPLINK_BROKERS: uplink.brokers[1]: bad",
		"device_id":               "o.yaml: device_id: bad",
	} {
		if got := src.Problem(key, "bad").String(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestSourceForgetsElementsThatAVariableReplaced(t *testing.T) {
	_, src, err := decode("uplink:\n  brokers: [a, b]\n", "OUTSTATION_UPLINK_BROKERS=[c]")
	if err != nil {
		t.Fatal(err)
	}
	want := "environment OUTSTATION_UPLINK_BROKERS: uplink.brokers[1]: bad"
	if got := src.Problem("uplink.brokers[1]", "bad").String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestProblemStaysOnOneLine(t *testing.T) {
	_, _, err := decode("\"a\\nb\\u0007\": 1\n")
	if err == nil || strings.ContainsAny(err.Error(), "\n\a") {
		t.Errorf("got %q, want one printable line", err)
	}
}

func TestSeveralLinesBecomeOne(t *testing.T) {
	for text, want := range map[string]string{
		"acl cannot be used:\nacl:3: one\nacl:5: two\n": "acl cannot be used: acl:3: one; acl:5: two",
		"one":               "one",
		"":                  "",
		"a\r\n\n  b\u0007c": "a; b\ufffdc",
	} {
		if got := strictyaml.OneLine(text); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestDecodeIsBounded(t *testing.T) {
	bomb := "free: &a [x]\nsites: {b: {<<: *b}}\n"
	if _, _, err := decode(bomb); err == nil {
		t.Error("an unknown anchor was accepted")
	}
	loop := "sites: &s {<<: *s}\n"
	if _, _, err := decode(loop); err == nil || !strings.Contains(err.Error(), "too much configuration") {
		t.Errorf("a mapping merged into itself: got %v", err)
	}
	wide := "vision: {cameras: [" + strings.Repeat("{}, ", 100_001) + "]}"
	if _, _, err := decode(wide); err == nil || !strings.Contains(err.Error(), "too much configuration") {
		t.Errorf("a list of 100,001 elements: got %v", err)
	}
	if _, _, err := decode(strings.Repeat("#", 4<<20+1)); err == nil || !strings.Contains(err.Error(), "4194304 bytes") {
		t.Errorf("a text of 4 MiB and 1 byte: got %v", err)
	}
}
