package forward

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"outstation/uplink/wire"
)

var update = flag.Bool("update", false, "write the golden events anew")

var (
	origin   = wire.Origin{Region: "jawa-barat", Site: "site-12", DeviceID: "press-7"}
	received = time.Date(2026, 11, 21, 1, 30, 0, 123456789, time.UTC)
)

// dialects are the rules of the README, for devices as they are.
var dialects = []Rule{
	{
		Source: "zigbee", Match: "zigbee2mqtt/+",
		EventType: `{{ if has .payload "contact" }}door_access{{ else }}telemetry{{ end }}`,
		Timestamp: `{{ .payload.last_seen }}`,
	},
	{Source: "shelly", Match: "+/events/rpc", Subject: "src", EventType: `{{ .payload.method }}`, Timestamp: `{{ .payload.params.ts }}`},
	{Source: "shelly", Match: "shellies/+/sensor/+", Subject: "{2}.{4}", EventType: "telemetry"},
	{Source: "tasmota", Match: "tele/+/+", Subject: "{2}.{3}", EventType: `{{ index .levels 2 | lower }}`, Timestamp: `{{ .payload.Time }}`},
	{Source: "gate", Match: "gate/#", EventType: "door_access"},
	{
		Source: "nvr", Match: "hooks/nvr/+", Subject: "EventNotificationAlert.ipAddress",
		EventType: `{{ .payload.EventNotificationAlert.eventType }}`, Timestamp: `{{ .payload.EventNotificationAlert.dateTime }}`,
	},
}

func engine(t testing.TB, rules ...Rule) *Engine {
	t.Helper()
	e, err := New(origin, rules, 0)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

const hikvision = `<?xml version="1.0" encoding="UTF-8"?>
<EventNotificationAlert version="2.0" xmlns="http://www.hikvision.com/ver20/XMLSchema">
<ipAddress>10.0.0.64</ipAddress><portNo>80</portNo><channelID>1</channelID>
<dateTime>2026-11-21T08:29:58+07:00</dateTime><activePostCount>1</activePostCount>
<eventType>VMD</eventType><eventState>active</eventState>
<DetectionRegionList><DetectionRegionEntry><regionID>1</regionID></DetectionRegionEntry>
<DetectionRegionEntry><regionID>2</regionID></DetectionRegionEntry></DetectionRegionList>
</EventNotificationAlert>`

// TestDialects compares the events of real devices' messages with the golden
// ones.
func TestDialects(t *testing.T) {
	e := engine(t, dialects...)
	message := func(topic, payload string) func() (Event, error) {
		return func() (Event, error) {
			ev, ok := e.Message(topic, []byte(payload), received)
			if !ok {
				return ev, errors.New("no rule matches")
			}
			return ev, nil
		}
	}
	hook := func(h Webhook) func() (Event, error) {
		h.From, h.Received = "10.0.0.64", received
		return func() (Event, error) { return e.Webhook(h) }
	}
	parts := "--b\r\nContent-Disposition: form-data; name=\"alert\"\r\nContent-Type: application/xml\r\n\r\n<alert><type>linedetection</type></alert>\r\n" +
		"--b\r\nContent-Disposition: form-data; name=\"picture\"; filename=\"p.jpg\"\r\nContent-Type: image/jpeg\r\n\r\n\xff\xd8\xff\xe0\r\n--b--\r\n"
	for name, make := range map[string]func() (Event, error){
		"zigbee_contact": message("zigbee2mqtt/Front Door", `{"battery":100,"contact":false,"last_seen":"2026-11-21T08:29:59.250+07:00","linkquality":98}`),
		"zigbee_climate": message("zigbee2mqtt/0x00158d0001a2b3c4", `{"humidity":55.1,"temperature":24.5,"last_seen":1795224599250}`),
		"shelly_gen2": message("shellyplus1-a8032ab12345/events/rpc",
			`{"src":"shellyplus1-a8032ab12345","dst":"shelly/events","method":"NotifyStatus","params":{"ts":1795224599.25,"switch:0":{"id":0,"output":true}}}`),
		"shelly_gen1":      message("shellies/shellyht-1a2b3c/sensor/temperature", `21.5`),
		"tasmota_sensor":   message("tele/press-meter/SENSOR", `{"Time":"2026-11-21T08:29:59","ENERGY":{"Total":3.185,"Power":16}}`),
		"tasmota_lwt":      message("tele/press-meter/LWT", `Online`),
		"door_controller":  message("gate/north/reader-1", "7;2026-11-21 08:29:59;OPEN;card=00A7\r\n"),
		"hook_hikvision":   hook(Webhook{Source: "nvr", ContentType: "application/xml", Body: []byte(hikvision)}),
		"hook_form":        hook(Webhook{Source: "panel", ContentType: "application/x-www-form-urlencoded", Body: []byte("zone=4&state=alarm&zone=5")}),
		"hook_query":       hook(Webhook{Source: "panel", Query: map[string][]string{"button": {"1"}}}),
		"hook_json":        hook(Webhook{Source: "panel", ContentType: "text/plain", Body: []byte(`{"armed":true}`)}),
		"hook_binary":      hook(Webhook{Source: "panel", ContentType: "application/octet-stream", Body: []byte{0xff, 0, 1}}),
		"hook_multipart":   hook(Webhook{Source: "camera", ContentType: "multipart/form-data; boundary=b", Body: []byte(parts)}),
		"zigbee_not_utf_8": message("zigbee2mqtt/x", "{\"name\":\"\xff\"}"),
	} {
		ev, err := make()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		expectGolden(t, name, ev)
	}
	if ev, ok := e.Message("zigbee2mqtt/bridge/state", []byte(`{}`), received); ok {
		t.Errorf("a topic that no rule matches became %s", ev.Topic)
	}
}

// expectGolden compares an event's topic and JSON; its id is its own.
func expectGolden(t *testing.T, name string, ev Event) {
	t.Helper()
	file := filepath.Join("testdata", name+".txt")
	const id = "00000000-0000-0000-0000-000000000000"
	var body bytes.Buffer
	if err := json.Indent(&body, bytes.Replace(ev.Bytes, []byte(ev.EventID), []byte(id), 1), "", " "); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	got := ev.Topic + "\n" + body.String() + "\n"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n got %s\nwant %s", name, got, want)
	}
	expectValid(t, ev)
}

func expectValid(t *testing.T, ev Event) {
	t.Helper()
	if _, err := wire.ParseEnvelope(ev.Bytes); err != nil {
		t.Errorf("%v in %s", err, ev.Bytes)
	}
	levels := strings.Split(ev.Topic, "/")
	if len(levels) != 5 || levels[0] != "events" {
		t.Errorf("topic %s", ev.Topic)
	}
	for _, l := range levels {
		if err := wire.CheckLevel(l); err != nil {
			t.Errorf("topic %s: %v", ev.Topic, err)
		}
	}
}

// TestKeysAreStable makes events of the same message at two moments.
func TestKeysAreStable(t *testing.T) {
	later := received.Add(time.Minute)
	for name, c := range map[string]struct {
		topic, payload string
		same           bool
	}{
		"with a time of its own": {"zigbee2mqtt/door", `{"contact":true,"last_seen":"2026-11-21T01:29:00Z"}`, true},
		"without":                {"zigbee2mqtt/door", `{"contact":true}`, false},
		"not a time":             {"zigbee2mqtt/door", `{"contact":true,"last_seen":"just now"}`, false},
		"a clock never set":      {"zigbee2mqtt/door", `{"contact":true,"last_seen":86400}`, false},
		"unparsed":               {"zigbee2mqtt/door", `open`, false},
	} {
		e := engine(t, dialects...)
		first, _ := e.Message(c.topic, []byte(c.payload), received)
		again, _ := engine(t, dialects...).Message(c.topic, []byte(c.payload), later) // another process
		if (first.IdempotencyKey == again.IdempotencyKey) != c.same {
			t.Errorf("%s: got the keys %s and %s", name, first.IdempotencyKey, again.IdempotencyKey)
		}
		if first.EventID == again.EventID {
			t.Errorf("%s: two events have the id %s", name, first.EventID)
		}
		if !c.same && first.IdempotencyKey != wire.KeyWithoutTime("site-12", "zigbee", "door", []byte(c.payload), received) {
			t.Errorf("%s: got the key %s", name, first.IdempotencyKey)
		}
	}
}

// TestOneOfSeveralRulesCanRead tries rules in their order until one can.
func TestOneOfSeveralRulesCanRead(t *testing.T) {
	e := engine(t,
		Rule{Source: "doors", Match: "a/+", EventType: `{{ if has .payload "contact" }}door{{ end }}`},
		Rule{Source: "values", Match: "a/#", EventType: `{{ .payload.kind }}`},
	)
	for payload, want := range map[string]string{
		`{"contact":1,"kind":"x"}`: "events/jawa-barat/site-12/doors/door",
		`{"kind":"Über Druck!"}`:   "events/jawa-barat/site-12/values/ber-druck",
		`{"kind":"!"}`:             "events/jawa-barat/site-12/doors/unparsed",
		`{}`:                       "events/jawa-barat/site-12/doors/unparsed",
		`{"kind":null}`:            "events/jawa-barat/site-12/doors/unparsed",
		`7`:                        "events/jawa-barat/site-12/doors/unparsed",
	} {
		ev, _ := e.Message("a/b", []byte(payload), received)
		if ev.Topic != want || (ev.Unparsed != "") != strings.HasSuffix(want, wire.TypeUnparsed) {
			t.Errorf("%s: got %s (%s), expected %s", payload, ev.Topic, ev.Unparsed, want)
		}
		expectValid(t, ev)
	}
}

func TestOversize(t *testing.T) {
	e := engine(t, dialects...)
	for _, c := range []struct {
		name, payload string
		kept          int
	}{
		{"readable", `{"x":"` + strings.Repeat("x", 1<<20-2000) + `"}`, 0},
		{"too large for an event", `{"x":"` + strings.Repeat("<", 1<<19) + `"}`, 1<<19 + 8}, // JSON in HTML's way escapes it
		{"not JSON, and kept", strings.Repeat("x", 700<<10), 700 << 10},
		{"not JSON, and too large", strings.Repeat("x", 900<<10), headBytes},
	} {
		ev, _ := e.Message("zigbee2mqtt/x", []byte(c.payload), received)
		expectValid(t, ev)
		if len(ev.Bytes) > DefaultMaxEventBytes {
			t.Errorf("%s: the event has %d bytes", c.name, len(ev.Bytes))
		}
		if (ev.Unparsed != "") != (c.kept > 0) {
			t.Fatalf("%s: unparsed is %q", c.name, ev.Unparsed)
		}
		if c.kept == 0 {
			continue
		}
		var u wire.Unparsed
		if err := json.Unmarshal(ev.Payload, &u); err != nil {
			t.Fatal(err)
		}
		if len(u.Raw) != c.kept || string(u.Raw) != c.payload[:c.kept] || u.Bytes != len(c.payload) || ev.Truncated != (c.kept < len(c.payload)) {
			t.Errorf("%s: kept %d of %d bytes, truncated %v, expected %d", c.name, len(u.Raw), u.Bytes, ev.Truncated, c.kept)
		}
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string][2]string{
		"door-4":                 {"door-4", "door-4"},
		"Front Door":             {"front-door", "front-door-15b2f183"},
		"front-door":             {"front-door", "front-door"},
		"  _x--y!! ":             {"x--y", "x--y-6661df0b"},
		"日本":                     {"", "cf2abf0c"},
		"":                       {"", "e3b0c442"},
		strings.Repeat("a", 100): {strings.Repeat("a", 64), strings.Repeat("a", 55) + "-28165978"},
	} {
		level, subject := Level(name), Subject(name)
		if level != want[0] || subject != want[1] {
			t.Errorf("%q: got %q and %q, expected %q", name, level, subject, want)
		}
		if err := wire.CheckLevel(subject); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	if Subject("Door 1") == Subject("door 1") || Subject("Door 1") == Subject("door-1") {
		t.Error("two names have one subject")
	}
}

func TestTimes(t *testing.T) {
	at := time.Date(2026, 11, 21, 1, 29, 59, 250_000_000, time.UTC)
	for text, want := range map[string]time.Time{
		"2026-11-21T08:29:59.25+07:00": at, "1795224599.25": at, "1795224599250": at, "1795224599250.0": at, " 1.79522459925e9 ": at,
		"1795224599": at.Truncate(time.Second),
		"":           {}, "yesterday": {}, "2026-11-21T08:29:59": {}, "86400": {}, "-1": {}, "NaN": {}, "1e300": {}, "Inf": {},
		"1970-01-01T00:00:09Z": {}, "99999999999999999": {},
	} {
		got, ok := ParseTime(text)
		if !got.Equal(want) || ok == want.IsZero() {
			t.Errorf("%q: got %v, %v, expected %v", text, got, ok, want)
		}
	}
}

func TestRulesThatCannotWork(t *testing.T) {
	good := Rule{Source: "s", Match: "a/+", EventType: "x"}
	for name, c := range map[string]struct {
		change func(*Rule)
		field  string
	}{
		"no source":        {func(r *Rule) { r.Source = "" }, "source"},
		"our own source":   {func(r *Rule) { r.Source = "outstation" }, "source"},
		"no match":         {func(r *Rule) { r.Match = "" }, "match"},
		"bad filter":       {func(r *Rule) { r.Match = "a/#/b" }, "match"},
		"level 3 of 2":     {func(r *Rule) { r.Subject = "{3}" }, "subject"},
		"open placeholder": {func(r *Rule) { r.Subject = "{2" }, "subject"},
		"no type":          {func(r *Rule) { r.EventType = "" }, "event_type"},
		"not a level":      {func(r *Rule) { r.EventType = "Door Access" }, "event_type"},
		"not a template":   {func(r *Rule) { r.EventType = "{{ if }}" }, "event_type"},
		"a loop":           {func(r *Rule) { r.EventType = "{{ range 1000000000 }}{{ end }}" }, "event_type"},
		"a hidden loop": {func(r *Rule) {
			r.EventType = `{{ with .payload }}x{{ else }}{{ if (has . "x") }}{{ range . }}{{ end }}{{ end }}{{ end }}`
		}, "event_type"},
		"recursion":         {func(r *Rule) { r.EventType = `{{ define "x" }}{{ template "x" }}{{ end }}{{ template "x" }}` }, "event_type"},
		"a large text":      {func(r *Rule) { r.EventType = `{{ printf "%999999999d" 1 }}` }, "event_type"},
		"one in a pipeline": {func(r *Rule) { r.EventType = `{{ .payload.x | html | lower }}` }, "event_type"},
		"one in brackets":   {func(r *Rule) { r.EventType = `{{ lower (print .payload) }}` }, "event_type"},
		"a call":            {func(r *Rule) { r.Timestamp = `{{ call .payload.x }}` }, "timestamp"},
		"too long":          {func(r *Rule) { r.Timestamp = strings.Repeat("x", maxTemplate+1) }, "timestamp"},
	} {
		r := good
		c.change(&r)
		wrong := Check(r)
		if len(wrong) != 1 || wrong[0].Field != c.field {
			t.Errorf("%s: got %v, expected a problem of %s", name, wrong, c.field)
		}
		if _, err := New(origin, []Rule{good, r}, 0); !errors.As(err, new(*FieldError)) {
			t.Errorf("%s: New returned %v", name, err)
		}
	}
	if wrong := Check(good); len(wrong) != 0 {
		t.Error(wrong)
	}
}

// TestTemplates runs what templates can say.
func TestTemplates(t *testing.T) {
	for text, want := range map[string]string{
		`{{ if eq .payload.state "ON" "OFF" }}switch{{ end }}`:                  "switch",
		`{{ if gt .payload.power 10.5 }}a{{ end }}`:                             "a",
		`{{ if le .payload.power 16 }}a{{ end }}`:                               "a",
		`{{ if ne .payload.power 16.0 }}b{{ end }}`:                             "unparsed",
		`{{ if lt .payload.state 3 }}b{{ end }}`:                                "unparsed", // text and number
		`{{ if .payload.zero }}b{{ else }}a{{ end }}`:                           "a",
		`{{ .payload.nothing | default "a" }}`:                                  "a",
		`{{ .payload.none | default "a" }}`:                                     "a",
		`{{ get .payload "deep" "er" }}`:                                        "7",
		`{{ get .payload "deep" "er" "est" | default "a" }}`:                    "a",
		`{{ if and (has .payload "deep" "er") (not .payload.zero) }}a{{ end }}`: "a",
		`{{ index .levels 1 }}`:                                                 "b",
		`{{ index .levels 7 }}`:                                                 "unparsed",
		`{{ .payload.big }}`:                                                    "123456789012345678901234567890",
		`{{ .payload.ms }}`:                                                     "1795224599250",
		`{{ .payload.nothing }}`:                                                "unparsed",
		`{{ .payload.long }}`:                                                   "unparsed",
	} {
		payload := `{"state":"ON","power":16,"zero":0,"deep":{"er":7},"ms":1795224599250,"none":null,"big":123456789012345678901234567890,"long":"` +
			strings.Repeat("x", maxOutput+1) + `"}`
		ev, _ := engine(t, Rule{Source: "s", Match: "#", EventType: text}).Message("a/b", []byte(payload), received)
		if ev.EventType != want {
			t.Errorf("%s: got %s (%s), expected %s", text, ev.EventType, ev.Unparsed, want)
		}
	}
}

func TestPosted(t *testing.T) {
	e := engine(t)
	const fields = `"source":"s","event_type":"alarm","subject":"Pump 3"`
	for body, want := range map[string]string{
		`{` + fields + `}`:                               `{}`,
		`{` + fields + `,"payload":null}`:                `{}`,
		`{` + fields + `,"payload":[1]}`:                 `{"value":[1]}`,
		`{` + fields + `,"timestamp":null,"payload":{}}`: `{}`,
	} {
		ev, err := e.Posted([]byte(body), received)
		if err != nil {
			t.Errorf("%s: %v", body, err)
			continue
		}
		env, err := wire.ParseEnvelope(ev.Bytes)
		if err != nil || string(env.Payload) != want || env.Timestamp != wire.At(received) {
			t.Errorf("%s: got %s at %v, %v", body, env.Payload, env.Timestamp, err)
		}
		expectValid(t, ev)
	}
	for body, want := range map[string]error{
		`{` + fields: ErrPosted,
		`{` + fields + `,"idempotency_key":"` + strings.Repeat("x", maxName+1) + `"}`: ErrPosted,
		`{` + fields + `,"payload":"` + strings.Repeat("<", 1<<19) + `"}`:             ErrTooLarge,
	} {
		if _, err := e.Posted([]byte(body), received); !errors.Is(err, want) {
			t.Errorf("%.80s: got %v, expected %v", body, err, want)
		}
	}
}

func TestCountersAreBounded(t *testing.T) {
	var c Counters
	for i := range 2 * maxSources {
		c.Stored(fmt.Sprint("s", i), "telemetry", received)
		c.Stored("s0", fmt.Sprint("t", i), received.Add(time.Duration(i)))
	}
	sources := map[string]uint64{}
	for _, s := range c.Stats() {
		sources[s.Source] = s.Events
		if newest := 2*maxSources - 1; s.Source == "s0" && (s.LastType != fmt.Sprint("t", newest) || !s.LastAt.Equal(received.Add(time.Duration(newest)))) {
			t.Errorf("got %s at %v as the newest, expected t%d", s.LastType, s.LastAt, newest)
		}
	}
	if len(sources) != maxSources+1 || sources[OtherSources] != maxSources || sources["s0"] != 2*maxSources+1 {
		t.Errorf("got %d sources, %d others, %d of the first", len(sources), sources[OtherSources], sources["s0"])
	}
}

// FuzzMessage offers any message to the rules for real devices.
func FuzzMessage(f *testing.F) {
	f.Add("zigbee2mqtt/door", `{"contact":true,"last_seen":1795224599250}`, "application/json")
	f.Add("tele/x/SENSOR", `{"Time":1e400}`, "multipart/form-data; boundary=b")
	f.Add("gate/", "\xff\x00", "application/x-www-form-urlencoded")
	f.Add("hooks/nvr/x", hikvision, "text/xml")
	e := engine(f, dialects...)
	f.Fuzz(func(t *testing.T, topic, payload, contentType string) {
		if ev, ok := e.Message(topic, []byte(payload), received); ok {
			expectValid(t, ev)
		}
		if ev, err := e.Posted([]byte(payload), received); err == nil {
			expectValid(t, ev)
		}
		ev, err := e.Webhook(Webhook{Source: "panel", From: "::1", ContentType: contentType, Body: []byte(payload), Received: received})
		if err != nil {
			t.Fatal(err)
		}
		expectValid(t, ev)
	})
}

// FuzzRule compiles any rule and, where it is accepted, reads a message by it.
func FuzzRule(f *testing.F) {
	f.Add("a/+", "{2}", `{{ if has .payload "x" }}a{{ end }}`, `{"x":{"y":[1,null]}}`)
	f.Add("#", "x.y", `{{ slice .topic 1 2 | lower }}`, `{"x":1.5e3}`)
	f.Add("a/b", "", `{{ with $x := .payload }}{{ index $x "x" }}{{ break }}{{ end }}`, `[]`)
	f.Fuzz(func(t *testing.T, match, subject, kind, payload string) {
		e, err := New(origin, []Rule{{Source: "s", Match: match, Subject: subject, EventType: kind, Timestamp: kind}}, 0)
		if err != nil {
			return
		}
		if ev, ok := e.Message("a/b", []byte(payload), received); ok {
			expectValid(t, ev)
		}
	})
}
