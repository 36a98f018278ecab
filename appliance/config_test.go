package main

import (
	"bytes"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"outstation/appliance/internal/strictyaml"
)

func TestDocumentedExample(t *testing.T) {
	cfg, err := loadConfig("outstation.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	want := defaultConfig()
	want.DeviceID, want.Region, want.Site = "press-7", "jawa-barat", "site-12"
	want.Vision.Models = []ModelConfig{{Name: "yolox-nano", Path: "models/yolox_nano.onnx"}}
	want.Vision.Cameras = []CameraConfig{{ID: "cam-north-3", Source: "rtsp://10.0.0.7/stream1", Model: "yolox-nano", FPS: 10, StallAfter: 10 * time.Second}}
	want.Uplink.Brokers = []string{"tls://emqx.example.com:8883"}
	want.Uplink.Username, want.Uplink.PasswordFile, want.Uplink.CAFile = "press-7", "/etc/outstation/uplink.password", "/etc/outstation/ca.pem"
	expectSame(t, cfg, want)
}

// expectSame compares configurations as they are written, where an empty list
// and none are the same.
func expectSame(t *testing.T, got, want Config) {
	t.Helper()
	g, errG := yaml.Marshal(got)
	w, errW := yaml.Marshal(want)
	if err := errors.Join(errG, errW); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(g, w) {
		t.Errorf("got\n%s\nwant\n%s", g, w)
	}
}

// TestCommentedDefaultsAreTheDefaults turns the example's comments into keys
// and expects that nothing changes.
func TestCommentedDefaultsAreTheDefaults(t *testing.T) {
	text, err := os.ReadFile("outstation.yaml")
	if err != nil {
		t.Fatal(err)
	}
	plain, err := parseConfig("plain", text, nil)
	if err != nil {
		t.Fatal(err)
	}
	key := regexp.MustCompile(`(?m)^( *)# ?( *[a-z_]+:(?: .*|))$`)
	prose := regexp.MustCompile(`(?m)^ +# (source|model|fps|Also): .*\n(?: +#  .*\n)*`)
	all := key.ReplaceAll(prose.ReplaceAll(text, nil), []byte("$1$2"))
	if n := bytes.Count(all, []byte(":")); n < 40 {
		t.Fatalf("only %d keys in:\n%s", n, all)
	}
	cfg, err := parseConfig("commented", all, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, all)
	}
	expectSame(t, cfg, plain)
}

const minimal = `
device_id: d-1
region: r
site: s
uplink: {brokers: ["tcp://127.0.0.1:1883"]}
`

func TestEveryProblemIsReportedAtOnceWithItsPlace(t *testing.T) {
	text := `device_id: Press 7
region: r
sight: s
vision:
  providers: [gpu]
  models:
    - {name: m, path: m.onnx}
  cameras:
    - id: cam
      source: "ftp://x"
      model: other
      fps: fast
broker:
  listeners:
    - {type: tcp, address: "0.0.0.0:1883"}
uplink:
  brokers: ["mqtt://x"]
  window: 0
  routes:
    - {match: "a/#", to: "{nope}"}
  backoff: {spread: -1s}
web: {listen: nowhere}
`
	_, err := parseConfig("o.yaml", []byte(text), []string{"OUTSTATION_NO_SUCH=1"})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		"o.yaml:1: device_id: ", "o.yaml:3: sight: ", "site: ", "o.yaml:5: vision.providers[0]: ", "o.yaml:10: vision.cameras[0].source: ",
		"o.yaml:11: vision.cameras[0].model: ", "o.yaml:12: vision.cameras[0].fps: ", "o.yaml:15: broker.listeners[0]: ",
		"o.yaml:17: uplink.brokers[0]: ", "o.yaml:18: uplink.window: ", "o.yaml:20: uplink.routes[0]: ", "o.yaml:21: uplink.backoff.spread: ", "o.yaml:22: web.listen: ",
		"OUTSTATION_NO_SUCH",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("missing %q in:\n%v", want, err)
		}
	}
	var all *strictyaml.Error
	if !errors.As(err, &all) || len(all.Problems) != 14 {
		t.Errorf("expected 14 problems:\n%v", err)
	}
}

func TestEnvironmentSetsKeys(t *testing.T) {
	cfg, err := parseConfig("o.yaml", []byte(minimal), []string{
		"OUTSTATION_WEB_LISTEN=127.0.0.1:9", "OUTSTATION_UPLINK_BROKERS=[tls://a:1, tcp://b:2]", "OUTSTATION_UPLINK_KEEP_ALIVE=7s",
		"OUTSTATION_UPLINK_QUEUE_MAX_BYTES=2GiB", "OUTSTATION_VISION_CAMERAS_0_ID=c", "OUTSTATION_VISION_CAMERAS_0_SOURCE=sim://pattern",
		"OUTSTATION_TEST_MODEL=x", "PATH=/bin",
	})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Web.Listen != "127.0.0.1:9" || len(cfg.Uplink.Brokers) != 2 || cfg.Uplink.KeepAlive != 7*time.Second ||
		cfg.Uplink.Queue.MaxBytes != 2<<30 || cfg.Vision.Cameras[0].Source != "sim://pattern" || cfg.Vision.Cameras[0].StallAfter != 10*time.Second {
		t.Errorf("got %+v", cfg)
	}
}

func TestACentreOrTheDemoIsRequired(t *testing.T) {
	for text, want := range map[string]string{
		strings.Replace(minimal, `["tcp://127.0.0.1:1883"]`, "[]", 1): "outstation demo run",
		minimal + "demo: {centre: \"127.0.0.1:0\"}\n":                 "stand-in centre",
	} {
		if _, err := parseConfig("o.yaml", []byte(text), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, expected %q", err, want)
		}
	}
}

// TestConfigSurvivesWriting makes sure that what `demo run` writes is what it
// meant.
func TestConfigSurvivesWriting(t *testing.T) {
	c := demoRunCommand{Dir: t.TempDir(), MQTT: "127.0.0.1:0", Web: "127.0.0.1:0"}
	want := c.config(&bytes.Buffer{})
	text, err := yaml.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseConfig("demo", text, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	expectSame(t, got, want)
}
