//go:build !novision

package capture

import (
	"context"
	"errors"
	"fmt"
	"time"

	"outstation/vision"
)

// DefaultProbe is how long a Probe measures.
const DefaultProbe = 5 * time.Second

// Probe looks at a source for about the time of length and the time-outs of
// Options: first, for RTSP, at what the camera sends, then at what comes out of
// the decoder. The two do not overlap, since some cameras serve one reader. Its
// error is that of Factory, or the context's; what is wrong with the camera is
// in the Report.
func Probe(ctx context.Context, o Options, length time.Duration) (Report, error) {
	t, err := parse(o)
	if err != nil {
		return Report{}, fmt.Errorf("capture: source %q: %w", Redact(o.URL), err)
	}
	if length <= 0 {
		length = DefaultProbe
	}
	r := Report{Source: t.name, Kind: t.kind}
	if t.kind == vision.KindRTSP && !r.probeStream(ctx, t, length) {
		return r, ctx.Err()
	}
	r.probeDecoder(ctx, t, length)
	if r.OK {
		r.note()
	}
	return r, ctx.Err()
}

// step notes what was tried since began and how it went.
func (r *Report) step(began time.Time, what string, err error) (ok bool) {
	s := Step{What: what, MS: ms(time.Since(began))}
	if err != nil {
		s.Error = err.Error()
		var fault *FaultError
		if errors.As(err, &fault) {
			s.Error = fault.Unwrap().Error()
			r.Fault, r.Advice = fault.Fault, fault.Advice()
		}
	}
	r.Tried = append(r.Tried, s)
	return err == nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// probeStream looks at a camera's coded pictures. It returns false when there
// is no use in going on.
func (r *Report) probeStream(ctx context.Context, t target, length time.Duration) bool {
	began := time.Now()
	s, err := describe(ctx, t)
	if !r.step(began, "ask the camera for its stream (RTSP OPTIONS and DESCRIBE)", err) {
		return errors.Is(err, errNotUnderstood)
	}
	defer s.close()
	r.Codec, r.Transport = s.codec, "TCP"
	began = time.Now()
	c := newCount(s)
	err = s.play(ctx, t, c.add)
	if err == nil {
		_ = sleep(ctx, length) // what has come by then is looked at
		s.close()              // ends the calls of add
		err = c.result(r)
	}
	return r.step(began, "play it (SETUP and PLAY over TCP)", err)
}

// count is what a probe sees go by. Only the session's goroutine uses it until
// the session is closed.
type count struct {
	session     *session
	size        size
	pictures    int
	first, last time.Time
	keyframe    int // the number of the last one; 0 is none
	keyed       time.Time
	interval    int
	took        time.Duration
}

func newCount(s *session) *count {
	c := &count{session: s}
	c.size.read(s.codec, s.parameters())
	return c
}

func (c *count) add(u unit) {
	c.size.read(c.session.codec, u.nals)
	c.pictures++
	c.last = u.at
	if c.pictures == 1 {
		c.first = u.at
	}
	if c.session.codec != codecH264 && c.session.codec != codecH265 || !c.session.keyframe(u.nals) {
		return
	}
	if c.keyframe > 0 && c.pictures-c.keyframe > c.interval {
		c.interval, c.took = c.pictures-c.keyframe, u.at.Sub(c.keyed)
	}
	c.keyframe, c.keyed = c.pictures, u.at
}

// result writes what was counted.
func (c *count) result(r *Report) error {
	if c.pictures == 0 {
		return &FaultError{FaultTimeout, errors.New("the camera plays and sends no picture")}
	}
	r.Width, r.Height, r.StatedFPS = c.size.width, c.size.height, c.size.fps
	if span := c.last.Sub(c.first); c.pictures > 1 && span > 0 {
		r.MeasuredFPS = float64(c.pictures-1) / span.Seconds()
	}
	r.KeyframeInterval, r.KeyframeSeconds = c.interval, c.took.Seconds()
	if r.Codec == codecMJPEG {
		r.KeyframeInterval = 1
	}
	return nil
}
