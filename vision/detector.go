package vision

import (
	"context"
	"errors"
	"time"
)

// Box is a rectangle in pixels of the original frame, X and Y its top-left
// corner. W and H are positive, and the box lies within the frame.
type Box struct{ X, Y, W, H float64 }

// Detection is one object that a model found.
type Detection struct {
	Class      string
	Confidence float64 // in [0, 1]
	Box        Box

	// What the camera's rules add; a detector leaves it zero.
	Zones ZoneSet // that it is in, of the camera's
	Label string  // that a second-stage model gave it, or ""
	Track uint64  // of a tracked object, from 1, unique in a Pipeline; 0 without

	LabelConfidence float64 // in [0, 1]
}

// Timing is where the time of one inspected frame went.
type Timing struct {
	Preprocess  time.Duration // letterbox and tensor
	Run         time.Duration // the model alone
	Postprocess time.Duration // decode and NMS
}

// Refusal says why an execution provider that the configuration asked for is
// not the one that runs.
type Refusal struct {
	Provider string
	Reason   string

	// Installed says that the provider's own libraries are there: it was meant
	// to run, and something else is missing or wrong.
	Installed bool
}

// ErrNoProvider is in the error of an OpenDetector that none of the configured
// execution providers can serve.
var ErrNoProvider = errors.New("no configured provider works")

// NodeCount is how many nodes of a model's graph one execution provider ran.
type NodeCount struct {
	Provider string
	Nodes    int
	Ops      []string // the names of the first few of their operators
}

// DetectorInfo describes a detector. It does not change during its life.
type DetectorInfo struct {
	Model       string
	Provider    string    // the execution provider of the session
	Refused     []Refusal // those before it in the configured order
	InputWidth  int       // pixels
	InputHeight int       // pixels
	ModelSHA256 string    // of the model's file, in hex; "" where it is not known
	Runtime     string    // the library that runs it and its version; "" where it is not known
	Head        string    // the form of its outputs
	Classes     []string  // that it knows, all of them; empty where it does not say
	Settings    []string  // what was settled when it was loaded, and by whom; for the log

	// Confidence is from where on a detection counts for cameras that do not say
	// it themselves, and ClassConfidence the same for classes that differ: the
	// detector returns weaker ones too. 0: all that it returns counts.
	Confidence      float64
	ClassConfidence map[string]float64

	Nodes    []NodeCount // seen in a profiled run, the provider of the session first; empty where it was not proven
	Unproven string      // why it was not, on a provider that needs no proof; else ""
	MaxBatch int         // frames of one run of a BatchDetector; 0 and 1 are no batching
	Rates    []BatchRate // measured to choose MaxBatch; empty where it was configured
}

// Detector finds objects in frames. One goroutine uses it at a time.
type Detector interface {
	// Detect inspects one frame. It does not close the frame. The detections
	// are the detector's own memory and valid until the next Detect. An error
	// concerns this frame only; the detector stays usable.
	Detect(Frame) ([]Detection, Timing, error)

	// Info is safe for concurrent use.
	Info() DetectorInfo

	// Close frees the model. It is never called during Detect.
	Close() error
}

// OpenDetector loads a model. It may take minutes (an engine build) and should
// give up when ctx ends. The Pipeline calls it again, with back-off, after an
// error, and owns the detector that it returns.
type OpenDetector func(ctx context.Context) (Detector, error)
