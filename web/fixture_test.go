package web

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2025, 3, 4, 12, 0, 0, 0, time.UTC)

var clearsIn = 719.0

// line is an appliance in the middle of an outage of the demonstration, with something to say in every field.
func line() Snapshot {
	return Snapshot{
		DeviceID: "press-7", Region: "jawa-barat", Site: "site-12", Version: "0.1.0",
		StartedAt: noon.Add(-26*time.Hour - 5*time.Minute), Now: noon, UptimeS: 93900,
		Health: Health{
			State: Degraded, FirstCause: "Camera cam-south-1 is offline: no route to host.",
			Checks: []Check{
				{Name: "cameras", State: Degraded, Detail: "1 of 2 online", Since: noon.Add(-4 * time.Minute), Checks: []Check{
					{Name: "cam-north-3", State: Healthy, Since: noon.Add(-2 * time.Hour)},
					{Name: "cam-south-1", State: Unhealthy, Detail: "no route to host", Since: noon.Add(-4 * time.Minute)},
				}},
				{Name: "broker", State: Healthy, Detail: "14 clients", Since: noon.Add(-26 * time.Hour)},
				{Name: "queue", State: Healthy, Detail: "2 % full", Since: noon.Add(-26 * time.Hour)},
				{Name: "uplink", State: Degraded, Detail: "dial tcp 127.0.0.1:1884: connection refused", Since: noon.Add(-12 * time.Second)},
			},
		},
		Cameras: []Camera{
			{ID: "cam-north-3", Source: "rtsp://10.0.0.7/stream1", Model: "yolox-nano", State: CameraOnline,
				Since: noon.Add(-2 * time.Hour), Width: 1920, Height: 1080, FPS: 9.97, InspectedFPS: 4.92, FPSTarget: 10, Frames: 936204,
				Inspected: 935790, Dropped: 414, Throttled: 1404306, Events: 48211, EventsDropped: 3, EventsRefused: 2, DetectorErrors: 2,
				Reconnects: 1, LastFrameAt: noon.Add(-time.Second), Masked: 12, StalledS: 31.5,
				Looked: &Looked{KnownSince: noon.Add(-90 * 24 * time.Hour), Hour: 0.99899, Day: 0.9412, BlindAfterS: 10, Blind: []BlindTime{{"stalled", 31.5}, {"off", 420}}},
				CameraPictures: CameraPictures{Snapshots: 40110, SnapshotsSkipped: 7, SnapshotsFailed: 2,
					LastSnapshot: strings.Repeat("c0ffee42", 8), LastSnapshotAt: noon.Add(-3 * time.Second)},
				Rules: Rules{Tracks: 3, TracksRefused: 1, TrackEndsLost: 2,
					Filtered: []Filtered{{"class", 1204}, {"confidence", 88}, {"area", 0}, {"mask", 310}, {"zone", 41}}},
				Shedding: Shedding{Priority: 3, ReducedTo: 4.9, ReducedFor: "the detector is behind"}},
			{ID: "cam-south-1", Source: "rtsp://10.0.0.8/stream1", Model: "yolox-nano", State: CameraOffline,
				Reason: "no route to host", Since: noon.Add(-4 * time.Minute), FPSTarget: 10, Frames: 931004,
				Inspected: 930590, Dropped: 399, Events: 20311, Reconnects: 17, LastFrameAt: noon.Add(-4 * time.Minute),
				StalledS: 240, Abandoned: 2, Stuck: 2,
				Looked: &Looked{Hour: 0.93, Day: 1, BlindAfterS: 10, BlindSince: noon.Add(-4 * time.Minute), BlindReason: "stalled", Blind: []BlindTime{{"stalled", 240}}}, Shedding: Shedding{Priority: 5}},
		},
		Detectors: []Detector{{Model: "yolox-nano", Provider: "cpu", Inferences: 1866380, PreprocessMS: 0.67, RunMS: 20.13,
			PostprocessMS: 0.1, Fallback: true, Refused: []ProviderRefusal{{"tensorrt", "the library has no TensorRT provider"},
				{"cuda", "libcudart.so.12: cannot open shared object file"}},
			Inference: Inference{Nodes: "213 of its 215 nodes; 2 on cpu: Shape, Gather", Rates: "up to 4 frames a run (measured: 60 img/s with 1, 96 img/s with 4)",
				MaxBatch: 4, Runs: 700000, MeanBatch: 2.67, WaitP50MS: 3.1, WaitP99MS: 10, FailedBatches: 1, Reopened: 2,
				Sizes: []BatchSize{{"1", 100000}, {"2", 200000}, {"3-4", 400000}}}}},
		Classifiers: []Classifier{{Name: "colour", Ready: true, Labels: 90412, Failed: 3, Skipped: 71, RunP50MS: 1.25, RunP99MS: 4.5}},
		Broker: Broker{Listeners: []Listener{{"tcp", "127.0.0.1:1883", 14}}, Clients: 14, Subscriptions: 23, Retained: 31,
			MessagesReceived: 5120448, MessagesSent: 6200417, MessagesDropped: 12, BytesReceived: 1310834688,
			BytesSent: 1587306752, HeldAcks: 7, Refused: 1, Invalid: 2, LoginsFailed: 5, LoginsSlowed: 40, LoginsBusy: 1,
			Sessions: 9, Owed: 1240, OwedBytes: 634880, SessionsDropped: 3, SessionsExpired: 2,
			Limited: []Limited{{"publish_rate", 310}, {"subscriptions", 0}, {"topic", 2}},
			Busiest: []Client{
				{ID: "plc-gateway-2", User: "line-2", Remote: "10.0.0.31:49152", Listener: "tls 0.0.0.0:8883", Since: noon.Add(-26 * time.Hour), Protocol: "5",
					KeepAliveS: 30, Subscriptions: 4, Owed: 2, MessagesIn: 4120448, MessagesOut: 2017, BytesIn: 1054834688, BytesOut: 516352,
					MessagesInPerS: 118.4, MessagesOutPerS: 0.2, BytesInPerS: 30310, BytesOutPerS: 51.2},
				{ID: "zigbee2mqtt", Remote: "127.0.0.1:40112", Listener: "tcp 127.0.0.1:1883", Since: noon.Add(-2 * time.Hour), Protocol: "3.1.1",
					KeepAliveS: 60, Subscriptions: 19, MessagesIn: 1000000, MessagesOut: 10, BytesIn: 256000000, BytesOut: 2560},
			},
			Puback: Histogram{Count: 5119827, SumS: 18943.4, Buckets: []Bucket{{0.001, 120}, {0.005, 4730018}, {0.05, 5119800}}}},
		Queue: Queue{Records: 3120, Bytes: 21 << 20, MaxBytes: 1 << 30, OldestAt: noon.Add(-12 * time.Second),
			FsyncP50MS: 3.4, FsyncP99MS: 11.8, Commits: 403112, Quarantined: 1,
			Commit: Histogram{Count: 403112, SumS: 1370.6, Buckets: []Bucket{{0.001, 0}, {0.005, 380112}, {0.05, 403110}}},
			Lanes: []Lane{{Lane: 3, Records: 620, Bytes: 1 << 20, OldestAt: noon.Add(-8 * time.Second)}, {Lane: 5},
				{Lane: 8, Records: 2500, Bytes: 20 << 20, OldestAt: noon.Add(-12 * time.Second)}},
			ClearsInS: &clearsIn, DiskFreeBytes: 41 << 30, DiskFloorBytes: 256 << 20},
		Dead: DeadLetters{Letters: 3, NextRetryAt: noon.Add(14 * time.Hour), LastRetryAt: noon.Add(-10 * time.Hour), LastRetried: 4, LastLeft: 3},
		Events: Events{
			Sources: []EventSource{
				{Source: "outstation", Events: 12, LastType: "camera_lost", LastAt: noon.Add(-4 * time.Minute)},
				{Source: "zigbee", Events: 4100, Unparsed: 3, Refused: 1, LastUnparsed: "not JSON: unexpected end of JSON input",
					LastType: "door_access", LastAt: noon.Add(-9 * time.Second)},
			},
			Posts: []PostAnswer{{Status: 202, Count: 40}, {Status: 401, Count: 2}},
		},
		Socket: Socket{Path: "/run/outstation/vision.sock", Listening: true, Connections: 2, MaxConnections: 1024, Accepted: 20311,
			Refused:            []SocketRefusals{{"invalid", 3}, {"too_long", 1}, {"cut_off", 0}, {"not_stored", 0}},
			ConnectionsRefused: 4, AnswersDropped: 5, LastRefusal: "expected UTF-8, got other bytes", LastRefusalAt: noon.Add(-2 * time.Minute)},
		Ledger: []RouteLedger{
			{Route: "detection", Accepted: Amount{68522, 27408800}, Delivered: Amount{66000, 26400000},
				Queued: Amount{2500, 1000000}, Dead: Amount{2, 800}, Expired: Amount{20, 8000}, DeadLetters: 3},
			{Route: "sensors/#", Accepted: Amount{5120448, 1310834688}, Delivered: Amount{5100000, 1305600000},
				Queued: Amount{620, 158720}, Dead: Amount{1, 256}, Expired: Amount{2, 512}, Evicted: Amount{19000, 4864000},
				Coalesced: Amount{800, 204800}, Purged: Amount{5, 1280}, Quarantined: Amount{20, 5120}},
		},
		Uplink: Uplink{State: UplinkDown, Broker: "tcp://127.0.0.1:1884", Since: noon.Add(-12 * time.Second),
			Reason: "dial tcp 127.0.0.1:1884: connection refused", InFlight: 3, Window: 64, Reconnects: 5,
			NextAttemptAt: noon.Add(4 * time.Second), DeliveredPerS: 0, PubackP50MS: 8.2,
			Puback:   Histogram{Count: 5100000, SumS: 45900.5, Buckets: []Bucket{{0.001, 0}, {0.005, 700}, {0.05, 5099990}}},
			BackoffS: 6.25, Proven: true, CanaryS: 0.031,
			CertExpiresAt: noon.Add(30 * 24 * time.Hour),
			Down: Downlink{Received: 460, Delivered: 412, Refused: 2, Echoes: 40, Dropped: 3, LastDrop: "a/b: no down route matches",
				LeftThere: 4, Waiting: 1, Forgotten: 6, Error: "closing",
				Denied: []Denial{{"fleet/#", "refused"}}}},
		Snapshots: SnapshotStore{Pictures: 4100, Bytes: 410 << 20, MaxBytes: 512 << 20, Stored: 40111, Evicted: 36000, Expired: 11, Failed: 1, Damaged: 1, Foreign: 2},
		Heat:      Heat{Known: true, Celsius: 61.5, Sensor: "tj-thermal", HotAt: 85},
		Centre:    Centre{Demo: true, Address: "127.0.0.1:1884", Messages: 5166003, OutageUntil: noon.Add(18 * time.Second)},
	}
}

// serverOf returns a server of a snapshot that has a stand-in centre to cut.
func serverOf(s Snapshot) *Server {
	return New(Options{
		Listen:     "press-7.local:8080",
		Snapshot:   func() Snapshot { return s },
		DemoOutage: func(time.Duration) error { return nil },
	})
}

// answer is what a request got.
type answer struct {
	code   int
	header http.Header
	body   string
}

// ask sends a request to the handler; header holds names and values in turn.
func ask(t *testing.T, s *Server, method, target, body string, header ...string) answer {
	t.Helper()
	return askFrom(t, s, "192.0.2.1:1234", method, target, body, header...)
}

// askFrom is ask from an address.
func askFrom(t *testing.T, s *Server, from, method, target, body string, header ...string) answer {
	t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Host, r.RemoteAddr = "localhost:8080", from
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
			continue
		}
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.http.Handler.ServeHTTP(w, r)
	got, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{w.Code, w.Header(), string(got)}
}
