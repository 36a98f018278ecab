package capture

// Report is what a Probe found out. What it could not is zero.
type Report struct {
	Source string `json:"source"` // without its password
	Kind   string `json:"kind"`
	OK     bool   `json:"ok"` // pictures were decoded

	Codec       string  `json:"codec,omitempty"`  // of a recording, its container's four-character code
	Width       int     `json:"width,omitempty"`  // pixels of a decoded picture
	Height      int     `json:"height,omitempty"` // pixels of a decoded picture
	StatedFPS   float64 `json:"stated_fps,omitempty"`
	MeasuredFPS float64 `json:"measured_fps,omitempty"`

	// KeyframeInterval is the most pictures from one keyframe to the next, and
	// KeyframeSeconds how long that took. 0 means that fewer than two came.
	KeyframeInterval int     `json:"keyframe_interval,omitempty"`
	KeyframeSeconds  float64 `json:"keyframe_seconds,omitempty"`

	Decoder      Decoder `json:"decoder,omitempty"`   // of RTSP
	Transport    string  `json:"transport,omitempty"` // of RTSP
	FirstFrameMS float64 `json:"first_frame_ms,omitempty"`

	Tried  []Step   `json:"tried"`
	Fault  Fault    `json:"fault,omitempty"`
	Advice string   `json:"advice,omitempty"`
	Notes  []string `json:"notes,omitempty"`
}

// Step is one thing that a Probe tried.
type Step struct {
	What  string  `json:"what"`
	MS    float64 `json:"ms"`
	Error string  `json:"error,omitempty"`
}

// Fault is why a camera on the network cannot be read, as a word for programs.
type Fault string

// The faults that are told apart.
const (
	FaultHost         Fault = "unknown-host" // its name has no address
	FaultRoute        Fault = "no-route"     // no way to its address
	FaultRefused      Fault = "refused"      // nothing listens on the port
	FaultTimeout      Fault = "timeout"      // no answer
	FaultUnauthorised Fault = "unauthorised" // user or password, RTSP 401 and 403
	FaultPath         Fault = "wrong-path"   // RTSP 404
	FaultAnswer       Fault = "answer"       // another refusal, or not RTSP
	FaultVideo        Fault = "no-video"     // the stream has none that can be decoded
	FaultKeyframe     Fault = "no-keyframe"  // pictures come, and none that decoding can begin with
)

// Decoder names what decodes an RTSP camera's pictures.
type Decoder string

// The decoders. Auto is Nvidia where this machine has it and the codec is one
// that it knows, and FFmpeg everywhere else.
const (
	DecoderAuto      Decoder = "auto"
	DecoderFFmpeg    Decoder = "ffmpeg"    // on the CPU, in OpenCV
	DecoderGStreamer Decoder = "gstreamer" // on the CPU, in GStreamer: FFmpeg's decoders in the pipeline of Nvidia
	DecoderNvidia    Decoder = "nvidia"    // in the Jetson's own hardware, in GStreamer
)

// Decoders are all of them, in the order of the documentation.
var Decoders = []Decoder{DecoderAuto, DecoderFFmpeg, DecoderGStreamer, DecoderNvidia}
