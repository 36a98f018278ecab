package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden vectors anew")

var (
	t0 = At(time.Date(2026, 11, 21, 8, 30, 0, 123456789, time.FixedZone("WIB", 7*3600)))
	t1 = At(t0.Add(1500 * time.Millisecond))
)

const id = "0190b3c4-8f6e-4a3b-9c2d-5e6f7a8b9c0d"

// vector is one message: how it is written, and how it is read back.
type vector struct {
	encode func() ([]byte, error)
	parse  func([]byte) (encoder, error)
}

type encoder interface{ Encode() ([]byte, error) }

func vectors() map[string]vector {
	box := Object{Class: "person", Confidence: 0.91, Box: Box{X: 10, Y: 20.5, W: 30, H: 40}}
	detection := Detection{
		EventID: id, DeviceID: "press-7", CameraID: "cam-north-3", CapturedAt: t0, InferredAt: t1,
		ModelName: "yolox-nano", Detections: []Object{box}, FrameWidth: 1920, FrameHeight: 1080,
	}
	full := detection
	full.Seq, full.ModelSHA256, full.SnapshotSHA256 = 42, strings.Repeat("a", 64), strings.Repeat("b", 64)
	full.Clock, full.BootID, full.MonoNS = ClockFreeRunning, id, 123456789
	full.Detections = []Object{{Class: "scratch", Confidence: 1, Box: box.Box, TrackID: "7", Zones: []string{"gate"}}}
	nothing := detection
	nothing.Detections = nil
	opened := Blind{EventID: id, DeviceID: "press-7", CameraID: "cam-north-3", From: t0, Reason: "stalled"}
	closed := opened
	closed.To = &t1
	unsure := closed
	unsure.Clock = ClockFreeRunning
	return map[string]vector{
		"detection":         {detection.Encode, reader(ParseDetection)},
		"detection_full":    {full.Encode, reader(ParseDetection)},
		"detection_nothing": {nothing.Encode, reader(ParseDetection)},
		"blind_open":        {opened.Encode, reader(ParseBlind)},
		"blind_closed":      {closed.Encode, reader(ParseBlind)},
		"blind_clock":       {unsure.Encode, reader(ParseBlind)},
		"presence_camera": {Presence{
			DeviceID: "press-7", CameraID: "cam-north-3", State: BlindNow, Reason: "stalled", Session: id, Since: &t0,
		}.Encode, reader(ParsePresence)},
		"presence_will": {Presence{
			DeviceID: "press-7", State: Offline, Reason: "connection lost", Session: id,
		}.Encode, reader(ParsePresence)},
		"health": {Health{
			DeviceID: "press-7", At: t1, State: Unhealthy, FirstCause: "uplink: no route to host",
			Checks: []Check{{Name: "uplink", State: Unhealthy, Detail: "no route to host", Since: t0}, {
				Name: "vision", State: Healthy, Since: t0, Checks: []Check{{Name: "camera cam-north-3", State: Healthy, Since: t0}},
			}},
		}.Encode, reader(ParseHealth)},
		"command": {Command{ID: "c-1", Name: "reboot", Args: json.RawMessage(`{"in_s":5}`), Expires: &t1}.Encode, reader(ParseCommand)},
		"reply":   {Reply{ID: "c-1", OK: true}.Encode, reader(ParseReply)},
		"reply_error": {
			Reply{ID: "c-1", Error: "unknown command"}.Encode, reader(ParseReply),
		},
		"envelope": {Envelope{
			EventID: id, IdempotencyKey: KeyWithTime("site-12", "zigbee", "door-4", t0.Time), EventType: "door_access", Timestamp: t0,
			DeviceID: "press-7", Site: "site-12", Source: "zigbee", Payload: json.RawMessage(`{"contact":false}`),
		}.Encode, reader(ParseEnvelope)},
		"envelope_unparsed": {Envelope{
			EventID: id, IdempotencyKey: KeyWithoutTime("site-12", "gate", "reader-1", []byte("7;OPEN\n"), t0.Time), EventType: TypeUnparsed,
			Timestamp: t0, DeviceID: "press-7", Site: "site-12", Source: "gate",
			Payload: unparsedPayload(NewUnparsed("gate/reader-1", "not JSON", []byte("7;OPEN\n"), 4)),
		}.Encode, reader(ParseEnvelope)},
		"socket_ok":    {SocketReply{EventID: id, OK: true}.Encode, nil},
		"socket_error": {SocketReply{EventID: id, Error: "queue is full"}.Encode, nil},
	}
}

func unparsedPayload(u Unparsed) json.RawMessage {
	b, err := json.Marshal(u)
	if err != nil {
		panic(err) // it has nothing that JSON cannot say
	}
	return b
}

// reader makes one signature of the Parse functions.
func reader[T encoder](parse func([]byte) (T, error)) func([]byte) (encoder, error) {
	return func(b []byte) (encoder, error) { return parse(b) }
}

// TestGoldenVectors compares every message of the contract byte for byte, and
// reads each back without loss.
func TestGoldenVectors(t *testing.T) {
	for name, v := range vectors() {
		file := filepath.Join("testdata", name+".json")
		got, err := v.encode()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		line := append(bytes.TrimRight(got, "\n"), '\n')
		if *update {
			if err := os.WriteFile(file, line, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(line, want) {
			t.Errorf("%s:\n got %s\nwant %s", name, line, want)
		}
		if v.parse == nil {
			continue
		}
		m, err := v.parse(want)
		if err != nil {
			t.Errorf("%s: read back: %v", name, err)
			continue
		}
		if again, err := m.Encode(); err != nil || !bytes.Equal(again, got) {
			t.Errorf("%s: read back and written: %s (%v)", name, again, err)
		}
	}
}

func TestTopics(t *testing.T) {
	o := Origin{Region: "jawa-barat", Site: "site-12", DeviceID: "press-7"}
	var got strings.Builder
	for _, topic := range []string{
		o.Detection("cam"), o.CameraStatus("cam"), o.Blind("cam"), o.Snapshot("cam", "ab"), o.Status(), o.Health(),
		o.Canary(), o.Reply("c-1"), o.Event("zigbee", "door_access"), o.Command("reboot"), o.PresenceClient("cam"), o.PresenceClient(""),
	} {
		got.WriteString(topic + "\n")
		if Reserved(topic) == strings.HasPrefix(topic, "press-7") {
			t.Errorf("%s: reserved is %v", topic, Reserved(topic))
		}
	}
	want, err := os.ReadFile(filepath.Join("testdata", "topics.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("got\n%swant\n%s", got.String(), want)
	}
}

func TestLevels(t *testing.T) {
	for _, s := range []string{"a", "0", "site-12", "a.b_c", strings.Repeat("x", 64)} {
		if err := CheckLevel(s); err != nil {
			t.Error(err)
		}
	}
	for _, s := range []string{"", "A", "-a", "_a", "a/b", "a+", "ä", "a b", strings.Repeat("x", 65)} {
		if err := CheckLevel(s); !errors.Is(err, ErrLevel) {
			t.Errorf("%q: got %v, expected ErrLevel", s, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	good, err := os.ReadFile(filepath.Join("testdata", "detection_full.json"))
	if err != nil {
		t.Fatal(err)
	}
	for change, want := range map[[2]string]error{
		{`"detection.v1"`, `"detection.v2"`}:                 ErrSchema,
		{`"schema_version"`, `"schema"`}:                     ErrSchema,
		{id, "not-a-uuid"}:                                   ErrInvalid,
		{`"confidence":1`, `"confidence":1.01`}:              ErrInvalid,
		{`"w":30`, `"w":-1`}:                                 ErrInvalid,
		{`"class":"scratch"`, `"class":""`}:                  ErrInvalid,
		{`"frame_width":1920`, `"frame_width":0`}:            ErrInvalid,
		{`"model_name":"yolox-nano"`, `"model_name":""`}:     ErrInvalid,
		{`"clock":"free-running"`, `"clock":"about right"`}:  ErrInvalid,
		{`"captured_at":"2026`, `"captured_at":"yesterday `}: ErrInvalid,
		{`{"schema`, `[{"schema`}:                            ErrInvalid,
	} {
		if !bytes.Contains(good, []byte(change[0])) {
			t.Fatalf("%s is not in the vector", change[0])
		}
		_, err := ParseDetection(bytes.Replace(good, []byte(change[0]), []byte(change[1]), 1))
		if !errors.Is(err, want) {
			t.Errorf("%s: got %v, expected %v", change[1], err, want)
		}
	}
	if _, err := ParseDetection(bytes.Replace(good, []byte(`"seq"`), []byte(`"a_new_field":1,"seq"`), 1)); err != nil {
		t.Errorf("a new optional field: %v", err)
	}
	for name, bad := range map[string]encoder{
		"presence": Presence{DeviceID: "d", Session: "s", State: "great"},
		"blind":    Blind{EventID: id, DeviceID: "d", CameraID: "c", From: t1, To: &t0, Reason: "off"},
		"clock":    Blind{EventID: id, DeviceID: "d", CameraID: "c", From: t0, Reason: "off", Clock: "slow"},
		"health":   Health{DeviceID: "d", State: Healthy, Checks: []Check{{Name: "x", State: "so so"}}},
		"reply":    Reply{ID: "x", OK: true, Error: "no"},
		"command":  Command{Name: "x"},
		"envelope": Envelope{EventID: id},
	} {
		if _, err := bad.Encode(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v, expected ErrInvalid", name, err)
		}
	}
}

func TestIdempotencyKeys(t *testing.T) {
	if got, want := KeyWithTime("s", "src", "sub", t0.Time), "s-src-sub-2026-11-21T01:30:00.123456789Z"; got != want {
		t.Errorf("got %s, expected %s", got, want)
	}
	if got, want := KeyWithoutTime("s", "src", "sub", []byte("abc"), t0.Time), "s-src-sub-ba7816bf8f01cfea-2026-11-21T01:30:00.123456789Z"; got != want {
		t.Errorf("got %s, expected %s", got, want)
	}
}

func FuzzParseDetection(f *testing.F) {
	good, err := os.ReadFile(filepath.Join("testdata", "detection_full.json"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseDetection(b)
		if err != nil {
			return
		}
		if _, err := d.Encode(); err != nil {
			t.Errorf("read but not written: %v", err)
		}
	})
}

func BenchmarkEncodeDetection(b *testing.B) {
	v := vectors()["detection_full"]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.encode(); err != nil {
			b.Fatal(err)
		}
	}
}
