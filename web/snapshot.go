package web

import "time"

// Snapshot is the state of the appliance at one moment and the schema of /status.json. Counters count since the start
// of the process, unless said otherwise; numbers are finite and not negative. Credentials must be removed by the
// producer: everything in here is shown.
type Snapshot struct {
	DeviceID  string    `json:"device_id"`
	Region    string    `json:"region"`
	Site      string    `json:"site"`
	Version   string    `json:"version"`
	StartedAt time.Time `json:"started_at,omitzero"`
	Now       time.Time `json:"now,omitzero"`
	UptimeS   float64   `json:"uptime_s"`

	Health    Health     `json:"health"`
	Cameras   []Camera   `json:"cameras"`
	Detectors []Detector `json:"detectors"` // empty: nothing is inspected
	// Activating is the version of a model that is being activated; nil: none is.
	Activating *Activating `json:"activating,omitempty"`
	// Classifiers are those of the second stage; empty: there is none.
	Classifiers []Classifier `json:"classifiers"`

	Broker    Broker        `json:"broker"`
	Queue     Queue         `json:"queue"`
	Dead      DeadLetters   `json:"dead_letters"`
	Ledger    []RouteLedger `json:"ledger"`
	Uplink    Uplink        `json:"uplink"`
	Centre    Centre        `json:"centre"`
	Events    Events        `json:"events"`
	Socket    Socket        `json:"socket"`
	Snapshots SnapshotStore `json:"snapshots"`
	Heat      Heat          `json:"heat"`
}

// HealthState is the verdict of a check or of the whole appliance.
type HealthState string

// The verdicts, from good to bad.
const (
	Healthy   HealthState = "healthy"
	Degraded  HealthState = "degraded"
	Unhealthy HealthState = "unhealthy"
)

// Health is the verdict on the appliance with the tree of checks behind it.
type Health struct {
	State HealthState `json:"state"`
	// FirstCause says in words what to look at first; empty when healthy.
	FirstCause string  `json:"first_cause"`
	Checks     []Check `json:"checks"`
}

// Check is one node of the health tree; its own checks are what it depends on.
type Check struct {
	Name   string      `json:"name"`
	State  HealthState `json:"state"`
	Detail string      `json:"detail"`
	Since  time.Time   `json:"since,omitzero"`
	Checks []Check     `json:"checks,omitempty"`
}

// CameraState is how a camera is doing, in the words of the wire contract.
type CameraState string

// The states of a camera.
const (
	CameraOnline   CameraState = "online"
	CameraDegraded CameraState = "degraded"
	CameraBlind    CameraState = "blind"
	CameraOffline  CameraState = "offline"
)

// Camera is one camera and what became of its frames.
type Camera struct {
	ID     string      `json:"id"`
	Source string      `json:"source"` // without credentials
	Model  string      `json:"model"`
	State  CameraState `json:"state"`
	Reason string      `json:"reason"`
	Since  time.Time   `json:"since,omitzero"` // of the state

	Width     int     `json:"width"`      // pixels
	Height    int     `json:"height"`     // pixels
	FPS       float64 `json:"fps"`        // frames a second that arrive
	FPSTarget float64 `json:"fps_target"` // 0: as many as come

	InspectedFPS float64 `json:"inspected_fps"` // frames a second that the model has finished

	Frames         uint64 `json:"frames"`
	Inspected      uint64 `json:"inspected"`
	Dropped        uint64 `json:"dropped"`   // a newer frame came before the detector was free
	Throttled      uint64 `json:"throttled"` // above the target rate
	Events         uint64 `json:"events"`
	EventsDropped  uint64 `json:"events_dropped"`
	EventsRefused  uint64 `json:"events_refused"` // of events, those that the disk or the queue did not take
	DetectorErrors uint64 `json:"detector_errors"`
	Reconnects     uint64 `json:"reconnects"`

	LastFrameAt time.Time `json:"last_frame_at,omitzero"`

	Masked    uint64  `json:"masked"`    // kept from the detector by the motion gate: nothing moved
	StalledS  float64 `json:"stalled_s"` // seconds in which frames were expected and none came
	Abandoned uint64  `json:"abandoned"` // connections given up for their silence
	Stuck     int     `json:"stuck"`     // such calls that still have not returned
	// Looked is absent for a camera that is not inspected.
	Looked *Looked `json:"looked,omitempty"`

	// Heartbeat says that the camera shows known footage, which proves the detector and is in no sum of the page.
	Heartbeat bool `json:"heartbeat"`

	CameraPictures
	Shedding
	Rules
}

// Detector is one loaded model and the execution provider that it really runs on.
type Detector struct {
	Model    string            `json:"model"`
	Provider string            `json:"provider"`
	Refused  []ProviderRefusal `json:"refused"`  // providers that were tried first
	Fallback bool              `json:"fallback"` // one of those was meant to run

	Inferences    uint64  `json:"inferences"`
	PreprocessMS  float64 `json:"preprocess_ms"` // mean of the recent frames, as are the next two
	RunMS         float64 `json:"run_ms"`
	PostprocessMS float64 `json:"postprocess_ms"`

	Inference Inference `json:"inference"`
	Behind    bool      `json:"behind"` // frames that it is to inspect are replaced before it is free

	ModelSHA256 string       `json:"model_sha256,omitempty"` // of the model's file
	Stored      *StoredModel `json:"stored,omitempty"`       // nil for a model that is not of the store
}

// StoredModel is which version of a model of the store is active.
type StoredModel struct {
	Name        string    `json:"name"`    // in the store
	Version     string    `json:"version"` // SHA-256; "" when none is active
	Previous    string    `json:"previous,omitempty"`
	ActivatedAt time.Time `json:"activated_at,omitzero"`
	Gate        string    `json:"gate,omitempty"`       // what its golden frames said: passed, failed, skipped or not tried
	TrialUntil  time.Time `json:"trial_until,omitzero"` // zero when it is not on trial
	Problem     string    `json:"problem,omitempty"`    // of the store

	RolledBackFrom string    `json:"rolled_back_from,omitempty"` // SHA-256
	RolledBackAt   time.Time `json:"rolled_back_at,omitzero"`
	RolledBackWhy  string    `json:"rolled_back_why,omitempty"`

	RolledBackByHand bool `json:"rolled_back_by_hand,omitempty"` // somebody asked for it: nothing is wrong
}

// ProviderRefusal says why an execution provider is not used.
type ProviderRefusal struct {
	Provider string `json:"provider"`
	Reason   string `json:"reason"`
}

// Broker is the embedded MQTT broker.
type Broker struct {
	Listeners        []Listener `json:"listeners"`
	Clients          int        `json:"clients"`
	Subscriptions    int        `json:"subscriptions"`
	Retained         int        `json:"retained"`
	MessagesReceived uint64     `json:"messages_received"`
	MessagesSent     uint64     `json:"messages_sent"`
	MessagesDropped  uint64     `json:"messages_dropped"` // to subscribers that are too slow
	BytesReceived    uint64     `json:"bytes_received"`
	BytesSent        uint64     `json:"bytes_sent"`
	HeldAcks         int        `json:"held_acks"` // acknowledgements that wait for the disk
	Refused          uint64     `json:"refused"`   // publishes that could not be stored
	Denied           uint64     `json:"denied"`    // publishes, wills and subscriptions that devices have no right to
	Invalid          uint64     `json:"invalid"`   // publishes and wills that are not what their topic promises
	LoginsFailed     uint64     `json:"logins_failed"`
	LoginsSlowed     uint64     `json:"logins_slowed"` // not tried, after failures
	LoginsBusy       uint64     `json:"logins_busy"`   // not tried, as too many waited
	Limited          []Limited  `json:"limited"`       // what went beyond a limit, by the limit's name
	Busiest          []Client   `json:"busiest"`       // devices, those with the most messages a second first; not all of them
	// Puback is how long devices waited for the acknowledgement of a publish that was stored.
	Puback Histogram `json:"puback"`
	// Sessions are those that outlive their connection, and what they are owed.
	Sessions        int    `json:"sessions"`
	Owed            uint64 `json:"owed"` // messages
	OwedBytes       uint64 `json:"owed_bytes"`
	SessionsDropped uint64 `json:"sessions_dropped"` // messages beyond a bound; MessagesDropped includes them
	SessionsExpired uint64 `json:"sessions_expired"`
}

// Listener is one address of the broker.
type Listener struct {
	Type        string `json:"type"` // tcp, tls, ws, wss or unix
	Address     string `json:"address"`
	Connections int    `json:"connections"`
}

// Queue is the durable queue between the broker and the uplink.
type Queue struct {
	Records     uint64    `json:"records"`
	Bytes       uint64    `json:"bytes"`
	MaxBytes    uint64    `json:"max_bytes"` // 0: no bound is known
	OldestAt    time.Time `json:"oldest_at,omitzero"`
	FsyncP50MS  float64   `json:"fsync_p50_ms"`
	FsyncP99MS  float64   `json:"fsync_p99_ms"`
	Commits     uint64    `json:"commits"`
	Quarantined uint64    `json:"quarantined"` // stores set aside as unreadable
	Commit      Histogram `json:"commit"`      // the time of a group commit with its fsync
	Lanes       []Lane    `json:"lanes"`       // those of the queue, the lowest priority first

	// ClearsInS is when the backlog has been delivered at the present rates, in seconds: 0 where there is none, and
	// absent where it does not shrink.
	ClearsInS *float64 `json:"clears_in_s,omitempty"`

	DiskFreeBytes  uint64 `json:"disk_free_bytes"`
	DiskFloorBytes uint64 `json:"disk_floor_bytes"` // nothing is accepted below it
	Refusing       string `json:"refusing"`         // why nothing is accepted now; empty when all is well
}

// Lane is what is queued with one priority.
type Lane struct {
	Lane     int       `json:"lane"`
	Records  uint64    `json:"records"`
	Bytes    uint64    `json:"bytes"`
	OldestAt time.Time `json:"oldest_at,omitzero"`
}

// Histogram is how often something took how long, since the start.
type Histogram struct {
	Count   uint64   `json:"count"`
	SumS    float64  `json:"sum_s"`
	Buckets []Bucket `json:"buckets"` // from the shortest to the longest
}

// Bucket counts what took at most LeS seconds, and so all of the buckets before it too.
type Bucket struct {
	LeS   float64 `json:"le_s"`
	Count uint64  `json:"count"`
}

// DeadLetters are the messages that the centre would not take. They are queued again by the clock.
type DeadLetters struct {
	Letters     uint64    `json:"letters"`
	NextRetryAt time.Time `json:"next_retry_at,omitzero"` // in the past while the run waits for the link; zero: never
	Retrying    bool      `json:"retrying"`
	LastRetryAt time.Time `json:"last_retry_at,omitzero"` // over restarts
	LastRetried uint64    `json:"last_retried"`           // letters that the last run queued again at first
	LastLeft    uint64    `json:"last_left"`              // that were dead when it ended
}

// Amount counts records and their bytes.
type Amount struct {
	Records uint64 `json:"records"`
	Bytes   uint64 `json:"bytes"`
}

// RouteLedger accounts for every record that a route accepted, across restarts: Accepted is the sum of all others.
type RouteLedger struct {
	Route       string `json:"route"`
	Accepted    Amount `json:"accepted"`
	Delivered   Amount `json:"delivered"`
	Queued      Amount `json:"queued"`
	Dead        Amount `json:"dead"`
	Expired     Amount `json:"expired"`
	Evicted     Amount `json:"evicted"`
	Coalesced   Amount `json:"coalesced"`
	Purged      Amount `json:"purged"`
	Quarantined Amount `json:"quarantined"`

	// DeadLetters counts what became a dead letter since the start; Dead are those that still are.
	DeadLetters uint64 `json:"dead_letters"`
}

// UplinkState is the state of the connection to the centre.
type UplinkState string

// The states of the uplink. Off means that no centre is configured.
const (
	UplinkConnected  UplinkState = "connected"
	UplinkConnecting UplinkState = "connecting"
	UplinkDown       UplinkState = "down"
	UplinkPaused     UplinkState = "paused" // by hand
	UplinkOff        UplinkState = "off"
)

// Uplink is the connection that carries the queue to the centre.
type Uplink struct {
	State         UplinkState `json:"state"`
	Broker        string      `json:"broker"`
	Since         time.Time   `json:"since,omitzero"` // of the state
	Reason        string      `json:"reason"`
	InFlight      int         `json:"in_flight"`
	Window        int         `json:"window"` // most in flight
	Reconnects    uint64      `json:"reconnects"`
	NextAttemptAt time.Time   `json:"next_attempt_at,omitzero"`
	DeliveredPerS float64     `json:"delivered_per_s"`
	PubackP50MS   float64     `json:"puback_p50_ms"`
	Puback        Histogram   `json:"puback"` // from PUBLISH to the centre's PUBACK

	// BackoffS is the wait that was drawn before NextAttemptAt, in seconds; 0 while there is none.
	BackoffS float64 `json:"backoff_s"`
	// Proven says that a canary came back through the centre, the last of them after CanaryS seconds.
	Proven  bool    `json:"proven"`
	CanaryS float64 `json:"canary_s"`

	Down          Downlink  `json:"down"`
	CertExpiresAt time.Time `json:"cert_expires_at,omitzero"` // the client certificate in use
}

// Centre is the stand-in centre of the demonstration; the zero value says that the centre is a real one.
type Centre struct {
	Demo        bool      `json:"demo"`
	Address     string    `json:"address"`
	Messages    uint64    `json:"messages"`              // received
	OutageUntil time.Time `json:"outage_until,omitzero"` // zero: it is not cut
}

// withLists returns s with empty lists for missing ones, so that a reader of the JSON never meets a null.
func (s Snapshot) withLists() Snapshot {
	s.Health.Checks = list(s.Health.Checks)
	s.Cameras = list(s.Cameras)
	s.Ledger = list(s.Ledger)
	s.Classifiers = list(s.Classifiers)
	s.Broker.Listeners = list(s.Broker.Listeners)
	s.Broker.Limited = list(s.Broker.Limited)
	s.Broker.Busiest = list(s.Broker.Busiest)
	s.Queue.Lanes = list(s.Queue.Lanes)
	s.Events.Sources, s.Events.Posts = list(s.Events.Sources), list(s.Events.Posts)
	s.Socket.Refused = list(s.Socket.Refused)
	for _, h := range []*Histogram{&s.Broker.Puback, &s.Queue.Commit, &s.Uplink.Puback} {
		h.Buckets = list(h.Buckets)
	}
	s.Uplink.Down.Denied = list(s.Uplink.Down.Denied)
	s.Detectors = append([]Detector{}, s.Detectors...)
	for i := range s.Detectors {
		s.Detectors[i].Refused = list(s.Detectors[i].Refused)
		s.Detectors[i].Inference.Sizes = list(s.Detectors[i].Inference.Sizes)
	}
	return s
}

func list[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}
