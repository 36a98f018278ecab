//go:build !novision

package capture

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"outstation/vision"
	"outstation/vision/capture/rtsptest"
)

// looker is a detector that looks at every picture and finds nothing.
type looker struct{ pixels []byte }

var _ vision.Detector = (*looker)(nil)

func (l *looker) Detect(f vision.Frame) ([]vision.Detection, vision.Timing, error) {
	_, err := f.Image.Letterbox(l.pixels, 64, 64, 0)
	return nil, vision.Timing{}, err
}

func (l *looker) Info() vision.DetectorInfo { return vision.DetectorInfo{} }
func (l *looker) Close() error              { return nil }

func openLooker(context.Context) (vision.Detector, error) {
	return &looker{make([]byte, 3*64*64)}, nil
}

// serve runs a pipeline over cameras until the test ends. told is given every
// change of state.
func serve(t testing.TB, told func(vision.CameraState), cameras ...vision.CameraOptions) *vision.Pipeline {
	t.Helper()
	p, err := vision.New(vision.Options{
		Cameras: cameras, Models: []vision.ModelOptions{{Name: "looker", Open: openLooker}},
		OnState: told, Backoff: func(int) time.Duration { return 20 * time.Millisecond }, ShutdownTimeout: 20 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- p.Serve(context.WithoutCancel(t.Context())) }()
	t.Cleanup(func() {
		p.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return p
}

// history collects states as "state reason".
type history struct {
	sync.Mutex
	states []string
}

func (h *history) add(s vision.CameraState) {
	h.Lock()
	defer h.Unlock()
	h.states = append(h.states, string(s.State)+" "+s.Reason)
}

// next waits until a state follows those up to from, and returns its place.
func (h *history) next(t *testing.T, from int, state string) int {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		h.Lock()
		states := slices.Clone(h.states)
		h.Unlock()
		if i := slices.Index(states[min(from, len(states)):], state); i >= 0 {
			return from + i + 1
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %d states: got %q, want %q", from, states, state)
		}
	}
}

// TestALiveCameraComesBack through the whole pipeline: it stalls and is said
// to be blind, is connected to again and inspected; so too after its server
// was gone, and after it died without a word.
func TestALiveCameraComesBack(t *testing.T) {
	for _, decoder := range both {
		t.Run(string(decoder), func(t *testing.T) {
			s, err := rtsptest.Start(rtsptest.Options{Clip: coded(t, rtsptest.H264, 328, 250)})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { s.Close() }()
			factory, err := Factory(Options{URL: s.URL(), Decoder: decoder, ReadTimeout: 2 * time.Second, OpenTimeout: 2 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			var h history
			p := serve(t, h.add, vision.CameraOptions{ID: "a", NewSource: factory, Model: "looker", StallAfter: time.Second})
			at := h.next(t, 0, "online ")

			s.Stall(true)
			at = h.next(t, at, "blind stalled")
			s.Stall(false)
			at = h.next(t, at, "online ")

			s.Die(true)
			at = h.next(t, at, "blind stalled")
			s.Die(false)
			at = h.next(t, at, "online ")

			address := s.Address()
			s.Close()
			at = h.next(t, at, "offline unreachable")
			if s, err = rtsptest.Start(rtsptest.Options{Clip: coded(t, rtsptest.H264, 500, 346), Address: address}); err != nil {
				t.Fatal(err)
			}
			h.next(t, at, "online ")
			// It is online with a frame's arrival, before the size is known.
			eventually(t, "the new size", func() bool { c := p.Stats().Cameras[0]; return c.Width == 500 && c.Height == 346 })
			if c := p.Stats().Cameras[0]; c.Reconnects < 2 || c.Inspected == 0 || c.StuckReaders != 0 {
				t.Errorf("got %+v", c)
			}
		})
	}
}
