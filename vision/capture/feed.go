//go:build !novision

package capture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// feed carries a camera's coded pictures from a session of our own through a
// pipe into OpenCV. Its end is the decoder's end of stream, so that no read in
// there outlives the camera:
//
//   - GStreamer's rtspsrc has no time-out for a camera that stays connected and
//     sends nothing, and its watchdog element only posts a message that OpenCV,
//     before 4.7, does not look at while it waits for a picture.
//   - OpenCV's FFmpeg keeps the size of the first picture when the camera
//     changes it (opencv#27116), and reads beyond the end of a smaller one.
type feed struct {
	session *session
	timeout time.Duration // of silence
	out, in *os.File      // the pipe's ends for the decoder and for us
	silence *time.Timer
	waiter  sync.WaitGroup
	begun   time.Time
	begins  chan struct{} // closed when the first keyframe is there
	over    chan struct{} // closed by the first end
	forget  []func() bool // stop what would end it

	// Only the session's goroutine uses these.
	pack    pack
	size    size
	started bool // something was written

	mu  sync.Mutex
	err error // why the feed ended
}

// openFeed begins to play for a decoder until ctx ends. The session is the
// feed's, also with an error.
func openFeed(ctx context.Context, t target, s *session, d Decoder) (*feed, error) {
	out, in, err := os.Pipe()
	if err != nil {
		s.close()
		return nil, err
	}
	f := &feed{
		session: s, timeout: t.ReadTimeout, out: out, in: in, begun: time.Now(),
		begins: make(chan struct{}), over: make(chan struct{}),
	}
	f.silence = time.AfterFunc(t.ReadTimeout, func() {
		f.end(fmt.Errorf("the camera is connected and sent no picture for %v", t.ReadTimeout))
	})
	f.forget = append(f.forget, f.silence.Stop, context.AfterFunc(ctx, func() { f.end(context.Cause(ctx)) }))
	if f.pack, err = newPack(d, s.codec, in); err == nil {
		err = s.play(ctx, t, f.unit)
	}
	if err != nil {
		f.close()
		return nil, err
	}
	// Its io.EOF must not go through: that is the end of a recording, for good.
	f.waiter.Go(func() { f.end(errors.New("the connection ended: " + s.client.Wait().Error())) })
	return f, nil
}

// keyframe waits until there is something to decode. The decoder is opened after
// that: it would wait in a call that only the end of the stream ends.
func (f *feed) keyframe(limit time.Duration) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-f.begins:
		return nil
	case <-f.over:
		return f.reason()
	case <-timer.C:
		return &FaultError{FaultKeyframe, fmt.Errorf("no keyframe in %v", limit)}
	}
}

// unit writes a coded picture, from the first keyframe on: before it there is
// nothing that can be decoded. It waits while the decoder is behind, which the
// camera sees as a slow reader.
func (f *feed) unit(u unit) {
	f.silence.Reset(f.timeout)
	nals := u.nals
	if !f.started {
		if !f.session.keyframe(nals) {
			return
		}
		f.started = true
		close(f.begins)
		nals = append(f.session.parameters(), nals...) // the stream's own come after, and hold
	}
	if old := f.size; f.size.read(f.session.codec, nals) && old.width > 0 {
		f.end(fmt.Errorf("the resolution changed from %d×%d to %d×%d", old.width, old.height, f.size.width, f.size.height))
		return
	}
	if err := f.pack(nals, u.at.Sub(f.begun)); err != nil {
		f.end(fmt.Errorf("the decoder takes no more: %w", err))
	}
}

// end ends the stream and keeps the first reason.
func (f *feed) end(err error) {
	f.mu.Lock()
	if f.err == nil {
		f.err = err
		close(f.over)
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

// close ends the feed. The decoder must have been closed before.
func (f *feed) close() {
	for _, stop := range f.forget {
		stop()
	}
	f.end(os.ErrClosed)
	f.session.close()
	f.waiter.Wait()
	f.out.Close() // nothing reads it any more
}
