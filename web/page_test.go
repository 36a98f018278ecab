package web

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

// words returns the text of the page's body on one line.
func words(t *testing.T, s Snapshot) string {
	t.Helper()
	got := ask(t, serverOf(s), "GET", "/", "")
	if got.code != 200 {
		t.Fatalf("got %d %s", got.code, got.body)
	}
	doc, err := html.Parse(strings.NewReader(got.body))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for n := range doc.Descendants() {
		if n.Type == html.TextNode && n.Parent.Data != "noscript" {
			b.WriteString(n.Data + " ")
		}
	}
	spaces := strings.NewReplacer("\u00a0", " ", "\u202f", " ").Replace(b.String())
	return strings.Join(strings.Fields(spaces), " ")
}

func TestPageSaysWhatIs(t *testing.T) {
	tests := map[string]struct {
		change func(s *Snapshot)
		want   []string
		not    []string
	}{
		"outage": {func(*Snapshot) {}, []string{
			"press-7", "site-12, jawa-barat", "Outstation 0.1.0", "up 1 d 2 h, 2025-03-04 12:00:00 UTC",
			"Degraded Camera cam-south-1 is offline: no route to host.",
			"1 of 2 online", "on a fallback", "yolox-nano on cpu, 1 866 380 inspected",
			"not tensorrt: the library has no TensorRT provider",
			"14 clients", "7 acknowledgements waiting for the disk", "1 publish refused",
			"oldest 12 s", "3 120 records", "21.0 MiB of 1.0 GiB", "fsync 3.4 ms, 99 % within 11.8 ms",
			"1 store set aside as unreadable", "down for 12 s", "connection refused", "next attempt in 4 s",
			"3 of 64 in flight", "a stand-in inside the same process, at 127.0.0.1:1884", "received 5 166 003 messages",
			"It is cut for another 18 s", "offline for 4 min no route to host", "3 lost", "2 failed", "1920×1080",
			"sensors/# 5 120 448 1.2 GiB", "19 000 4.6 MiB",
			"plc-gateway-2 line-2 connected for 1 d 2 h, MQTT 5 from 10.0.0.31:49152 by tls 0.0.0.0:8883 118 29.6 KiB/s 0.2 51 B/s 2",
			"zigbee door_access 9 s ago latest unparsed: not JSON: unexpected end of JSON input 4 100 3 1 outstation camera_lost 4 min ago 12 0 0",
			"Posts of other machines: 40 accepted, 2 answered 401 (unauthorized).",
			"Connections 2 of 1 024 Connections refused 4 Lines stored 20 311 Lines refused 3 invalid, 1 too long Answers not read 5 " +
				"Latest refusal expected UTF-8, got other bytes 2 min ago",
			"and 12 more", "beyond a limit: 310 publishes held back, 2 topics too long or too deep",
		}, []string{"Cut the centre", "does not add up", "PUBACK after"}},
		"all is well": {func(s *Snapshot) {
			s.Health = Health{State: Healthy}
			s.Uplink.State = UplinkConnected
			s.Centre.OutageUntil = time.Time{}
			s.Queue = Queue{}
			s.Cameras = s.Cameras[:1]
			s.Detectors[0].Fallback = false // it runs where it can, and says why not elsewhere
		}, []string{"Healthy Everything that is checked works.", "1 of 1 online", "Detector running", "empty 0 records",
			"connected for 12 s", "PUBACK after 8.2 ms", "Cut the centre for 30 s", "No check has run yet."},
			[]string{"next attempt", "It is cut", "connection refused"}},
		"no detector": {func(s *Snapshot) { s.Detectors = nil },
			[]string{"none loaded No detector is loaded: frames are counted, nothing is inspected."}, []string{"ms a frame"}},
		"gateway": {func(s *Snapshot) { s.Detectors, s.Cameras = nil, nil },
			[]string{"none configured Only devices bring data here.", "No camera is configured.", "No detector is loaded and no camera needs one."},
			[]string{"nothing is inspected"}},
		"draining": {func(s *Snapshot) {
			s.Uplink.State, s.Uplink.DeliveredPerS = UplinkConnected, 812
			s.Uplink.NextAttemptAt = time.Time{}
		}, []string{"clears in about 12 min at the present rate", "41.0 GiB free on the disk", "Nothing accepted below 256 MiB",
			"3 dead letters that the centre would not take", "there and back in 31.0 ms"},
			[]string{"refusing", "does not shrink", "unproven"}},
		"backlog grows": {func(s *Snapshot) {
			s.Uplink.State, s.Uplink.Proven, s.Queue.ClearsInS = UplinkConnected, false, nil
		}, []string{"does not shrink at the present rate", "unproven: no canary came back yet"}, []string{"clears in", "there and back"}},
		"an attempt": {func(s *Snapshot) { s.Uplink.NextAttemptAt = s.Now.Add(-time.Second) },
			[]string{"an attempt is under way"}, []string{"next attempt", "clears in", "does not shrink"}},
		"full disk": {func(s *Snapshot) {
			s.Queue.DiskFreeBytes, s.Queue.Refusing = 120<<20, "queue is full: 125829120 bytes are free on the disk, the floor is 268435456"
		}, []string{"Queue refusing", "120 MiB free on the disk; nothing is accepted below 256 MiB"}, nil},
		"one record": {func(s *Snapshot) { s.Queue.Records = 1 }, []string{"1 record 21.0 MiB"}, []string{"1 records"}},
		"broken disk": {func(s *Snapshot) { s.Queue.Refusing = "commit: input/output error" },
			[]string{"Queue refusing", "commit: input/output error"}, nil},
		"a quiet socket": {func(s *Snapshot) { s.Socket = Socket{Path: "/s", Listening: true, MaxConnections: 9} },
			[]string{"Local socket Path /s Connections 0 of 9 Lines stored 0 Lines refused none Broker and disk"}, nil},
		"no socket": {func(s *Snapshot) { s.Socket.Listening = false }, nil, []string{"Local socket"}},
		"no events": {func(s *Snapshot) { s.Events = Events{} }, []string{"Events No event has been stored yet."}, []string{"Posts of", "zigbee door_access"}},
		"many sources": {func(s *Snapshot) {
			for i := range 20 {
				s.Events.Sources = append(s.Events.Sources, EventSource{Source: fmt.Sprint("nvr-", i), Unparsed: 1})
			}
		}, []string{"zigbee door_access", "nvr-0 none yet 0 1 0", "and 2 more; status.json lists all"}, []string{"nvr-9"}},
		"few devices":   {func(s *Snapshot) { s.Broker.Clients, s.Broker.Limited = 2, nil }, []string{"zigbee2mqtt"}, []string{"and 12 more", "beyond a limit"}},
		"no devices":    {func(s *Snapshot) { s.Broker.Clients, s.Broker.Busiest = 0, nil }, []string{"No device is connected."}, []string{"more;"}},
		"real centre":   {func(s *Snapshot) { s.Centre = Centre{} }, nil, []string{"stand-in", "Cut the centre"}},
		"no centre":     {func(s *Snapshot) { s.Uplink = Uplink{State: UplinkOff} }, []string{"Centre off No centre is configured: nothing leaves this appliance."}, []string{"in flight"}},
		"no camera":     {func(s *Snapshot) { s.Cameras[0].State = CameraBlind }, []string{"0 of 2 online", "blind"}, nil},
		"unhealthy":     {func(s *Snapshot) { s.Health = Health{State: Unhealthy} }, []string{"Unhealthy A check has failed, see below."}, nil},
		"not known yet": {func(s *Snapshot) { *s = Snapshot{} }, []string{"Not known No check has run yet.", "not listening", "No route has accepted anything yet."}, nil},
		"ledger is off": {func(s *Snapshot) { s.Ledger[0].Delivered.Records -= 5; s.Ledger[1].Delivered.Records += 1 },
			[]string{"detection does not add up: 5 records are not accounted for", "sensors/# does not add up: −1 records"}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := line()
			tt.change(&s)
			got := words(t, s)
			for _, w := range tt.want {
				if !strings.Contains(got, w) {
					t.Errorf("the page does not say %q:\n%s", w, got)
				}
			}
			for _, w := range tt.not {
				if strings.Contains(got, w) {
					t.Errorf("the page says %q:\n%s", w, got)
				}
			}
		})
	}
}

func TestPageTones(t *testing.T) {
	queue := func(bytes uint64) string { return queueStage(Snapshot{Queue: Queue{Bytes: bytes, MaxBytes: 100}}).Tone }
	for bytes, want := range map[uint64]string{0: toneOK, 69: toneOK, 70: toneWarn, 94: toneWarn, 95: toneBad, 120: toneBad} {
		if got := queue(bytes); got != want {
			t.Errorf("a queue of %d %%: got %s, want %s", bytes, got, want)
		}
	}
	for state, want := range map[any]string{
		Healthy: toneOK, Degraded: toneWarn, Unhealthy: toneBad, CameraOnline: toneOK, CameraDegraded: toneWarn,
		CameraBlind: toneWarn, CameraOffline: toneBad, UplinkConnected: toneOK, UplinkConnecting: toneWarn,
		UplinkDown: toneBad, UplinkOff: toneIdle, HealthState("?"): toneIdle, "healthy": toneIdle,
	} {
		if got := toneOf(state); got != want {
			t.Errorf("%v: got %s, want %s", state, got, want)
		}
	}
}

// fill sets every text below v, and gives every list two elements down to a depth.
func fill(v reflect.Value, text string, depth int) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), text, depth)
			}
		}
	case reflect.Slice:
		if depth > 0 {
			v.Set(reflect.MakeSlice(v.Type(), 2, 2))
			fill(v.Index(0), text, depth-1)
			fill(v.Index(1), text, depth-1)
		}
	}
}

func TestPageEscapesEveryField(t *testing.T) {
	for _, text := range []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `'</title></style><svg onload=alert(1)>`,
		"</main><main id=evil>", "{{.}}", "\x00\xff\u202e",
	} {
		var s Snapshot
		fill(reflect.ValueOf(&s).Elem(), text, 3)
		s.Centre.Demo, s.Uplink.Window = true, 1
		body := ask(t, serverOf(s), "GET", "/", "").body
		doc, err := html.Parse(strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		mains := 0
		for n := range doc.Descendants() {
			if n.Type != html.ElementNode {
				continue
			}
			if n.Data == "img" || n.Data == "svg" || n.Data == "style" || n.Data == "script" && n.FirstChild != nil {
				t.Errorf("%q became an element <%s>", text, n.Data)
			}
			if n.Data == "main" {
				mains++
			}
			for _, a := range n.Attr {
				if strings.HasPrefix(a.Key, "on") || a.Key == "style" {
					t.Errorf("%q became an attribute %s=%q", text, a.Key, a.Val)
				}
			}
		}
		if mains != 1 {
			t.Errorf("%q: got %d main elements, want 1", text, mains)
		}
	}
}

func TestPageLoadsOnlyItsOwnFiles(t *testing.T) {
	s := serverOf(line())
	body := ask(t, s, "GET", "/", "").body
	links := regexp.MustCompile(`(?:src|href|action)="([^"]*)"`).FindAllStringSubmatch(body, -1)
	if len(links) < 5 {
		t.Fatalf("got %d links", len(links))
	}
	for _, l := range links {
		if !strings.HasPrefix(l[1], "/") || strings.HasPrefix(l[1], "//") {
			t.Errorf("the page refers to %q", l[1])
		}
		if strings.HasPrefix(l[1], "/assets/") && ask(t, s, "GET", l[1], "").code != 200 {
			t.Errorf("%q is not there", l[1])
		}
	}
	if !strings.Contains(body, `<noscript><meta http-equiv="refresh"`) {
		t.Error("the page does not refresh itself without JavaScript")
	}
	css := ask(t, s, "GET", "/assets/page.css", "").body
	if strings.Contains(css, "url(") || strings.Contains(css, "@import") {
		t.Error("the style sheet loads something")
	}
}

func TestNumbersInWords(t *testing.T) {
	for got, want := range map[string]string{
		count(0): "0", count(999): "999", count(1000): "1\u202f000", count(uint64(1) << 63): "9\u202f223\u202f372\u202f036\u202f854\u202f775\u202f808",
		count(-1234): "−1\u202f234", size(0): "0\u00a0B", size(1023): "1023\u00a0B", size(1536): "1.5\u00a0KiB",
		size(200 << 20): "200\u00a0MiB", size(1 << 60): fmt.Sprintf("%d\u00a0TiB", 1<<20), decimal(9.96): "10.0",
		decimal(99.96): "100", decimal(12345.6): "12\u202f346", decimal(-0.5): "-0.5", decimal(1e300): "1e+300",
		spanOf(-time.Second): "0\u00a0s", spanOf(59 * time.Second): "59\u00a0s", spanOf(61 * time.Second): "1\u00a0min 1\u00a0s",
		spanOf(time.Hour): "1\u00a0h", spanOf(25*time.Hour + time.Minute): "1\u00a0d 1\u00a0h", spanOf(24*time.Hour + time.Minute): "1\u00a0d",
		many(1, "store", "stores"): "1 store", many(2, "store", "stores"): "2 stores",
		about(0.2): "less than a minute", about(61): "about 1\u00a0min", about(719): "about 12\u00a0min", about(89 * 60): "about 89\u00a0min",
		about(5 * 3600): "about 5\u00a0h", about(50 * 3600): "about 2 days", about(1e12): "years",
		ago(noon, time.Time{}): "", clock(noon): "12:00:00",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestLongNotesAreNotInColumnsOfNumbers, which are too narrow for a sentence.
func TestLongNotesAreNotInColumnsOfNumbers(t *testing.T) {
	body := ask(t, serverOf(line()), "GET", "/", "").body
	cells := regexp.MustCompile(`(?s)<td[^>]*class="n[ "].*?</td>`).FindAllString(body, -1)
	notes := 0
	for _, cell := range cells {
		for _, note := range regexp.MustCompile(`<small[^>]*>([^<]*)`).FindAllStringSubmatch(cell, -1) {
			notes++
			if len([]rune(note[1])) > 45 {
				t.Errorf("a note of a column of numbers is a sentence: %q", note[1])
			}
		}
	}
	if notes < 5 {
		t.Errorf("found %d notes in %d cells", notes, len(cells))
	}
	css := ask(t, serverOf(line()), "GET", "/assets/page.css", "").body
	if !strings.Contains(css, ".n small { white-space: normal; ") {
		t.Error("notes below numbers do not wrap")
	}
}

// TestTheDetectorsTimeIsSomeModels when there are several.
func TestTheDetectorsTimeIsSomeModels(t *testing.T) {
	s := line()
	s.Detectors[0].Inference.MeanBatch = 1
	if got := detectorStage(s); got.Value != "20.9" || got.Unit != "ms a frame" {
		t.Errorf("of one model: got %s %s", got.Value, got.Unit)
	}
	s.Detectors = append(s.Detectors, Detector{Model: "parts", RunMS: 44}, Detector{Model: "small", RunMS: 4, Inference: Inference{MeanBatch: 3}})
	if got := detectorStage(s); got.Value != "44.0" || got.Unit != "ms a frame of parts, the slowest" {
		t.Errorf("of three models: got %s %s", got.Value, got.Unit)
	}
	s.Detectors[1].Inference.MeanBatch = 2
	if got := detectorStage(s).Unit; got != "ms a run of parts, the slowest" {
		t.Errorf("in batches: got %s", got)
	}
}
