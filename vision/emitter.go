package vision

import "context"

// emitter stands between the detectors and Sink.
type emitter struct {
	buffer chan emission
	sink   Sink
}

// emission is an event and the camera that accounts for it.
type emission struct {
	event  Event
	camera *camera
}

// try queues and counts an event if there is room.
func (e *emitter) try(m emission) bool {
	select {
	case e.buffer <- m:
		m.camera.countEvent(true)
		return true
	default:
		return false
	}
}

// offer queues an event if there is room, and counts it either way.
func (e *emitter) offer(m emission) bool {
	queued := e.try(m)
	if !queued {
		m.camera.countEvent(false)
	}
	return queued
}

// wait queues an event and waits for room until ctx ends.
func (e *emitter) wait(ctx context.Context, m emission) {
	select {
	case e.buffer <- m:
		m.camera.countEvent(true)
	case <-ctx.Done():
		e.offer(m)
	}
}

// run calls Sink until stop is closed and the buffer is empty.
func (e *emitter) run(stop <-chan struct{}) {
	for {
		select {
		case m := <-e.buffer:
			e.sink(m.event)
			continue
		default:
		}
		select {
		case m := <-e.buffer:
			e.sink(m.event)
		case <-stop:
			if len(e.buffer) == 0 {
				return
			}
		}
	}
}

// discard empties the buffer and counts what was in it as dropped. It is for
// events whose Sink did not return in time.
func (e *emitter) discard() {
	for {
		select {
		case m := <-e.buffer:
			m.camera.uncountEvent()
		default:
			return
		}
	}
}
