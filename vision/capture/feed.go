//go:build !novision

package capture

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h265"
)

// feed carries a camera's coded pictures from a session of our own into a pipe
// that a GStreamer pipeline reads. Its end is the pipeline's end of stream.
//
// GStreamer's own rtspsrc has no time-out for a camera that stays connected
// and sends nothing, and its watchdog element only posts a message that
// OpenCV, before 4.7, does not look at while it waits for a picture.
type feed struct {
	session *session
	timeout time.Duration
	out, in *os.File // the pipe's ends for the pipeline and for us
	silence *time.Timer
	waiter  sync.WaitGroup

	begun   time.Time
	started bool // something was written; only the session's goroutine uses it

	mu  sync.Mutex
	err error // why the feed ended
}

// openFeed begins to play. The session is the feed's, also with an error.
func openFeed(ctx context.Context, t target, s *session) (*feed, error) {
	out, in, err := os.Pipe()
	if err != nil {
		s.close()
		return nil, err
	}
	f := &feed{session: s, timeout: t.ReadTimeout, out: out, in: in, begun: time.Now()}
	f.silence = time.AfterFunc(t.ReadTimeout, func() {
		f.end(fmt.Errorf("the camera is connected and sent no picture for %v", t.ReadTimeout))
	})
	if err := s.play(ctx, t, f.unit); err != nil {
		f.close()
		return nil, err
	}
	f.waiter.Go(func() { f.end(fmt.Errorf("the connection ended: %w", s.client.Wait())) })
	return f, nil
}

// unit writes a coded picture, from the first keyframe on. A camera that
// refreshes its picture bit by bit may never send one: after half the time-out
// the decoder gets what there is. unit waits while the decoder is behind, which
// the camera sees as a slow reader.
func (f *feed) unit(u unit) {
	f.silence.Reset(f.timeout)
	nals := u.nals
	if !f.started {
		if !f.session.keyframe(nals) && time.Since(f.begun) < f.timeout/2 {
			return
		}
		f.started = true
		nals = append(f.session.parameters(), nals...)
	}
	bytes, err := h264.AnnexB(nals).Marshal() // H.265 has the same byte stream (its Annex B)
	if err == nil {
		_, err = f.in.Write(bytes)
	}
	if err != nil {
		f.end(fmt.Errorf("the decoder takes no more: %w", err))
	}
}

// keyframe says whether decoding can begin with a picture.
func (s *session) keyframe(nals [][]byte) bool {
	switch s.codec {
	case codecH264:
		return h264.IsRandomAccess(nals)
	case codecH265:
		return h265.IsRandomAccess(nals)
	}
	return true
}

// end ends the stream and keeps the first reason.
func (f *feed) end(err error) {
	f.mu.Lock()
	if f.err == nil {
		f.err = err
	}
	f.mu.Unlock()
	f.in.Close() // a second one returns an error that says just that
}

// reason is why the feed ended, or nil.
func (f *feed) reason() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// close ends the feed. The pipeline must have been closed before.
func (f *feed) close() {
	f.silence.Stop()
	f.end(os.ErrClosed)
	f.session.close()
	f.waiter.Wait()
	f.out.Close() // nothing reads it any more
}
