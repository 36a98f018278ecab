package vision

import (
	"testing"
	"time"
)

// BenchmarkHWCToCHW is one 416×416 input.
func BenchmarkHWCToCHW(b *testing.B) {
	src, dst := make([]byte, 3*416*416), make([]float32, 3*416*416)
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	for b.Loop() {
		HWCToCHW(dst, src)
	}
}

// lane wires a camera and a worker as New does. Each step carries one frame
// through them, to the event or only into the slot.
func lane(tb testing.TB, detections []Detection) (step func(inspect bool)) {
	p, err := New(Options{
		EventBuffer: 1,
		Models:      model(nil),
		Cameras:     []CameraOptions{{ID: "a", Model: "m", NewSource: func() Source { return nil }}},
	})
	if err != nil {
		tb.Fatal(err)
	}
	d := &fakeDetector{detect: func(Frame) ([]Detection, Timing, error) { return detections, Timing{}, nil }}
	c, w := p.cameras[0], p.workers[0]
	w.batch.init(1)
	w.install(tb.Context(), d)
	img := &images{}
	kept := &fakeImage{of: img}
	src := &fakeSource{read: func() (Frame, error) {
		kept.closed = false
		return Frame{Arrived: time.Now(), Width: 640, Height: 480, Image: kept}, nil
	}}
	r := &reader{camera: c}
	return func(inspect bool) {
		f, _, err := r.next(src, nil, false)
		if err != nil {
			tb.Fatal(err)
		}
		r.submit(tb.Context(), f)
		if !inspect {
			return
		}
		w.gather(tb.Context())
		w.inspect()
		select {
		case <-p.emitter.buffer:
		default:
		}
	}
}

// TestAFrameAllocatesNothing: reading, the slot, inspecting and accounting for
// a frame without detections allocate nothing; an event allocates its
// detections.
func TestAFrameAllocatesNothing(t *testing.T) {
	step := lane(t, nil)
	if n := testing.AllocsPerRun(1000, func() { step(true) }); n != 0 {
		t.Errorf("%v allocations for a frame without an event, want 0", n)
	}
	step = lane(t, []Detection{{Class: "person"}})
	if n := testing.AllocsPerRun(1000, func() { step(true) }); n != 1 {
		t.Errorf("%v allocations for an event, want 1: its detections", n)
	}
	step = lane(t, nil)
	if n := testing.AllocsPerRun(1000, func() { step(false) }); n != 0 {
		t.Errorf("%v allocations for a dropped frame, want 0", n)
	}
}

// BenchmarkFrame is the pipeline's own share of a frame that becomes an event.
func BenchmarkFrame(b *testing.B) {
	step := lane(b, []Detection{{Class: "person"}})
	b.ReportAllocs()
	for b.Loop() {
		step(true)
	}
}
