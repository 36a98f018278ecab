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

	"outstation/appliance/internal/forward"
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
	want.Forward = []ForwardConfig{{
		Source: "zigbee", Match: "zigbee2mqtt/+",
		EventType: `{{ if has .payload "contact" }}door_access{{ else }}telemetry{{ end }}`, Timestamp: `{{ .payload.last_seen }}`,
	}}
	expectSame(t, cfg, want)
}

// TestRulesOfTheREADME reads its example and offers each rule a message.
func TestRulesOfTheREADME(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```yaml\n(forward:\n.*?)```").FindSubmatch(text)
	if block == nil {
		t.Fatal("there is no example of rules")
	}
	cfg, err := parseConfig("README.md", append([]byte(minimal), block[1]...), nil)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := cfg.forwardEngine()
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 21, 1, 0, 0, 0, time.UTC)
	for _, c := range [][3]string{
		{"zigbee2mqtt/Front Door", `{"contact":true,"last_seen":"2026-11-21T00:59:59Z"}`, "s-zigbee-front-door-15b2f183-2026-11-21T00:59:59Z door_access"},
		{"shellyplus1-a/events/rpc", `{"src":"shellyplus1-a","method":"NotifyEvent","params":{"ts":1795222799.25}}`, "s-shelly-shellyplus1-a-2026-11-21T00:59:59.25Z notifyevent"},
		{"tele/meter/SENSOR", `{"Time":"2026-11-21T07:59:59"}`, "s-tasmota-meter-f0f53268f94b8992-2026-11-21T01:00:00Z telemetry"},
		{"gate/north/reader-1", `7;OPEN;card=00A7`, "s-gate-reader-1-650a5699c874b538-2026-11-21T01:00:00Z unparsed"},
	} {
		ev, ok := engine.Message(c[0], []byte(c[1]), at)
		if got := ev.IdempotencyKey + " " + ev.EventType; !ok || got != c[2] {
			t.Errorf("%s: got %s, expected %s", c[0], got, c[2])
		}
	}
	ev, err := engine.Webhook(forward.Webhook{Source: "nvr", From: "10.0.0.64", Received: at, Body: []byte(
		`<EventNotificationAlert><channelID>4</channelID><eventType>VMD</eventType><dateTime>2026-11-21T07:59:58+07:00</dateTime></EventNotificationAlert>`)})
	if err != nil || ev.IdempotencyKey != "s-nvr-4-2026-11-21T00:59:58Z" || ev.EventType != "vmd" {
		t.Errorf("got %+v, %v", ev, err)
	}
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
	prose := regexp.MustCompile(`(?m)^ +# (type|path|classes|confidence|source|model|fps|roi|policy|Also): .*\n(?: +#  .*\n)*`)
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
forward:
  - source: outstation
    match: a/#/b
    event_type: "{{ range 9 }}{{ end }}"
    timestamp: "{{ .payload.x"
  - {source: x, match: a/+, subject: "{3}"}
`
	_, err := parseConfig("o.yaml", []byte(text), []string{"OUTSTATION_NO_SUCH=1"})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		"o.yaml:1: device_id: ", "o.yaml:3: sight: ", "site: ", "o.yaml:5: vision.providers[0]: ", "o.yaml:10: vision.cameras[0].source: ",
		"o.yaml:11: vision.cameras[0].model: ", "o.yaml:12: vision.cameras[0].fps: ", "o.yaml:15: broker.listeners[0]: ",
		"o.yaml:17: uplink.brokers[0]: ", "o.yaml:18: uplink.window: ", "o.yaml:20: uplink.routes[0]: ", "o.yaml:21: uplink.backoff.spread: ", "o.yaml:22: web.listen: ",
		"o.yaml:24: forward[0].source: ", "o.yaml:25: forward[0].match: ", "o.yaml:26: forward[0].event_type: range", "o.yaml:27: forward[0].timestamp: ",
		"o.yaml:28: forward[1].event_type: ", "o.yaml:28: forward[1].subject: ",
		"OUTSTATION_NO_SUCH",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("missing %q in:\n%v", want, err)
		}
	}
	var all *strictyaml.Error
	if !errors.As(err, &all) || len(all.Problems) != 20 {
		t.Errorf("expected 20 problems:\n%v", err)
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

// TestADurationThatCannotBeIsShownARightOne, whether it cannot be read or makes no sense.
func TestADurationThatCannotBeIsShownARightOne(t *testing.T) {
	for _, bad := range []string{"5", "5 minutes", "soon", "0s", "-3s"} {
		text := strings.Replace(minimal, "uplink: {", "uplink: {ack_timeout: "+bad+", ", 1)
		if _, err := parseConfig("o.yaml", []byte(text), nil); err == nil || !strings.Contains(err.Error(), "such as 30s or 5m, got ") {
			t.Errorf("%s: got %v", bad, err)
		}
	}
}
