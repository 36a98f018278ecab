package vision

import (
	"context"
	"sync"
)

// emitter stands between the detectors and Sink. Events with a picture to
// encode take a turn through the darkroom, a goroutine of its own; later
// events of the same camera wait for them, those of other cameras do not.
type emitter struct {
	buffer    chan emission
	sink      Sink
	darkroom  chan emission // to be developed; has room for one of each camera
	developed chan emission

	mu     sync.Mutex
	held   map[*camera][]emission // behind a picture of their camera, which is a key until it is developed
	behind int                    // events in held
}

// emission is an event, the camera that accounts for it, and its picture or
// nil.
type emission struct {
	event   Event
	camera  *camera
	picture *picture
}

func (e *emitter) init(o Options) {
	e.sink = o.Sink
	e.buffer = make(chan emission, o.EventBuffer)
	e.darkroom = make(chan emission, len(o.Cameras))
	e.developed = make(chan emission, len(o.Cameras))
	e.held = map[*camera][]emission{}
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
		m.dispose()
		m.camera.countEvent(false)
	}
	return queued
}

// wait queues and counts an event, and waits for room until ctx ends. It
// returns false if there was none.
func (e *emitter) wait(ctx context.Context, m emission) bool {
	select {
	case e.buffer <- m:
		m.camera.countEvent(true)
		return true
	case <-ctx.Done():
		return e.try(m)
	}
}

// dispose gives the picture of an event that is dropped back.
func (m *emission) dispose() {
	if m.picture != nil {
		m.picture.release()
		m.picture = nil
	}
}

// waiting is how many events wait for Sink.
func (e *emitter) waiting() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.buffer) + e.behind
}

// run calls Sink until stop is closed and nothing waits.
func (e *emitter) run(stop <-chan struct{}) {
	var developing sync.WaitGroup
	developing.Go(func() {
		for m := range e.darkroom {
			m.develop()
			e.developed <- m
		}
	})
	defer developing.Wait()
	defer close(e.darkroom)
	for stopping := false; ; {
		select { // what has been waiting goes before the end
		case m := <-e.input():
			e.take(m)
			continue
		case m := <-e.developed:
			e.release(m)
			continue
		default:
		}
		if stopping && e.idle() {
			return
		}
		select {
		case m := <-e.input():
			e.take(m)
		case m := <-e.developed:
			e.release(m)
		case <-stop:
			stopping, stop = true, nil
		}
	}
}

// input is the buffer, or nil while as many events as it holds wait for
// pictures.
func (e *emitter) input() <-chan emission {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.behind >= cap(e.buffer) {
		return nil
	}
	return e.buffer
}

// idle reports whether no event waits.
func (e *emitter) idle() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.buffer) == 0 && len(e.held) == 0
}

// take hands an event to Sink, or holds it until its turn.
func (e *emitter) take(m emission) {
	e.mu.Lock()
	waiting, wait := e.held[m.camera]
	switch {
	case wait:
		e.held[m.camera] = append(waiting, m)
		e.behind++
	case m.picture != nil:
		e.held[m.camera] = nil
		e.darkroom <- m // has room: a camera has one picture at a time
	}
	e.mu.Unlock()
	if !wait && m.picture == nil {
		e.sink(m.event)
	}
}

// release hands on an event that has its picture now, and what waited behind
// it up to the next picture.
func (e *emitter) release(m emission) {
	e.sink(m.event)
	for {
		next, ok := e.next(m.camera)
		if !ok {
			return
		}
		e.sink(next.event)
	}
}

// next is the next event of a camera that can go to Sink now.
func (e *emitter) next(c *camera) (emission, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	waiting := e.held[c]
	if len(waiting) == 0 {
		delete(e.held, c)
		return emission{}, false
	}
	m := waiting[0]
	e.held[c] = waiting[1:]
	e.behind--
	if m.picture != nil {
		e.darkroom <- m // has room: a camera has one picture at a time
		return m, false
	}
	return m, true
}

// discard counts what waits as dropped. It is for events whose Sink did not
// return in time.
func (e *emitter) discard() {
	drop := func(m emission) {
		m.dispose()
		m.camera.uncountEvent()
	}
	e.mu.Lock()
	for c, waiting := range e.held {
		for _, m := range waiting {
			drop(m)
		}
		e.behind -= len(waiting)
		delete(e.held, c)
	}
	e.mu.Unlock()
	for {
		select {
		case m := <-e.buffer:
			drop(m)
		case m := <-e.developed:
			drop(m)
		default:
			return
		}
	}
}
