package vision

import "time"

// Event is the result of inspecting one frame. It owns its Detections.
type Event struct {
	Camera      string
	CapturedAt  time.Time // the frame's arrival
	Clock       string    // the frame's
	InferredAt  time.Time // the end of the model's run
	Model       string
	Detections  []Detection // empty only for a camera with EveryFrame
	FrameWidth  int         // pixels
	FrameHeight int         // pixels
	Snapshot    *Snapshot   // nil without a picture
}

// Sink consumes events. It is called by one goroutine, in the order in which
// the frames of a camera were inspected, and may block: only that goroutine
// waits for it.
type Sink func(Event)
