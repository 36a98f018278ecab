package strictyaml_test

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestDecodeProblems(t *testing.T) {
	tests := map[string]struct {
		text string
		want string
	}{
		"unknown key":                 {"web:\n  listn: x\n", `o.yaml:2: web.listn: unknown key, did you mean "listen"?`},
		"unknown key of another kind": {"colour: red\n", `o.yaml:1: colour: unknown key`},
		"unknown key in upper case":   {"WEB: {}\n", `o.yaml:1: WEB: unknown key, did you mean "web"?`},
		"unknown key in a list": {"vision:\n  cameras:\n    - id: a\n      modle: m\n",
			`o.yaml:4: vision.cameras[0].modle: unknown key, did you mean "model"?`},
		"hidden and unexported fields": {"hidden: x\n", `o.yaml:1: hidden: unknown key`},
		"number": {"vision:\n  cameras:\n  - id: a\n    fps: fast\n",
			`o.yaml:4: vision.cameras[0].fps: expected a number, got "fast"`},
		"fraction for a whole number": {"uplink: {window: 1.5}\n",
			`o.yaml:1: uplink.window: expected a whole number, got 1.5`},
		"text that looks like a number": {"uplink: {window: '5'}\n",
			`o.yaml:1: uplink.window: expected a whole number, got "5"`},
		"out of range": {"small: 128\n", `o.yaml:1: small: expected a whole number from -128 to 127, got 128`},
		"negative": {"count: -1\n",
			`o.yaml:1: count: expected a whole number of 0 or more and at most 65535, got -1`},
		"truth": {"debug: maybe\n", `o.yaml:1: debug: expected true or false, got "maybe"`},
		"bare duration": {"web:\n  timeout: 5\n",
			`o.yaml:2: web.timeout: expected a duration such as 30s or 5m, got 5`},
		"mapping for text":    {"device_id: {a: 1}\n", `o.yaml:1: device_id: expected text, got a mapping`},
		"text for a list":     {"uplink: {brokers: x}\n", `o.yaml:1: uplink.brokers: expected a list, got "x"`},
		"text for a mapping":  {"web: x\n", `o.yaml:1: web: expected a mapping of keys, got "x"`},
		"list for a map":      {"labels: [x]\n", `o.yaml:1: labels: expected a mapping of keys, got a list`},
		"nothing in a list":   {"uplink: {brokers: [a, ~]}\n", `o.yaml:1: uplink.brokers[1]: expected text, got nothing`},
		"text unmarshaler":    {"address: [1]\n", `o.yaml:1: address: expected text, got a list`},
		"yaml unmarshaler":    {"level: low\n", `o.yaml:1: level: expected high, got "low"`},
		"duplicate":           {"web: {}\nratio: 1\nweb: {}\n", `o.yaml:3: web: duplicate key, first set on line 1`},
		"duplicate in free":   {"free: {a: 1, a: 2}\n", `o.yaml:1: free: mapping key "a" already defined at line 1`},
		"root":                {"- a\n", `o.yaml:1: expected a mapping of keys, got a list`},
		"complex key":         {"? [a]\n: b\n", `o.yaml:1: expected a plain key, got a list`},
		"second document":     {"web: {}\n---\nweb: {}\n", `o.yaml:3: expected one document, a second begins here`},
		"merge of a text":     {"<<: x\n", `o.yaml:1: expected a mapping or a list of mappings to merge, got "x"`},
		"unknown anchor":      {"ratio: 1\nweb: *x\n", `o.yaml:2: not valid YAML: unknown anchor 'x' referenced`},
		"syntax on line 1":    {"web: a: b\n", `o.yaml:1: not valid YAML: mapping values are not allowed in this context`},
		"tab":                 {"web:\n\tlisten: x\n", `o.yaml:2: not valid YAML: found character that cannot start any token`},
		"unclosed":            {"ratio: 1\nfree: [1,\nweb: 2\n", `o.yaml:3: not valid YAML: did not find expected ',' or ']'`},
		"indentation":         {"web:\n    listen: x\n  timeout: 1s\n", `o.yaml:3: not valid YAML: did not find expected key`},
		"invalid UTF-8":       {"ratio: 1\ndevice_id: \xff\n", `o.yaml:2: not valid YAML: invalid leading UTF-8 octet`},
		"syntax of a second":  {"web: {}\n---\n}\n", `o.yaml:3: not valid YAML: did not find expected node content`},
		"long value is short": {"ratio: " + strings.Repeat("x", 61), `o.yaml:1: ratio: expected a number, got "` + strings.Repeat("x", 60) + `…"`},
		"all at once": {"web:\n  listn: x\n  timeout: soon\nratio: much\nratio: 2\n",
			`o.yaml:2: web.listn: unknown key, did you mean "listen"?` + "\n" +
				`o.yaml:3: web.timeout: expected a duration such as 30s or 5m, got "soon"` + "\n" +
				`o.yaml:4: ratio: expected a number, got "much"` + "\n" +
				`o.yaml:5: ratio: duplicate key, first set on line 4`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, src, err := decode(tt.text)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
			if src == nil {
				t.Error("got no source beside the problems")
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	const file = "vision:\n  cameras:\n    - {id: a, fps: 5}\nlabels: {line: '3'}\nsites: {north_east: {listen: x}}\n"
	tests := map[string]struct {
		environ []string
		want    func(c *config)
	}{
		"nested":             {[]string{"OUTSTATION_WEB_LISTEN=:80"}, func(c *config) { c.Web.Listen = ":80" }},
		"longest key":        {[]string{"OUTSTATION_UPLINK_PASSWORD_FILE=/p"}, func(c *config) { c.Uplink.PasswordFile = "/p" }},
		"shorter key":        {[]string{"OUTSTATION_UPLINK_PASSWORD=p"}, func(c *config) { c.Uplink.Password = "p" }},
		"untagged":           {[]string{"OUTSTATION_DEBUG=yes"}, func(c *config) { c.Debug = true }},
		"inlined":            {[]string{"OUTSTATION_REGION=r"}, func(c *config) { c.Common.Region = "r" }},
		"text is literal":    {[]string{"OUTSTATION_DEVICE_ID=a: [b"}, func(c *config) { c.DeviceID = "a: [b" }},
		"text may be empty":  {[]string{"OUTSTATION_WEB_LISTEN="}, func(c *config) { c.Web.Listen = "" }},
		"empty keeps":        {[]string{"OUTSTATION_UPLINK_WINDOW="}, func(*config) {}},
		"duration":           {[]string{"OUTSTATION_WEB_TIMEOUT=2s"}, func(c *config) { c.Web.Timeout = 2 * time.Second }},
		"existing element":   {[]string{"OUTSTATION_VISION_CAMERAS_0_SOURCE=s"}, func(c *config) { c.Vision.Cameras[0].Source = "s" }},
		"next elements":      {[]string{"OUTSTATION_VISION_CAMERAS_1_ID=b"}, func(c *config) { c.Vision.Cameras = append(c.Vision.Cameras, camera{ID: "b", FPS: 10}) }},
		"flow list":          {[]string{"OUTSTATION_UPLINK_BROKERS=[a, 'b']"}, func(c *config) { c.Uplink.Brokers = []string{"a", "b"} }},
		"plain for a list":   {[]string{"OUTSTATION_UPLINK_BROKERS=tls://a:8883"}, func(c *config) { c.Uplink.Brokers = []string{"tls://a:8883"} }},
		"flow mapping":       {[]string{"OUTSTATION_WEB={listen: z}"}, func(c *config) { c.Web.Listen = "z" }},
		"map value":          {[]string{"OUTSTATION_LABELS_LINE=4"}, func(c *config) { c.Labels["line"] = "4" }},
		"new map value":      {[]string{"OUTSTATION_LABELS_A_B=yes"}, func(c *config) { c.Labels["a_b"] = "yes" }},
		"known map struct":   {[]string{"OUTSTATION_SITES_NORTH_EAST_LISTEN=z"}, func(c *config) { c.Sites["north_east"] = web{Listen: "z"} }},
		"new map struct":     {[]string{"OUTSTATION_SITES_DEEP_SOUTH_LISTEN=z"}, func(c *config) { c.Sites["deep_south"] = web{Listen: "z"} }},
		"map struct as flow": {[]string{"OUTSTATION_SITES_SOUTH={listen: z}"}, func(c *config) { c.Sites["south"] = web{Listen: "z"} }},
		"pointer":            {[]string{"OUTSTATION_OPTIONAL_LISTEN=z"}, func(c *config) { c.Optional = &web{Listen: "z"} }},
		"text unmarshaler":   {[]string{"OUTSTATION_ADDRESS=::1"}, func(c *config) { c.Address = netip.IPv6Loopback() }},
		"last one wins":      {[]string{"OUTSTATION_DEVICE_ID=a", "OUTSTATION_DEVICE_ID=b"}, func(c *config) { c.DeviceID = "b" }},
		"not ours":           {[]string{"OUTSTATION_TEST_X=1", "PATH=/bin", "outstation_web_listen=x", "OUTSTATION"}, func(*config) {}},
		"whole before parts, in order of the index": {
			[]string{"OUTSTATION_UPLINK_BROKERS_2=c", "OUTSTATION_UPLINK_BROKERS_1=b", "OUTSTATION_UPLINK_BROKERS=[a]"},
			func(c *config) { c.Uplink.Brokers = []string{"a", "b", "c"} }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			want, _, err := decode(file)
			if err != nil {
				t.Fatal(err)
			}
			tt.want(&want)
			got, _, err := decode(file, tt.environ...)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestEnvironmentProblems(t *testing.T) {
	tests := map[string]string{
		"FOO=1":                      `environment OUTSTATION_FOO: no such key`,
		"=1":                         `environment OUTSTATION_: no such key`,
		"WEB_LISTEN_X=1":             `environment OUTSTATION_WEB_LISTEN_X: no such key`,
		"WEB_=1":                     `environment OUTSTATION_WEB_: no such key`,
		"HIDDEN=1":                   `environment OUTSTATION_HIDDEN: no such key`,
		"VISION_CAMERAS_X_ID=1":      `environment OUTSTATION_VISION_CAMERAS_X_ID: no such key`,
		"VISION_CAMERAS_0_=1":        `environment OUTSTATION_VISION_CAMERAS_0_: no such key`,
		"VISION_CAMERAS_-1_ID=1":     `environment OUTSTATION_VISION_CAMERAS_-1_ID: no such key`,
		"VISION_CAMERAS_1_ID=1":      `environment OUTSTATION_VISION_CAMERAS_1_ID: vision.cameras[1]: expected an index of at most 0, the list has 0 elements`,
		"VISION_CAMERAS_0_FPS=fast":  `environment OUTSTATION_VISION_CAMERAS_0_FPS: vision.cameras[0].fps: expected a number, got "fast"`,
		"WEB={listn: x}":             `environment OUTSTATION_WEB: web.listn: unknown key, did you mean "listen"?`,
		"WEB={listen: x, listen: y}": `environment OUTSTATION_WEB: web.listen: duplicate key`,
		"WEB={":                      `environment OUTSTATION_WEB: web: not valid YAML: did not find expected node content`,
		"UPLINK_BROKERS=a,b":         `environment OUTSTATION_UPLINK_BROKERS: uplink.brokers: expected a list, got "a,b"`,
		"ADDRESS=x":                  `environment OUTSTATION_ADDRESS: address: got "x": ParseAddr("x"): unable to parse IP`,
		"OPTIONAL_TIMEOUT=5":         `environment OUTSTATION_OPTIONAL_TIMEOUT: optional.timeout: expected a duration such as 30s or 5m, got 5`,
	}
	for pair, want := range tests {
		t.Run(pair, func(t *testing.T) {
			_, _, err := decode("", "OUTSTATION_"+pair)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestEnvironmentComesAfterTheFile(t *testing.T) {
	_, _, err := decode("ratio: x\nsmall: y\n", "OUTSTATION_COUNT=z", "OUTSTATION_BAR=1")
	want := `o.yaml:1: ratio: expected a number, got "x"
o.yaml:2: small: expected a whole number from -128 to 127, got "y"
environment OUTSTATION_BAR: no such key
environment OUTSTATION_COUNT: count: expected a whole number of 0 or more and at most 65535, got "z"`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}
