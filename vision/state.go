package vision

import "time"

// State is what a camera is worth right now.
type State string

// The states of a camera, as the presence message names them.
const (
	Online   State = "online"   // frames arrive and are inspected as configured
	Degraded State = "degraded" // frames arrive, but inspecting them fails
	Blind    State = "blind"    // connected or connecting, yet nothing is inspected
	Offline  State = "offline"  // there is no connection
)

// The reasons for a camera's state. An online camera has none.
const (
	ReasonStarting     = "starting"        // first connection or first frame still to come
	ReasonUnreachable  = "unreachable"     // could not be opened; will be tried again
	ReasonDisconnected = "disconnected"    // a read failed; will be opened again
	ReasonStalled      = "stalled"         // no frame for StallAfter; another connection is tried
	ReasonStuck        = "stuck"           // the same, and too many calls never returned to try another
	ReasonNoDetector   = "no detector"     // the model could not be loaded
	ReasonUninspected  = "uninspected"     // frames arrive, none was inspected for StallAfter
	ReasonDetector     = "detector failed" // the last inspection returned an error
	ReasonEnded        = "ended"           // the recording is over
	ReasonStopped      = "stopped"         // the pipeline was closed
)

// CameraState is the state of one camera and why.
type CameraState struct {
	Camera string
	State  State
	Reason string    // one of the Reason constants, "" when online
	Detail string    // the error behind the reason, for operators; may be ""
	Since  time.Time // when State and Reason last changed
}

// phase is what a camera's reader is doing.
type phase int

const (
	phaseOpening phase = iota
	phaseReading
	phaseHeld // a lossless reader waiting for the detector or the Sink
	phaseBackoff
	phaseEnded
	phaseStopped
)

// facts is all that a camera's state follows from.
type facts struct {
	phase     phase
	since     time.Time // start of the phase
	lastFrame time.Time // of this connection; zero before its first frame
	lost      bool      // the last connection had frames before it failed
	err       error     // that ended the last connection, nil once frames flow
	stalled   bool      // the last connection was abandoned, and no frame came since
	pinned    error     // why a silent connection cannot be abandoned, or nil
	inspected time.Time // end of the last inspection, at first the first frame
	detectErr error     // of the last inspection
	modelErr  error     // of the last attempt to load the model
}

// limits are the durations after which silence changes a state.
type limits struct {
	stall   time.Duration // between frames
	inspect time.Duration // between inspections; 0 for a camera without a model

	stuckHere, stuckInAll int // calls that may be stuck at once
}

// tick is how often to look for silence.
func (l limits) tick() time.Duration { return min(time.Second, max(l.stall/4, time.Millisecond)) }

// silence is for how long the call that the reader is in has not returned; 0
// when it is in none.
func (f *facts) silence(now time.Time) time.Duration {
	if f.phase != phaseOpening && f.phase != phaseReading {
		return 0
	}
	since := f.since
	if f.lastFrame.After(since) {
		since = f.lastFrame
	}
	return now.Sub(since)
}

// derive returns the state that the facts amount to at now.
func (f *facts) derive(now time.Time, l limits) (State, string, error) {
	switch f.phase {
	case phaseStopped:
		return Offline, ReasonStopped, nil
	case phaseEnded:
		return Offline, ReasonEnded, nil
	}
	if f.pinned != nil {
		return Blind, ReasonStuck, f.pinned
	}
	if f.lastFrame.IsZero() {
		return f.deriveUnconnected(now, l)
	}
	switch {
	case f.silence(now) >= l.stall:
		return Blind, ReasonStalled, nil
	case l.inspect == 0:
		return Online, "", nil
	case f.modelErr != nil:
		return Blind, ReasonNoDetector, f.modelErr
	case now.Sub(f.inspected) >= l.inspect: // also after a failure: a detector that then hangs inspects nothing
		return Blind, ReasonUninspected, f.detectErr
	case f.detectErr != nil:
		return Degraded, ReasonDetector, f.detectErr
	}
	return Online, "", nil
}

// deriveUnconnected is derive before the first frame of a connection.
func (f *facts) deriveUnconnected(now time.Time, l limits) (State, string, error) {
	switch {
	case f.stalled:
		return Blind, ReasonStalled, f.err
	case f.phase == phaseReading && now.Sub(f.since) >= l.stall:
		return Blind, ReasonStalled, nil
	case f.err != nil && f.lost:
		return Offline, ReasonDisconnected, f.err
	case f.err != nil:
		return Offline, ReasonUnreachable, f.err
	case now.Sub(f.since) >= l.stall:
		return Blind, ReasonStalled, nil
	}
	return Offline, ReasonStarting, nil
}
